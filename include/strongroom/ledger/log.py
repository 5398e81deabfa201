"""The transparency log of a store: one history of everything that was done with its archives, in plain objects.

It lies below ``log/`` in C2SP's tlog-tiles format, so programs that are not ours verify it. Two writers append safely, because the
checkpoint alone decides, and it is only ever swapped. The order of writes is: the new entries under ``pending/``, the checkpoint,
then the tiles. Whoever finds that a checkpoint's tiles are missing makes them from its pending entries, so a crash at any
request leaves one history, and nothing of it is lost once :meth:`Log.append` has returned.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from strongroom.errors import ContendedError, IdentityError, IntegrityError
from strongroom.object_keys.layout import LOG
from strongroom.storage.store import Store
from strongroom.tlog.checkpoints import Checkpoint, EntryProof
from strongroom.tlog.merkle import (
    EMPTY,
    HASH_BYTES,
    hash_leaf,
    prove_consistency,
    prove_inclusion,
    root_of,
    verify_consistency,
)
from strongroom.tlog.notes import Note, SignerKey, VerifierKey
from strongroom.tlog.tiles import (
    WIDTH,
    Tile,
    hash_tile,
    pack_entries,
    subtree_hashes,
    tile_of,
    tiles_between,
    unpack_entries,
)

CHECKPOINT = f"{LOG}checkpoint"
_TRIES = 50
_PAUSE_SECONDS = 0.05
_LARGEST_PENDING = 8 * 1024 * 1024


@dataclass(frozen=True)
class Head:
    """The newest checkpoint, as it was read.

    Attributes:
        note: With all its signatures.
        etag: Of the object; None for a log that is new.
    """

    checkpoint: Checkpoint
    note: Note
    etag: str | None


class Log:
    """One store's log, as somebody who trusts some keys sees it.

    Args:
        store: Where it lies.
        origin: Its name, which is also that of its keys.
        trusted: Keys that may have signed its checkpoints.
    """

    def __init__(self, store: Store, origin: str, trusted: Iterable[VerifierKey]) -> None:
        self._store = store
        self.origin = origin
        self.trusted = tuple(trusted)

    def create(self, signer: SignerKey) -> Head:
        """Begin a new log with a signed checkpoint of nothing. A repeat returns the head that is there.

        Raises:
            IntegrityError: There is something else.
        """
        empty = Checkpoint(self.origin, 0, EMPTY)
        self._store.swap(
            CHECKPOINT, Note(empty.text, ()).signed(signer).to_bytes(), etag=None, content_type="text/plain"
        )
        return self.head()

    def head(self) -> Head:
        """The newest checkpoint.

        Raises:
            IdentityError: The store has no log, so it is new, or somebody removed the checkpoint.
            IntegrityError: It is not sound, or no trusted key signed it.
        """
        present = self._store.read(CHECKPOINT)
        where = f"{self._store}{CHECKPOINT}"
        if present is None:
            raise IdentityError(
                f"{self._store} has no transparency log",
                expected=where,
                hint="Nothing was written or deleted. `airflow strongroom bucket claim` begins the log of a new store. If this one had "
                "a log, somebody removed its checkpoint: list its versions and put the newest one back.",
            )
        note = Note.parse(where, present[0])
        note.require_signature(where, self.trusted)
        checkpoint = Checkpoint.parse(where, note.text)
        if checkpoint.origin != self.origin:
            raise IntegrityError(
                f"{where} is the head of another log",
                expected=self.origin,
                found=checkpoint.origin,
                hint="Nothing was written or deleted. Find out who copied it here; list its versions and put the right one back.",
            )
        return Head(checkpoint, note, present[1])

    def append(self, entries: Sequence[bytes], signer: SignerKey, *, also: SignerKey | None = None) -> tuple[int, Head]:
        """Add entries, in their order and next to each other. When this returns they are in the log for good.

        Args:
            entries: At most 65,535 bytes each; at least one.
            signer: The log's key.
            also: Another key of the log that signs the new checkpoint too.

        Returns:
            The index of the first, and the head that has them all.

        Raises:
            ContendedError: Others were faster, again and again.
            IntegrityError: The log is damaged.
        """
        packed = pack_entries(entries)
        if not entries or len(packed) > _LARGEST_PENDING:
            raise ValueError(f"append 1 or more entries of at most {_LARGEST_PENDING} bytes together")
        for number in range(_TRIES):
            time.sleep(random.uniform(0, _PAUSE_SECONDS * min(number, 10)))  # noqa: S311 - so that writers do not collide again
            head = self.head()
            before = head.checkpoint
            self._complete(before)
            tiles, after = self._grown(before, [hash_leaf(entry) for entry in entries], entries)
            self._store.put_bytes(
                _pending_key(after), _pending(before, packed), content_type="application/octet-stream"
            )
            note = Note(after.text, ()).signed(signer)
            note = note if also is None else note.signed(also)
            etag = self._store.swap(CHECKPOINT, note.to_bytes(), etag=head.etag, content_type="text/plain")
            if etag is None and not self._has(after):
                continue  # another writer was faster
            self._write(tiles, after.size)
            return before.size, Head(after, note, etag)
        raise ContendedError(
            f"the transparency log of {self._store} did not accept an entry",
            found=f"other writers were faster {_TRIES} times",
            hint="Nothing was deleted that needed the entry. Try again when fewer runs are under way.",
        )

    def entries(self, start: int, end: int) -> list[bytes]:
        """Entries ``[start, end)`` of the log as it is now. Each is compared with the tree's hashes.

        Raises:
            IntegrityError: The log is damaged.
            ValueError: It is not that long.
        """
        head = self.head().checkpoint
        self._complete(head)
        return self.entries_of(head, start, end)

    def entries_of(self, head: Checkpoint, start: int, end: int) -> list[bytes]:
        """Entries ``[start, end)`` of the tree under a head. Each is compared with the tree's hashes. Writes nothing.

        Raises:
            IntegrityError: The log is damaged, or a writer has not made the head's tiles yet (:meth:`is_complete`).
            ValueError: It is not that long.
        """
        if not 0 <= start <= end <= head.size:
            raise ValueError(f"a log of {head.size} entries has none from {start} to {end}")
        found: list[bytes] = []
        for index in range(start // WIDTH, -(-end // WIDTH)):
            first = index * WIDTH
            bundle = Tile(None, index, min(WIDTH, head.size - first))
            some = unpack_entries(f"{self._store}{LOG}{bundle.path}", self._read(bundle))
            hashes = self._read(Tile(0, index, bundle.width))
            if b"".join(map(hash_leaf, some)) != hashes:
                raise _damaged(f"{self._store}{LOG}{bundle.path}", "entries of these hashes", "others")
            found += some[max(0, start - first) : end - first]
        self._require_root(head)
        return found

    def prove(self, index: int) -> EntryProof:
        """A proof that an entry is in the log as it is now, to hand over.

        Raises:
            IntegrityError: The log is damaged.
            ValueError: It has no such entry.
        """
        head = self.head()
        self._complete(head.checkpoint)
        hashes = prove_inclusion(self._subtree(head.checkpoint), index, head.checkpoint.size)
        return EntryProof(index, tuple(hashes), head.note)

    def require_growth(self, earlier: Checkpoint) -> Head:
        """Require that the log only grew since an earlier checkpoint; returns its head.

        Raises:
            IntegrityError: It did not. Entries were removed or rewritten.
        """
        head = self.head()
        self._complete(head.checkpoint)
        size = head.checkpoint.size
        if earlier.size > size:
            raise _damaged(f"{self._store}{CHECKPOINT}", f"{earlier.size} entries or more", f"{size}")
        proof = prove_consistency(self._subtree(head.checkpoint), earlier.size, size)
        verify_consistency(earlier.size, size, proof, earlier.root, head.checkpoint.root)
        return head

    def extends(self, head: Checkpoint, earlier: Checkpoint) -> bool:
        """Whether the tree under a head begins with the tree under an earlier one. Writes nothing.

        Raises:
            IntegrityError: A tile that would show it is missing or damaged, so nobody can tell.
        """
        if earlier.origin != head.origin or earlier.size > head.size:
            return False
        proof = prove_consistency(self._subtree(head), earlier.size, head.size)
        try:
            verify_consistency(earlier.size, head.size, proof, earlier.root, head.root)
        except IntegrityError:
            return False
        return True

    def is_complete(self, head: Checkpoint) -> bool:
        """Whether the head's tiles are there. Of a new head they are missing for a moment, or until the next writer if its writer died."""
        return not head.size or self._store.head(f"{LOG}{_edge_tile(head.size).path}") is not None

    def _grown(
        self, before: Checkpoint, hashes: Sequence[bytes], entries: Sequence[bytes]
    ) -> tuple[dict[Tile, bytes], Checkpoint]:
        """The tiles that a log has after more entries and had not before, and its checkpoint then."""
        size = before.size + len(hashes)
        tiles: dict[Tile, bytes] = {}

        def known(tile: Tile) -> bytes:
            return tiles[tile] if tile in tiles else self._read(tile)

        subtree = subtree_hashes(known, size)
        for tile in tiles_between(before.size, size):  # those of low levels first
            if tile.level is None:
                tiles[tile] = self._edge(tile, before) + pack_entries(_slice(tile, before.size, entries))
            elif tile.level == 0:
                tiles[tile] = self._edge(tile, before) + b"".join(_slice(tile, before.size, hashes))
            else:
                earlier = self._edge(tile, before)
                first, known_width = tile.index * WIDTH, len(earlier) // HASH_BYTES
                full = (Tile(tile.level - 1, first + place) for place in range(known_width, tile.width))
                tiles[tile] = earlier + b"".join(hash_tile(known(one)) for one in full)
        return tiles, Checkpoint(self.origin, size, root_of(subtree, size))

    def _edge(self, tile: Tile, before: Checkpoint) -> bytes:
        """What a tile or bundle had before; nothing if it is new."""
        width = min(WIDTH, (before.size >> (8 * (tile.level or 0))) - tile.index * WIDTH)
        return self._read(replace(tile, width=width)) if width > 0 else b""

    def _complete(self, head: Checkpoint) -> None:
        """Make what is missing of a checkpoint's tiles from its pending entries. The tiles of all earlier ones are there."""
        if self.is_complete(head):
            return
        key = _pending_key(head)
        present = self._store.read(key)
        if present is None:
            raise _damaged(
                f"{self._store}{LOG}{_edge_tile(head.size).path}", "the tile, or what it is made of", "neither"
            )
        size, root, packed = _parse_pending(f"{self._store}{key}", present[0])
        entries = unpack_entries(f"{self._store}{key}", packed)
        before = Checkpoint(self.origin, size, root)
        tiles, after = self._grown(before, [hash_leaf(entry) for entry in entries], entries)
        if after != head:
            raise _damaged(f"{self._store}{key}", f"entries that lead to {head.size} of this root", "others")
        self._write(tiles, head.size)

    def _write(self, tiles: Mapping[Tile, bytes], size: int) -> None:
        """Write tiles; the one that :meth:`_complete` looks for comes last."""
        edge = _edge_tile(size)
        for tile in (*(one for one in tiles if one != edge), edge):
            self._store.put_bytes(f"{LOG}{tile.path}", tiles[tile], content_type="application/octet-stream")

    def _has(self, after: Checkpoint) -> bool:
        """Whether the swap that seemed to fail was made, or a later writer built upon it."""
        head = self.head().checkpoint
        if head.size < after.size:
            return False
        if head.size == after.size:
            return head == after
        self._complete(head)
        return self._root_at(head, after.size) == after.root

    def _root_at(self, head: Checkpoint, size: int) -> bytes:
        return root_of(self._subtree(head), size)

    def _require_root(self, head: Checkpoint) -> None:
        if self._root_at(head, head.size) != head.root:
            raise _damaged(f"{self._store}{LOG}", "tiles that lead to the signed root", "others")

    def _subtree(self, head: Checkpoint) -> Callable[[int, int], bytes]:
        return subtree_hashes(self._read, head.size)

    def _read(self, tile: Tile) -> bytes:
        key = f"{LOG}{tile.path}"
        present = self._store.read(key)
        if present is None:
            raise _damaged(f"{self._store}{key}", "a tile", "nothing")
        return present[0]


def _slice(tile: Tile, before: int, items: Sequence[bytes]) -> Sequence[bytes]:
    """Those of some new items, which come after ``before`` others, that belong to a tile of level 0 or a bundle."""
    first = tile.index * WIDTH
    return items[max(0, first - before) : first + tile.width - before]


def _edge_tile(size: int) -> Tile:
    """The tile with the hash of the last leaf. It is new in each tree."""
    return tile_of(0, size - 1, size)


def _pending_key(after: Checkpoint) -> str:
    return f"{LOG}pending/{after.size}-{after.root.hex()}"


def _pending(before: Checkpoint, packed: bytes) -> bytes:
    return before.size.to_bytes(8, "big") + before.root + packed


def _parse_pending(where: str, body: bytes) -> tuple[int, bytes, bytes]:
    if len(body) <= 8 + HASH_BYTES:
        raise _damaged(where, "entries", "too few bytes")
    return int.from_bytes(body[:8], "big"), body[8 : 8 + HASH_BYTES], body[8 + HASH_BYTES :]


def _damaged(where: str, expected: str, found: str) -> IntegrityError:
    return IntegrityError(
        f"the transparency log is damaged at {where}",
        expected=expected,
        found=found,
        hint="Nothing was deleted. List the versions of that object: log objects are written once, so the first version is the right one. "
        "Let an administrator of the bucket put it back, and find out who wrote to it.",
    )
