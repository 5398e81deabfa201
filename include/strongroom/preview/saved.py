"""A plan in a file, and what changed since it was written.

The digest finds damage and edits by hand. It is no signature: who can write the file can make another plan.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from strongroom.errors import IntegrityError, StrongroomError
from strongroom.preview.records import PartitionPreview, Preview, SavedPreview, TablePreview
from strongroom.records import ArchivePlan, parse_record

LONGEST_AGE = timedelta(days=7)
"""A plan that is older is refused, whatever has changed."""

_LARGEST_BYTES = 64 << 20
_NOTHING = "none"


class PlanError(StrongroomError):
    """A saved plan cannot be written, read or carried out."""

    code = "SR-115"


class Change(NamedTuple):
    """One fact that is no longer as it was."""

    what: str
    then: str
    now: str

    def __str__(self) -> str:
        return f"{self.what}: then {self.then}, now {self.now}"


def save_preview(preview: Preview, path: Path) -> None:
    """Write a plan into a file that its owner alone may read. An earlier file of that name is replaced.

    Raises:
        PlanError: The file cannot be written.
    """
    saved = SavedPreview(**preview.model_dump(), digest=_digest(preview))
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(saved.to_bytes())
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise PlanError(
            f"the plan was not saved as {path}",
            found=error.strerror,
            hint="Nothing was started. Name a file in a folder that you may write to.",
        ) from None


def load_preview(path: Path) -> Preview:
    """Read a plan that :func:`save_preview` wrote.

    Raises:
        PlanError: There is no such file, or it was written by another version.
        IntegrityError: It is damaged or was edited.
    """
    try:
        with path.open("rb") as handle:
            body = handle.read(_LARGEST_BYTES + 1)
    except OSError as error:
        raise PlanError(
            f"there is no plan in {path}", found=error.strerror, hint=f"Nothing was started. {_AGAIN}"
        ) from None
    saved = parse_record(
        SavedPreview,
        body,
        where=str(path),
        what="a saved plan of this version",
        hint=f"Nothing was started: it is damaged, was edited, or another version of Strongroom wrote it. {_AGAIN}",
    )
    preview = Preview(**saved.model_dump(exclude={"digest"}))
    if (found := _digest(preview)) != saved.digest:
        raise IntegrityError(
            f"{path} was damaged or edited since it was saved",
            expected=f"SHA-256 {saved.digest}",
            found=found,
            hint=f"Nothing was started. {_AGAIN}",
        )
    return preview


_AGAIN = "Make a new plan: `airflow strongroom plan --save FILE`."


def require_young(preview: Preview, now: datetime) -> None:
    """Check that a plan is not older than :data:`LONGEST_AGE`.

    Raises:
        PlanError: It is.
    """
    age = now - preview.made_at
    if age > LONGEST_AGE:
        raise PlanError(
            "the plan is too old",
            expected=f"one of the last {LONGEST_AGE.days} days",
            found=f"one of {preview.made_at:%Y-%m-%d %H:%M} UTC",
            hint=f"Nothing was started. {_AGAIN}",
        )


def changes(then: Sequence[TablePreview], now: Sequence[TablePreview]) -> list[Change]:
    """What differs between two looks at the same tables, in the order of the tables.

    Estimates, statements and the server's plans do not count: they say how, not what.
    """
    found = []
    today = {one.name: one for one in now}
    for table in then:
        before, after = dict(_facts(table)), dict(_facts(today[table.name]))
        for what in [*before, *(new for new in after if new not in before)]:
            was, is_ = before.get(what, _NOTHING), after.get(what, _NOTHING)
            if was != is_:
                found.append(Change(f"{table.name}, {what}", was, is_))
    return found


def _facts(table: TablePreview) -> Iterator[tuple[str, str]]:
    """Everything that a plan stands on, each fact with its name."""
    yield from ((f"setting {name}", value) for name, value in table.settings.items())
    yield from ((f"column {name}", type_) for name, type_ in table.columns.items())
    yield "order of columns", ", ".join(table.columns)
    yield from ((f"server's {name}", value) for name, value in table.server.items())
    yield "references", "; ".join(table.references) or _NOTHING
    yield "holds", "; ".join(table.holds) or _NOTHING
    yield "values of erased persons", str(table.suppressed)
    yield "problem", table.problem or _NOTHING
    for one in table.partitions:
        yield from ((f"{one.partition_key} {what}", fact) for what, fact in _facts_of(one))


def _facts_of(one: PartitionPreview) -> Iterator[tuple[str, str]]:
    yield "outcome", one.outcome
    yield "rows in the table", f"{one.rows_in_table:,}"
    yield "problem", one.problem or _NOTHING
    yield "stopped by", "; ".join(one.stopped_by) or _NOTHING
    yield "delete", one.delete or _NOTHING
    for leaf in one.partitions:
        yield f"partition {leaf.name}", leaf.stays_because or "detached whole"
    if one.plan is None:
        return
    yield from _facts_of_rows(one.plan)
    for member in one.plan.members:
        yield from ((f"{member.table}: {what}", fact) for what, fact in _facts_of_rows(member))
    yield "restored rows", "; ".join(map(str, one.plan.restores)) or _NOTHING


def _facts_of_rows(plan: ArchivePlan) -> Iterator[tuple[str, str]]:
    """Which rows of one table go."""
    yield "archive", plan.archive_id or _NOTHING
    yield "key", ", ".join(plan.shape.primary_key)
    yield "rows to archive", f"{plan.due_rows:,}"
    yield "rows in each part", ", ".join(f"{part.expected_rows:,}" for part in plan.parts) or _NOTHING
    yield "bounds of parts", ", ".join(f"{part.start_at:%Y-%m-%d %H:%M:%S}" for part in plan.parts) or _NOTHING
    for exclusion in plan.exclusions:
        yield f"rows that stay, {exclusion.detail}", f"{exclusion.rows:,}"


def _digest(preview: Preview) -> str:
    return hashlib.sha256(Preview(**preview.model_dump(exclude={"digest"})).model_dump_json().encode()).hexdigest()
