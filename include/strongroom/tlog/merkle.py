"""Merkle trees as RFC 6962 has them: a hash of leaves, and proofs that something is in it or that it only grew.

A tree is known by a function that gives the hashes of its complete subtrees, so nothing here holds a tree in memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence

from strongroom.errors import IntegrityError

HASH_BYTES = 32

EMPTY = hashlib.sha256(b"").digest()
"""Root of a tree without leaves."""

SubtreeHash = Callable[[int, int], bytes]
"""The hash of the complete subtree of a level and place: leaves ``[place << level, (place + 1) << level)``."""


def hash_leaf(entry: bytes) -> bytes:
    """The hash of one entry."""
    return hashlib.sha256(b"\x00" + entry).digest()


def hash_node(left: bytes, right: bytes) -> bytes:
    """The hash above two subtrees."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def subtrees(start: int, end: int) -> Iterator[tuple[int, int]]:
    """Level and place of the largest complete subtrees that make up leaves ``[start, end)``, from left to right."""
    while start < end:
        level = min((start & -start).bit_length() - 1 if start else end.bit_length(), (end - start).bit_length() - 1)
        yield level, start >> level
        start += 1 << level


def root_of(subtree: SubtreeHash, size: int) -> bytes:
    """The root of a tree with this many leaves."""
    return hash_range(subtree, 0, size) if size else EMPTY


def hash_range(subtree: SubtreeHash, start: int, end: int) -> bytes:
    """The hash over leaves ``[start, end)``, which RFC 6962 calls MTH(D[start:end]). The range must be one that a proof names."""
    *others, last = (subtree(level, place) for level, place in subtrees(start, end))
    for other in reversed(others):
        last = hash_node(other, last)
    return last


def prove_inclusion(subtree: SubtreeHash, index: int, size: int) -> list[bytes]:
    """The hashes that lead from a leaf to the root of a tree, from the leaf's sibling upwards.

    Raises:
        ValueError: The tree has no such leaf.
    """
    if not 0 <= index < size:
        raise ValueError(f"a tree of {size} leaves has no leaf {index}")
    start, end, path = 0, size, []
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append((middle, end))
            end = middle
        else:
            path.append((start, middle))
            start = middle
    return [hash_range(subtree, *each) for each in reversed(path)]


def prove_consistency(subtree: SubtreeHash, earlier: int, size: int) -> list[bytes]:
    """The hashes that show that the tree of ``earlier`` leaves is the beginning of the tree of ``size``.

    Raises:
        ValueError: The earlier tree is larger.
    """
    if not 0 <= earlier <= size:
        raise ValueError(f"a tree of {earlier} leaves is not the beginning of one of {size}")
    if earlier in (0, size):
        return []
    start, end, whole, path = 0, size, True, []
    while (end - start) and earlier != end:
        middle = start + _split(end - start)
        if earlier <= middle:
            path.append((middle, end))
            end = middle
        else:
            path.append((start, middle))
            start, whole = middle, False
    proof = [] if whole else [hash_range(subtree, start, end)]
    return proof + [hash_range(subtree, *each) for each in reversed(path)]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Require that a leaf's hash stands at a place of the tree with this root.

    Raises:
        IntegrityError: The proof does not show it.
    """
    if not 0 <= index < size:
        raise _unproved(f"a tree of {size} leaves has no leaf {index}")
    node, last, found = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise _unproved("the proof is too long")
        if node & 1 or node == last:
            found = hash_node(sibling, found)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            found = hash_node(found, sibling)
        node, last = node >> 1, last >> 1
    if last or found != root:
        raise _unproved("the proof leads to another root")


def verify_consistency(earlier: int, size: int, proof: Sequence[bytes], earlier_root: bytes, root: bytes) -> None:
    """Require that the tree with one root is the beginning of the tree with another.

    Raises:
        IntegrityError: The proof does not show it.
    """
    if not 0 <= earlier <= size:
        raise _unproved(f"a tree of {earlier} leaves is not the beginning of one of {size}")
    if earlier in (0, size):
        same = earlier_root == (EMPTY if earlier == 0 else root)
        if proof or not same:
            raise _unproved("the proof leads to another root")
        return
    hashes = list(proof)
    if earlier & (earlier - 1) == 0:
        hashes.insert(0, earlier_root)
    if not hashes:
        raise _unproved("the proof is too short")
    node, last = earlier - 1, size - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    old = new = hashes[0]
    for each in hashes[1:]:
        if last == 0:
            raise _unproved("the proof is too long")
        if node & 1 or node == last:
            old, new = hash_node(each, old), hash_node(each, new)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            new = hash_node(new, each)
        node, last = node >> 1, last >> 1
    if last or old != earlier_root or new != root:
        raise _unproved("the proof leads to another root")


def _split(leaves: int) -> int:
    """The largest power of two below a number of leaves."""
    return 1 << ((leaves - 1).bit_length() - 1)


def _unproved(found: str) -> IntegrityError:
    return IntegrityError(
        "a proof of the transparency log does not hold",
        expected="hashes that lead to the signed root",
        found=found,
        hint="Nothing was changed. Do not trust what it should prove. Keep this log and the checkpoints that you have, and find out "
        "who wrote to the bucket.",
    )
