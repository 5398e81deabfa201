"""What earlier archives and runs of a table tell about the size and the time of the next one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from strongroom.archive.report import RunReport
from strongroom.errors import StrongroomError
from strongroom.ledger.index import list_archives, read_listed
from strongroom.ledger.manifest_record import Manifest
from strongroom.object_keys.archives import ArchiveId
from strongroom.records import parse_record
from strongroom.settings import TableSettings
from strongroom.storage.store import Store

_LAST = 5
"""How many archives count. Older ones may have had other columns, another format or another machine."""


@dataclass(frozen=True)
class History:
    """Figures of the last archives of a table. None where there is no archive with rows, or no report of its run.

    Attributes:
        original_bytes: Bytes a row before compression.
        archived_bytes: Bytes a row in the store.
        rows_per_second: From the plan of a run to its report.
    """

    original_bytes: float | None = None
    archived_bytes: float | None = None
    rows_per_second: float | None = None


def read_history(store: Store, settings: TableSettings) -> History:
    """Read the last manifests and reports of a table; damaged ones are left out.

    Raises:
        IdentityError: The store is unclaimed.
    """
    listing = list_archives(store, settings.schema_name, settings.table_name)
    last = dict(sorted(listing.etags.items())[-_LAST:])
    manifests, _, _ = read_listed(store, last, indexed=False)
    archived = [one for one in manifests if one.supersedes is None and one.record_count]
    rows = sum(one.record_count for one in archived)
    if not rows:
        return History()
    return History(
        original_bytes=sum(one.original_size for one in archived) / rows,
        archived_bytes=sum(one.compressed_size for one in archived) / rows,
        rows_per_second=_speed(store, archived),
    )


def _speed(store: Store, manifests: Sequence[Manifest]) -> float | None:
    reports = [report for one in manifests if (report := _report_of(store, one)) is not None]
    seconds = sum(report.seconds for report in reports)
    return sum(report.archived_rows for report in reports) / seconds if seconds > 0 else None


def _report_of(store: Store, manifest: Manifest) -> RunReport | None:
    key = ArchiveId.parse(manifest.archive_id).report_key
    present = store.read(key)
    if present is None:
        return None
    try:
        return parse_record(RunReport, present[0], where=key, what="a sound report", hint="It is left out.")
    except StrongroomError:
        return None
