"""What the steps of a verification run share: they work with a `VerificationRun`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow.sdk import Context

from strongroom_airflow.links import PageLink
from strongroom_airflow.step import StepOperator
from strongroom_airflow.verification.run import VerificationRun


class VerificationOperator(StepOperator):
    """A step of a verification run."""

    ui_color = "#e6f3ee"
    operator_extra_links = (PageLink(),)

    @contextmanager
    def opened(self, context: Context) -> Iterator[VerificationRun]:
        yield VerificationRun(context)
