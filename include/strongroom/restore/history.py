"""All restores on record: the records that are still kept, and the reports of restores that ended."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

from pydantic import ValidationError

from strongroom.ledger.restore_records import read_restore_record
from strongroom.object_keys.layout import REPORTS, RESTORES, table_folder
from strongroom.object_keys.records import restores_prefix
from strongroom.object_keys.reports import is_restore_report
from strongroom.records import RestoreRecord
from strongroom.restore.records import RestoreReport
from strongroom.storage.store import Store

_READERS = 8


@dataclass(frozen=True)
class Restore:
    """One restore, as a list shows it.

    Attributes:
        restore_id: Its name.
        table: ``schema.table`` that the rows were restored to.
        partition_keys: Partitions of the archives that the rows came from.
        who: Who asked for it.
        triggered_by: Who started the run, according to Airflow; None if the record does not say.
        why: The reason.
        at: When it was planned.
        until: Its rows are not archived again before this instant.
        outcome: As in :class:`RestoreReport`; ``unfinished`` without a report.
    """

    restore_id: str
    table: str
    partition_keys: tuple[str, ...]
    who: str
    triggered_by: str | None
    why: str
    at: datetime
    until: datetime
    outcome: str


def read_restores(store: Store, schema_name: str | None = None, table_name: str | None = None) -> list[Restore]:
    """All restores, or those into one table, the latest first. Sweeps remove records past their date; reports stay.

    Raises:
        IntegrityError: A record cannot be read.
    """
    records, reports = RESTORES, REPORTS
    if schema_name is not None and table_name is not None:
        records = restores_prefix(schema_name, table_name)
        reports = f"{REPORTS}{table_folder(schema_name, table_name)}/"
    with ThreadPoolExecutor(_READERS) as readers:
        kept = [
            _of_record(one)
            for one in readers.map(lambda key: read_restore_record(store, key), store.keys(records))
            if one
        ]
        keys = [key for key in store.keys(reports) if is_restore_report(key)]
        ended = [_of_report(one) for one in readers.map(lambda key: _read_report(store, key), keys) if one]
    by_id = {(one.table, one.restore_id): one for one in (*kept, *ended)}
    return sorted(by_id.values(), key=lambda one: (one.at, one.restore_id), reverse=True)


def _read_report(store: Store, key: str) -> RestoreReport | None:
    present = store.read(key)
    try:
        return None if present is None else RestoreReport.model_validate_json(present[0])
    except ValidationError:  # a damaged report is left out; the record of the restore may still be there
        return None


def _of_record(record: RestoreRecord) -> Restore:
    return Restore(
        restore_id=record.restore_id,
        table=record.table,
        partition_keys=record.partition_keys,
        who=record.who,
        triggered_by=record.triggered_by,
        why=record.why,
        at=record.restored_at,
        until=record.until,
        outcome="unfinished",
    )


def _of_report(report: RestoreReport) -> Restore:
    return Restore(
        restore_id=report.restore_id,
        table=report.target,
        partition_keys=report.partition_keys,
        who=report.who,
        triggered_by=report.triggered_by,
        why=report.why,
        at=report.planned_at,
        until=report.until,
        outcome=report.outcome,
    )
