"""What every step does the same way, whatever its DAG."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowFailException

from strongroom.errors import RestoreError, StoreError
from strongroom_airflow.operators.step import ERROR_XCOM, StepOperator, log_fields


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
