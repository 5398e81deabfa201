"""What the steps of an erasure share: they work with an `ErasureRun`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow.sdk import Context

from strongroom_airflow.erasure.run import ErasureRun
from strongroom_airflow.step import StepOperator


class ErasureOperator(StepOperator):
    """A step of an erasure."""

    ui_color = "#f0e6f3"

    @contextmanager
    def opened(self, context: Context) -> Iterator[ErasureRun]:
        yield ErasureRun(context)
