"""Heads of a log, and the proofs that auditors keep."""

from __future__ import annotations

import pytest

from strongroom.errors import IntegrityError
from strongroom.tlog.checkpoints import Checkpoint, EntryProof
from strongroom.tlog.merkle import hash_leaf, hash_node
from strongroom.tlog.notes import Note, SignerKey

ROOT = hash_node(hash_leaf(b"first"), hash_leaf(b"second"))
HEAD = Checkpoint("strongroom.test/log", 2, ROOT)


def a_proof() -> EntryProof:
    note = Note(HEAD.text, ()).signed(SignerKey.generate("strongroom.test/log"))
    return EntryProof(1, (hash_leaf(b"first"),), note)


def test_a_checkpoint_has_three_lines_and_is_read_again():
    """Origin, size and root."""
    assert HEAD.text.splitlines()[:2] == ["strongroom.test/log", "2"]
    assert Checkpoint.parse("x", HEAD.text) == HEAD


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a\n1\nAAAA\n",
        HEAD.text + "an extension\n",
        HEAD.text.replace("\n2\n", "\n02\n"),
        HEAD.text.replace("\n2\n", "\n-2\n"),
        HEAD.text.replace("strongroom.test/log", ""),
        HEAD.text.rstrip("\n"),
    ],
)
def test_other_lines_are_no_checkpoint(text):
    """Extensions too: nobody could check what they say."""
    with pytest.raises(IntegrityError, match="log/checkpoint is not a checkpoint"):
        Checkpoint.parse("log/checkpoint", text)


def test_a_proof_is_read_again_and_proves_its_entry_alone():
    """From the file that an auditor keeps."""
    proof = EntryProof.parse("a file", a_proof().to_bytes())

    assert proof.require("a file", b"second") == HEAD
    with pytest.raises(IntegrityError):
        proof.require("a file", b"first")


def test_extra_data_of_a_proof_is_left_out():
    """Nobody signed it."""
    lines = a_proof().to_bytes().split(b"\n")
    lines.insert(1, b"extra AAAA")

    assert EntryProof.parse("a file", b"\n".join(lines)).require("a file", b"second") == HEAD


@pytest.mark.parametrize(
    "change", [(b"tlog-proof@v1", b"tlog-proof@v2"), (b"index 1", b"index 01"), (b"index", b"place")]
)
def test_another_file_is_no_proof(change):
    """It says which file."""
    with pytest.raises(IntegrityError, match="a file is not a proof of an entry"):
        EntryProof.parse("a file", a_proof().to_bytes().replace(*change))
