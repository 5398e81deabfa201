"""What every step of every DAG does in the same way: it turns errors into Airflow's, and logs a few short lines of evidence."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from textwrap import wrap
from typing import Any

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowFailException
from pydantic import ValidationError

from strongroom.errors import IntegrityError, StrongroomError
from strongroom_airflow.steps import step_of
from strongroom_airflow.stopping import Stopping
from strongroom_airflow.task_run import TaskRun
from strongroom_airflow.tracing import step_span

ERROR_XCOM = "error"
"""XCom key of the error of a failed task, for the commands that follow its run."""

OUTCOME_XCOM = "outcome"
"""XCom key of the outcome of a run in one line, which becomes the run's note."""

MEMBERS_XCOM = "members"
"""XCom key of the reports of a unit's members, beside that of its root, for the command that follows the run."""

_RESERVED = frozenset({"target", "level", "msg", "event", "timestamp", "exception"})
"""Field names that Airflow's supervisor uses itself. One of them in a log line (`target`) would end the task's process."""

_SENTENCE, _LINE = 120, 100
"""Most characters of a sentence, and of fields, in one line of the log, because the UI does not wrap lines."""


def log_lines(facts: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Sort facts into short log lines, each with a word for its kind. Facts that are None or empty are left out."""
    lines: dict[str, list[dict[str, Any]]] = {
        word: [] for word in ("About", "Counts", "Bytes", "Object", "Sums", "Times")
    }
    for name, value in facts.items():
        if value is None or value in ("", [], (), {}):
            continue
        of_a_kind = lines[_kind_of(name, value)]
        if not of_a_kind or _width(of_a_kind[-1] | {name: value}) > _LINE:
            of_a_kind.append({})
        of_a_kind[-1][name] = value
    return ((word, fields) for word, of_a_kind in lines.items() for fields in of_a_kind)


def _kind_of(name: str, value: Any) -> str:
    if name.endswith("sha256"):
        return "Sums"
    if name.endswith("_bytes") or name.startswith("compression_"):
        return "Bytes"
    if name.endswith(("_key", "version_id")) and name != "partition_key":
        return "Object"
    if name.endswith(("_at", "_seconds", "until")):
        return "Times"
    return "Counts" if isinstance(value, (int, float)) and name != "part" and not isinstance(value, bool) else "About"


def _width(fields: Mapping[str, Any]) -> int:
    return sum(len(f"{name}={value} ") for name, value in fields.items())


def log_fields(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts as fields of a log line, under names that Airflow does not use itself."""
    return {f"{name}_" if name in _RESERVED else name: value for name, value in facts.items()}


@contextmanager
def translated_errors(context: Context) -> Iterator[None]:
    """Push an error to XCom, and fail the task at once if a retry cannot help."""
    try:
        with told_records():
            yield
    except StrongroomError as error:
        context["ti"].xcom_push(key=ERROR_XCOM, value=str(error))
        if error.retryable:
            raise error from None
        raise AirflowFailException(str(error)) from None


@contextmanager
def told_records() -> Iterator[None]:
    """Say what to do when a task was handed a record that is not one of this version.

    Raises:
        IntegrityError: An earlier task of the run made it with another version of Strongroom.
    """
    try:
        yield
    except ValidationError as error:
        problem = error.errors(include_input=False, include_url=False)[0]
        kind, found = error.title, f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
    else:
        return
    raise IntegrityError(
        "an earlier task of this run handed on a record that is not one of this version",
        expected=f"a record of kind {kind}",
        found=found,
        hint="Nothing was done with it, and no row was touched. Another version of Strongroom made it. Clear the first task of the run "
        "('plan'; of a restore 'locate') and the tasks after it: they begin again, and an archive that is sealed stays.",
    )


def conclude(context: Context, outcome: str) -> None:
    """Leave the outcome of the run in one line. The last step of a run calls it, also before it fails because of the outcome."""
    context["ti"].xcom_push(key=OUTCOME_XCOM, value=outcome)


def leave_summary(context: Context, sentence: str, summary: Mapping[str, Any]) -> None:
    """Leave a run's summary and its outcome. A last step that fails because of what it sums up calls it before.

    :param sentence: The outcome, without a capital and a final full stop.
    """
    context["ti"].xcom_push(key="return_value", value=summary)
    conclude(context, f"{sentence[:1].upper()}{sentence[1:]}.")


class StepOperator(BaseOperator):
    """A step: it opens what it needs, calls the domain, and logs in a few lines what it did and how long that took.

    An error that a retry cannot fix fails the task at once; others are left to Airflow's retries. A task that receives SIGTERM
    rolls back what is unfinished.
    """

    ui_color = "#e8eef7"
    page = ""
    """The address of the page of what the step works on, for a :class:`strongroom_airflow.links.PageLink`."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._stopping = Stopping()

    def on_kill(self) -> None:
        """Stop the work. Airflow calls this in the thread that does it."""
        self._stopping.stop()

    def execute(self, context: Context) -> Any:
        started = time.monotonic()
        with (
            translated_errors(context),
            step_span(step_of(self.task_id)) as span,
            self.opened(context) as run,
            self._stopping.working(),
        ):
            if span.traced:
                span.tell(self.traced(run))
            sentence, facts, result = self.step(run)
            span.tell(facts)
        first, *others = wrap(sentence, _SENTENCE, break_long_words=False, break_on_hyphens=False)
        self.log.info(first, seconds=round(time.monotonic() - started, 3))
        for line in others:
            self.log.info(line)
        for word, fields in log_lines(facts):
            self.log.info(word, **log_fields(fields))
        return result

    @contextmanager
    def opened(self, context: Context) -> Iterator[Any]:
        """What :meth:`step` works with, such as an `ArchiveRun`. Here that is Airflow's context."""
        yield context

    def traced(self, run: Any) -> dict[str, Any]:
        """What a span of OpenTelemetry says of the step before it works. Here that is the table of the run, if one is named."""
        return {"table": run.named_table} if isinstance(run, TaskRun) else {}

    @abstractmethod
    def step(self, run: Any) -> tuple[str, dict[str, Any], Any]:
        """Do the work.

        :return: A sentence and structured facts for the log, and what goes into XCom.
        """
