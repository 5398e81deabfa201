"""A Merkle tree as tiles of 256 hashes, and its entries as bundles of 256, as C2SP's tlog-tiles has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from strongroom.errors import IntegrityError
from strongroom.tlog.merkle import HASH_BYTES, SubtreeHash, hash_node

WIDTH = 256
"""Hashes of a full tile, and entries of a full bundle."""

LONGEST_ENTRY = (1 << 16) - 1
"""Bytes: a bundle gives an entry's length in 16 bits."""

_HEIGHT = 8
"""Levels of the tree that one tile spans."""


@dataclass(frozen=True, order=True)
class Tile:
    """The name of one tile.

    Attributes:
        level: 0 for hashes of leaves, 1 for hashes of full tiles of level 0, and so on; None for a bundle of entries.
        index: Its place in the level.
        width: How many hashes or entries it has, 1 to 256.
    """

    level: int | None
    index: int
    width: int = WIDTH

    @property
    def path(self) -> str:
        """Where it lies below the log: `tile/0/x001/x234/067`, `tile/entries/000.p/17`."""
        digits = f"{self.index:d}"
        digits = digits.zfill(-(-len(digits) // 3) * 3)
        groups = [digits[place : place + 3] for place in range(0, len(digits), 3)]
        name = "/".join([*(f"x{group}" for group in groups[:-1]), groups[-1]])
        partial = f".p/{self.width}" if self.width < WIDTH else ""
        return f"tile/{'entries' if self.level is None else self.level}/{name}{partial}"


def tiles_between(earlier: int, size: int) -> Iterator[Tile]:
    """The tiles and bundles that a tree has and did not have when it had fewer leaves, those of low levels first."""
    yield from _tiles_of_level(None, earlier, size)
    level, low, high = 0, earlier, size
    while high:
        yield from _tiles_of_level(level, low, high)
        level, low, high = level + 1, low // WIDTH, high // WIDTH


def _tiles_of_level(level: int | None, earlier: int, size: int) -> Iterator[Tile]:
    if earlier == size:
        return
    for index in range(earlier // WIDTH, -(-size // WIDTH)):
        yield Tile(level, index, min(WIDTH, size - index * WIDTH))


def tile_of(level: int, index: int, size: int) -> Tile:
    """The tile of a level that holds the hash of this index, as wide as it is in a tree of ``size`` leaves."""
    place = index // WIDTH
    return Tile(level, place, min(WIDTH, (size >> (_HEIGHT * level)) - place * WIDTH))


def subtree_hashes(read: Callable[[Tile], bytes], size: int) -> SubtreeHash:
    """Complete subtrees of a tree of this size, from its tiles. Each tile is read once.

    Raises:
        IntegrityError: A tile has another length than its name says.
    """
    known: dict[Tile, bytes] = {}

    def hashes(level: int, first: int, count: int) -> list[bytes]:
        tile = tile_of(level, first, size)
        if tile not in known:
            known[tile] = _checked(tile, read(tile))
        start = (first % WIDTH) * HASH_BYTES
        body = known[tile][start : start + count * HASH_BYTES]
        return [body[place : place + HASH_BYTES] for place in range(0, len(body), HASH_BYTES)]

    def subtree(level: int, place: int) -> bytes:
        tile_level, inside = divmod(level, _HEIGHT)
        return _fold(hashes(tile_level, place << inside, 1 << inside))

    return subtree


def hash_tile(body: bytes) -> bytes:
    """What a full tile is in the tile of the level above."""
    return _fold([body[place : place + HASH_BYTES] for place in range(0, len(body), HASH_BYTES)])


def _fold(hashes: list[bytes]) -> bytes:
    """The hash above a power of two of hashes."""
    while len(hashes) > 1:
        hashes = [hash_node(*hashes[each : each + 2]) for each in range(0, len(hashes), 2)]
    return hashes[0]


def _checked(tile: Tile, body: bytes) -> bytes:
    if len(body) != tile.width * HASH_BYTES:
        raise IntegrityError(
            f"{tile.path} of the transparency log is damaged",
            expected=f"{tile.width * HASH_BYTES} bytes",
            found=f"{len(body)} bytes",
            hint="Nothing was changed. List the versions of that object, and put the first one back.",
        )
    return body


def pack_entries(entries: Sequence[bytes]) -> bytes:
    """Entries as a bundle has them: each after its length.

    Raises:
        ValueError: An entry is longer than 65,535 bytes.
    """
    if any(len(entry) > LONGEST_ENTRY for entry in entries):
        raise ValueError(f"an entry is longer than {LONGEST_ENTRY} bytes")
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def unpack_entries(where: str, body: bytes) -> list[bytes]:
    """The entries of a bundle.

    Raises:
        IntegrityError: It ends in the middle of an entry.
    """
    entries, place = [], 0
    while place < len(body):
        end = place + 2 + int.from_bytes(body[place : place + 2], "big")
        if place + 2 > len(body) or end > len(body):
            raise IntegrityError(
                f"{where} of the transparency log is cut short",
                found=f"{len(body)} bytes",
                hint="Nothing was changed. List the versions of that object, and put the first one back.",
            )
        entries.append(body[place + 2 : end])
        place = end
    return entries
