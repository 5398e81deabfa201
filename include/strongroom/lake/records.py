"""What is said of an Iceberg table over archives."""

from __future__ import annotations

from typing import Literal

from strongroom.errors import StrongroomError
from strongroom.records import Record

Reason = Literal[
    "json_lines",
    "superseded",
    "condemned",
    "purging",
    "expiring",
    "frozen",
    "unreadable",
    "unverifiable",
    "other_columns",
]
"""Why an archive is no part of a table. ``docs/howto/iceberg.md`` explains each."""


class LakeError(StrongroomError):
    """The catalogue of the Iceberg tables failed, or the connection to it broke."""

    code = "SR-606"
    retryable = True


class LeftOut(Record):
    """An archive that is no part of the table."""

    archive_id: str
    reason: Reason
    detail: str


class TableState(Record):
    """An Iceberg table, and how far it is from what it should hold.

    Attributes:
        table: ``schema.table`` of the source.
        name: Namespace and name in the catalogue.
        metadata_location: Of the table's current metadata; None if there is no such table, because there is nothing for it.
        archives, parts, rows: What it holds.
        added, removed: Archive ids that were added and removed, or that a run would add and remove.
        stale: How many objects of earlier states were removed, or would be.
        left_out: Archives of the source's table that are no part of it.
    """

    table: str
    name: str
    metadata_location: str | None
    archives: int = 0
    parts: int = 0
    rows: int = 0
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    stale: int = 0
    left_out: tuple[LeftOut, ...] = ()

    @property
    def is_current(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.added or self.removed or self.stale)

    def sentence(self) -> str:
        """What a log says."""
        out = f"; {len(self.left_out)} left out" if self.left_out else ""
        held = "no Iceberg table" if self.metadata_location is None else f"{self.archives} archives, {self.rows} rows"
        changed = f"{len(self.added)} added, {len(self.removed)} removed, {self.stale} stale objects"
        return f"{self.table}: {held} ({changed}{out})"
