"""Whether a store's log only grows, whether it has every record of the store, and whether its witnesses keep up with it.

Whoever watches looks again and again and remembers what it saw, so each look reads what is new. Nothing is written.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from strongroom.errors import IntegrityError, StrongroomError
from strongroom.ledger.adopt import record_keys
from strongroom.ledger.entries import parse_entry
from strongroom.ledger.journal import log_of
from strongroom.ledger.log import Log
from strongroom.ledger.witnesses import (
    Cosignature,
    cosignature_at,
    newest_cosignature,
    refused_at,
    witness_keys,
)
from strongroom.object_keys.layout import RECORDS
from strongroom.storage.store import Store
from strongroom.tlog.checkpoints import Checkpoint
from strongroom.tlog.notes import VerifierKey
from strongroom.tlog.tiles import WIDTH

_RECORDS_EVERY = timedelta(hours=1)
"""How often the records are listed, which are many."""

_AT_ONCE = 16 * WIDTH
"""How many entries are in memory at a time."""

_IN_HAND = timedelta(minutes=10)
"""How young a record may be whose writer is about to enter it."""


@dataclass(frozen=True)
class WitnessFigures:
    """What one witness left in a store.

    Attributes:
        name: The name of its key, a plus sign and the key's id in hex.
        cosigned_at: When it last cosigned a head; None if it never did.
        unseen: Entries that its newest cosignature does not cover.
        unseen_since: When the oldest of these was entered; None if there is none, or if that cannot be read.
        refuses: Whether it refused a head and has cosigned none since.
    """

    name: str
    cosigned_at: datetime | None
    unseen: int
    unseen_since: datetime | None
    refuses: bool


@dataclass(frozen=True)
class LogFigures:
    """What one look at a log found.

    Attributes:
        store: The store's name.
        problem: Why the log cannot be read, in words; None if all is well.
        grew: Whether its head extends each head that was seen before, here or by a witness; None until one could be read.
        entries: Under the newest head that could be read; None if none ever could.
        newest_at: When the newest of them was entered; None for an empty log.
        unentered: Records of the store that no entry names, and are older than ten minutes; None until they were looked for.
        unentered_since: When the oldest of these was written, by the store's clock.
        witnesses: Those that the settings trust.
    """

    store: str
    problem: str | None
    grew: bool | None
    entries: int | None
    newest_at: datetime | None
    unentered: int | None
    unentered_since: datetime | None
    witnesses: tuple[WitnessFigures, ...]


class LogWatch:
    """Looks at one store's log, and remembers.

    The first look reads the whole log: two requests for each 256 entries. Each later one reads the head, of a new head its tiles and
    new entries, for each witness what it left since, and once an hour the listing of all records.
    """

    def __init__(self) -> None:
        self._seen: Checkpoint | None = None
        self._at: list[datetime] = []
        """When each entry was entered."""
        self._named: set[str] = set()
        """Keys of the objects that entries name."""
        self._grew: bool | None = None
        self._proved: set[Checkpoint] = set()
        """Cosigned heads that are known to be part of what was seen."""
        self._cosigned: dict[VerifierKey, Cosignature | None] = {}
        self._witnesses: tuple[WitnessFigures, ...] = ()
        self._listed_at: datetime | None = None
        self._unentered: dict[str, datetime] = {}

    def look(self, store: Store, now: datetime) -> LogFigures | None:
        """Look once. What cannot be read is told in the figures, with what the last look found.

        Args:
            store: Always the same.
            now: Aware UTC instant.

        Returns:
            None for a store without a log.
        """
        log = log_of(store)
        if log is None:
            return None
        problem = None
        try:
            head = log.head().checkpoint
            self._cosignatures(store, head)
            if any(_size(one) > head.size for one in self._cosigned.values()):
                head = log.head().checkpoint  # a witness was faster than we were, or the log was rolled back
            self._follow(log, head)
            self._witnesses = tuple(self._of(store, key, head) for key in witness_keys(store.settings))
            if self._grew and (self._listed_at is None or now - self._listed_at >= _RECORDS_EVERY):
                self._compare_records(store, now)
        except StrongroomError as error:
            problem = str(error)
        self._unentered = {key: at for key, at in self._unentered.items() if key not in self._named}
        return LogFigures(
            store=str(store),
            problem=problem,
            grew=self._grew,
            entries=self._seen.size if self._seen else None,
            newest_at=self._at[-1] if self._at else None,
            unentered=len(self._unentered) if self._listed_at else None,
            unentered_since=min(self._unentered.values(), default=None),
            witnesses=self._witnesses,
        )

    def _cosignatures(self, store: Store, head: Checkpoint) -> None:
        """Read what each witness cosigned last: nothing if it has cosigned this head already. What vanished is remembered."""
        before, self._cosigned = self._cosigned, {}
        for key in witness_keys(store.settings):
            known = before.get(key)
            if known is None or known.checkpoint.size != head.size:
                found = cosignature_at(store, key, head.size) if known is not None else None
                found = found or newest_cosignature(store, key)
                known = max((one for one in (known, found) if one is not None), key=_size, default=None)
            self._cosigned[key] = known

    def _follow(self, log: Log, head: Checkpoint) -> None:
        """Require that the head extends what was seen, and read the entries that are new."""
        if self._seen != head and not log.is_complete(head):
            raise IntegrityError(
                f"the newest head of the log {head.origin} has no tiles yet",
                expected=f"the tiles of {head.size} entries",
                hint="Nothing was changed. A writer is about to make them, or died; then the next one makes them.",
            )
        cosigned = {one.checkpoint for one in self._cosigned.values() if one is not None}
        earlier = (cosigned - self._proved) | ({self._seen} if self._seen is not None else set())
        self._grew = all(log.extends(head, one) for one in earlier if one != head)
        if not self._grew:
            return
        self._proved = cosigned
        first = len(self._at)
        new = [*self._read(log, head, first)]
        self._at += (at for at, _ in new)
        self._named.update(key for _, keys in new for key in keys)
        self._seen = head

    @staticmethod
    def _read(log: Log, head: Checkpoint, first: int) -> Iterator[tuple[datetime, tuple[str, ...]]]:
        """Of each entry from one on: when it was entered, and the keys of the objects that it names."""
        for start in range(first, head.size, _AT_ONCE):
            for index, line in enumerate(log.entries_of(head, start, min(start + _AT_ONCE, head.size)), start):
                entry = parse_entry(f"entry {index} of {log.origin}", line)
                yield entry.at, tuple(subject.key for subject in entry.subjects)

    def _of(self, store: Store, key: VerifierKey, head: Checkpoint) -> WitnessFigures:
        cosigned = self._cosigned[key]
        size = _size(cosigned)
        refused = refused_at(store, key)
        return WitnessFigures(
            name=f"{key.name}+{key.key_id.hex()}",
            cosigned_at=cosigned.at if cosigned is not None else None,
            unseen=max(0, head.size - size),
            unseen_since=self._at[size] if size < min(head.size, len(self._at)) else None,
            refuses=refused is not None and (cosigned is None or refused > cosigned.at),
        )

    def _compare_records(self, store: Store, now: datetime) -> None:
        """Look for records that no entry names. Each is written before it is entered, so only old ones can be missed."""
        records = (one for prefix in RECORDS for one in store.versions(prefix))
        there = {one.key: one.modified_at for one in records if one.is_latest and not one.is_marker}
        old = {key: there[key] for key in record_keys(there) if now - there[key] > _IN_HAND}
        self._unentered = {key: at for key, at in old.items() if key not in self._named}
        self._listed_at = now


def _size(cosigned: Cosignature | None) -> int:
    return cosigned.checkpoint.size if cosigned is not None else 0
