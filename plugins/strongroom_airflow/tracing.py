"""A span of OpenTelemetry for each step, below the one that Airflow makes for its task. Without Airflow's tracing nothing is imported or made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import AirflowRescheduleException, TaskDeferred

from strongroom.errors import StrongroomError

_PREFIX = "strongroom."


class StepSpan:
    """The span of one step.

    Args:
        span: OpenTelemetry's; None if nothing is traced.
    """

    def __init__(self, span: Any = None) -> None:
        self._span = span

    @property
    def traced(self) -> bool:
        """Whether anybody will see it."""
        return self._span is not None and self._span.is_recording()

    def tell(self, facts: Mapping[str, Any]) -> None:
        """Set facts as attributes `strongroom.<name>`. What is None, a list or a mapping is left out."""
        if self.traced:
            known = {f"{_PREFIX}{name}": value for name, value in facts.items() if isinstance(value, (str, int, float))}
            self._span.set_attributes(known)


@contextmanager
def step_span(step: str) -> Iterator[StepSpan]:
    """Make a span while a step works.

    A step that gives up its slot and comes back ends its span with `strongroom.waits`; each time is a span of its own. An error ends the span as
    failed, in Strongroom's own words; those of other programs may hold values of rows, so only their kind is told.

    :param step: The task without its group.
    """
    if not conf.getboolean("traces", "otel_on", fallback=False):
        yield StepSpan()
        return
    from opentelemetry.trace import Status, StatusCode, get_tracer

    tracer = get_tracer("strongroom")
    with tracer.start_as_current_span(
        f"{_PREFIX}{step}", record_exception=False, set_status_on_exception=False
    ) as span:
        traced = StepSpan(span)
        try:
            yield traced
        except (AirflowRescheduleException, TaskDeferred):
            traced.tell({"waits": True})
            raise
        except BaseException as error:
            ours = isinstance(error, StrongroomError)
            words = str(error).partition("\n")[0] if ours else type(error).__name__
            traced.tell({"error": type(error).__name__, "code": getattr(error, "code", None) if ours else None})
            span.set_status(Status(StatusCode.ERROR, words))
            raise
