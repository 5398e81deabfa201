"""What runs would do with a table, read from its database and its store. Nothing is written, and no claim is taken."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime

from strongroom.archive.plan import foresee_archive
from strongroom.calendar import Partition, Window
from strongroom.database.delete_allowed import require_delete_allowed
from strongroom.database.inspect import InspectedTable, inspect_table
from strongroom.database.session import Connection, read_identity
from strongroom.errors import StrongroomError
from strongroom.ledger.claims import parse_claim
from strongroom.ledger.holds import EVERYTHING, Hold, covered, on_everything, read_holds
from strongroom.object_keys.records import claim_key, parse_suppressed_key, suppressed_prefix
from strongroom.preview.history import History, read_history
from strongroom.preview.records import Estimate, PartitionPreview, Statement, TablePreview, WholePartition
from strongroom.preview.statements import statements_of
from strongroom.records import ArchivePlan, Column, SourceIdentity
from strongroom.settings import TableSettings
from strongroom.statistics.figures import GIBIBYTE
from strongroom.statistics.waiting import TableCounts, count_waiting
from strongroom.storage.store import Store
from strongroom.tables.cut import Cut
from strongroom.tables.locks import LOCK_MILLISECONDS
from strongroom.tables.partitions import Leaf, read_leaves, read_partitioned
from strongroom.tables.warm import warm_table

Connect = Callable[[], AbstractContextManager[Connection]]
"""Opens a session in autocommit mode."""


def look_at_table(
    name: str,
    settings: TableSettings,
    store: Store,
    connect: Connect,
    connect_owner: Connect,
    *,
    now: datetime,
    members: Sequence[TableSettings] = (),
    explain: bool = False,
) -> TablePreview:
    """Say what runs would do with a table now. What cannot be said is a ``problem`` of the table or of its partition.

    Args:
        name: Of the table in archive.yaml.
        settings: Of the table.
        store: Its archive store.
        connect: Opens a session of the role that reads and deletes.
        connect_owner: Opens one of the role that detaches partitions; called only if the settings let runs do that.
        now: Aware UTC instant.
        members: Settings of the tables that are archived together with it.
        explain: Whether to add the statements, and how the server plans them.
    """
    told = TablePreview(name=name, table=settings.qualified_name, settings=flat_settings(settings))
    try:
        store.prepare(create=False)
        holds = [hold for hold in read_holds(store) if hold.released_at is None]
        with connect() as connection:
            require_delete_allowed(connection, settings)
            with _reading(connection):
                table, source = inspect_table(connection, settings), read_identity(connection)
                counts = count_waiting(connection, settings, now=now)
            looking = _Looking(settings, store, connection, connect_owner, table, counts, holds, now, explain, members)
            partitions = looking.partitions(read_history(store, settings))
    except StrongroomError as error:
        return told.model_copy(update={"problem": _in_words(error)})
    return told.model_copy(
        update={
            "columns": {column.name: _column(column) for column in table.shape.columns},
            "references": tuple(f"{one.schema_name}.{one.table_name} ({one.name})" for one in table.references),
            "server": _server(source),
            "holds": tuple(str(hold) for hold in holds if _concerns(hold, settings)),
            "undated_rows": counts.undated_rows,
            "suppressed": _suppressed(store, settings),
            "partitions": partitions,
            "locks": locks_of(settings, table),
        }
    )


def flat_settings(settings: TableSettings) -> dict[str, str]:
    """All settings of a table by their full names. Passwords and keys are no settings."""

    def flat(prefix: str, value: object) -> dict[str, str]:
        if isinstance(value, dict):
            return {name: text for key, one in value.items() for name, text in flat(f"{prefix}{key}.", one).items()}
        return {prefix.removesuffix("."): "none" if value is None else str(value)}

    return flat("", settings.model_dump(mode="json"))


def locks_of(settings: TableSettings, table: InspectedTable) -> tuple[str, ...]:
    """The locks that a run takes in the source database, in words, in the order of its steps."""
    others = sorted({f"{one.schema_name}.{one.table_name}" for one in table.references})
    also = f", also on {', '.join(others)}" if others else ""
    found = [
        f"plan and extract: ACCESS SHARE{also}. Each part has one snapshot while it is read; until then vacuum keeps its dead rows.",
        f"delete: ROW EXCLUSIVE, and the rows of one batch, for about half a second a batch. It waits at most "
        f"{settings.lock_timeout_seconds} s for another session's lock.",
    ]
    if settings.partition_delete.enabled:
        found.insert(
            1,
            f"detach: SHARE ROW EXCLUSIVE on a partition to guard it, then SHARE UPDATE EXCLUSIVE on the table (ACCESS EXCLUSIVE where "
            f"the server cannot detach concurrently). Each wait for a lock is given up after {LOCK_MILLISECONDS / 1000:g} s.",
        )
    return tuple(found)


@dataclass(frozen=True)
class _Looking:
    """A table of which the partitions are looked at."""

    settings: TableSettings
    store: Store
    connection: Connection
    connect_owner: Connect
    table: InspectedTable
    counts: TableCounts
    holds: Sequence[Hold]
    now: datetime
    explain: bool
    members: Sequence[TableSettings]

    def partitions(self, history: History) -> tuple[PartitionPreview, ...]:
        found = []
        for one in self.counts.waiting:
            partition = Partition.parse(self.settings.frequency, one.partition_key)
            try:
                found.append(self._partition(partition, one.rows, history))
            except StrongroomError as error:
                told = PartitionPreview(
                    partition_key=partition.key, rows_in_table=one.rows, plan=None, problem=_in_words(error)
                )
                found.append(told)
        return tuple(found)

    def _partition(self, partition: Partition, rows_in_table: int, history: History) -> PartitionPreview:
        with _reading(self.connection):
            plan, cuts = foresee_archive(
                self.connection, self.store, self.settings, partition, members=self.members, now=self.now
            )
        cut = cuts.get(self.settings.qualified_name)
        leaves, stays = self._leaves(partition) if plan.parts else ([], {})
        return PartitionPreview(
            partition_key=partition.key,
            rows_in_table=rows_in_table,
            plan=plan,
            stopped_by=self._stopped_by(partition) if plan.parts else (),
            estimate=self._estimate(plan, cut, rows_in_table, history) if plan.parts else Estimate(),
            delete=self._delete_in_words(plan, leaves) if plan.parts else "",
            partitions=(
                *(WholePartition(name=str(leaf), stays_because="") for leaf in leaves),
                *(WholePartition(name=name, stays_because=why) for name, why in stays.items()),
            ),
            statements=self._statements(plan, partition, leaves) if self.explain and plan.parts else (),
        )

    def _stopped_by(self, partition: Partition) -> tuple[str, ...]:
        found = [f"a hold on everything, so no row is deleted: {hold}" for hold in on_everything(self.holds)]
        key = claim_key(self.settings.schema_name, self.settings.table_name, partition.key)
        present = self.store.read(key)
        claim = None if present is None else parse_claim(key, present[0])
        if claim is not None and claim.state == "held" and claim.expires_at > self.now:
            found.append(f"the claim of {claim.owner}")
        return tuple(found)

    def _estimate(self, plan: ArchivePlan, cut: Cut | None, rows_in_table: int, history: History) -> Estimate:
        rows, prices = plan.due_rows, self.settings.prices
        row_bytes = self.counts.hot_bytes / self.counts.hot_rows if self.counts.hot_rows else None
        leaving = rows_in_table if plan.outcome == "resumed" else rows
        table_bytes = None if row_bytes is None else round(leaving * row_bytes)
        found = Estimate(
            seconds=rows / history.rows_per_second if history.rows_per_second else None,
            table_bytes=table_bytes,
            usd_per_month_before=None if table_bytes is None else table_bytes / GIBIBYTE * prices.hot,
        )
        if history.original_bytes is not None and history.archived_bytes is not None:
            archived = round(rows * history.archived_bytes)
            known = {
                "original_bytes": round(rows * history.original_bytes),
                "archived_bytes": archived,
                "bytes_from": "archives",
                "usd_per_month_after": archived / GIBIBYTE * prices.of(self.settings.store.storage_class),
            }
        elif cut is not None and cut.line_bytes:
            known = {"original_bytes": round(rows * cut.line_bytes), "bytes_from": "sample"}
        else:
            known = {"original_bytes": table_bytes, "bytes_from": None if table_bytes is None else "table"}
        return found.model_copy(update=known)

    def _leaves(self, partition: Partition) -> tuple[list[Leaf], dict[str, str]]:
        """The table partitions that would be detached, if they hold exactly what is archived; and why others would not."""
        if not self.settings.partition_delete.enabled:
            return [], {}
        try:
            with self.connect_owner() as owner, _reading(owner):
                parent = read_partitioned(owner, self.settings, self.table)
                found = [] if parent.obstacle else read_leaves(owner, parent.oid, partition.window)
        except StrongroomError as error:
            return [], {self.settings.qualified_name: error.what}
        if parent.obstacle or parent.lacking:
            return [], {
                self.settings.qualified_name: parent.obstacle or f"the role has no {', no '.join(parent.lacking)}"
            }
        return [one for one in found if not one.obstacle], {str(one): one.obstacle for one in found if one.obstacle}

    def _delete_in_words(self, plan: ArchivePlan, leaves: Sequence[Leaf]) -> str:
        ordered = any(part.ordered for part in plan.parts) and self.settings.delete_by != "key"
        way = plan.delete_by or ("range" if ordered else "key")
        words = f"by {way}, in batches of at most {self.settings.delete_batch_rows:,} rows"
        if leaves:
            count = f"{len(leaves)} whole {'partition' if len(leaves) == 1 else 'partitions'}"
            words = f"{count} detached and dropped after {self.settings.partition_delete.cooling_off}, the rest {words}"
        if warm := warm_table(
            self.connection, self.settings, self.table.shape, Window(plan.start_at, plan.end_at), self.now
        ):
            words += f"; rows move to {warm}"
        return words

    def _statements(self, plan: ArchivePlan, partition: Partition, leaves: list[Leaf]) -> tuple[Statement, ...]:
        with _reading(self.connection):
            warm = warm_table(self.connection, self.settings, self.table.shape, partition.window, self.now)
            return statements_of(self.connection, self.settings, self.table, warm, plan.parts[0], leaves)


@contextmanager
def _reading(connection: Connection) -> Iterator[None]:
    """A transaction in which the server itself refuses to write."""
    with connection.transaction():
        connection.execute("SET TRANSACTION READ ONLY")
        yield


def _column(column: Column) -> str:
    return column.type if column.nullable else f"{column.type} NOT NULL"


def _server(source: SourceIdentity) -> dict[str, str]:
    return {name: str(value) for name, value in source.model_dump().items()}


def _concerns(hold: Hold, settings: TableSettings) -> bool:
    """Whether a hold is on everything, on the table or on something of it."""
    own = covered(settings.schema_name, settings.table_name)
    ours, theirs = f"{own}.", f"{hold.what}."
    return hold.what == EVERYTHING or theirs.startswith(ours) or ours.startswith(theirs)


def _suppressed(store: Store, settings: TableSettings) -> int:
    """How many values of erased persons keep rows out of archives."""
    names = map(parse_suppressed_key, store.keys(suppressed_prefix(settings.schema_name, settings.table_name)))
    return len({parsed[1] for parsed in names if parsed is not None})


def _in_words(error: StrongroomError) -> str:
    """An error in one line, with its code."""
    compared = str(error).partition("\nHINT: ")[0]
    return f"{compared}. {error.hint} ({error.code})"
