"""Legal holds: what one covers is neither purged nor swept, however old it is, until the hold is released.

A hold is one small object in the archive store. It changes only by compare-and-swap and only once, when it is released.
A delete marker does not lift it, because all versions of it are read; nor does a release that the store's transparency log does not
have. It names what it covers by the beginning of an
archive id: a table, one calendar partition of it, or one archive. A hold on everything also stops what a hold on a table
does not: the delete of archived rows from the database.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from urllib.parse import unquote

from pydantic import AwareDatetime, Field

from strongroom.calendar import Partition
from strongroom.errors import ContendedError, HeldError, IntegrityError, PartitionError, StrongroomError
from strongroom.ledger.entries import Act, Kind, subject_of
from strongroom.ledger.journal import doubt_of_entry, enter, enter_with_proof
from strongroom.object_keys.archives import ArchiveId
from strongroom.object_keys.layout import HOLDS, table_folder
from strongroom.object_keys.records import hold_key, release_proof_key
from strongroom.records import Record, Salt, make_salt, parse_record
from strongroom.storage.store import Store
from strongroom.storage.versions import StoredVersion, by_key

EVERYTHING = "*"
"""The value of :attr:`Hold.what` for a hold on everything. It cannot be a table, because tables are named with their schema."""

_READERS = 8
_RELEASE = ("released_at", "released_by", "release_reason")
_NAME = r"[^./\s\ud800-\udfff]+"
_COVERAGE = re.compile(
    rf"(?P<schema>{_NAME})\.(?P<table>{_NAME})(\.(?P<key>[0-9]{{4}}-[0-9W-]+)(\.(?P<sequence>[0-9]{{4,9}}))?)?"
)
_HOLD_ID = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}")


_UNSOUND = (
    "Nothing was removed, and nothing in this store will be while a hold cannot be read. "
    "List its versions: the first one placed the hold, a second one may say that it was released. Let an administrator of "
    "the bucket remove, by version id, those that somebody else wrote."
)


class HoldError(StrongroomError):
    """A hold cannot be placed or released as asked."""

    code = "SR-504"


class Hold(Record):
    """One legal hold."""

    hold_id: str
    what: str = Field(
        description="The beginning of an archive id, up to one of its dots or to its end: a table "
        "(public.audit_events), a partition (public.audit_events.2026-07) or one archive; or * for everything."
    )
    why: str
    who: str
    reference: str = Field(description="Case number, letter or ticket that asks for the hold.")
    placed_at: AwareDatetime
    released_at: AwareDatetime | None = None
    released_by: str | None = None
    release_reason: str | None = None
    salt: Salt = None

    def covers(self, archive: ArchiveId) -> bool:
        """Whether the hold is on an archive, released or not."""
        return self.what == EVERYTHING or f"{archive}.".startswith(f"{self.what}.")

    @property
    def subject(self) -> str:
        """What it covers, in words."""
        return "everything" if self.what == EVERYTHING else self.what

    def __str__(self) -> str:
        return f"hold {self.hold_id} on {self.subject} by {self.who} ({self.reference}: {self.why})"


def covered(schema_name: str, table_name: str, partition_key: str | None = None) -> str:
    """The value of :attr:`Hold.what` for a hold on a table, or on one of its calendar partitions."""
    folder = table_folder(schema_name, table_name)
    return folder if partition_key is None else f"{folder}.{partition_key}"


def parse_coverage(text: str) -> tuple[str, str, str]:
    """Read what a hold should cover. Returns schema, table, and the value of :attr:`Hold.what`.

    Raises:
        HoldError: It is neither a table with its schema, nor one with a partition key, nor an archive id.
    """
    found = _COVERAGE.fullmatch(text)
    if found is None:
        raise _nothing_to_hold(text, None)
    schema_name, table_name = unquote(found["schema"]), unquote(found["table"])
    key, sequence = found["key"], found["sequence"]
    if key is None:
        return schema_name, table_name, covered(schema_name, table_name)
    try:
        Partition.named(key)
    except PartitionError as error:
        raise _nothing_to_hold(text, error.what) from None
    what = covered(schema_name, table_name, key)
    if sequence is not None:
        what = str(ArchiveId(schema_name, table_name, key, int(sequence)))
    return schema_name, table_name, what


def place_hold(
    store: Store, what: str, *, why: str, who: str, reference: str, now: datetime, hold_id: str | None = None
) -> Hold:
    """Place a hold; it is in force when this returns, unless it was placed before and is released.

    A repeat places another one, or with the same ``hold_id`` returns the first one as it is now.

    Args:
        store: Where what it covers lies.
        what: From :func:`covered`, or an archive id, or :data:`EVERYTHING`.
        why: The reason, in words.
        who: The person who asks for it.
        reference: Case number, letter or ticket.
        now: Aware instant.
        hold_id: From :func:`make_hold_id`; None makes a new one.

    Raises:
        HoldError: `what` names nothing that can be held, a text is empty, or the id is that of another hold.
    """
    if what != EVERYTHING:
        _, _, what = parse_coverage(what)
    for name, text in (("why", why), ("who", who), ("reference", reference)):
        if not text.strip():
            raise HoldError(
                f"the hold on {what} does not say {name}",
                hint="No hold was placed. An auditor will ask for what, why, who and the reference: give all four.",
            )
    hold = Hold(
        hold_id=hold_id or make_hold_id(now),
        what=what,
        why=why,
        who=who,
        reference=reference,
        placed_at=now,
        salt=make_salt(),
    )
    if hold_id is not None and (placed := _find(store, hold_id)) is not None:
        hold = _require_same(placed, hold)
    else:
        hold = _write(store, hold, etag=None)
    if hold.released_at is None:
        _enter_held(store, hold)
    return hold


def _enter_held(store: Store, hold: Hold) -> None:
    """Enter a hold that is in force already. What must not be removed is held, also while the log takes no entry."""
    try:
        enter(store, _act("held", hold), [subject_of(hold_key(hold.hold_id), hold.to_bytes())])
    except StrongroomError as error:
        if error.retryable:
            raise
        raise HoldError(
            f"{hold} is in force, but the transparency log of {store} did not take its entry",
            found=error.what,
            hint="Do not place it again. When the log is as it should be, `airflow strongroom log adopt` enters it.",
        ) from None


def make_hold_id(at: datetime, run: str | None = None) -> str:
    """An id for a hold, which begins with an instant.

    Args:
        at: Aware instant.
        run: A run that places one hold, however often it is repeated: the same run and instant give the same id. None gives a
            random one.
    """
    token = secrets.token_hex(4) if run is None else hashlib.sha256(run.encode()).hexdigest()[:8]
    return f"{at.astimezone(timezone.utc):%Y%m%dT%H%M%SZ}-{token}"


def _require_same(placed: Hold, asked: Hold) -> Hold:
    """The hold that was placed, which must be the one that is asked for, whenever that was and whether or not it is released."""
    later = dict.fromkeys((*_RELEASE, "placed_at", "salt"))
    if placed.model_copy(update=later) != asked.model_copy(update=later):
        raise HoldError(
            f"the id {asked.hold_id} is that of another hold",
            expected=str(asked),
            found=str(placed),
            hint="No hold was placed, and the other one stays as it is. Ask for a new hold.",
        )
    return placed


def release_hold(store: Store, hold_id: str, *, who: str, reason: str, now: datetime) -> Hold:
    """Mark a hold as released; the object stays as evidence. A repeat returns the existing release.

    Raises:
        HoldError: There is no such hold, or no reason is given.
        ContendedError: Somebody else is releasing it at the same moment.
    """
    if not who.strip() or not reason.strip():
        raise HoldError(
            f"the release of hold {hold_id} does not say who or why",
            hint="The hold stays in force. Give both: an auditor will ask.",
        )
    hold = _find(store, hold_id)
    if hold is None:
        raise HoldError(
            f"there is no hold {hold_id} in {store}",
            hint="Nothing was released. `airflow strongroom hold list` prints the holds and their ids.",
        )
    if hold.released_at is not None:
        return hold
    key = hold_key(hold_id)
    present = store.read(key)
    if present is None:
        raise HoldError(
            f"hold {hold_id} is hidden behind a delete marker",
            expected=f"{store}{key}",
            hint="The hold stays in force. Find out who hid it; when an administrator of the bucket has removed the marker by its "
            "version id, release the hold again.",
        )
    released = hold.model_copy(update={"released_at": now, "released_by": who, "release_reason": reason})
    subject = subject_of(key, released.to_bytes())
    enter_with_proof(
        store, _act("released", released), subject, release_proof_key(hold_id, subject.sha256)
    )  # while it is still in force
    return _write(store, released, etag=present[1])


def _act(kind: Kind, hold: Hold) -> Act:
    """What became of a hold, without the words of the people who asked for it."""
    return Act(kind=kind, facts={"hold_id": hold.hold_id, "what": hold.what})


def _find(store: Store, hold_id: str) -> Hold | None:
    """The hold with an id, put together from all its versions; None if there is none."""
    key = hold_key(hold_id)
    found = _read_all(store, {key: store.history(key)}) if _HOLD_ID.fullmatch(hold_id) else []
    return next(iter(found), None)


def read_holds(store: Store) -> list[Hold]:
    """All holds that were ever placed, oldest first.

    Raises:
        IntegrityError: An object below ``holds/`` is no hold. Whoever removes anything must stop then.
    """
    return _read_all(store, by_key(store.versions(HOLDS)))


def _read_all(store: Store, histories: Mapping[str, Sequence[StoredVersion]]) -> list[Hold]:
    """The holds, each put together from all its versions."""
    places = [(one.key, one.version_id) for history in histories.values() for one in history if not one.is_marker]
    with ThreadPoolExecutor(_READERS) as readers:
        bodies = list(readers.map(lambda place: store.read(*place), places))
    versions: defaultdict[str, list[Hold]] = defaultdict(list)
    for (key, _), body in zip(places, bodies, strict=True):
        if body is not None:
            versions[key].append(_believed(store, key, body[0], _read(store, key, body[0])))
    return _oldest_first(_agreed(store, key, holds) for key, holds in versions.items())


def _believed(store: Store, key: str, body: bytes, hold: Hold) -> Hold:
    """A version of a hold; one that says released is believed only if the store's log has the release."""
    if hold.released_at is None:
        return hold
    subject = subject_of(key, body)
    doubt = doubt_of_entry(store, subject, release_proof_key(hold.hold_id, subject.sha256), ["released"])
    return hold if doubt is None else hold.model_copy(update=dict.fromkeys(_RELEASE))


def unproved_releases(store: Store) -> Iterator[tuple[Hold, bytes]]:
    """The holds that somebody released without an entry in the log, each with the bytes that say so."""
    for key, history in by_key(store.versions(HOLDS)).items():
        for version in history:
            present = None if version.is_marker else store.read(key, version.version_id)
            if present is not None:
                hold = _read(store, key, present[0])
                if hold != _believed(store, key, present[0], hold):
                    yield hold, present[0]


def release_proved(store: Store, hold: Hold, body: bytes, *, who: str) -> None:
    """Enter the release of a hold, so that it counts."""
    act = _act("released", hold).model_copy(update={"who": who})
    subject = subject_of(hold_key(hold.hold_id), body)
    enter_with_proof(store, act, subject, release_proof_key(hold.hold_id, subject.sha256))


def _oldest_first(holds: Iterable[Hold]) -> list[Hold]:
    return sorted(holds, key=lambda hold: (hold.placed_at, hold.hold_id))


def _agreed(store: Store, key: str, versions: Sequence[Hold]) -> Hold:
    """The hold, released if any version says so. Its versions may differ in nothing else."""
    placed = {hold.model_copy(update=dict.fromkeys(_RELEASE)) for hold in versions}
    if len(placed) > 1:
        raise IntegrityError(
            f"{store}{key} is not a sound legal hold",
            expected="versions that differ only in the release",
            found=f"{len(placed)} holds",
            hint=_UNSOUND,
        )
    released = [hold for hold in versions if hold.released_at is not None]
    return released[0] if released else versions[0]


def holds_in_force(store: Store) -> list[Hold]:
    """The holds that are not released, oldest first. Raises as :func:`read_holds`."""
    return [hold for hold in read_holds(store) if hold.released_at is None]


def covering(holds: Iterable[Hold], archive: ArchiveId) -> list[Hold]:
    """Those of some holds in force that cover an archive."""
    return [hold for hold in holds if hold.covers(archive)]


def on_everything(holds: Iterable[Hold]) -> list[Hold]:
    """Those of some holds in force that stop all deletion."""
    return [hold for hold in holds if hold.what == EVERYTHING]


class HoldWatch:
    """Sees repeatedly which holds are in force.

    Each look is one listing. A hold is read at the first look that lists it, and again when it has other versions.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._listed: Mapping[str, Sequence[StoredVersion]] = {}
        self._holds: dict[str, Hold] = {}

    def in_force(self) -> list[Hold]:
        """The holds that are not released at this moment, oldest first. Raises as :func:`read_holds`."""
        listed = by_key(self._store.versions(HOLDS))
        fresh = {key: history for key, history in listed.items() if self._listed.get(key) != history}
        if fresh:
            self._holds |= {hold_key(hold.hold_id): hold for hold in _read_all(self._store, fresh)}
        self._holds = {key: hold for key, hold in self._holds.items() if key in listed}
        self._listed = listed
        return self.seen

    @property
    def seen(self) -> list[Hold]:
        """The holds that were not released at the last look."""
        return _oldest_first(hold for hold in self._holds.values() if hold.released_at is None)

    def look(self) -> None:
        """Return while no hold on everything is in force.

        Raises:
            HeldError: There is such a hold.
            IntegrityError: A hold cannot be read, so it is unknown what it stops.
        """
        if holding := on_everything(self.in_force()):
            raise HeldError(
                f"held: all deletion in {self._store} is stopped",
                found="; ".join(map(str, holding)),
                hint="No row is deleted while this hold is in force; rows deleted before are in a verified archive. When the hold "
                f"is released (`airflow strongroom hold release {holding[0].hold_id}`), clear this task: it continues after "
                "its last batch.",
            )


def _nothing_to_hold(text: str, found: str | None) -> HoldError:
    return HoldError(
        f"{text!r} is nothing that can be held",
        expected="a table, a table and a partition key, or an archive id",
        found=found,
        hint="No hold was placed. `airflow strongroom list` prints the ids of the archives.",
    )


def _write(store: Store, hold: Hold, *, etag: str | None) -> Hold:
    key, body = hold_key(hold.hold_id), hold.to_bytes()
    if not store.swap(key, body, etag=etag):
        # When an answer is lost, the client asks again, and its own first write then fails the condition.
        present = store.read(key)
        if present is None or present[0] != body:
            raise _raced(hold.hold_id)
    return hold


def _read(store: Store, key: str, body: bytes) -> Hold:
    hold = parse_record(Hold, body, where=f"{store}{key}", what="a sound legal hold", hint=_UNSOUND)
    if hold_key(hold.hold_id) != key:
        raise IntegrityError(
            f"{store}{key} is not a sound legal hold",
            expected="its own id",
            found=f"the hold {hold.hold_id}",
            hint=_UNSOUND,
        )
    return hold


def _raced(hold_id: str) -> ContendedError:
    return ContendedError(
        f"somebody else changed hold {hold_id} at the same moment",
        hint="Nothing was changed by this call. Look at it with `airflow strongroom hold list`, then try again.",
    )
