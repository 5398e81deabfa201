"""What is said of a table and of each of its partitions that is due, and the saved form of it."""

from __future__ import annotations

from typing import Literal

from pydantic import AwareDatetime, Field

from strongroom.records import ArchivePlan, Record, Sha256


class Statement(Record):
    """One statement of a run."""

    what: str
    sql: str
    plan: tuple[str, ...] = Field(description="Lines of EXPLAIN, or why there are none.")


class Estimate(Record):
    """About how much a run takes. None where nothing tells."""

    original_bytes: int | None = None
    archived_bytes: int | None = None
    bytes_from: Literal["archives", "sample", "table"] | None = Field(
        default=None,
        description="`archives`: bytes a row of the table's last archives. `sample`: a thousand rows. `table`: the table's size by "
        "its rows. The last two are guesses.",
    )
    seconds: float | None = Field(default=None, description="From the speed of the table's last runs.")
    table_bytes: int | None = Field(default=None, description="What the rows take in the table, with indexes.")
    usd_per_month_before: float | None = Field(default=None, description="Of these bytes in the table.")
    usd_per_month_after: float | None = Field(
        default=None, description="Of the archive, in the storage class it goes to."
    )


class WholePartition(Record):
    """A partition of the table that a run looks at as a whole."""

    name: str
    stays_because: str = Field(description="Why its rows are deleted one by one or by range; empty if it is detached.")


class PartitionPreview(Record):
    """What one run would do with one calendar partition."""

    partition_key: str
    rows_in_table: int
    plan: ArchivePlan | None = Field(description="None if the run would be refused.")
    problem: str | None = Field(default=None, description="Why it would be refused.")
    stopped_by: tuple[str, ...] = Field(
        default=(), description="What stops it now: claims of other runs, holds on everything."
    )
    estimate: Estimate = Estimate()
    delete: str = Field(default="", description="How the rows leave the table.")
    partitions: tuple[WholePartition, ...] = ()
    statements: tuple[Statement, ...] = ()

    @property
    def outcome(self) -> str:
        """The plan's, or ``refused``."""
        return "refused" if self.plan is None else self.plan.outcome

    @property
    def rows(self) -> int:
        """How many rows would be archived and deleted."""
        return 0 if self.plan is None else self.plan.due_rows

    @property
    def runs(self) -> bool:
        """Whether a run of it has something to do."""
        return self.outcome in ("planned", "resumed")


class TablePreview(Record):
    """What runs would do with one table now."""

    name: str = Field(description="In archive.yaml.")
    table: str = Field(description="schema.table")
    settings: dict[str, str] = Field(description="All of them by their names, as they are in force. None is a secret.")
    columns: dict[str, str] = Field(default={}, description="Type of each, in their order.")
    references: tuple[str, ...] = Field(default=(), description="Foreign keys that refer to the table.")
    server: dict[str, str] = Field(default={}, description="Which database it is.")
    holds: tuple[str, ...] = Field(
        default=(), description="In force on the table or on everything. One on the table keeps its archives."
    )
    undated_rows: int = 0
    suppressed: int = Field(default=0, description="Values of persons who were erased: no row with one is archived.")
    problem: str | None = Field(default=None, description="Why nothing can be said of it.")
    partitions: tuple[PartitionPreview, ...] = ()
    locks: tuple[str, ...] = ()

    @property
    def due(self) -> tuple[PartitionPreview, ...]:
        """The partitions of which a run has something to do."""
        return tuple(one for one in self.partitions if one.runs)


class Preview(Record):
    """What runs would do, and when that was said."""

    version: Literal[1] = 1
    made_at: AwareDatetime
    made_by: str
    tables: tuple[TablePreview, ...]


class SavedPreview(Preview):
    """The same in a file."""

    digest: Sha256 = Field(description="Of everything else in it.")
