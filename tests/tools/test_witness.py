"""The witness, on a real S3 server, with the rights of its own identity."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from botocore.exceptions import ClientError

from strongroom.tlog.notes import Note, SignerKey, VerifierKey
from tests.support.audited import Copy, copy_bucket
from tests.support.logs import KEY
from tests.support.synthetic_log import write_log
from tests.support.tools import verify_evidence
from tests.support.witnessed import Watch, witness


@pytest.fixture
def watch(object_store, bucket, tmp_path, monkeypatch) -> Watch:
    return Watch(object_store, bucket, tmp_path, monkeypatch)


@pytest.fixture
def key(watch) -> VerifierKey:
    """The public half of the witness's key."""
    return watch.make_key()


def test_it_cosigns_what_only_grew(watch, key, capsys):
    """From an empty log on. Each head that it sees gets a cosignature under the log's own signature, once."""
    for _ in range(3):
        assert watch.look() == 0
        assert watch.look() == 0
        watch.grow(2)

    assert watch.cosigned == [0, 2, 4]
    note = Note.parse("a note", watch.read(f"log/witness/{key.key_id.hex()}/4"))
    assert note.cosigned_at(key) is not None
    assert note.require_signature("a note", [KEY.verifier]) == [KEY.verifier]
    assert "it grew from 2" in capsys.readouterr().out


@pytest.mark.parametrize("sizes", [(1, 2), (1, 3, 7, 8), (3, 4), (5, 6, 16)])
def test_it_follows_a_log_through_all_shapes_of_trees(watch, key, sizes):
    before = 0
    for size in sizes:
        watch.grow(size - before)
        before = size
        assert watch.look() == 0

    assert watch.cosigned == [*sizes]


def test_it_follows_a_log_over_the_edges_of_tiles(watch, key, tmp_path):
    """Full tiles, and a second level."""
    lines = [json.dumps({"n": n}).encode() for n in range(700)]
    for size in (200, 255, 256, 257, 512, 700):
        write_log(tmp_path / "logs", lines[:size], KEY)
        for name in Copy(tmp_path / "logs").names():
            watch.write(name, (tmp_path / "logs" / name).read_bytes())
        assert watch.look() == 0

    assert watch.cosigned == [200, 255, 256, 257, 512, 700]


def test_a_log_that_was_rolled_back_is_refused(watch, key, capsys):
    watch.grow(2)
    older = watch.read("log/checkpoint")
    watch.grow(2)
    assert watch.look() == 0
    watch.write("log/checkpoint", older)

    assert watch.look() == 1

    assert "REFUSED. The log did not only grow: it has 2 entries, and 4 were seen before" in capsys.readouterr().err
    [refused] = (watch.folder / "state").glob("refused-*")
    assert refused.read_bytes() == older
    assert watch.cosigned == [4]
    [told] = watch.store.keys("log/witness/refused/")
    assert told == f"log/witness/refused/{key.key_id.hex()}/{refused.name.removeprefix('refused-')}"
    assert watch.read(told) == older


def test_a_refusal_is_kept_and_told_once_however_often_it_is_started_again(watch, key):
    """As Kubernetes starts it again and again. After a good head, the same bad one is told anew."""
    watch.grow(2)
    older = watch.read("log/checkpoint")
    watch.grow(2)
    newer = watch.read("log/checkpoint")
    assert watch.look() == 0
    watch.write("log/checkpoint", older)
    clock = [datetime.now(timezone.utc) + timedelta(minutes=minute) for minute in (1, 2, 3, 4)]
    assert [watch.look(at=now) for now in clock[:3]] == [1, 1, 1]
    watch.write("log/checkpoint", newer)
    assert watch.look() == 0
    watch.write("log/checkpoint", older)
    assert watch.look(at=clock[3]) == 1

    names = [path.name for path in sorted((watch.folder / "state").glob("refused-*"))]
    assert names == [f"refused-{clock[at]:%Y%m%dT%H%M%SZ}" for at in (0, 3)]
    assert [key.rpartition("/")[2] for key in watch.store.keys("log/witness/refused/")] == [
        name.removeprefix("refused-") for name in names
    ]


def test_a_refusal_that_cannot_be_told_is_a_refusal(watch, key, monkeypatch, capsys):
    def die(*_: Any) -> None:
        raise witness.LaterError("the cable was pulled")

    watch.write("log/checkpoint", b"junk")
    monkeypatch.setattr(witness.Bucket, "create", die)

    assert watch.look() == 1

    said = capsys.readouterr().err
    assert "The refusal could not be written into the bucket: the cable was pulled." in said
    assert "REFUSED" in said


@pytest.mark.parametrize("size", [4, 9])
def test_a_log_that_was_rewritten_is_refused(watch, key, size, capsys):
    """With the log's own key, in the same size or longer, tiles and all."""
    watch.grow(4)
    assert watch.look() == 0
    watch.rewrite(size)

    assert watch.look() == 1

    assert "the log was rewritten" in capsys.readouterr().err
    assert watch.cosigned == [4]


def test_tiles_of_the_old_log_under_a_forged_head_do_not_deceive_it(watch, key, tmp_path):
    """A fork whose old hashes are still there, where the proof looks for the old root."""
    old = [b"entry %d" % number for number in range(256)]
    write_log(tmp_path / "old", old, KEY)
    for name in Copy(tmp_path / "old").names():
        watch.write(name, (tmp_path / "old" / name).read_bytes())
    assert watch.look() == 0
    write_log(tmp_path / "new", [b"forged", *old[1:], b"more"], KEY)
    for name in Copy(tmp_path / "new").names():
        if name != "log/tile/0/000":
            watch.write(name, (tmp_path / "new" / name).read_bytes())

    assert watch.look() == 1


def test_a_head_that_the_log_did_not_sign_is_refused(watch, key):
    note = Note.parse("head", watch.read("log/checkpoint"))
    watch.write("log/checkpoint", Note(note.text, ()).signed(SignerKey.generate(KEY.name)).to_bytes())
    assert watch.look() == 1
    watch.write("log/checkpoint", b"junk")
    assert watch.look() == 1
    assert watch.cosigned == []


def test_a_head_of_any_length_is_refused_and_fills_no_disk(watch, key):
    """Each other one is kept, and whoever may write a head could write a longer one every minute."""
    watch.grow(2)
    good = watch.read("log/checkpoint")
    watch.write("log/checkpoint", good + b"x" * 10 * witness.LARGEST)

    assert watch.look() == 1

    [refused] = (watch.folder / "state").glob("refused-*")
    assert refused.stat().st_size == witness.LARGEST
    watch.write("log/checkpoint", good)
    assert watch.look() == 0


def test_what_cannot_be_read_now_is_looked_at_later(watch, key):
    """A writer died between head and tiles: nothing is cosigned, and nothing is refused."""
    watch.grow(1)
    assert watch.look() == 0
    watch.grow(1)
    tile = watch.read("log/tile/0/000.p/2")
    watch.admin.delete_object(Bucket=watch.bucket, Key="log/tile/0/000.p/2")
    assert watch.look() == 2
    assert watch.cosigned == [1]
    watch.write("log/tile/0/000.p/2", tile)

    assert watch.look() == 0
    assert watch.cosigned == [1, 2]


def test_a_crash_before_the_cosignature_is_made_good_by_the_next_look(watch, key, monkeypatch):
    def die(*_: Any) -> None:
        raise witness.LaterError("the cable was pulled")

    watch.grow(1)
    with monkeypatch.context() as patch:
        patch.setattr(witness.Bucket, "create", die)
        assert watch.look() == 2
    assert watch.cosigned == []

    assert watch.look() == 0
    assert watch.cosigned == [1]


def test_its_identity_writes_cosignatures_and_nothing_else(watch, object_store):
    client = object_store.client("witness")
    client.put_object(Bucket=watch.bucket, Key="log/witness/00000000/1", Body=b"")
    for key in ("log/checkpoint", "log/tile/0/000.p/1", "metadata/x.json", "witness/1"):
        with pytest.raises(ClientError, match="AccessDenied"):
            client.put_object(Bucket=watch.bucket, Key=key, Body=b"")
    with pytest.raises(ClientError, match="AccessDenied"):
        client.get_object(Bucket=watch.bucket, Key="metadata/source.json")
    with pytest.raises(ClientError, match="AccessDenied"):
        client.delete_object(Bucket=watch.bucket, Key="log/witness/00000000/1")


def test_a_key_is_made_once_and_only_its_owner_reads_it(watch, key, capsys):
    state = watch.folder / "state"

    assert (state / "key").stat().st_mode & 0o077 == 0
    assert witness.main(["key", "witness.test/two", "--state", str(state)]) == 2
    assert "a witness keeps its key" in capsys.readouterr().err
    assert witness.main(["key", "two words", "--state", str(watch.folder / "other")]) == 2
    assert SignerKey.parse((state / "key").read_text()).verifier == key


@pytest.mark.parametrize("line", ["nothing", "a+b+c"])
def test_wrong_arguments_are_told(watch, key, line, capsys):
    assert watch.look("--log-key", line) == 2
    assert "witness: that is not a key of a log" in capsys.readouterr().err


def test_an_auditor_believes_what_it_cosigned(watch, key, tmp_path):
    """The program that verifies reads it from the bucket."""
    watch.grow(3)
    assert watch.look() == 0

    copy_bucket(watch.admin, watch.bucket, tmp_path / "copy")
    verdict = verify_evidence(tmp_path / "copy", "--key", str(KEY.verifier), "--witness", str(key))
    assert "saw the first 3 of 3 entries" in str(verdict.of("proved", "anchor"))


def test_a_head_that_it_once_refused_does_not_spoil_what_it_cosigned(watch, key, tmp_path):
    """The log was put right. An auditor finds both."""
    watch.grow(3)
    good = watch.read("log/checkpoint")
    watch.write("log/checkpoint", b"junk")
    assert watch.look() == 1
    watch.write("log/checkpoint", good)
    assert watch.look() == 0

    copy_bucket(watch.admin, watch.bucket, tmp_path / "copy")
    verdict = verify_evidence(tmp_path / "copy", "--key", str(KEY.verifier), "--witness", str(key))
    assert verdict.of("false", "anchor") == []
    assert "saw the first 3 of 3 entries" in str(verdict.of("proved", "anchor"))
