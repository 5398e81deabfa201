"""Drop warm partitions whose term is over, if every one of their rows is found in a sound archive again.

The archives of a month are read back from the store and compared with the rows of the warm partition
(:mod:`strongroom.retention.warm_rows`), under a lock that keeps writers out until the partition is gone. If a row differs, or no archive holds it, its
partition stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from psycopg import IsolationLevel, sql
from pydantic import AwareDatetime

from strongroom.calendar import Frequency, Partition
from strongroom.database.session import Connection, qualified
from strongroom.ledger.entries import Act, Kind
from strongroom.ledger.holds import Hold, covering, holds_in_force, on_everything
from strongroom.ledger.index import read_manifests, split_superseded
from strongroom.ledger.journal import enter, record
from strongroom.ledger.manifest_record import Manifest
from strongroom.ledger.reread import doubt_about
from strongroom.object_keys.archives import ArchiveId
from strongroom.object_keys.records import warm_evidence_key
from strongroom.records import Record, RunIdentity, Sha256
from strongroom.retention.warm_rows import WarmRows
from strongroom.settings import TableSettings
from strongroom.storage.store import Store
from strongroom.tables.warm import WARM_SCHEMA, warm_months, warm_name
from strongroom.tables.warm_script import function_name


class WarmDecision(Record):
    """Whether one warm partition is to be dropped, and why.

    ``expired``: its term is over. ``kept``: its term still runs. ``held``: a legal hold covers an archive of it.
    """

    table: str
    month: str
    partition: str
    reason: Literal["expired", "kept", "held"]
    detail: str


class ProvedArchive(Record):
    """An archive that was read back and compared with a warm partition."""

    archive_id: str
    record_count: int
    checksum: Sha256


class WarmEvidence(Record):
    """What lies in the store under ``evidence/`` for each warm partition that was dropped.

    It is written before the transaction that drops the partition commits. If the commit fails, the partition is still
    there, and the next try leaves a later record of the same month.
    """

    table: str
    warm_table: str
    month: str
    partition: str
    rows: int
    warm_until: AwareDatetime
    archives: tuple[ProvedArchive, ...]
    dropped_at: AwareDatetime
    dropped_by: RunIdentity


class WarmResult(Record):
    """What became of one warm partition.

    ``dropped``: it is gone, with evidence. ``unverifiable``: it has rows that no sound archive holds, so it stays. The
    others are as in :class:`WarmDecision`.
    """

    table: str
    month: str
    result: Literal["dropped", "kept", "held", "unverifiable"]
    detail: str
    rows: int = 0
    evidence_key: str | None = None


def decide_warm(
    settings: TableSettings,
    months: Mapping[str, str],
    archives: Iterable[Manifest],
    holds: Sequence[Hold],
    now: datetime,
) -> list[WarmDecision]:
    """Decide which partitions of a warm table have reached the end of their term. Reads no row and removes nothing.

    The term runs from the end of the month, by the calendar.

    Args:
        settings: Of the live table.
        months: Name of the partition of each month.
        archives: Manifests of the table.
        holds: Legal holds in force.
        now: Aware instant.

    Returns:
        One decision per partition, oldest month first.
    """
    known = list(archives)
    return [_decide_one(settings, month, months[month], known, holds, now) for month in sorted(months)]


def _decide_one(
    settings: TableSettings,
    month: str,
    partition: str,
    archives: Iterable[Manifest],
    holds: Sequence[Hold],
    now: datetime,
) -> WarmDecision:
    until = _warm_until(settings, month)
    holding = _holding(holds, archives_of(month, archives))
    reason: Literal["expired", "kept", "held"]
    if now < until:
        reason, detail = "kept", f"its warm term runs until {until:%Y-%m-%d %H:%M} UTC"
    elif holding:
        reason, detail = "held", f"its warm term ended at {until:%Y-%m-%d %H:%M} UTC, but {holding}"
    else:
        reason, detail = "expired", f"its warm term ended at {until:%Y-%m-%d %H:%M} UTC"
    return WarmDecision(
        table=settings.qualified_name, month=month, partition=f"{WARM_SCHEMA}.{partition}", reason=reason, detail=detail
    )


def _warm_until(settings: TableSettings, month: str) -> datetime:
    return settings.warm_retention.after(Partition.parse(Frequency.MONTHLY, month).window.end)


def _holding(holds: Sequence[Hold], archives: Iterable[Manifest]) -> str:
    """The holds that cover any of the archives, or everything, in words; empty if none does."""
    covers = on_everything(holds)
    covers += [hold for each in archives for hold in covering(holds, ArchiveId.parse(each.archive_id))]
    return "; ".join(dict.fromkeys(map(str, covers)))


def archives_of(month: str, archives: Iterable[Manifest]) -> list[Manifest]:
    """The archives that can hold rows of a calendar month. A week can belong to two months."""
    window = Partition.parse(Frequency.MONTHLY, month).window
    return [each for each in archives if each.window.overlaps(window)]


def purge_warm(
    connection: Connection, store: Store, settings: TableSettings, *, run: RunIdentity, now: datetime
) -> list[WarmResult]:
    """Drop every warm partition of a table whose term is over and whose rows are proved. A repeat finds none.

    Args:
        connection: A session of the archiver's role in autocommit mode.
        store: With the archiver's rights.
        settings: Of the live table.
        run: Which Airflow run this is.
        now: Aware instant.

    Returns:
        One result per partition, oldest month first; none if there is no warm table.

    Raises:
        IntegrityError: A hold or a manifest cannot be read.
    """
    months = warm_months(connection, warm_name(settings))
    if not months:
        return []
    archives, _ = split_superseded(read_manifests(store, settings.schema_name, settings.table_name))
    results = []
    for decision in decide_warm(settings, months, archives, holds_in_force(store), now):
        if decision.reason == "expired":
            dropping = _Dropping(connection, store, settings, months[decision.month], decision.month)
            results.append(dropping.drop(archives_of(decision.month, archives), run, now))
        else:
            results.append(
                WarmResult(table=decision.table, month=decision.month, result=decision.reason, detail=decision.detail)
            )
    return results


class _Dropping:
    """One warm partition while it is checked and dropped."""

    def __init__(
        self, connection: Connection, store: Store, settings: TableSettings, partition: str, month: str
    ) -> None:
        self._connection, self._store, self._settings = connection, store, settings
        self._partition, self._month = partition, month
        self._name = qualified(WARM_SCHEMA, partition)

    def drop(self, archives: Sequence[Manifest], run: RunIdentity, now: datetime) -> WarmResult:
        """Prove every row of the partition, then drop it, in one transaction with the evidence."""
        for manifest in archives if self._has_rows() else ():
            if doubt := doubt_about(self._store, ArchiveId.parse(manifest.archive_id)):
                return self._kept("unverifiable", doubt)
        compared = WarmRows(self._connection, self._store, self._settings, self._partition, self._month)
        compared.read_back(archives)
        connection = self._connection
        connection.isolation_level = IsolationLevel.READ_COMMITTED
        with connection.transaction():
            # Readers continue, writers wait: what is counted now is what the function drops.
            connection.execute(sql.SQL("LOCK TABLE {} IN SHARE MODE").format(self._name))
            rows, proved = compared.count()
            if holding := _holding(holds_in_force(self._store), archives):
                return self._kept("held", holding)
            if rows != proved:
                return self._kept(
                    "unverifiable", f"{rows - proved} of its {rows} rows are in no archive as they are here"
                )
            # Literals, because with parameters a percent sign in the function's name would be read as one.
            drop = sql.SQL("SELECT {}({}, {})").format(
                function_name(warm_name(self._settings)), sql.Literal(self._partition), sql.Literal(rows)
            )
            connection.execute(drop)
            key = self._leave_evidence(archives if rows else (), rows, run, now)
        enter(self._store, self._act("dropped", rows))
        until = _warm_until(self._settings, self._month)
        return WarmResult(
            table=self._settings.qualified_name,
            month=self._month,
            result="dropped",
            detail=f"{rows} rows, each in one of {len(archives)} archives; warm term ended at {until:%Y-%m-%d} UTC",
            rows=rows,
            evidence_key=key,
        )

    def _has_rows(self) -> bool:
        row: Any = self._connection.execute(sql.SQL("SELECT EXISTS (SELECT FROM {})").format(self._name)).fetchone()
        return bool(row[0])

    def _leave_evidence(self, archives: Sequence[Manifest], rows: int, run: RunIdentity, now: datetime) -> str:
        key = warm_evidence_key(self._settings.schema_name, self._settings.table_name, self._month, now)
        evidence = WarmEvidence(
            table=self._settings.qualified_name,
            warm_table=f"{WARM_SCHEMA}.{warm_name(self._settings)}",
            month=self._month,
            partition=f"{WARM_SCHEMA}.{self._partition}",
            rows=rows,
            warm_until=_warm_until(self._settings, self._month),
            archives=tuple(
                ProvedArchive(archive_id=each.archive_id, record_count=each.record_count, checksum=each.checksum)
                for each in archives
            ),
            dropped_at=now,
            dropped_by=run,
        )
        record(self._store, key, evidence.to_bytes(), self._act("drop intended", rows))
        return key

    def _act(self, kind: Kind, rows: int) -> Act:
        return Act(
            kind=kind,
            table=self._settings.qualified_name,
            partition_key=self._month,
            settings_sha256=self._settings.sha256,
            facts={"tier": "warm", "partition": f"{WARM_SCHEMA}.{self._partition}", "rows": rows},
        )

    def _kept(self, result: Literal["held", "unverifiable"], detail: str) -> WarmResult:
        return WarmResult(table=self._settings.qualified_name, month=self._month, result=result, detail=detail)
