"""Records of what was restored: while one is in force, no run archives the partitions that it names again.

A record lies in the store before the first row is loaded, and runs out by itself at its ``until``.
"""

from __future__ import annotations

import re
from datetime import datetime

from strongroom.calendar import Partition
from strongroom.errors import IntegrityError, NeededError, RestoreError
from strongroom.object_keys import ArchiveId, restores_prefix
from strongroom.records import RestoreRecord, parse_record
from strongroom.settings import TableSettings
from strongroom.storage.store import Store

__all__ = ["RestoreRecord", "active_restores", "active_restores_of", "keep_record", "make_restore_id", "split_table"]


def make_restore_id(run_id: str) -> str:
    """The restore's name, safe as a folder and in an object key, from the Airflow run that does it.

    The same run gives the same name. A name of dots alone would lead out of the folder.
    """
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", run_id)
    return name if name.strip(".") else f"restore-{len(name)}"


def split_table(table: str) -> tuple[str, str]:
    """Schema and table of a qualified name; ``public`` where no schema is written."""
    schema_name, _, table_name = table.rpartition(".")
    return schema_name or "public", table_name


def keep_record(store: Store, record: RestoreRecord, *, now: datetime) -> RestoreRecord:
    """Write the record of a restore; a repeat finds the one that is there, and its date.

    Raises:
        RestoreError: The record is there and has run out, so nothing would protect the rows.
        IntegrityError: The record that is there speaks of another restore.
    """
    key = _key(record)
    present = store.read(key)
    if present is None:
        store.put_bytes(key, record.to_bytes())
        return record
    kept = parse_restore_record(f"{store}{key}", present[0])
    fixed = {name: getattr(kept, name) for name in ("restored_at", "until", "triggered_by")}
    asked = record.model_copy(update=fixed)
    if kept != asked:
        raise RestoreError(
            f"{store}{key} is the record of another restore",
            expected=", ".join(asked.archive_ids),
            found=", ".join(kept.archive_ids),
            hint="Nothing was loaded. Start a restore of its own for other archives; do not edit the run's parameters.",
        )
    if kept.until <= now:
        raise RestoreError(
            f"the record of restore {kept.restore_id} ran out at {kept.until:%Y-%m-%d %H:%M} UTC",
            hint="Nothing was loaded by this try. Start a new restore: its rows are then kept from being archived again.",
        )
    return kept


def parse_restore_record(where: str, body: bytes) -> RestoreRecord:
    """Read the record of a restore.

    Raises:
        IntegrityError: It is none, so it is unknown what it protects.
    """
    return parse_record(
        RestoreRecord,
        body,
        where=where,
        what="a sound record of a restore",
        hint="Nothing was removed or loaded. It may protect rows and archives: look at its earlier versions and put the "
        "right one back.",
    )


def active_restores(store: Store, table: str, now: datetime) -> list[RestoreRecord]:
    """Records in force at an aware instant of what was restored into a table (``schema.table``), by their ids."""
    found = []
    for key in store.keys(restores_prefix(*split_table(table))):
        present = store.read(key)
        if present is not None:
            record = parse_restore_record(f"{store}{key}", present[0])
            if record.until > now:
                found.append(record)
    return found


def active_restores_of(store: Store, table: str, partition: Partition, now: datetime) -> tuple[RestoreRecord, ...]:
    """Records in force that name the partition, or one of another frequency that shares an instant with it."""

    def touches(key: str) -> bool:
        return Partition.named(key).window.overlaps(partition.window)

    return tuple(record for record in active_restores(store, table, now) if any(map(touches, record.partition_keys)))


def _key(record: RestoreRecord) -> str:
    return f"{restores_prefix(*split_table(record.table))}{record.restore_id}.json"


def require_wanted(
    store: Store, settings: TableSettings, partition: Partition, archive: ArchiveId, now: datetime
) -> None:
    """See that the rows of an archive may leave the table. Plan has looked too; but a step may be cleared alone, long after.

    Raises:
        IntegrityError: The archive was condemned.
        NeededError: Rows of the partition were restored and are needed in the table.
    """
    if store.head(archive.condemnation_key) is not None:
        raise IntegrityError(
            f"{archive} was condemned: a part of it is not what was archived",
            hint="No row was deleted. Run the partition again: what is still in the table goes into another archive.",
        )
    restores = active_restores_of(store, settings.qualified_name, partition, now)
    if restores:
        raise NeededError(
            f"{settings.qualified_name} {partition.key} was restored and its rows are needed in the table",
            found="; ".join(map(str, restores)),
            hint="No row was deleted by this step. When that time is over, clear 'plan' and the tasks after it.",
        )


def read_restore_record(store: Store, key: str) -> RestoreRecord | None:
    """Read one record of a restore, or None if it is gone.

    Raises:
        IntegrityError: It is no such record.
    """
    present = store.read(key)
    if present is None:
        return None
    return parse_restore_record(f"{store}{key}", present[0])
