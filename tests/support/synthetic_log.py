"""A transparency log of any size in a folder, made in one go by the domain's own functions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from strongroom.tlog.checkpoints import Checkpoint
from strongroom.tlog.merkle import hash_leaf, root_of
from strongroom.tlog.notes import Note, SignerKey
from strongroom.tlog.tiles import WIDTH, Tile, hash_tile, pack_entries, subtree_hashes, tiles_between


def write_log(folder: Path, lines: Sequence[bytes], key: SignerKey) -> None:
    """Write bundles, tiles and a signed head of some entries, at least one."""
    size, tiles = len(lines), dict[Tile, bytes]()

    def write(name: str, body: bytes) -> None:
        target = folder / "log" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(body)

    for tile in tiles_between(0, size):
        span = slice(tile.index * WIDTH, tile.index * WIDTH + tile.width)
        if tile.level is None:
            write(tile.path, pack_entries(lines[span]))
            continue
        if tile.level == 0:
            tiles[tile] = b"".join(map(hash_leaf, lines[span]))
        else:
            below = (tiles[Tile(tile.level - 1, place)] for place in range(span.start, span.stop))
            tiles[tile] = b"".join(map(hash_tile, below))
        write(tile.path, tiles[tile])
    root = root_of(subtree_hashes(tiles.__getitem__, size), size)
    write("checkpoint", Note(Checkpoint(key.name, size, root).text, ()).signed(key).to_bytes())
