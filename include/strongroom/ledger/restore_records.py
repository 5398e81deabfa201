"""Records of restores: while one is in force, no run archives the partitions that it names again.

A record is stored before the first row is loaded, and expires by itself at its ``until``.
"""

from __future__ import annotations

import re
from datetime import datetime

from strongroom.calendar import Partition
from strongroom.errors import IntegrityError, NeededError, RestoreError
from strongroom.ledger.entries import Act, Facts, subject_of
from strongroom.ledger.journal import enter
from strongroom.ledger.manifests import Attested
from strongroom.ledger.stored_records import read_record
from strongroom.object_keys.archives import ArchiveId
from strongroom.object_keys.layout import RESTORES
from strongroom.object_keys.records import restores_prefix
from strongroom.records import RestoreRecord, parse_record
from strongroom.settings import TableSettings
from strongroom.storage.store import Store

_SOUND = "a sound record of a restore"
_UNSOUND = (
    "Nothing was removed or loaded. It may protect rows and archives: look at its earlier versions and put the right one "
    "back."
)


def make_restore_id(run_id: str) -> str:
    """A name for the restore that an Airflow run makes, safe as a folder and in an object key.

    The same run always gets the same name. A name of dots alone would lead out of the folder.
    """
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", run_id)
    return name if name.strip(".") else f"restore-{len(name)}"


def split_table(table: str) -> tuple[str, str]:
    """Schema and table of a qualified name; the schema is ``public`` if none is given."""
    schema_name, _, table_name = table.rpartition(".")
    return schema_name or "public", table_name


def keep_record(store: Store, record: RestoreRecord, *, now: datetime) -> RestoreRecord:
    """Write the record of a restore. A repeat returns the existing one, with its date.

    Raises:
        RestoreError: The existing record has expired, so nothing would protect the rows; or it is of another restore.
        IntegrityError: The existing record is not sound.
    """
    key = _key(record)
    present = store.read(key)
    if present is None:
        store.put_bytes(key, record.to_bytes())
        _enter(store, key, record)
        return record
    kept = parse_restore_record(f"{store}{key}", present[0])
    fixed = {name: getattr(kept, name) for name in ("restored_at", "until", "triggered_by")}
    asked = record.model_copy(update=fixed)
    if kept != asked:
        raise RestoreError(
            f"{store}{key} is the record of another restore",
            expected=", ".join(asked.archive_ids),
            found=", ".join(kept.archive_ids),
            hint="Nothing was loaded. Start a new restore for other archives; do not edit the parameters of this run.",
        )
    if kept.until <= now:
        raise RestoreError(
            f"the record of restore {kept.restore_id} ran out at {kept.until:%Y-%m-%d %H:%M} UTC",
            hint="Nothing was loaded by this try. Start a new restore, so that its rows are not archived again right away.",
        )
    _enter(store, key, kept)  # again, because the try that wrote it may have died before it
    return kept


def _enter(store: Store, key: str, record: RestoreRecord) -> None:
    facts: Facts = {"restore_id": record.restore_id, "archives": len(record.archive_ids)}
    act = Act(kind="restore begun", table=record.table, who=record.who, facts=facts)
    enter(store, act, [subject_of(key, record.to_bytes())])


def parse_restore_record(where: str, body: bytes) -> RestoreRecord:
    """Read the record of a restore.

    Raises:
        IntegrityError: It is not sound, so it is unknown what it protects.
    """
    return parse_record(
        RestoreRecord,
        body,
        where=where,
        what=_SOUND,
        hint=_UNSOUND,
    )


def active_restores(store: Store, table: str, now: datetime) -> list[RestoreRecord]:
    """Records in force at an aware instant of restores into a table (``schema.table``), in the order of their ids."""
    records = (read_restore_record(store, key) for key in store.keys(restores_prefix(*split_table(table))))
    return [record for record in records if record is not None and record.until > now]


def restores_of(store: Store, archive: ArchiveId) -> list[RestoreRecord]:
    """Records of restores of an archive into any table, in force or not, the earliest first."""
    records = (read_restore_record(store, key) for key in store.keys(RESTORES))
    found = [record for record in records if record is not None and str(archive) in record.archive_ids]
    return sorted(found, key=lambda record: (record.restored_at, record.restore_id))


def active_restores_of(store: Store, table: str, partition: Partition, now: datetime) -> tuple[RestoreRecord, ...]:
    """Records in force that name the calendar partition, or one of another frequency that overlaps it."""

    def touches(key: str) -> bool:
        return Partition.named(key).window.overlaps(partition.window)

    return tuple(record for record in active_restores(store, table, now) if any(map(touches, record.partition_keys)))


def _key(record: RestoreRecord) -> str:
    return f"{restores_prefix(*split_table(record.table))}{record.restore_id}.json"


def require_wanted(
    store: Store, settings: TableSettings, partition: Partition, sealed: Attested, now: datetime
) -> None:
    """Require that the rows of an archive may leave the table. Plan checked it too, but this step may be cleared much later.

    Raises:
        IntegrityError: The archive was condemned.
        NeededError: Rows of the partition were restored and are needed in the table, or in another one of its unit.
    """
    archive = ArchiveId.parse(sealed.manifest.archive_id)
    if archive.condemnation_key in sealed.evidence:
        raise IntegrityError(
            f"{archive} was condemned: a part of it is not what was archived",
            hint="No row was deleted. Run the partition again: what is still in the table goes into another archive.",
        )
    of_unit = (ArchiveId.parse(one.archive_id) for one in sealed.manifest.unit)
    tables = dict.fromkeys((settings.qualified_name, *(f"{one.schema_name}.{one.table_name}" for one in of_unit)))
    of_each = {table: active_restores_of(store, table, partition, now) for table in tables}
    if restores := [one for found in of_each.values() for one in found]:
        named = ", ".join(table for table, found in of_each.items() if found)
        raise NeededError(
            f"{named} {partition.key} was restored and its rows are needed in the table",
            found="; ".join(map(str, restores)),
            hint="No row was deleted by this step. When that time is over, clear 'plan' and the tasks after it.",
        )


def read_restore_record(store: Store, key: str) -> RestoreRecord | None:
    """Read one record of a restore; None if it is gone.

    Raises:
        IntegrityError: It is not sound.
    """
    return read_record(store, key, RestoreRecord, what=_SOUND, hint=_UNSOUND)
