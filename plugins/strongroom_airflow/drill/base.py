"""What the steps of a run of drills share: they work with a `DrillRun`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow.sdk import Context

from strongroom_airflow.drill.run import DrillRun
from strongroom_airflow.links import PageLink
from strongroom_airflow.step import StepOperator


class DrillOperator(StepOperator):
    """A step of a run of drills."""

    ui_color = "#e6f3ee"
    operator_extra_links = (PageLink(),)

    @contextmanager
    def opened(self, context: Context) -> Iterator[DrillRun]:
        yield DrillRun(context)
