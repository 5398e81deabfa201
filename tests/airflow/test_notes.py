"""What the note of a run says, on a real metadata database with the runs of a real DAG."""

from __future__ import annotations

from contextlib import contextmanager

import psycopg
import pytest

from strongroom_airflow import notes

DAG_ID = "archive__audit"


@pytest.fixture(scope="module")
def parsed(parsing):
    with parsing("archive_tables.py"):
        yield


class Scheduler:
    """Calls the hooks as the scheduler does: in its session, which nobody else may commit."""

    def __init__(self, database: psycopg.Connection) -> None:
        self.database = database
        self.run_id = ""

    def begin(self, note: str | None = None, author: str | None = None) -> None:
        """Make a run, with a note that somebody wrote."""
        from airflow.utils.types import DagRunTriggeredByType

        from strongroom_airflow.trigger import Starter, begin_partition

        ada = Starter("ada", DagRunTriggeredByType.UI, user_id=author)
        self.run_id = begin_partition(DAG_ID, "2026-05", ada, again=True, note=note, hint="Nothing was started.").run_id

    @contextmanager
    def run(self):
        from airflow.models.dagrun import DagRun
        from airflow.utils.session import create_session
        from airflow.utils.sqlalchemy import prohibit_commit
        from sqlalchemy import select

        with create_session() as session, prohibit_commit(session) as guard:
            yield session.scalar(select(DagRun).where(DagRun.dag_id == DAG_ID, DagRun.run_id == self.run_id))
            guard.commit()

    def ends(self, hook, **tasks: dict[str, str]) -> tuple[str, str | None] | None:
        """The note after a hook was called.

        Args:
            hook: Of the listener.
            tasks: What each task left in XCom before; a task with an error or ``failed`` has failed.
        """
        from airflow.models.xcom import XComModel

        for order, (task_id, left) in enumerate(tasks.items()):
            task_id = task_id.replace("__", ".")
            for key, value in left.items():
                where = {"dag_id": DAG_ID, "task_id": task_id, "run_id": self.run_id}
                XComModel.set(key=key, value=value, **where, serialize=False)  # as the API of tasks does
            if left.keys() & {"error", "failed"}:
                self.database.execute(
                    "UPDATE task_instance SET state = 'failed', end_date = now() + %s * interval '1 s' "
                    "WHERE dag_id = %s AND run_id = %s AND task_id = %s",
                    (order, DAG_ID, self.run_id, task_id),
                )
        with self.run() as dag_run:
            hook(dag_run)
        return self.note()

    def note(self) -> tuple[str, str | None] | None:
        return self.database.execute(
            "SELECT n.content, n.user_id FROM dag_run_note n JOIN dag_run r ON r.id = n.dag_run_id WHERE r.run_id = %s",
            (self.run_id,),
        ).fetchone()


@pytest.fixture
def scheduler(metadata, parsed):
    with psycopg.connect(metadata, autocommit=True) as connection:
        connection.execute("DELETE FROM dag_run WHERE dag_id = %s", (DAG_ID,))
        yield Scheduler(connection)


BEGINNING = ("Archives the partition 2026-05.", "strongroom")
OUTCOME = "2026-05: archived 10 rows as public.audit.2026-05.0001, deleted 10."


def test_a_run_names_its_partition_while_it_runs_and_its_outcome_when_it_has_ended(scheduler):
    scheduler.begin()

    assert scheduler.ends(notes.on_dag_run_running) == BEGINNING
    assert scheduler.ends(notes.on_dag_run_success, report={"outcome": OUTCOME}) == (OUTCOME, "strongroom")


def test_a_run_that_begins_again_names_its_partition_again(scheduler):
    scheduler.begin()
    scheduler.ends(notes.on_dag_run_success, report={"outcome": OUTCOME})

    assert scheduler.ends(notes.on_dag_run_running) == BEGINNING


@pytest.mark.parametrize("author", ["ada", None])
def test_a_note_that_a_person_wrote_stays(scheduler, author):
    """In the UI, where Airflow keeps the person's id, or by a program, where it keeps none."""
    scheduler.begin(note="for the audit", author=author)
    written = ("for the audit", author)

    assert scheduler.ends(notes.on_dag_run_running) == written
    assert scheduler.ends(notes.on_dag_run_success, report={"outcome": OUTCOME}) == written
    assert scheduler.ends(notes.on_dag_run_failed, seal={"error": "broken"}) == written


def test_a_note_of_ours_that_a_person_changed_is_that_person_s(scheduler):
    scheduler.begin()
    scheduler.ends(notes.on_dag_run_running)
    scheduler.database.execute("UPDATE dag_run_note SET content = 'look at this', user_id = 'ada'")

    assert scheduler.ends(notes.on_dag_run_success, report={"outcome": OUTCOME}) == ("look at this", "ada")


def test_a_beginning_that_an_earlier_version_wrote_gets_its_outcome(scheduler):
    scheduler.begin(note=BEGINNING[0])

    assert scheduler.ends(notes.on_dag_run_success, report={"outcome": OUTCOME}) == (OUTCOME, "strongroom")


def test_a_failed_run_names_the_first_task_that_failed_and_the_first_line_of_its_error(scheduler):
    scheduler.begin()
    error = "the checksum does not match: expected 9f2c, found 07ab\nHINT: No rows were deleted."

    failed = scheduler.ends(notes.on_dag_run_failed, plan={}, seal={"error": error})

    assert failed == ("2026-05: failed at seal: the checksum does not match: expected 9f2c, found 07ab", "strongroom")


def test_a_failed_run_counts_the_tasks_that_failed(scheduler):
    scheduler.begin()

    failed = scheduler.ends(notes.on_dag_run_failed, plan={"failed": "yes"}, seal={"error": "later"})

    assert failed == ("2026-05: failed at plan (2 tasks failed): it left no error; see its log", "strongroom")


def test_a_run_that_failed_because_of_its_outcome_says_the_outcome(scheduler):
    """As a verification that found a damaged archive: each of its tasks names one, and the report all of them."""
    scheduler.begin()

    failed = scheduler.ends(
        notes.on_dag_run_failed, seal={"error": "one"}, report={"error": "all", "outcome": "1 of 3"}
    )

    assert failed == ("1 of 3", "strongroom")


def test_the_outcome_of_an_earlier_try_is_not_told_for_a_run_that_failed_since(scheduler):
    """A `delete` that was cleared alone may fail, and the report before it is still there."""
    scheduler.begin()

    failed = scheduler.ends(notes.on_dag_run_failed, report={"outcome": OUTCOME}, delete={"error": "broken"})

    assert failed == ("2026-05: failed at delete: broken", "strongroom")


def test_a_run_that_somebody_marked_as_failed_keeps_its_note(scheduler):
    scheduler.begin()
    scheduler.ends(notes.on_dag_run_running)

    assert scheduler.ends(notes.on_dag_run_failed) == BEGINNING


def test_a_long_outcome_is_cut_and_one_that_is_no_text_is_left_out(scheduler):
    scheduler.begin()
    scheduler.ends(notes.on_dag_run_running)

    assert scheduler.ends(notes.on_dag_run_success, report={"outcome": {"rows": 1}}) == BEGINNING
    line, _ = scheduler.ends(notes.on_dag_run_success, report={"outcome": "x" * 2000})
    assert (len(line), line[-1]) == (500, "…")


def test_a_note_that_cannot_be_made_keeps_the_scheduler_from_nothing(scheduler, monkeypatch, caplog):
    from airflow.models.xcom import XComModel

    scheduler.begin()
    scheduler.ends(notes.on_dag_run_running)
    monkeypatch.setattr(XComModel, "get_many", lambda **_: 1 / 0)

    with scheduler.run() as dag_run:
        notes.on_dag_run_success(dag_run)
        dag_run.run_after = dag_run.run_after.replace(year=2001)

    assert scheduler.note() == BEGINNING
    assert "was not written" in caplog.text
    years = scheduler.database.execute(
        "SELECT extract(year FROM run_after)::int FROM dag_run WHERE run_id = %s", (scheduler.run_id,)
    )
    assert years.fetchone() == (2001,), "what the scheduler wrote in the same transaction is kept"


def test_runs_of_other_dags_get_no_note(scheduler):
    scheduler.begin()
    with scheduler.run() as dag_run:
        dag_run.dag_id = "somebody_s"
        for hook in (notes.on_dag_run_running, notes.on_dag_run_success, notes.on_dag_run_failed):
            hook(dag_run)
        written, dag_run.dag_id = dag_run.dag_run_note, DAG_ID

    assert written is None


def test_a_run_that_is_in_no_session_gets_no_note(scheduler, caplog):
    """Such as one of `airflow dags test`."""
    scheduler.begin()
    with scheduler.run() as dag_run:
        pass

    notes.on_dag_run_success(dag_run)

    assert (scheduler.note(), caplog.text) == (None, "")
