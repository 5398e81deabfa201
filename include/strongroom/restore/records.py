"""The records of a restore: what was asked for, the plan, what became of each part, and the report."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AwareDatetime, BeforeValidator, Field

from strongroom.records import Instant, Record, Salt
from strongroom.settings.values import TableName

LISTED_KEYS = 1000
"""How many keys of rows that are there but different one part names; it always counts them all."""


def _key(value: object) -> object:
    """A key of one column may be written without a list; its values are texts that the server reads."""
    values = value if isinstance(value, (list, tuple)) else [value]
    return tuple(str(one) for one in values)


Key = Annotated[tuple[str, ...], BeforeValidator(_key)]


GlacierTier = Literal["Expedited", "Standard", "Bulk"]
"""How quickly S3 brings an object back; `Expedited` is not for `DEEP_ARCHIVE`."""


class RestoreRequest(Record):
    """What somebody asks for.

    Either ``archives``, or ``table`` with a range of partitions, both ends included, either one open.
    """

    archives: tuple[str, ...] = ()
    table: str | None = Field(default=None, description="schema.table whose archives are meant.")
    first_partition: str | None = None
    last_partition: str | None = None
    target: TableName | None = Field(default=None, description="schema.table to load into; None is the archived table.")
    create_target: bool = False
    since: Instant | None = None
    before: Instant | None = None
    keys: tuple[Key, ...] = Field(default=(), description="Only rows with these primary keys; none means all.")
    dropped_columns: DroppedColumns = "refuse"
    keep_days: int = Field(default=30, ge=1, le=3650, description="How long the rows are not archived again.")
    glacier_days: int = Field(
        default=7, ge=1, le=365, description="How long parts stay readable that come from Glacier."
    )
    glacier_tier: GlacierTier = "Standard"
    who: str
    triggered_by: str | None = Field(default=None, description="Airflow's name of the user who started the run.")
    why: str
    dry_run: bool = False


class RestorePart(Record):
    """One part that is to come back."""

    archive_id: str
    number: int
    rows: int


class RestorePlan(Record):
    """How the rows come back, as one run does it."""

    restore_id: str
    request: RestoreRequest
    table: str
    target: str
    archive_ids: tuple[str, ...]
    partition_keys: tuple[str, ...]
    lanes: tuple[tuple[RestorePart, ...], ...] = Field(
        description="Parts of a lane come back one after the other; lanes side by side."
    )
    creates_target: bool
    kept_aside: tuple[str, ...] = Field(description="Columns the target no longer has; their values go aside.")
    added: tuple[str, ...] = Field(description="Columns the archive does not know; they take their default.")
    strays: tuple[str, ...] = Field(
        default=(), description="Some keys among the table's manifests that are of none: somebody else wrote there."
    )
    until: AwareDatetime
    planned_at: AwareDatetime
    members: tuple[RestorePlan, ...] = Field(
        default=(),
        exclude_if=lambda members: not members,
        description="Of the tables whose rows come back together with these, parents first. All lanes are in the plan of the root.",
    )

    @property
    def all_tables(self) -> tuple[RestorePlan, ...]:
        """The plan of each table, the root's first."""
        return (self, *self.members)

    def of_table(self, table: str) -> RestorePlan:
        """The plan of the table that some archive holds rows of."""
        return next((one for one in self.members if one.table == table), self)

    @property
    def every_archive(self) -> tuple[str, ...]:
        """The archives of all tables."""
        return tuple(archive_id for one in self.all_tables for archive_id in one.archive_ids)

    @property
    def parts(self) -> tuple[RestorePart, ...]:
        """All parts, lane by lane."""
        return tuple(part for lane in self.lanes for part in lane)

    @property
    def rows(self) -> int:
        """Archived rows of all parts, before any filter."""
        return sum(part.rows for part in self.parts)


class DifferentRow(Record):
    """An archived row that was not loaded, by its primary key as text.

    ``changed``: a row of that key is there, with other contents. ``taken``: no row of that key is there, but another row
    has a value that must be unique.
    """

    key: tuple[str, ...]
    why: Literal["changed", "taken"]


class RestoredPart(Record):
    """What became of one part. ``inserted + unchanged + different == wanted``."""

    archive_id: str
    number: int
    result: Literal["restored", "unchanged", "different", "corrupted", "missing"]
    rows: int
    wanted: int = Field(default=0, description="Rows inside the time range and key list.")
    inserted: int = 0
    unchanged: int = Field(default=0, description="There already, and equal.")
    different: int = Field(default=0, description="There already, and not equal: not loaded.")
    listed: tuple[DifferentRow, ...] = ()
    highest: dict[str, int] = Field(
        default_factory=dict, description="Highest value loaded, by column with a sequence."
    )
    detail: str = ""
    from_replica: bool = Field(
        default=False,
        exclude_if=lambda it_was: not it_was,
        description="Whether it was read from the second copy; `detail` says why.",
    )

    @property
    def failed(self) -> bool:
        """Whether nothing was loaded because the object is not what was archived."""
        return self.result in ("corrupted", "missing")

    def sentence(self) -> str:
        """The one line that a reader of the log needs."""
        where = f"{self.archive_id} part {self.number}"
        if self.failed:
            return f"{self.result}: {where}, nothing was loaded from it: {self.detail}"
        return (
            f"{self.result}: {where}, {self.inserted} of {self.wanted} rows inserted, {self.unchanged} were there and equal, "
            f"{self.different} are there but different" + (f"; {self.detail}" if self.detail else "")
        )


class RestoreReport(Record):
    """What one restore did; lies under ``reports/``."""

    outcome: Literal["restored", "unchanged", "different", "incomplete", "dry_run"]
    restore_id: str
    table: str
    target: str
    archive_ids: tuple[str, ...]
    partition_keys: tuple[str, ...]
    rows: int
    wanted: int
    inserted: int
    unchanged: int
    different: int
    results: dict[str, int] = Field(description="Parts by their result; unfinished ones have none.")
    moved_sequences: tuple[str, ...]
    parts: tuple[RestoredPart, ...]
    who: str
    triggered_by: str | None = None
    """Reports of the first versions have none."""
    why: str
    until: AwareDatetime
    planned_at: AwareDatetime
    finished_at: AwareDatetime
    salt: Salt = None

    def headline(self) -> str:
        """The outcome for somebody who looks at a list of runs."""
        first, last = self.partition_keys[0], self.partition_keys[-1]
        which = f"{self.table} {first if first == last else f'{first} to {last}'}"
        if self.outcome == "dry_run":
            return f"{which}: dry run, nothing was loaded into {self.target}."
        counted = [f"{self.inserted:,} of {self.wanted:,} rows restored into {self.target}"]
        if self.unchanged:
            counted.append(f"{self.unchanged:,} were there")
        if self.different:
            counted.append(f"{self.different:,} are there but different")
        if self.outcome == "incomplete":
            parts = ", ".join(f"{number} {result}" for result, number in self.results.items())
            counted.append(f"incomplete, parts: {parts}")
        return f"{which}: {'; '.join(counted)}."

    def sentence(self) -> str:
        """The one line that a reader of the log needs."""
        count = sum(self.results.values())
        parts = f"{count} {'part' if count == 1 else 'parts'}"
        if self.outcome == "dry_run":
            return f"dry run: {self.rows} rows in {parts} would be looked at for {self.target}; nothing was loaded"
        results = ", ".join(f"{number} {result}" for result, number in self.results.items())
        return (
            f"{self.outcome}: {self.target} from {parts} of {self.table} ({results}): {self.inserted} of {self.wanted} rows "
            f"inserted, {self.unchanged} were there and equal, {self.different} are there but different; "
            f"not archived again before {self.until:%Y-%m-%d %H:%M} UTC"
        )


DroppedColumns = Literal["refuse", "keep"]
