"""The records of a drill: what was chosen and why, what became of each archive, and the report of a run."""

from __future__ import annotations

from typing import Literal

from pydantic import AwareDatetime, Field

from strongroom.records import PartFormat, Record, Sha256

Result = Literal["sound", "failed", "skipped"]
"""What became of an archive.

``sound``: every row came back, and the rows in the table have the digest of the archived ones. ``failed``: they do not, or could
not be restored. ``skipped``: nobody tried, and the record says why.
"""


class Candidate(Record):
    """An archive that a drill may take."""

    archive_id: str
    table: str = Field(description="schema.table")
    window_end: AwareDatetime
    original_size_bytes: int
    format: PartFormat
    server_version: str = Field(description="The major version of the server that the rows came from, such as `18`.")
    unit: tuple[str, ...] = Field(
        default=(),
        exclude_if=lambda unit: not unit,
        description="Ids of the archives that it was sealed together with.",
    )


class Choice(Record):
    """An archive that is drilled, and all reasons for that."""

    archive_id: str
    reasons: tuple[str, ...]


class Skip(Record):
    """An archive that is not drilled, and why."""

    archive_id: str
    reason: str


class DrillRun(Record):
    """What a run of drills chose in one store, written before the first archive is restored."""

    run_id: str
    seed: str = Field(
        description="32 bytes in base64: the root of the checkpoint's tree, or drawn where there is no log."
    )
    checkpoint: str | None = Field(description="The signed head of the store's log that the seed is from.")
    candidates: tuple[Candidate, ...]
    choices: tuple[Choice, ...]
    skips: tuple[Skip, ...]
    who: str
    chosen_at: AwareDatetime


class DrillLane(Record):
    """Archives of one store that one task restores, one after the other."""

    store_table: str
    """A configured table whose settings open the store."""
    chosen_in: str
    """Key of the record of the choice."""
    choices: tuple[Choice, ...]


class PartDrill(Record):
    """One part, restored and read back.

    Both digests are the SHA-256 over the sorted SHA-256 of each row's canonical text, without its newline.
    """

    number: int
    rows: int
    archived_sha256: Sha256
    restored_rows: int
    restored_sha256: Sha256

    @property
    def equal(self) -> bool:
        """Whether the table held exactly the archived rows."""
        return (self.rows, self.archived_sha256) == (self.restored_rows, self.restored_sha256)


class ArchiveDrill(Record):
    """What became of one archive. Seconds are those of the restore: without the comparison that only a drill makes."""

    archive_id: str
    result: Result
    reason: str = Field(default="", description="Why it failed or was skipped.")
    reasons: tuple[str, ...] = Field(description="Why it was chosen.")
    chosen_in: str = Field(description="Key of the record of the choice.")
    rows: int = 0
    original_size_bytes: int = 0
    parts: tuple[PartDrill, ...] = ()
    first_row_seconds: float | None = Field(
        default=None, description="From the request to the first rows in the table."
    )
    last_row_seconds: float | None = Field(default=None, description="From the request to the last row in the table.")
    rows_per_second: float | None = None
    server_version: str
    who: str
    drilled_at: AwareDatetime

    def sentence(self) -> str:
        """The one line that a reader of the log needs."""
        if self.result != "sound":
            return f"{self.archive_id} {self.result if self.result == 'failed' else 'was skipped'}: {self.reason}"
        took = "" if self.last_row_seconds is None else f" in {self.last_row_seconds:.1f} s"
        return f"{self.archive_id} came back: {self.rows:,} rows{took}, each as it was archived"


class DrillReport(Record):
    """What one run of drills found."""

    archives: int
    """How many were chosen."""
    rows: int
    results: dict[str, int]
    """How many archives had which result; ``unfinished`` ones have none."""
    failed: tuple[str, ...]
    """The sentences of those that failed."""
    skipped: tuple[Skip, ...]
    chosen_in: tuple[str, ...]
    """Keys of the records of the choice, one for each store."""
    who: str
    finished_at: AwareDatetime

    def sentence(self) -> str:
        """The one line that a reader of the log needs."""
        counted = ", ".join(f"{number:,} {result}" for result, number in sorted(self.results.items())) or "none"
        done = f"restored {self.rows:,} rows of {self.archives:,} archives as a drill: {counted}"
        named = [*self.failed, *(f"{one.archive_id} was skipped: {one.reason}" for one in self.skipped)]
        more = f" and {len(named) - _NAMED:,} more" if len(named) > _NAMED else ""
        return f"{done}. {'; '.join(named[:_NAMED])}{more}" if named else done


_NAMED = 10
