"""What the steps of the retention purge share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow.sdk import Context

from strongroom_airflow.operators.step import StepOperator
from strongroom_airflow.purge_run import PurgeRun


class PurgeStepOperator(StepOperator):
    """A step of the retention purge."""

    ui_color = "#f6e3e0"

    @contextmanager
    def opened(self, context: Context) -> Iterator[PurgeRun]:
        yield PurgeRun(context)
