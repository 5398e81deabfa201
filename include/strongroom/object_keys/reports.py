"""Keys of reports: of runs, days and periods, and of each archive that was read again, drilled, copied or looked into."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, timezone

from strongroom.object_keys.archives import ArchiveId
from strongroom.object_keys.layout import (
    DRILLS,
    EXACT_INSTANT,
    QUERIES,
    REPLICAS,
    REPORTS,
    VERIFICATIONS,
    encode_name,
    exact_instant,
    narrowed,
    table_folder,
)

_VERIFICATION = re.compile(
    r"reports/verifications/.*/(?P<archive>[^/]+)/(?P<at>[0-9]{8}T[0-9]{6}Z)-(?P<result>[a-z]+)\.json"
)

_DRILL = re.compile(
    r"reports/drills/[^/]+\.[^/]+/(?P<archive>[^/]+)/(?P<at>[0-9]{8}T[0-9]{6}\.[0-9]{6}Z)-(?P<result>[a-z]+)\.json"
)

_COPY = re.compile(
    r"reports/replicas/[^/]+\.[^/]+/(?P<archive>[^/]+)/(?P<place>[^/]+)/(?P<at>[0-9]{8}T[0-9]{6}\.[0-9]{6}Z)-(?P<result>[a-z]+)\.json"
)


def audit_key(begin: date, end: date, at: datetime, suffix: str) -> str:
    """Key of an audit report of a period, as ``json``, ``html`` or ``oscal.json``."""
    return f"{REPORTS}audits/{begin.isoformat()}_{end.isoformat()}/{exact_instant(at)}.{suffix}"


def adoption_key(at: datetime) -> str:
    """Key of the record of what was brought into the log at one time."""
    return f"{REPORTS}log/{exact_instant(at)}-adopted.json"


def purge_report_key(run_id: str, at: datetime) -> str:
    """Key of the report of one run of the retention purge."""
    return f"reports/retention_purge/{encode_name(run_id)}/{at:%Y%m%dT%H%M%SZ}.json"


def restore_report_key(schema_name: str, table_name: str, restore_id: str) -> str:
    """Key of the summary of one restore into a table."""
    return f"reports/{table_folder(schema_name, table_name)}/restores/{restore_id}.json"


@dataclass(frozen=True)
class VerificationKey:
    """The facts in the key of the record of a verification, or of a drill."""

    archive: ArchiveId
    at: datetime
    result: str


def verifications_prefix(
    schema_name: str | None = None, table_name: str | None = None, partition_key: str | None = None
) -> str:
    """Key prefix of the records that archives were read again: of all, of one table, or of one partition."""
    return narrowed(VERIFICATIONS, schema_name, table_name, partition_key)


def verification_key(archive: ArchiveId, at: datetime, result: str) -> str:
    """Key of the record that an archive was read again at an aware instant, and with what result."""
    folder = f"{verifications_prefix(archive.schema_name, archive.table_name, archive.partition_key)}{archive}"
    return f"{folder}/{at.astimezone(timezone.utc):%Y%m%dT%H%M%SZ}-{result}.json"


def parse_verification_key(key: str) -> VerificationKey | None:
    """Read a key as :func:`verification_key` writes it; None for any other."""
    return _parsed_key(_VERIFICATION.fullmatch(key), "%Y%m%dT%H%M%SZ")


def _parsed_key(found: re.Match[str] | None, instant: str) -> VerificationKey | None:
    archive = None if found is None else ArchiveId.parse_or_none(found["archive"])
    if found is None or archive is None:
        return None
    try:
        at = datetime.strptime(found["at"], instant).replace(tzinfo=timezone.utc)
    except ValueError:  # such as the 31st of February
        return None
    return VerificationKey(archive, at, found["result"])


def drill_key(archive: ArchiveId, at: datetime, result: str) -> str:
    """Key of the record that an archive was restored as a drill, when, and with what result."""
    return f"{DRILLS}{archive.table_folder}/{archive}/{exact_instant(at)}-{result}.json"


def parse_drill_key(key: str) -> VerificationKey | None:
    """Read a key as :func:`drill_key` writes it; None for any other."""
    return _parsed_key(_DRILL.fullmatch(key), EXACT_INSTANT)


def drill_run_key(run_id: str, at: datetime) -> str:
    """Key of the record of what a run of drills chose; each try of the run has its own."""
    return f"{DRILLS}runs/{encode_name(run_id)}/{exact_instant(at)}.json"


def copy_key(place: str, archive: ArchiveId, at: datetime, result: str) -> str:
    """Key of the record that an archive was compared with its copy in a replica, when, and with what result."""
    return f"{copies_prefix(archive)}{place}/{exact_instant(at)}-{result}.json"


def copies_prefix(archive: ArchiveId) -> str:
    """Key prefix of these records of one archive."""
    return f"{REPLICAS}{archive.table_folder}/{archive}/"


def parse_copy_key(key: str) -> tuple[str, VerificationKey] | None:
    """Read a key as :func:`copy_key` writes it: the replica, and the rest; None for any other."""
    found = _COPY.fullmatch(key)
    parsed = _parsed_key(found, EXACT_INSTANT)
    return None if found is None or parsed is None else (found["place"], parsed)


def recovery_key(at: datetime) -> str:
    """Key of the record that an empty bucket was filled from the replica."""
    return f"{REPORTS}recoveries/{exact_instant(at)}.json"


def copied_records_prefix(place: str) -> str:
    """Key prefix of the records of how a store's evidence and log were compared with those in a replica."""
    return f"{REPLICAS}records/{place}/"


def copied_records_key(place: str, at: datetime, result: str) -> str:
    """Key of one of these records."""
    return f"{copied_records_prefix(place)}{exact_instant(at)}-{result}.json"


def statistics_key(day: date, suffix: str) -> str:
    """Key of the statistics of one day, as ``json`` or ``html``."""
    return f"{REPORTS}statistics/{day.isoformat()}.{suffix}"


def is_restore_report(key: str) -> bool:
    """Whether a key below ``reports/`` is one of :func:`restore_report_key`."""
    return re.fullmatch(r"reports/[^/]+\.[^/]+/restores/[^/]+\.json", key) is not None


def queries_prefix(schema_name: str, table_name: str) -> str:
    """Key prefix of the records of who looked into a table's archives."""
    return f"{QUERIES}{table_folder(schema_name, table_name)}/"


def query_record_key(schema_name: str, table_name: str, run_id: str, at: datetime) -> str:
    """Key of the record that a run looked into a table's archives; each try of the run has its own."""
    return f"{queries_prefix(schema_name, table_name)}{encode_name(run_id)}/{exact_instant(at)}.json"
