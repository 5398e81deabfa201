"""Hashes and proofs of RFC 6962, compared with the definition itself."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.errors import IntegrityError
from strongroom.tlog.merkle import (
    EMPTY,
    hash_leaf,
    hash_node,
    prove_consistency,
    prove_inclusion,
    root_of,
    verify_consistency,
    verify_inclusion,
)

LEAVES = [hash_leaf(str(number).encode()) for number in range(70)]


def root_by_definition(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962, section 2.1, word for word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hash_node(root_by_definition(leaves[:split]), root_by_definition(leaves[split:]))


def subtree(level: int, place: int) -> bytes:
    return root_by_definition(LEAVES[place << level : (place + 1) << level])


def test_the_hashes_are_those_that_certificate_transparency_publishes():
    """The empty tree, the leaf without content, and a tree of its first two test leaves."""
    two = hash_node(hash_leaf(b""), hash_leaf(b"\x00"))

    assert [each.hex() for each in (EMPTY, hash_leaf(b""), two)] == [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",  # pragma: allowlist secret
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",  # pragma: allowlist secret
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",  # pragma: allowlist secret
    ]


@pytest.mark.parametrize("size", range(71))
def test_a_root_is_the_one_of_the_definition(size):
    """Whatever the size, also where the tree is not complete."""
    assert root_of(subtree, size) == root_by_definition(LEAVES[:size])


@pytest.mark.parametrize("size", range(1, 71))
def test_each_leaf_is_proved_and_no_other(size):
    """A proof holds for its own leaf, place, size and root alone."""
    root = root_of(subtree, size)
    for index in range(size):
        proof = prove_inclusion(subtree, index, size)

        verify_inclusion(LEAVES[index], index, size, proof, root)

        other = (index + 1) % 70
        for wrong in (
            (LEAVES[other], index, size, proof, root),
            (LEAVES[index], index, size, proof, hash_leaf(b"another")),
            (LEAVES[index], index, size, [*proof, root], root),
            (LEAVES[index], size, size, proof, root),
            *([(LEAVES[index], index, size, proof[:-1], root)] if proof else []),
        ):
            with pytest.raises(IntegrityError):
                verify_inclusion(*wrong)


@pytest.mark.parametrize("size", range(71))
def test_each_earlier_tree_is_proved_to_be_the_beginning(size):
    """And a tree with another leaf is not."""
    root = root_of(subtree, size)
    for earlier in range(size + 1):
        proof = prove_consistency(subtree, earlier, size)
        before = root_of(subtree, earlier)

        verify_consistency(earlier, size, proof, before, root)

        if earlier:
            forged = root_by_definition([hash_leaf(b"forged"), *LEAVES[1:earlier]])
            with pytest.raises(IntegrityError):
                verify_consistency(earlier, size, proof, forged, root)
            with pytest.raises(IntegrityError):
                verify_consistency(earlier, size, [*proof, root], before, root)


@given(st.integers(2, 70), st.data())
def test_no_flipped_bit_of_a_proof_goes_unnoticed(size, data):
    """Not in a proof of an entry, and not in one of growth."""
    earlier = data.draw(st.integers(1, size - 1))
    index = data.draw(st.integers(0, size - 1))
    inclusion, growth = prove_inclusion(subtree, index, size), prove_consistency(subtree, earlier, size)

    def flipped(proof: list[bytes]) -> list[bytes]:
        place, bit = data.draw(st.integers(0, len(proof) - 1)), data.draw(st.integers(0, 255))
        changed = int.from_bytes(proof[place], "big") ^ (1 << bit)
        return [*proof[:place], changed.to_bytes(32, "big"), *proof[place + 1 :]]

    with pytest.raises(IntegrityError):
        verify_inclusion(LEAVES[index], index, size, flipped(inclusion), root_of(subtree, size))
    with pytest.raises(IntegrityError):
        verify_consistency(earlier, size, flipped(growth), root_of(subtree, earlier), root_of(subtree, size))


def test_what_is_not_in_a_tree_cannot_be_proved():
    """Nor can a larger tree be a beginning."""
    with pytest.raises(ValueError, match="no leaf 5"):
        prove_inclusion(subtree, 5, 5)
    with pytest.raises(ValueError, match="not the beginning"):
        prove_consistency(subtree, 6, 5)
    with pytest.raises(IntegrityError):
        verify_consistency(6, 5, [], EMPTY, EMPTY)
