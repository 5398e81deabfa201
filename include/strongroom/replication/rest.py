"""Copy and compare what proves the archives: evidence, holds, reports, records of restores, the owner, and the transparency log.

What was written once is never overwritten in the replica. A hold, a report or the owner's record may change in the store, and then
gets a new version in the replica too. The log comes last, and its checkpoint after its tiles. The replica's log must be a prefix of the
store's: if the store's log does not continue it, nothing is written and the run fails, because one of the two was rolled back or forged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Literal

from strongroom.errors import IntegrityError
from strongroom.ledger.copies import ObjectCopy, compare_copy, copy_object, digest_of, place_of
from strongroom.ledger.entries import Act
from strongroom.ledger.journal import log_of, record, trusted_keys
from strongroom.ledger.log import CHECKPOINT, Head, Log
from strongroom.object_keys.layout import EVIDENCE, HOLDS, LOG, REPORTS, RESTORES, SOURCE_IDENTITY
from strongroom.object_keys.reports import copied_records_key, copied_records_prefix
from strongroom.replication.archive import FilledBy
from strongroom.replication.records import RestCopy
from strongroom.storage.store import Store
from strongroom.storage.versions import StoredVersion, by_key, is_there

REST = (SOURCE_IDENTITY, EVIDENCE, HOLDS, RESTORES, REPORTS, LOG)
"""Keys and prefixes of all that is copied beside the archives. Claims and indexes are not: they say nothing of the past."""

_CHANGING = (SOURCE_IDENTITY, HOLDS, REPORTS)
_WORKERS = 8
_MARGIN = timedelta(days=1)
"""How far the clocks of the two servers may be apart. What changed in it is compared twice."""

_WHOLE = re.compile(r"/(?P<at>[0-9]{8}T[0-9]{6}\.[0-9]{6}Z)-same\.json$")


def replicate_rest(
    store: Store, replica: Store, *, filled_by: FilledBy, compare_days: int, who: str, now: datetime
) -> RestCopy:
    """Copy what is missing if Strongroom fills the replica, compare what is new since the last time, and record what was found.

    Everything is compared again when that was last done longer ago than `compare_days`.

    Raises:
        IdentityError, IntegrityError: The store's own log is gone or damaged.
    """
    earlier = _earlier(store, replica)
    whole = not any(one.whole and one.compared_at > now - timedelta(days=compare_days) for one in earlier)
    since = None if whole else max(one.compared_at for one in earlier) - _MARGIN
    resting = _Resting(store, replica, filled_by, since)
    problem, log_size = resting.log(rolled_back_from=max((one.log_size or 0 for one in earlier), default=0))
    compared = [] if problem else resting.compare()
    wrong = tuple(one for one in compared if one.result != "same")
    result: Literal["same", "missing", "differs"] = "same"
    if problem or resting.lost or any(one.result != "missing" for one in wrong):
        result = "differs"
    elif wrong:
        result = "missing"
    rest = RestCopy(
        replica=str(replica),
        filled_by=filled_by,
        result=result,
        objects=resting.objects,
        compared=len(compared),
        copied=resting.copied,
        wrong=wrong,
        lost=tuple(resting.lost),
        log_size=log_size,
        problem=problem,
        whole=whole and not problem,
        who=who,
        compared_at=now,
    )
    act = Act(kind="replicated", who=who, facts={"result": result, "replica": str(replica), "objects": len(compared)})
    key = copied_records_key(place_of(replica.settings), now, result)
    record(store, key, rest.to_bytes(), act)
    if filled_by == "strongroom" and not problem:  # so that the replica knows of this comparison as well
        copy_object(store, replica, key)
        resting.log(rolled_back_from=0)
    return rest


def _earlier(store: Store, replica: Store) -> list[RestCopy]:
    """The earlier comparisons that found everything the same."""
    keys = [key for key in store.keys(copied_records_prefix(place_of(replica.settings))) if _WHOLE.search(key)]
    return [RestCopy.model_validate_json(body[0]) for key in keys if (body := store.read(key)) is not None]


class _Resting:
    """What is compared in one run."""

    def __init__(self, store: Store, replica: Store, filled_by: FilledBy, since: datetime | None) -> None:
        self._store, self._replica, self._fills, self._since = store, replica, filled_by == "strongroom", since
        self.objects = self.copied = 0
        self.lost: list[str] = []

    def compare(self) -> list[ObjectCopy]:
        """Copy and compare everything but the checkpoint."""
        found: list[ObjectCopy] = []
        for prefix in REST:
            ours, theirs = by_key(self._store.versions(prefix)), by_key(self._replica.versions(prefix))
            there = {key: versions for key, versions in ours.items() if is_there(versions) and key != CHECKPOINT}
            self.objects += len(there)
            if prefix != RESTORES:  # whose records the sweep removes when their date is over
                gone = (key for key, versions in theirs.items() if is_there(versions) and key not in ours)
                self.lost += [key for key in gone if key != CHECKPOINT]
            with ThreadPoolExecutor(_WORKERS) as workers:
                due = list(self._due(there, theirs))
                compared = list(workers.map(lambda one: self._compare(*one), due))
            found += (one for one, _ in compared)
            self.copied += sum(copied for _, copied in compared)
        return found

    def _due(
        self, ours: Mapping[str, Sequence[StoredVersion]], theirs: Mapping[str, Sequence[StoredVersion]]
    ) -> Iterator[tuple[str, StoredVersion, Sequence[StoredVersion]]]:
        for key, versions in ours.items():
            newest = next(one for one in reversed(versions) if not one.is_marker)
            copies = theirs.get(key, ())
            changed = max(one.modified_at for one in (newest, *copies))
            if self._since is None or not copies or changed >= self._since:
                yield key, newest, copies

    def _compare(self, key: str, newest: StoredVersion, copies: Sequence[StoredVersion]) -> tuple[ObjectCopy, bool]:
        """What the copy is, and whether it was made just now."""
        sha256 = digest_of(self._store, key, newest.version_id)
        one = compare_copy(self._replica, key, sha256, newest.size_bytes, copies)
        if one.result == "same" or not self._fills:
            return one, False
        if one.result == "missing" and not copies:
            copy_object(self._store, self._replica, key, version_id=newest.version_id, sha256=sha256)
        elif key.startswith(_CHANGING) and copies[-1].etag is not None and newest.modified_at > copies[-1].modified_at:
            body = self._store.read(key, newest.version_id)
            self._replica.swap(key, b"" if body is None else body[0], etag=copies[-1].etag)
        else:
            return one, False
        return compare_copy(self._replica, key, sha256, newest.size_bytes), True

    def log(self, *, rolled_back_from: int) -> tuple[str, int | None]:
        """Bring the replica's log up to the store's, and require that it is whole.

        Args:
            rolled_back_from: Size that the replica's log was once found to have; it must not be smaller now.

        Returns:
            What is wrong with the replica's log, or nothing; and its size.

        Raises:
            IntegrityError: The store's log does not continue the replica's.
        """
        log = log_of(self._store)
        if log is None:
            return "", None
        head = log.head()
        copy = Log(self._replica, log.origin, trusted_keys(self._store.settings))
        present = self._replica.read(CHECKPOINT)
        try:
            theirs = copy.head() if present is not None else None
        except IntegrityError as error:
            return f"the log in the replica is not sound: {error.what}", None
        if theirs is not None:
            head = _require_growth(self._store, self._replica, log, theirs)
        try:
            size = 0 if theirs is None else theirs.checkpoint.size
            if size < rolled_back_from and any(self._replica.keys(LOG)):  # an emptied replica is filled anew
                raise IntegrityError(
                    f"it has {size} entries and had {rolled_back_from}",
                    hint="Somebody rolled it back: list the versions of its checkpoint, and remove the older ones that lie on top.",
                )
            log.entries(0, 0)  # the tiles of the store's head are there, and lead to its root
            if self._fills and (theirs is None or head.checkpoint.size > size):
                self._copy_tiles()
                self._replica.swap(
                    CHECKPOINT,
                    head.note.to_bytes(),
                    etag=present[1] if present is not None else None,
                    content_type="text/plain",
                )
            elif theirs is None:
                return "", 0
            size = copy.head().checkpoint.size
            copy.entries(0, 0)
        except IntegrityError as error:
            return f"the log in the replica is not whole: {error.what}", None
        return "", size

    def _copy_tiles(self) -> None:
        known = set(self._replica.keys(LOG))
        for key in self._store.keys(LOG):
            if key not in known and key != CHECKPOINT:
                copy_object(self._store, self._replica, key)
                self.copied += 1


def _require_growth(store: Store, replica: Store, log: Log, theirs: Head) -> Head:
    """Require that the replica's log is a prefix of the store's; returns the head of that.

    Raises:
        IntegrityError: It is not, so nothing may be copied: one of the two was rolled back or rewritten.
    """
    try:
        return log.require_growth(theirs.checkpoint)
    except IntegrityError as error:
        raise IntegrityError(
            f"the log of {store} does not continue the one in its replica {replica}",
            expected=f"the {theirs.checkpoint.size} entries of the replica, and maybe more",
            found=error.found or error.what,
            hint="Nothing was written. Somebody rolled the log of one of them back, or rewrote it. Compare both checkpoints with one that an "
            "auditor kept, and list the versions of both before anything else is done.",
        ) from None
