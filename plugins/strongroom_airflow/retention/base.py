"""What the steps of the retention purge share: they work with a `PurgeRun`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from airflow.sdk import Context

from strongroom.retention.drop_detached import DetachedResult
from strongroom.retention.drop_warm import WarmResult
from strongroom_airflow.retention.run import PurgeRun
from strongroom_airflow.step import StepOperator


class PurgeStepOperator(StepOperator):
    """A step of the retention purge."""

    ui_color = "#f6e3e0"

    @contextmanager
    def opened(self, context: Context) -> Iterator[PurgeRun]:
        yield PurgeRun(context)


def dropped(results: Sequence[DetachedResult | WarmResult], what: str) -> tuple[str, dict[str, Any], Any]:
    """What a step returns that dropped partitions of one kind, or kept them."""
    counts = Counter(one.result for one in results)
    sentence = f"Dropped {counts['dropped']} of {len(results)} {what}"
    return sentence, dict(counts), [one.model_dump(mode="json") for one in results]
