"""An implementation of the log's formats that is not ours, from the package index, accepts a log that our code wrote into a bucket."""

from __future__ import annotations

import base64
import importlib
import os
import subprocess
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from strongroom.ledger.journal import begin_log, log_of
from strongroom.storage.store import Store
from strongroom.tlog.notes import SignerKey
from tests.support.audited import Copy, copy_bucket
from tests.support.chain import some_settings
from tests.support.logs import AUTHOR, KEY, with_log
from tests.support.repository import REPOSITORY
from tests.support.tools import load_tool

LATER_HEADS = (1, 255, 256, 257, 700)
"""Sizes of the log after each of its appends: on both sides of a full tile."""


@pytest.fixture(scope="module")
def public() -> Iterator[ModuleType]:
    """The package, installed if it is not there."""
    found = subprocess.run(
        [REPOSITORY / "deploy" / "find-tlog", "--install"], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(found.stdout.strip())
        yield importlib.import_module("aics_tlog")


@pytest.fixture(scope="module")
def written(object_store, tmp_path_factory) -> tuple[Copy, list[Any], str]:
    """A log of 700 entries that was written into a bucket in several appends and cosigned by our witness: a copy, its heads, the witness."""
    folder, bucket = tmp_path_factory.mktemp("public"), f"public-{os.getpid()}"
    object_store.create_bucket(bucket)
    settings = with_log(some_settings(bucket, folder))
    store = Store(object_store.client("archiver"), settings.store, author=AUTHOR)
    heads = [begin_log(store)]
    for before, size in pairwise(LATER_HEADS):
        lines = [f'{{"entry":{number}}}'.encode() for number in range(before, size)]
        heads.append(log_of(store).append(lines, KEY)[1])
    witness = cosign(object_store, bucket, folder / "state")
    copy_bucket(object_store.client("admin"), bucket, folder / "copy")
    return Copy(folder / "copy"), heads, witness


def cosign(object_store, bucket: str, state: Path) -> str:
    """Run our witness once, with the rights of its identity. Returns the public half of its key."""
    witness = load_tool("witness")
    access_key, secret_key = object_store.keys("witness")
    where = ["--s3", bucket, "--endpoint", object_store.endpoint_url, "--log-key", str(KEY.verifier)]
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as said:
        patch.setenv("AWS_ACCESS_KEY_ID", access_key)
        patch.setenv("AWS_SECRET_ACCESS_KEY", secret_key)
        assert witness.main(["key", "witness.test", "--state", str(state)]) == 0
        public_half = said.getvalue().split()[-1]
        assert witness.main(["--state", str(state), *where, "--once"]) == 0
    return public_half


def reader_of(public: ModuleType, copy: Copy) -> Any:
    return public.FileSystemTileReader(copy.folder / "log")


def test_it_accepts_the_signed_head_and_the_cosignature_of_a_witness(public, written):
    """The note, the signature of the log's key and the witness's cosignature, each in its own format."""
    copy, heads, witness = written
    [cosigned] = [name for name in copy.names("log/witness/") if name.endswith("/700")]
    keys = public.parse_vkey(str(KEY.verifier)), public.parse_vkey(witness)

    head = public.verify_checkpoint(public.parse_note(copy.read("log/checkpoint").decode()), keys[0])
    seen = public.verify_checkpoint(public.parse_note(copy.read(cosigned).decode()), keys[0], [keys[1]], quorum=1)

    assert (head.ok, head.error, head.size, head.origin) == (True, None, 700, KEY.verifier.name)
    assert head.root == heads[-1].checkpoint.root
    assert (seen.ok, seen.error, seen.witnesses) == (True, None, ["witness.test"])


def test_it_does_not_accept_a_head_of_another_key_or_with_another_size(public, written):
    copy, *_ = written
    text = copy.read("log/checkpoint").decode()
    stranger = public.parse_vkey(str(SignerKey.generate(KEY.verifier.name).verifier))

    assert not public.verify_checkpoint(public.parse_note(text), stranger).ok
    edited = public.parse_note(text.replace("\n700\n", "\n701\n"))
    assert not public.verify_checkpoint(edited, public.parse_vkey(str(KEY.verifier))).ok


def test_it_finds_every_tile_and_entry_of_the_log_true_to_its_root(public, written):
    """Full and partial tiles of both levels, and the bundles of entries."""
    copy, heads, _ = written
    head = heads[-1].checkpoint

    report = public.audit_tiles(reader_of(public, copy), head.size, head.root)

    assert (report.size, report.tiles, report.bundles) == (700, 3 + 1, 3)
    assert public.read_entry(reader_of(public, copy), 256, 700) == b'{"entry":256}'


@pytest.mark.parametrize("name", ["log/tile/0/000", "log/tile/entries/001", "log/tile/0/002.p/188"])
def test_it_notices_a_flipped_bit(public, written, tmp_path, name):
    """So that what the test above says means something."""
    copy, heads, _ = written
    harmed = Copy.of(copy.folder, tmp_path / "copy")
    body = harmed.read(name)
    harmed.write(name, body[:40] + bytes([body[40] ^ 1]) + body[41:])

    with pytest.raises((public.TileVerificationError, public.TileMissingError)):
        public.audit_tiles(reader_of(public, harmed), 700, heads[-1].checkpoint.root)


def test_it_proves_that_each_later_head_only_grew(public, written):
    """Proofs that it makes of our tiles, between each two heads that our code signed."""
    copy, heads, _ = written
    checkpoints = [head.checkpoint for head in heads]
    assert [one.size for one in checkpoints] == [*LATER_HEADS]

    for old in checkpoints:
        for new in checkpoints[checkpoints.index(old) :]:
            proof = public.consistency_proof_from_tiles(reader_of(public, copy), old.size, new.size, 700)
            assert public.verify_consistency(old.size, new.size, old.root, new.root, proof)
            if new.size > old.size:
                assert not public.verify_consistency(old.size, new.size, new.root, old.root, proof)


def test_it_accepts_the_proofs_that_lie_beside_our_records(public, audited):
    """Of archives, answers, intents and certificates: the entry in the proof is in the log at that place."""
    names = [name for name in audited.good.names() if name.endswith(".tlog-proof")]
    assert any("destruction" in name for name in names)
    key = public.parse_vkey(str(KEY.verifier))

    for name in names:
        version, extra, index, *hashes, note = _read_proof(audited.good.folder / name)
        head = public.verify_checkpoint(public.parse_note(note), key)
        proof = [base64.b64decode(line) for line in hashes]
        assert (version, head.ok) == ("c2sp.org/tlog-proof@v1", True), name
        assert public.verify_leaf_inclusion(extra, index, head.size, proof, head.root), name
        assert not public.verify_leaf_inclusion(extra + b" ", index, head.size, proof, head.root), name


def _read_proof(path: Path) -> tuple[Any, ...]:
    """Its version, its entry, the entry's index, the hashes and the signed head."""
    head, _, note = path.read_text().partition("\n\n")
    version, extra, index, *hashes = head.split("\n")
    return version, base64.b64decode(extra.removeprefix("extra ")), int(index.removeprefix("index ")), *hashes, note
