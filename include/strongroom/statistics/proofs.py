"""When was each archive last read again? One small record for each reading, and what follows from them.

The key of a record says which archive, when and with what result, so a listing is enough to tell how old each proof is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction

from pydantic import AwareDatetime, Field, ValidationError

from strongroom.errors import IntegrityError, StrongroomError
from strongroom.ledger import journal
from strongroom.ledger.entries import of_archive
from strongroom.ledger.reread import ArchiveVerdict, verify_archive
from strongroom.object_keys.archives import ArchiveId
from strongroom.object_keys.layout import REPORTS, decode_table
from strongroom.object_keys.reports import (
    VerificationKey,
    is_restore_report,
    parse_copy_key,
    parse_drill_key,
    parse_verification_key,
    verification_key,
    verifications_prefix,
)
from strongroom.restore.records import RestoreReport
from strongroom.storage.store import Store

_READERS = 4
_PROVED = ("restored", "unchanged")
"""Outcomes of a restore that compared each row and found none that differs."""


@dataclass(frozen=True)
class Proofs:
    """What was proved again.

    Attributes:
        verified: By archive id, when each archive was last read again, or restored as a drill, and found sound.
        last_restored_at: When a restore, or a drill, last ended with each row in the table as it was archived.
        drilled: By table (``schema.table``), when a drill last restored one of its archives and each row was as archived.
        failed_drills: Ids of archives whose latest drill failed.
        copied: By the name of a replica, when the copy of each archive, by its id, was last compared and found the same.
    """

    verified: Mapping[str, datetime] = field(default_factory=dict)
    last_restored_at: datetime | None = None
    drilled: Mapping[str, datetime] = field(default_factory=dict)
    failed_drills: frozenset[str] = frozenset()
    copied: Mapping[str, Mapping[str, datetime]] = field(default_factory=dict)


class Verification(ArchiveVerdict):
    """The record that an archive was read again. Those of the first versions lack when and who; their keys say when."""

    verified_at: AwareDatetime | None = None
    verified_by: str | None = Field(default=None, description="The person, or the run, that had it read.")
    why: str | None = Field(
        default=None, exclude_if=lambda why: why is None, description="The reason; not there where none was given."
    )


@dataclass(frozen=True)
class Reading:
    """One reading of an archive, as a list shows it.

    Attributes:
        archive: Which one.
        at: When; aware, UTC.
        result: As in :class:`ArchiveVerdict`.
        who: Had it read; None if the record does not say.
    """

    archive: ArchiveId
    at: datetime
    result: str
    who: str | None


class SampleError(StrongroomError):
    """A text does not say how many of how many archives to verify."""

    code = "SR-104"


def verify_and_record(
    store: Store, archive: ArchiveId, *, who: str, now: datetime, why: str | None = None
) -> ArchiveVerdict:
    """Read an archive again and record what was found.

    An archive whose manifest is damaged or gone cannot be compared with anything, so its verdict is ``unverifiable``.

    Args:
        store: Where it lies.
        archive: Which one.
        who: Who has it read, for the record.
        now: Aware UTC instant of the record; two verifications within one second are one.
        why: The reason, for the record.
    """
    try:
        verdict = verify_archive(store, archive)
    except IntegrityError as error:
        found = f": expected {error.expected}, found {error.found}" if error.found else ""
        verdict = ArchiveVerdict(archive_id=str(archive), record_count=0, objects=(), problem=f"{error.what}{found}")
    key = verification_key(archive, now, verdict.result)
    record = Verification(**dict(verdict), verified_at=now, verified_by=who, why=why)
    act = of_archive(archive, "verified", who=who, facts={"result": verdict.result, "rows": verdict.record_count})
    journal.record(store, key, record.to_bytes(), act)
    return verdict


def verify_archives(
    store: Store, archives: Sequence[ArchiveId], *, who: str, now: Callable[[], datetime]
) -> Iterator[ArchiveVerdict]:
    """:func:`verify_and_record` for many, some at a time; the verdicts come in the order of the archives."""
    readers = ThreadPoolExecutor(_READERS)
    try:
        yield from readers.map(lambda archive: verify_and_record(store, archive, who=who, now=now()), archives)
    finally:
        readers.shutdown(cancel_futures=True)  # a caller that stops early wants no more of them read


def latest_readings(
    store: Store,
    schema_name: str | None = None,
    table_name: str | None = None,
    partition_key: str | None = None,
    *,
    most: int,
) -> list[Reading]:
    """The latest readings of archives: of all, of one table, or of one calendar partition; the latest first."""
    found = [
        (parsed, key)
        for key in store.keys(verifications_prefix(schema_name, table_name, partition_key))
        if (parsed := parse_verification_key(key)) is not None
    ]
    latest = sorted(found, key=lambda one: (one[0].at, one[1]), reverse=True)[:most]

    def look(one: tuple[VerificationKey, str]) -> Reading:
        parsed, key = one
        return Reading(parsed.archive, parsed.at, parsed.result, _who_read(store, key))

    with ThreadPoolExecutor(_READERS) as readers:
        return list(readers.map(look, latest))


def _who_read(store: Store, key: str) -> str | None:
    present = store.read(key)
    try:
        return None if present is None else Verification.model_validate_json(present[0]).verified_by
    except ValidationError:  # an unreadable record says nothing
        return None


def read_proofs(store: Store) -> Proofs:
    """Find in the reports what was proved again after the archives were sealed."""
    verified: dict[str, datetime] = {}
    drills: dict[str, list[VerificationKey]] = {}
    copied: dict[str, dict[str, datetime]] = {}
    restored = []
    for key in store.keys(REPORTS):
        parsed = parse_verification_key(key)
        if parsed is not None and parsed.result == "sound":
            name = str(parsed.archive)
            verified[name] = max(verified.get(name, parsed.at), parsed.at)
        elif (drill := parse_drill_key(key)) is not None:
            drills.setdefault(str(drill.archive), []).append(drill)
        elif (copy := parse_copy_key(key)) is not None:
            note_copy(copied, *copy)
        elif is_restore_report(key) and (present := store.read(key)) is not None:
            restored.append(proved_at(present[0]))
    return make_proofs(verified, filter(None, restored), drills, copied)


def note_copy(copied: dict[str, dict[str, datetime]], place: str, one: VerificationKey) -> None:
    """Note when a copy was compared and found the same, if it is the latest such comparison."""
    if one.result == "same":
        known = copied.setdefault(place, {})
        known[str(one.archive)] = max(known.get(str(one.archive), one.at), one.at)


def make_proofs(
    verified: Mapping[str, datetime],
    restored: Iterable[datetime],
    drills: Mapping[str, Iterable[VerificationKey]],
    copied: Mapping[str, Mapping[str, datetime]] | None = None,
) -> Proofs:
    """Put the proofs of readings, restores and drills together. A sound drill proves an archive, and a restore.

    Args:
        verified: By archive id, the latest sound reading.
        restored: When restores ended proved.
        drills: By archive id, the keys of its drills in any order.
        copied: As in :class:`Proofs`.
    """
    proved, by_table, failed = dict(verified), dict[str, datetime](), set[str]()
    for name, keys in drills.items():
        told = sorted((one for one in keys if one.result != "skipped"), key=lambda one: one.at)
        if told and told[-1].result != "sound":
            failed.add(name)
        for one in (one for one in told if one.result == "sound"):
            table = decode_table(name)
            proved[name] = max(proved.get(name, one.at), one.at)
            by_table[table] = max(by_table.get(table, one.at), one.at)
    return Proofs(
        verified=proved,
        last_restored_at=max((*restored, *by_table.values()), default=None),
        drilled=by_table,
        failed_drills=frozenset(failed),
        copied=copied or {},
    )


def proved_at(report: bytes) -> datetime | None:
    """When a restore ended with each row in the table as it was archived, by its report; None if it did not."""
    try:
        read = RestoreReport.model_validate_json(report)
    except ValidationError:  # a report that cannot be read proves nothing
        return None
    return read.finished_at if read.outcome in _PROVED else None


def parse_sample(text: str) -> Fraction:
    """Read ``n/t``: n of every t archives.

    Raises:
        SampleError: Not two whole numbers, or none, or more than all.
    """
    count, slash, of = text.partition("/")
    if slash and count.isdecimal() and of.isdecimal() and 0 < int(count) <= int(of):
        return Fraction(int(count), int(of))
    raise SampleError(
        f"{text!r} is not a sample",
        expected="n/t for n of every t archives, such as 1/10",
        hint="Nothing was read. Write two whole numbers, the first not larger than the second.",
    )


def choose_sample(
    sealed: Mapping[ArchiveId, datetime], verified: Mapping[str, datetime], share: Fraction
) -> list[ArchiveId]:
    """The archives with the oldest proofs, as many as the share asks for and at least one, longest unread first.

    Each archive comes up once in t/n such samples, whenever they are taken and however many archives are added.

    Args:
        sealed: Archives, each with the instant it was sealed, which was right after it was read back. A damaged manifest
            does not say when; give any early instant.
        verified: From :func:`read_proofs`.
        share: From :func:`parse_sample`.
    """

    def read_at(archive: ArchiveId) -> datetime:
        return max(verified.get(str(archive), sealed[archive]), sealed[archive])

    oldest_first: Iterable[ArchiveId] = sorted(sealed, key=lambda archive: (read_at(archive), archive))
    return list(oldest_first)[: math.ceil(len(sealed) * share)]
