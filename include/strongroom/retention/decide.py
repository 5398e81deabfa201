"""Decide which archives a purge removes: those whose term is over and that nothing else keeps. Nothing is removed here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Literal

from pydantic import AwareDatetime, Field

from strongroom.errors import IntegrityError
from strongroom.ledger.holds import Hold, HoldWatch
from strongroom.ledger.index import DamagedManifest, survey_manifests
from strongroom.ledger.manifest_record import Manifest
from strongroom.ledger.manifests import read_manifest
from strongroom.ledger.restore_records import read_restore_record
from strongroom.ledger.units import covering_unit, ids_of_unit
from strongroom.object_keys.archives import ArchiveId, unfinished_purges
from strongroom.object_keys.layout import EVIDENCE, RESTORES
from strongroom.records import Record, Sha256, name_both
from strongroom.storage.store import Store

_READERS = 8

Reason = Literal["expired", "superseded", "unfinished", "kept", "held", "contended", "left_out", "unverifiable"]


class Decision(Record):
    """Whether one archive is to be purged, and why.

    ``expired``: its term is over. ``superseded``: a later archive holds its rows without those of a person who was erased, and the
    cooling-off is over. ``unfinished``: an earlier purge removed its manifest and still has to certify that.
    ``kept``: its term still runs, or that of an archive that was sealed together with it. ``held``: a legal hold covers it. ``contended``: somebody needs it right now.
    ``left_out``: the settings of its table are wrong, so it is unknown who must approve.
    ``unverifiable``: its manifest is damaged, hidden or gone, or there are several, so it is unknown whether its term is
    over; or it was destroyed before.
    """

    archive_id: str
    purge: bool
    reason: Reason
    detail: str
    retention_until: AwareDatetime | None = None
    legal_basis: str | None = None
    record_count: int | None = None
    compressed_size: int | None = None
    manifest_sha256: Sha256 | None = Field(default=None, description="Of the manifest that was judged.")

    @property
    def archive(self) -> ArchiveId:
        """The archive it is about."""
        return ArchiveId.parse(self.archive_id)


class Judged(Record):
    """What was decided about the archives of all stores; those whose term still runs are only counted."""

    counts: dict[str, int]
    stay: tuple[Decision, ...]
    postponed: int = 0
    next_expiry_at: AwareDatetime | None = None


def decide(
    archives: Iterable[Manifest],
    holds: Sequence[Hold],
    now: datetime,
    needed: Mapping[str, str] | None = None,
    superseded: Mapping[str, str] | None = None,
    beside: Iterable[Manifest] = (),
) -> list[Decision]:
    """Decide which archives to purge.

    Archives that were sealed together stay as long as one of them must: objects are kept whole. Only one that is superseded goes alone.

    Args:
        archives: Manifests of any tables, in any order.
        holds: Legal holds in force; an archive under one is kept, however old it is.
        now: Aware instant that terms are measured against.
        needed: Archive ids that somebody needs right now, and what for.
        superseded: Archive ids that go before the end of their term, and why.
        beside: Other manifests that were sealed together with some of these. Nothing is decided about them.

    Returns:
        One decision per archive, by table, oldest window first, each with its reason.
    """
    ordered = sorted(archives, key=lambda archive: (archive.table_name, archive.window_end, archive.archive_id))
    terms = {one.archive_id: one.retention_until for one in (*ordered, *beside)}
    return [_decide_one(archive, holds, now, needed or {}, superseded or {}, terms) for archive in ordered]


def judge(store: Store, *, now: datetime) -> list[Decision]:
    """Decide about every archive in a store, and about every purge that did not finish.

    Returns:
        As :func:`decide`; archives with a damaged manifest come first, unfinished purges without a manifest last.

    Raises:
        IntegrityError: A hold or a restore record cannot be read, so it is unknown what it protects.
    """
    found = survey_manifests(store)
    every = (*found.manifests, *found.superseded)
    decisions = decide_now(store, every, now=now)
    present = {each.archive_id for each in every} | {each.archive_id for each in found.damaged}
    begun = (archive for archive in unfinished_purges(store.keys(EVIDENCE)) if str(archive) not in present)
    return [*map(_unverifiable, found.damaged), *decisions, *map(_unfinished, begun)]


def judge_again(store: Store, archives: Sequence[ArchiveId], *, now: datetime) -> list[Decision]:
    """Decide about some archives from the manifests in the store, whatever was decided before.

    Returns:
        As :func:`decide`; archives without a sound manifest are left out.

    Raises:
        IntegrityError: A hold or a restore record cannot be read.
    """
    return decide_now(store, _sound(store, archives), now=now)


def decide_now(
    store: Store,
    archives: Iterable[Manifest],
    *,
    now: datetime,
    watch: HoldWatch | None = None,
    superseded: Mapping[str, str] | None = None,
) -> list[Decision]:
    """:func:`decide`, with the holds and restores that are in force in a store; whoever goes on watching the holds gives the watch."""
    archives = list(archives)
    in_force = (watch or HoldWatch(store)).in_force()
    return decide(archives, in_force, now, _restored(store, now), superseded, _beside(store, archives))


def _beside(store: Store, archives: Sequence[Manifest]) -> list[Manifest]:
    """The manifests, if they are sound, of other archives that were sealed together with some."""
    others = {name for one in archives for name in ids_of_unit(one)} - {one.archive_id for one in archives}
    return _sound(store, map(ArchiveId.parse, sorted(others)))


def _sound(store: Store, archives: Iterable[ArchiveId]) -> list[Manifest]:
    def read(archive: ArchiveId) -> Manifest | None:
        try:
            return read_manifest(store, archive)
        except IntegrityError:
            return None

    with ThreadPoolExecutor(_READERS) as readers:
        return [one for one in readers.map(read, archives) if one is not None]


def sum_up(decisions: Iterable[Decision], *, postponed: int = 0) -> Judged:
    """Sum up decisions: counts by reason, the archives that stay although their term may be over, and when the next term ends."""
    decisions = list(decisions)
    running = (one.retention_until for one in decisions if one.reason == "kept" and one.retention_until is not None)
    return Judged(
        counts=dict(Counter(one.reason for one in decisions)),
        stay=tuple(one for one in decisions if not one.purge and one.reason != "kept"),
        postponed=postponed,
        next_expiry_at=min(running, default=None),
    )


def _decide_one(
    archive: Manifest,
    holds: Sequence[Hold],
    now: datetime,
    needed: Mapping[str, str],
    superseded: Mapping[str, str],
    terms: Mapping[str, datetime],
) -> Decision:
    holding = covering_unit(holds, archive)
    early = superseded.get(archive.archive_id) if now < archive.retention_until else None
    unit = ids_of_unit(archive) if early is None else [archive.archive_id]  # a successor of it stays
    last = max(
        unit, key=lambda one: terms.get(one, archive.retention_until)
    )  # of equal ones the first, which is its own
    until = terms.get(last, archive.retention_until)
    need = next((needed[one] for one in unit if one in needed), None)
    why = early or f"its term ended at {_instant(archive.retention_until)}"
    reason: Reason
    if now < archive.retention_until and early is None:
        reason, detail = "kept", f"its term runs until {_instant(archive.retention_until)}"
    elif now < until and early is None:
        reason, detail = (
            "kept",
            f"{why}, but that of {last}, which was sealed together with it, runs until {_instant(until)}",
        )
    elif holding:
        reason, detail = "held", f"{why}, but {'; '.join(map(str, holding))}"
    elif need is not None:
        reason, detail = "contended", f"{why}, but {need}"
    elif early is not None:
        reason, detail = "superseded", early
    else:
        reason, detail = "expired", f"{why} ({archive.legal_basis})"
    return Decision(
        archive_id=archive.archive_id,
        purge=reason in ("expired", "superseded"),
        reason=reason,
        detail=detail,
        retention_until=until,
        legal_basis=archive.legal_basis,
        record_count=archive.record_count,
        compressed_size=archive.compressed_size,
        manifest_sha256=archive.sha256,
    )


def _instant(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"


def _unverifiable(damaged: DamagedManifest) -> Decision:
    return Decision(archive_id=damaged.archive_id, purge=False, reason="unverifiable", detail=damaged.problem)


def _unfinished(archive: ArchiveId) -> Decision:
    detail = "a purge removed its manifest and broke off before its certificate was written"
    return Decision(archive_id=str(archive), purge=True, reason="unfinished", detail=detail)


def _restored(store: Store, now: datetime) -> dict[str, str]:
    """Ids of the archives whose restored rows are still needed, and by whom."""
    found: dict[str, str] = {}
    for key in store.keys(RESTORES):
        record = read_restore_record(store, key)
        if record is not None and record.until > now:
            who = name_both(record.who, record.triggered_by)
            reason = f"restore {record.restore_id} by {who} needs it until {record.until:%Y-%m-%d %H:%M} UTC"
            found |= dict.fromkeys(record.archive_ids, reason)
    return found
