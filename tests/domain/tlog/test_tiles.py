"""Tiles and bundles as tlog-tiles has them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.errors import IntegrityError
from strongroom.tlog.merkle import hash_leaf, hash_node, prove_inclusion, root_of, verify_inclusion
from strongroom.tlog.tiles import Tile, pack_entries, subtree_hashes, tiles_between, unpack_entries


def all_tiles(leaves: list[bytes]) -> dict[Tile, bytes]:
    """The tiles of a tree, by the definition: each hash of a level stands for a full tile of the level below."""
    tiles: dict[Tile, bytes] = {}
    level, hashes = 0, leaves
    while hashes:
        for index in range(-(-len(hashes) // 256)):
            some = hashes[index * 256 : (index + 1) * 256]
            tiles[Tile(level, index, len(some))] = b"".join(some)
        full = [hashes[place : place + 256] for place in range(0, len(hashes) - len(hashes) % 256, 256)]
        level, hashes = level + 1, [root_of_full(one) for one in full]
    return tiles


def root_of_full(hashes: list[bytes]) -> bytes:
    while len(hashes) > 1:
        hashes = [hash_node(*hashes[place : place + 2]) for place in range(0, len(hashes), 2)]
    return hashes[0]


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        (Tile(0, 1234067), "tile/0/x001/x234/067"),
        (Tile(1, 0, 17), "tile/1/000.p/17"),
        (Tile(None, 273, 112), "tile/entries/273.p/112"),
        (Tile(None, 999), "tile/entries/999"),
        (Tile(2, 1000, 1), "tile/2/x001/000.p/1"),
    ],
)
def test_a_tile_lies_where_the_specification_says(tile, path):
    """Its own example is the first."""
    assert tile.path == path


def test_a_tree_of_70_000_leaves_has_the_tiles_of_the_specifications_example():
    """273 full tiles and one of 112, then a full one and one of 17, then one of 1."""
    tiles = [tile for tile in tiles_between(0, 70_000) if tile.level is not None]

    assert [sum(tile.level == level and tile.width == 256 for tile in tiles) for level in (0, 1, 2)] == [273, 1, 0]
    assert [(tile.level, tile.index, tile.width) for tile in tiles if tile.width < 256] == [
        (0, 273, 112),
        (1, 1, 17),
        (2, 0, 1),
    ]


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 70_000), st.integers(0, 70_000))
def test_growing_adds_just_the_tiles_that_were_not_there(size, earlier):
    """Those of the larger tree, without those that the smaller one had under the same name."""
    earlier = min(earlier, size)

    before, after = set(tiles_between(0, earlier)), set(tiles_between(0, size))

    assert set(tiles_between(earlier, size)) == after - before


@pytest.mark.parametrize("size", [1, 255, 256, 257, 511, 65_535, 65_536, 65_537, 70_000])
def test_roots_and_proofs_come_from_tiles(size):
    """Each tile is read once, with the width that it has in this tree."""
    leaves = [hash_leaf(str(number).encode()) for number in range(size)]
    tiles = all_tiles(leaves)
    read: list[Tile] = []

    def take(tile: Tile) -> bytes:
        read.append(tile)
        return tiles[tile]

    subtree = subtree_hashes(take, size)
    root = root_of(subtree, size)

    for index in {0, size // 2, size - 1}:
        verify_inclusion(leaves[index], index, size, prove_inclusion(subtree, index, size), root)
    assert len(read) == len(set(read))


def test_a_tile_of_another_length_is_damage():
    """It would shift every hash after it."""
    subtree = subtree_hashes(lambda _: b"\0" * 31, 1)

    with pytest.raises(IntegrityError, match=r"tile/0/000\.p/1 of the transparency log is damaged"):
        root_of(subtree, 1)


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_a_bundle_gives_its_entries_back(entries):
    """Empty ones too."""
    assert unpack_entries("a bundle", pack_entries(entries)) == entries


@pytest.mark.parametrize("body", [b"\0", b"\0\5abc", b"\0\1a\0"])
def test_a_bundle_that_is_cut_short_is_damage(body):
    """Nothing is guessed."""
    with pytest.raises(IntegrityError, match="cut short"):
        unpack_entries("tile/entries/000", body)


def test_an_entry_has_at_most_65_535_bytes():
    """The format has 16 bits for its length."""
    assert unpack_entries("x", pack_entries([b"x" * 65_535])) == [b"x" * 65_535]
    with pytest.raises(ValueError, match="65535"):
        pack_entries([b"x" * 65_536])
