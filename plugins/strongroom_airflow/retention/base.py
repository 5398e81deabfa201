"""What the steps of the retention purge share: they work with a `PurgeRun`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow.sdk import Context

from strongroom_airflow.retention.run import PurgeRun
from strongroom_airflow.step import StepOperator


class PurgeStepOperator(StepOperator):
    """A step of the retention purge."""

    ui_color = "#f6e3e0"

    @contextmanager
    def opened(self, context: Context) -> Iterator[PurgeRun]:
        yield PurgeRun(context)
