"""What every step of every DAG does in the same way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowFailException
from structlog.testing import capture_logs

from strongroom.errors import RestoreError, StoreError
from strongroom.records import CompressedPart
from strongroom_airflow.step import ERROR_XCOM, StepOperator, log_fields, log_lines
from strongroom_airflow.stopping import StoppedError


class Step(StepOperator):
    """Returns or raises what it is given."""

    def __init__(self, *, outcome, **kwargs):
        super().__init__(task_id="step", **kwargs)
        self.outcome = outcome

    def step(self, run):  # noqa: ARG002 - it needs nothing
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


@pytest.fixture
def pushed() -> dict:
    return {}


@pytest.fixture
def context(pushed) -> dict:
    return {"ti": SimpleNamespace(xcom_push=lambda key, value: pushed.update({key: value}))}


@pytest.mark.parametrize(("kind", "raised"), [(RestoreError, AirflowFailException), (StoreError, StoreError)])
def test_an_error_is_pushed_and_only_one_that_a_retry_may_fix_is_tried_again(context, pushed, kind, raised):
    error = kind("the part is gone", hint="Nothing was loaded.")

    with pytest.raises(raised, match="the part is gone"):
        Step(outcome=error).execute(context)

    assert pushed == {ERROR_XCOM: f"the part is gone\nHINT: Nothing was loaded.\nCODE: {kind.code}"}


class Handed(StepOperator):
    """Takes what a task before it handed on."""

    def step(self, run):  # noqa: ARG002 - it needs nothing
        CompressedPart.model_validate({"archive_id": "public.audit.2026-05.0001", "added_since": "x"})
        raise AssertionError("it was taken")


def test_a_record_of_another_version_fails_the_task_at_once_and_says_what_to_clear(context, pushed):
    """In the middle of a run that one version began and another one goes on with."""
    with pytest.raises(AirflowFailException, match="handed on a record that is not one of this version"):
        Handed(task_id="handed").execute(context)

    assert "expected a record of kind CompressedPart" in pushed[ERROR_XCOM]
    assert "HINT: Nothing was done with it, and no row was touched." in pushed[ERROR_XCOM]
    assert "Clear the first task of the run ('plan'" in pushed[ERROR_XCOM]


def test_a_step_gives_its_result(context, pushed):
    assert Step(outcome=("Done", {"rows": 3}, [1, 2])).execute(context) == [1, 2]
    assert pushed == {}


def test_no_fact_has_a_name_that_airflow_s_supervisor_uses_itself():
    """It passes the fields of each line to a function as keywords; a second `target` ends the task."""
    # Airflow has no public name for that function, nor a list of the names that it uses.
    from airflow.sdk.execution_time.supervisor import _log_to_target

    fields = log_fields({"rows": 3, "target": "public.audit", "level": 3})
    written = []
    _log_to_target(SimpleNamespace(log=lambda *_, **event: written.append(event)), 20, "Restored", **fields)

    assert written == [{"rows": 3, "target_": "public.audit", "level_": 3}]


FACTS = {
    "archive_id": "public.audit_events.2026-05.0001",
    "part": 0,
    "format": "jsonl",
    "rows": 2548,
    "proved_rows": 100,
    "original_size_bytes": 1_234_567,
    "original_sha256": "a" * 64,
    "blocks_sha256": "b" * 64,
    "compression_type": "zstd",
    "compressed_size_bytes": 234_567,
    "sha256": "c" * 64,
    "object_key": "archives/public.audit_events/partition=2026-05/public.audit_events.2026-05.0001/part-00000.jsonl.zst",
    "version_id": "d" * 32,
    "verified_at": "2026-11-28T12:00:00Z",
    "note": None,
    "restores": [],
}


def test_a_step_says_what_it_did_in_a_few_short_lines_of_fields():
    """An auditor reads them in the UI, which does not wrap lines; a program reads their fields."""
    lines = list(log_lines(FACTS))

    assert [word for word, _ in lines] == [
        "About",
        "Counts",
        "Bytes",
        "Object",
        "Object",
        "Sums",
        "Sums",
        "Sums",
        "Times",
    ]
    said = {name: value for _, fields in lines for name, value in fields.items()}
    assert said == {name: value for name, value in FACTS.items() if value not in (None, [])}
    assert lines[0][1] == {"archive_id": "public.audit_events.2026-05.0001", "part": 0, "format": "jsonl"}
    assert lines[1][1] == {"rows": 2548, "proved_rows": 100}
    widths = [len(" ".join(f"{name}={value}" for name, value in fields.items())) for _, fields in lines]
    assert all(width <= 100 or len(fields) == 1 for width, (_, fields) in zip(widths, lines, strict=True))


def test_a_step_writes_its_sentence_first_with_its_seconds(context):
    with capture_logs() as written:
        Step(outcome=("Read back and matched", FACTS, None)).execute(context)

    _outside, first, *others = [
        {name: value for name, value in line.items() if name != "log_level"} for line in written
    ]
    assert first.pop("seconds") >= 0
    assert first == {"event": "Read back and matched"}
    assert others == [{"event": word} | fields for word, fields in log_lines(FACTS)]


def test_a_long_sentence_goes_on_in_the_next_line(context):
    sentence = "archived: " + ", ".join(
        f"{number} rows of part {number} were archived and deleted" for number in range(9)
    )

    with capture_logs() as written:
        Step(outcome=(sentence, {}, None)).execute(context)

    said = [line["event"] for line in written[1:]]
    assert " ".join(said) == sentence
    assert max(map(len, said)) <= 120


CONNECTING = """
import strongroom_airflow.connections
from airflow.providers.amazon.aws.utils.connection_wrapper import AwsConnectionWrapper
from airflow.sdk import Connection
from airflow.sdk.log import configure_logging

configure_logging()
wrapper = AwsConnectionWrapper(conn=Connection(conn_id="store", conn_type="aws", login="key", password="any"))
wrapper.log.warning("this matters to %s", wrapper.aws_access_key_id)
"""


def test_a_connection_to_a_store_does_not_log_where_its_keys_came_from_and_still_warns():
    """Each task configures logging when it begins, in a process that has already imported the operators."""
    said = subprocess.run([sys.executable, "-c", CONNECTING], capture_output=True, text=True, check=True)

    assert "this matters to key" in said.stdout + said.stderr
    assert "credentials retrieved" not in said.stdout + said.stderr


class Long(StepOperator):
    """Works until it is stopped as Airflow stops it: by a signal whose handler calls ``on_kill``."""

    def step(self, run):  # noqa: ARG002 - it needs nothing
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
        return "Done", {}, None


@pytest.fixture
def step() -> Iterator[Long]:
    made = Long(task_id="long")
    before = signal.signal(signal.SIGTERM, lambda *_: made.on_kill())
    yield made
    signal.signal(signal.SIGTERM, before)


def test_a_task_that_is_stopped_ends_its_work_and_may_be_tried_again(step, context, pushed):
    with pytest.raises(StoppedError, match="stopped before it was done"):
        step.execute(context)

    assert "The next try continues from there." in pushed[ERROR_XCOM]


def test_a_task_that_is_stopped_before_it_begins_does_not_begin(step, context):
    step.on_kill()

    with pytest.raises(StoppedError):
        step.execute(context)


def test_a_task_that_has_done_its_work_is_not_undone_when_it_is_stopped(context):
    step = Step(outcome=("Done", {}, 5))

    result = step.execute(context)
    step.on_kill()

    assert result == 5
