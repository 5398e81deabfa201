"""What every step does the same way, whatever its DAG."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowFailException

from strongroom.errors import RestoreError, StoreError
from strongroom_airflow.operators.step import ERROR_XCOM, StepOperator, log_fields
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
def test_an_error_is_left_behind_and_only_one_that_a_retry_may_mend_is_tried_again(context, pushed, kind, raised):
    error = kind("the part is gone", hint="Nothing was loaded.")

    with pytest.raises(raised, match="the part is gone"):
        Step(outcome=error).execute(context)

    assert pushed == {ERROR_XCOM: "the part is gone\nHINT: Nothing was loaded."}


def test_a_step_gives_its_result(context, pushed):
    assert Step(outcome=("Done", {"rows": 3}, [1, 2])).execute(context) == [1, 2]
    assert pushed == {}


def test_no_fact_has_a_name_that_airflow_s_supervisor_uses_itself():
    """It calls its own function with the fields of each line as keywords; `target` twice ends the task."""
    from airflow.sdk.execution_time.supervisor import _log_to_target

    fields = log_fields({"rows": 3, "target": "public.audit", "level": 3})
    written = []
    _log_to_target(SimpleNamespace(log=lambda *_, **event: written.append(event)), 20, "Restored", **fields)

    assert written == [{"rows": 3, "target_": "public.audit", "level_": 3}]


class Long(StepOperator):
    """Works until it is told to end, as Airflow tells it: by a signal whose handler calls ``on_kill``."""

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


def test_a_task_that_is_told_to_end_ends_its_work_and_may_be_tried_again(step, context, pushed):
    with pytest.raises(StoppedError, match="told to end before it was done"):
        step.execute(context)

    assert pushed[ERROR_XCOM].endswith("The next try goes on from there.")


def test_a_task_that_is_told_to_end_before_it_begins_does_not_begin(step, context):
    step.on_kill()

    with pytest.raises(StoppedError):
        step.execute(context)


def test_a_task_that_has_done_its_work_is_not_undone_by_being_told_to_end(context):
    step = Step(outcome=("Done", {}, 5))

    result = step.execute(context)
    step.on_kill()

    assert result == 5
