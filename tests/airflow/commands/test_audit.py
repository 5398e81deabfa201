"""`airflow strongroom audit` and the task of the DAG `audit_report`, on a real store with a log."""

from __future__ import annotations

import json
from datetime import date, timedelta
from typing import Any

import pytest

from strongroom.storage.store import Store
from strongroom_airflow.step import OUTCOME_XCOM
from tests.support.chain import some_settings
from tests.support.logs import AUTHOR, KEY, kinds_of, with_log
from tests.support.operating import context_of
from tests.support.sealing import seal_month

FROM, TO = f"{date.today().year - 1}-01-01", (date.today() + timedelta(days=2)).isoformat()


@pytest.fixture
def store(object_store, bucket, deployment, tmp_path) -> Store:
    deployment.store(object_store, bucket)
    deployment.log(KEY)
    settings = with_log(some_settings(bucket, tmp_path))
    store = Store(object_store.client("archiver"), settings.store, author=AUTHOR)
    seal_month(store, settings, "2026-03")
    return store


def test_a_report_is_printed_kept_and_written_to_files(store, airflow, tmp_path):
    """The exit code says that not all is well: nobody witnesses the log, and months are missing."""
    page, oscal, pdf = (tmp_path / name for name in ("audit.html", "audit.oscal.json", "audit.pdf"))
    files = ["--html", str(page), "--oscal", str(oscal), "--pdf", str(pdf)]

    ended = airflow("strongroom", "audit", "--from", FROM, "--to", TO, *files)

    assert ended.returncode == 1, ended.stderr
    assert "signed, not witnessed" in ended.stdout
    assert "strongroom.test/log" in ended.stdout
    assert "neither archived nor empty: 2026-04" in ended.stdout
    assert "public.audit.2026-03.0001" in page.read_text()
    assert json.loads(oscal.read_bytes())["assessment-results"]["results"]
    assert pdf.read_bytes().startswith(b"%PDF-")
    assert kinds_of(store)[-1] == "audit reported"


@pytest.mark.parametrize(("begin", "end"), [("yesterday", TO), (TO, FROM), (FROM, FROM)])
def test_a_period_that_is_none_is_refused(store, airflow, begin, end):
    ended = airflow("strongroom", "audit", "--from", begin, "--to", end)

    assert ended.returncode == 1
    assert "this is not a period for a report" in ended.stderr
    assert "HINT:" in ended.stderr


def test_the_task_reports_the_period_of_the_form(store, metadata):
    from strongroom_airflow.audit.task import AuditOperator

    pushed: dict[str, Any] = {}
    context = context_of("audit_report", "2026-05")
    context["params"] = {"begin": FROM, "end": TO, "table": "audit"}
    context["ti"].xcom_push = lambda key, value: pushed.update({key: value})

    facts = AuditOperator(task_id="report").execute(context)

    assert (facts["begin"], facts["end"], facts["gaps"]) == (FROM, TO, len(missing_months()))
    assert pushed[OUTCOME_XCOM].startswith(f"{FROM} to {TO}: ")
    assert kinds_of(store)[-1] == "audit reported"


def missing_months() -> list[str]:
    """The months from April 2026 on whose hot retention of 90 days is over."""
    first, months = date(2026, 4, 1), []
    while True:
        following = (first + timedelta(days=32)).replace(day=1)
        if following + timedelta(days=90) > date.today():
            return months
        months.append(f"{first:%Y-%m}")
        first = following
