"""What the steps of a restore share: they work with a `RestoreRun`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow.sdk import Context

from strongroom_airflow.links import PageLink
from strongroom_airflow.restore.run import RestoreRun
from strongroom_airflow.step import StepOperator


class RestoreOperator(StepOperator):
    """A step of a restore."""

    ui_color = "#eef3e6"
    operator_extra_links = (PageLink(),)

    @contextmanager
    def opened(self, context: Context) -> Iterator[RestoreRun]:
        yield RestoreRun(context)
