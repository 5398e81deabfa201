"""What statistics say: of one table, of all together, by month and by tier."""

from __future__ import annotations

from pydantic import AwareDatetime, Field

from strongroom.erasure.clock import StoreCases
from strongroom.ledger.index import DamagedManifest
from strongroom.records import Record


class Growth(Record):
    """What was sealed in one calendar month, UTC."""

    month: str
    archives: int
    rows: int
    original_size_bytes: int
    compressed_size_bytes: int


class TierCost(Record):
    """What one tier holds, and what that costs a month."""

    tier: str = Field(description="`hot`, `warm`, or a storage class of S3.")
    rows: int | None = Field(
        default=None, description="Those of a table are the server's estimate. None in older statistics."
    )
    size_bytes: int
    usd_per_month: float


class Figures(Record):
    """The figures of one table, or of all together. Numbers about rows in the source are None if they were not counted."""

    archives: int
    rows: int
    original_size_bytes: int
    compressed_size_bytes: int
    oldest_at: AwareDatetime | None = Field(description="Start of the oldest archived window.")
    newest_at: AwareDatetime | None = Field(description="End of the newest archived window.")
    hot_rows: int | None
    hot_bytes: int | None
    overdue_rows: int | None = Field(description="Rows that are due, in partitions without an archive.")
    late_rows: int | None = Field(
        description="Rows that are due, in partitions with an archive: they came late, changed, or are referred to."
    )
    undated_rows: int | None = Field(description="Rows in no partition that a run could archive.")
    growth: tuple[Growth, ...] = Field(description="Months without a new archive are left out.")
    costs: tuple[TierCost, ...]
    saved_usd_per_month: float = Field(
        description="What the archived rows would cost in the table, minus the cost of their archives."
    )
    next_expiry_at: AwareDatetime | None = Field(
        description="The earliest end of a term, except of archives under a hold."
    )
    held_archives: int
    last_verified_at: AwareDatetime | None = Field(description="When an archive was last read again and found sound.")
    longest_unverified_at: AwareDatetime | None = Field(
        description="When the archive was last read, or sealed, for which that is longest ago."
    )

    @property
    def ratio(self) -> float:
        """Original over compressed size."""
        return self.original_size_bytes / max(1, self.compressed_size_bytes)


class NextRun(Record):
    """The run that the schedule starts next."""

    partition_key: str
    at: AwareDatetime


class TableStatistics(Figures):
    """One table, configured or known only from its archives."""

    table: str
    configured: bool
    uncounted: str | None = Field(default=None, description="Why its rows could not be counted.")
    next_run: NextRun | None
    undrilled_since: AwareDatetime | None = Field(
        default=None,
        description="When a drill last restored one of its archives as it was archived; if none did, when its oldest archive was "
        "sealed. None without an archive, and in older statistics.",
    )
    failed_drills: int = Field(default=0, description="Archives whose latest drill failed.")
    uncopied: int | None = Field(
        default=None, description="Archives whose second copy was never found the same. None without a replica."
    )
    longest_uncompared_at: AwareDatetime | None = Field(
        default=None, description="When the second copy was last compared for which that is longest ago."
    )


class Statistics(Record):
    """All tables at one instant."""

    made_at: AwareDatetime
    total: Figures
    tables: tuple[TableStatistics, ...] = Field(description="In the order of the configuration, then by name.")
    damaged: tuple[DamagedManifest, ...]
    holds: int = Field(description="In force.")
    last_restored_at: AwareDatetime | None
    cases: tuple[StoreCases, ...] = Field(default=(), description="Requests of persons, by store.")


class Uncounted(Record):
    """Why the rows of a table could not be counted."""

    reason: str
