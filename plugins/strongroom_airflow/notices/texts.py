"""The words of a notice: what happened, in which table and window, what it means for the rows, and where to look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from airflow.sdk import Context

from strongroom.errors import StrongroomError
from strongroom.settings import TableSettings, qualify
from strongroom_airflow.notices.fates import UNTOUCHED, fate_of_rows
from strongroom_airflow.pages.addresses import base_url, totals_page
from strongroom_airflow.steps import step_of

_NAMED = 20
"""How many tables or archives a notice names."""


@dataclass(frozen=True)
class Notice:
    """What is told.

    Attributes:
        kind: `failed`, `approval_wanted`, `overdue` or `drill_failed`.
        subject: One line.
        lines: The text, a sentence or two each.
        link: The address of the page where it can be seen; empty if nobody configured Airflow's address.
    """

    kind: str
    subject: str
    lines: tuple[str, ...]
    link: str = ""

    @property
    def text(self) -> str:
        """Lines of plain text, the link last."""
        return "\n".join([*self.lines, *([self.link] if self.link else [])])

    @property
    def html(self) -> str:
        """The same as HTML, for a mail."""
        link = escape(self.link, quote=True)
        paragraphs = [f"<p>{'<br>'.join(escape(line).splitlines())}</p>" for line in self.lines]
        return "\n".join([*paragraphs, *([f'<p><a href="{link}">{link}</a></p>'] if link else [])])


def tell_failed(context: Context) -> Notice:
    """A task failed for good."""
    ti, dag_id = context["ti"], _dag_id(context)
    step = step_of(str(ti.task_id))
    run = getattr(context.get("dag_run"), "run_id", None) or getattr(ti, "run_id", "")
    about = " ".join(filter(None, (_table(context), _window(context))))
    part = f" {ti.map_index}" if (getattr(ti, "map_index", -1) or 0) >= 0 else ""
    lines = (
        f"Task {ti.task_id}{part} of run {run} failed.",
        _error(context.get("exception")),
        fate_of_rows(dag_id, step),
    )
    return Notice(
        "failed",
        f"Strongroom: {dag_id} failed at {step}{f' ({about})' if about else ''}",
        tuple(filter(None, lines)),
        _page_of_task(context),
    )


def tell_approval_wanted(context: Context) -> Notice:
    """A task waits for a person."""
    task = context["task"]
    link = f"{_page_of_task(context)}/required_actions" if base_url() else ""
    lines = (
        str(task.subject),
        "Nothing is destroyed before somebody approves. Without an answer in time the answer is no.",
    )
    return Notice("approval_wanted", f"Strongroom: {_dag_id(context)} waits for an approval", lines, link)


def tell_overdue(rows: Mapping[str, int]) -> Notice:
    """Rows should have been archived.

    Args:
        rows: By the qualified name of the table.
    """
    named = [
        f"{table}: {count:,} rows past hot retention in partitions without an archive." for table, count in rows.items()
    ]
    lines = (*_some(named), "They are in the table until a run archives them.")
    return Notice(
        "overdue", f"Strongroom: overdue rows in {', '.join(_some(list(rows)))}", lines, _address(totals_page())
    )


def tell_drill_failed(failed: Mapping[str, Sequence[str]], context: Context) -> Notice:
    """Archives did not come back in a drill.

    Args:
        failed: The sentence of each, by the qualified name of its table.
        context: Of the task that reports.
    """
    sentences = [sentence for some in failed.values() for sentence in some]
    many = f"{len(sentences):,} archives" if len(sentences) > 1 else "an archive"
    lines = (*_some(sentences), f"{UNTOUCHED} No archive was changed.")
    return Notice(
        "drill_failed", f"Strongroom: {many} did not come back in a restore drill", lines, _page_of_task(context)
    )


def _some(lines: list[str]) -> list[str]:
    return lines if len(lines) <= _NAMED else [*lines[:_NAMED], f"and {len(lines) - _NAMED:,} more"]


def _dag_id(context: Context) -> str:
    return str(getattr(context["ti"], "dag_id", "") or context["dag_run"].dag_id)


def _table(context: Context) -> str:
    """The table that the task works on, as far as it is known."""
    name = getattr(context.get("task"), "table", None) or (context.get("params") or {}).get("table")
    return qualify(name.table if isinstance(name, TableSettings) else str(name)) if name else ""


def _window(context: Context) -> str:
    return str(getattr(context.get("dag_run"), "partition_key", None) or "")


def _error(error: Any) -> str:
    """The words of an error if Strongroom wrote them. Those of others may hold values of rows, so only their kind is told."""
    from airflow.sdk.exceptions import AirflowFailException

    if isinstance(error, (StrongroomError, AirflowFailException)):
        return str(error)
    return f"{type(error).__name__}; the log of the task has the rest." if error is not None else ""


def _page_of_task(context: Context) -> str:
    """The address of the task's page in Airflow; empty if Airflow's own address is not configured."""
    ti = context["ti"]
    if not base_url():
        return ""
    try:
        return str(ti.log_url).partition("?")[0]
    except AttributeError:
        return base_url()


def _address(page: str) -> str:
    return page if base_url() else ""
