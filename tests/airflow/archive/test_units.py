"""A unit through the operators of its DAG: one run, one plan, and each mapped task knows which table it works on."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from datetime import datetime, timezone
from subprocess import CompletedProcess
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import Asset
from structlog.testing import capture_logs

from strongroom_airflow.archive.pausing import pause
from strongroom_airflow.step import MEMBERS_XCOM, OUTCOME_XCOM
from tests.support.database import execute
from tests.support.operating import context_of
from tests.support.units import SECTION, rows_of_may

ASSET = Asset("archive of public.orders")


class Run:
    """One run of the DAG: a context in which no try is the last, with what its tasks left in XCom, and in the log."""

    def __init__(self) -> None:
        self.pushed: dict[str, Any] = {}
        self.context = context_of("archive__orders", "2026-05")
        self.context["ti"].xcom_push = lambda key, value: self.pushed.update({key: value})
        self.context["ti"].xcom_pull = lambda task_ids, key: {("seal", key): self.pushed.get(key)}[task_ids, key]
        vars(self.context["ti"]).update(map_index=0, dag_id="archive__orders", run_id="r", try_number=1, max_tries=3)
        self.context["outlet_events"] = defaultdict(lambda: SimpleNamespace(extra=None))

    def step(self, kind: Any, task_id: str, **arguments: Any) -> Any:
        with capture_logs() as captured:
            result = kind(task_id=task_id, table="orders", **arguments).execute(self.context)
        self.logged = [line["event"] for line in captured]
        return result

    def plan(self) -> list[Any]:
        from strongroom_airflow.archive.plan import PlanOperator

        parts: list[Any] = self.step(PlanOperator, "plan")
        return parts

    def verify(self, part: Any) -> Any:
        from strongroom_airflow.archive.checksum import ChecksumOperator
        from strongroom_airflow.archive.compress import CompressOperator
        from strongroom_airflow.archive.extract_to_staging import ExtractToStagingOperator
        from strongroom_airflow.archive.upload import UploadOperator
        from strongroom_airflow.archive.verify import VerifyOperator

        part = self.step(ExtractToStagingOperator, "extract_to_staging", part=part, last_step="part.verify")
        part = self.step(CompressOperator, "compress", part=part)
        part = self.step(ChecksumOperator, "checksum", part=part)
        part = self.step(UploadOperator, "upload", part=part)
        return self.step(VerifyOperator, "verify", part=part, plan=self.pushed["plan"])

    def seal(self, parts: list[Any]) -> list[Any]:
        from strongroom_airflow.archive.seal import SealOperator

        sealed: list[Any] = self.step(SealOperator, "seal", plan=self.pushed["plan"], parts=parts)
        return sealed

    def delete(self, part: Any) -> Any:
        from strongroom_airflow.archive.delete import DeleteOperator

        return self.step(DeleteOperator, "delete", part=part)

    def archive(self) -> Any:
        """All of its steps; returns the report of the root."""
        parts = self.seal([self.verify(part) for part in self.plan()])
        return self.report(parts, [self.delete(part) for part in parts])

    def report(self, parts: Any, deleted: Any) -> Any:
        from strongroom_airflow.archive.report import ReportOperator

        arguments = {"plan": self.pushed["plan"], "parts": parts, "deleted": deleted}
        return self.step(ReportOperator, "report", sealed_by="seal", asset=ASSET, **arguments)


def test_one_run_archives_and_deletes_all_tables_of_a_unit(metadata, unit):
    run = Run()

    planned = run.plan()
    graph = [line for line in run.logged if "rows in" in line and "Planned" not in line]
    parts = run.seal([run.verify(part) for part in planned])
    deleted = [run.delete(part) for part in parts]
    run.report(parts, deleted)

    assert graph == [
        "public.orders by at: 100 rows in 1 part, public.orders.2026-05.0001",
        "├─ public.order_lines by order_id (order_lines_order_id_fkey): 270 rows in 1 part, public.order_lines.2026-05.0001",
        "│  └─ public.line_notes by order_id, line (line_notes_order_id_line_fkey): 120 rows in 1 part, "
        "public.line_notes.2026-05.0001; 1 row stays",
        "└─ public.order_alerts by order_id (order_alerts_order_id_fkey): 30 rows in 1 part, public.order_alerts.2026-05.0001",
    ]
    assert not any(rows_of_may(unit.conninfo).values())
    assert "archived 100 rows as public.orders.2026-05.0001, deleted 100" in run.pushed[OUTCOME_XCOM]
    assert "With it 270 rows of public.order_lines, deleted 270." in run.pushed[OUTCOME_XCOM]
    members = run.context["outlet_events"][ASSET].extra["members"]
    assert {one["archive_id"]: one["manifest_sha256"] is not None for one in members} == {
        f"public.{name}.2026-05.0001": True for name in ("order_lines", "line_notes", "order_alerts")
    }


def _one(command: CompletedProcess[str]) -> Any:
    """The one run in a command's JSON."""
    assert command.returncode == 0, command.stderr
    [run] = json.loads(command.stdout)
    return run


def test_the_command_that_follows_a_run_says_what_became_of_each_table(unit, parsing, airflow, monkeypatch):
    from airflow.models.dag import DagModel
    from airflow.models.dagrun import DagRun
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import delete, update

    monkeypatch.setenv("STRONGROOM__STAGING", unit.root.settings.staging)
    command = ("strongroom", "archive", "orders", "--partition", "2026-05", "--json")
    with parsing("archive_tables.py", tables=SECTION):
        begun = _one(airflow(*command, "--no-wait"))
    run = Run()
    left = {"return_value": run.archive(), MEMBERS_XCOM: run.pushed[MEMBERS_XCOM]}
    of_run = {"dag_id": "archive__orders", "run_id": begun["run_id"]}
    with create_session() as session:
        session.execute(update(DagModel).where(DagModel.dag_id == of_run["dag_id"]).values(is_paused=False))
        for key, value in left.items():
            XComModel.set(key=key, value=value, task_id="report", **of_run, session=session)

    def end() -> None:
        with create_session() as session:
            session.execute(update(DagRun).where(DagRun.run_id == begun["run_id"]).values(state="success"))

    ending = threading.Timer(1, end)
    ending.start()
    try:
        ended = _one(airflow(*command))
    finally:
        ending.join()
        with create_session() as session:
            session.execute(delete(DagRun).where(DagRun.dag_id == of_run["dag_id"]))

    archived = {one["archive_id"]: one["deleted_rows"] for one in (ended["report"], *ended["members"])}
    assert archived == {
        "public.orders.2026-05.0001": 100,
        "public.order_lines.2026-05.0001": 270,
        "public.line_notes.2026-05.0001": 120,
        "public.order_alerts.2026-05.0001": 30,
    }


def test_the_delete_of_parents_waits_for_that_of_their_children(metadata, unit):
    """It gives its slot up while a task before it is under way, and fails when none is left that could do it."""
    from airflow.sdk.exceptions import AirflowRescheduleException

    from strongroom.errors import ChildrenLeftError

    run = Run()
    parts = run.seal([run.verify(part) for part in run.plan()])
    run.context["ti"].map_index = 3
    states = {"delete_0": "running"}
    run.context["ti"].get_task_states = lambda **_: {"r": states}

    began = datetime.now(timezone.utc)
    with pytest.raises(AirflowRescheduleException) as given_up:
        run.delete(parts[-1])
    assert given_up.value.reschedule_date >= began + pause()
    states.update({f"delete_{number}": "failed" for number in range(3)})
    with pytest.raises(ChildrenLeftError):
        run.delete(parts[-1])

    assert len(rows_of_may(unit.conninfo)["orders"]) == 100


def test_another_run_on_any_table_of_the_unit_keeps_the_run_away(metadata, unit):
    from strongroom.errors import ContendedError
    from strongroom.ledger.claims import parse_claim, take_claim
    from strongroom.object_keys.records import claim_key

    key = claim_key("public", "line_notes", "2026-05")
    settings = unit.settings[0]
    take_claim(unit.store, key, owner="somebody else", now=unit.store.clock(), ttl=settings.claim_ttl)

    run = Run()
    run.context["ti"].get_ti_count = lambda **asked: len(asked["run_ids"])  # no other task of the run

    with pytest.raises(ContendedError):
        run.plan()

    of_root = parse_claim("the claim", unit.store.read(claim_key("public", "orders", "2026-05"))[0])
    assert of_root.state == "released", "it keeps nobody away until the next try"


def test_only_the_root_has_a_dag_and_its_tasks_name_the_table(metadata, deployment):
    from airflow.dag_processing.dagbag import DagBag

    from tests.support.repository import REPOSITORY

    deployment.tables(**SECTION, audit={"date_column": "at"})

    bag = DagBag(str(REPOSITORY / "dags" / "archive_tables.py"))

    assert (bag.import_errors, sorted(bag.dags)) == ({}, ["archive__audit", "archive__orders"])
    names = {dag_id: dag.get_task("delete").partial_kwargs["map_index_template"] for dag_id, dag in bag.dags.items()}
    assert names["archive__audit"] == "part {{ task.part['number'] }}"
    assert "archive_id" in names["archive__orders"]


def test_plan_and_status_speak_of_the_root_and_count_the_rows_of_all_tables(metadata, unit, deployment, airflow):
    """A member is due with its root. That nothing of it is due would be read as: its rows stay."""
    execute(
        unit.conninfo, "CREATE TABLE older (id int PRIMARY KEY, at date); INSERT INTO older VALUES (1, '2026-03-05')"
    )
    deployment.tables(**SECTION, older={"date_column": "at"})

    every, member, status = (
        airflow("strongroom", *words) for words in (["plan"], ["plan", "line_notes"], ["status", "order_lines"])
    )

    assert (every.returncode, member.returncode, status.returncode) == (0, 0, 0), every.stderr + member.stderr
    assert (
        "public.orders: 3 partitions (2026-04 to 2026-06), 102 rows and 423 of their members, 7 parts" in every.stdout
    )
    assert "public.orders by at: 102 rows in 3 parts" in every.stdout
    assert "├─ public.order_lines by order_id (order_lines_order_id_fkey): 273 rows in 2 parts" in every.stdout
    assert "In all: 4 partitions (2026-03 to 2026-06), 103 rows and 423 of their members, 8 parts" in every.stdout
    assert "nothing is due" not in every.stdout + member.stdout
    assert "public.orders by at: 100 rows in 1 part, public.orders.2026-05.0001" in member.stdout
    assert status.stdout == "public.orders: no run is under way\n"
