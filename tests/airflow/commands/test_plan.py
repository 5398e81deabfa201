"""`airflow strongroom plan` and `archive --plan`, as a user types them: what is foreseen, saved, refused and done."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.chain import Chain
from tests.support.database import execute


@pytest.fixture
def late(chain, deployment) -> Chain:
    """Of a month that was archived before, 60 rows came late."""
    deployment.database(chain.conninfo, "source", "owner")
    execute(chain.conninfo, "INSERT INTO audit SELECT n, '2026-05-03Z' FROM generate_series(1001, 1060) AS n")
    return chain


@pytest.fixture
def file(late, airflow, tmp_path) -> Path:
    path = tmp_path / "plan.json"
    ended = airflow("strongroom", "plan", "audit", "--save", str(path))
    assert ended.returncode == 0, ended.stderr
    return path


def test_plan_says_in_short_what_is_due_and_starts_nothing(late, airflow):
    before = list(late.store.entries(""))

    every, one, document = (
        airflow("strongroom", "plan", *words) for words in ([], ["audit", "--sql"], ["audit", "--json"])
    )

    assert (every.returncode, one.returncode, document.returncode) == (0, 0, 0), every.stderr + one.stderr
    assert "public.audit: 1 partition (2026-05), 60 rows, 1 part, about" in every.stdout
    assert "delete by key, since no index begins with at" in every.stdout
    assert "lock delete: ROW EXCLUSIVE" in one.stdout
    assert 'COPY (SELECT "t"."id", "t"."at" FROM "public"."audit" AS t WHERE' in one.stdout
    [partition] = json.loads(document.stdout)["tables"][0]["partitions"]
    assert (partition["plan"]["archive_id"], partition["plan"]["due_rows"]) == ("public.audit.2026-05.0002", 60)
    assert partition["estimate"]["bytes_from"] == "archives"
    assert list(late.store.entries("")) == before


def test_plan_of_a_table_that_would_be_refused_ends_with_1(late, deployment, airflow):
    deployment.tables(audit={"date_column": "at"}, other={"date_column": "at"})

    ended = airflow("strongroom", "plan")

    assert ended.returncode == 1
    assert "public.audit: 1 partition (2026-05), 60 rows" in ended.stdout
    assert "public.other: nothing can be planned. there is no table public.other" in ended.stdout


def test_a_saved_plan_is_refused_when_something_has_changed(late, file, airflow):
    execute(late.conninfo, "INSERT INTO audit VALUES (2001, '2026-05-04Z')")

    ended = airflow("strongroom", "archive", "--plan", str(file), "--dry-run")

    assert ended.returncode == 1
    assert "changed: audit, 2026-05 rows to archive: then 60, now 61" in ended.stderr
    assert "Nothing was started." in ended.stderr


def test_a_saved_plan_that_still_holds_says_what_it_would_start(file, airflow):
    ended = airflow("strongroom", "archive", "--plan", str(file), "--dry-run", "--json")
    mixed = airflow("strongroom", "archive", "audit", "--plan", str(file), "--partition", "2026-05")
    other = airflow("strongroom", "archive", "--plan", str(file.with_name("none.json")))

    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == [{"table": "audit", "partition_key": "2026-05", "rows": 60}]
    assert (mixed.returncode, other.returncode) == (1, 1)
    assert "a saved plan says itself which partitions" in mixed.stderr
    assert "there is no plan in" in other.stderr


def test_a_saved_plan_starts_the_run_of_each_of_its_partitions(late, file, airflow, parsing):
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import delete, select

    with parsing("archive_tables.py"):
        ended = airflow("strongroom", "archive", "--plan", str(file), "--no-wait", "--json")

    assert ended.returncode == 0, ended.stderr
    [started] = json.loads(ended.stdout)
    with create_session() as session:
        run = session.scalar(select(DagRun).where(DagRun.run_id == started["run_id"]))
        assert (run.dag_id, run.partition_key) == ("archive__audit", "2026-05")
        session.execute(delete(DagRun).where(DagRun.dag_id == "archive__audit"))
