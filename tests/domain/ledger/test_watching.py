"""A log that is looked at again and again: does it only grow, has it every record, do its witnesses keep up."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone

import pytest

from strongroom.ledger.entries import Act, parse_entry
from strongroom.ledger.journal import log_of, record
from strongroom.ledger.log import Log
from strongroom.ledger.watching import LogFigures, LogWatch
from strongroom.ledger.witnesses import cosignatures, newest_cosignature
from strongroom.storage.store import Store
from strongroom.tlog.checkpoints import Checkpoint
from strongroom.tlog.notes import COSIGNATURE, Note, SignerKey
from tests.support.counting import count_requests
from tests.support.logs import KEY
from tests.support.witnessed import Watch

LOST = "reports/verifications/lost.json"


@pytest.fixture
def watch(object_store, bucket, tmp_path, monkeypatch) -> Watch:
    return Watch(object_store, bucket, tmp_path, monkeypatch)


@pytest.fixture
def reader(watch, object_store) -> Store:
    """The store as the exporter sees it: its identity only reads. The settings trust one witness."""
    settings = watch.settings.model_copy(update={"witness_keys": (str(watch.make_key()),)})
    return Store(object_store.client("reader"), settings)


@pytest.fixture
def look(reader) -> Callable[..., LogFigures]:
    """Looks of one watcher."""
    return looks_of(reader)


def looks_of(store: Store) -> Callable[..., LogFigures]:
    watcher = LogWatch()

    def look(at: datetime | None = None) -> LogFigures:
        figures = watcher.look(store, at or datetime.now(timezone.utc))
        assert figures is not None
        return figures

    return look


def made_at(store: Store, index: int) -> datetime:
    log = log_of(store)
    assert log is not None
    return parse_entry("an entry", log.entries(index, index + 1)[0]).at


def test_a_witnessed_log_that_only_grows(watch, reader, look):
    watch.grow(3)
    watch.look()
    first = look()
    watch.grow(300)
    watch.look()

    second = look()

    assert [one.problem for one in (first, second)] == [None, None]
    assert (first.entries, second.entries) == (3, 303)
    assert (first.grew, second.grew) == (True, True)
    assert second.newest_at == made_at(reader, 302)
    assert (second.unentered, second.unentered_since) == (0, None)
    [witness] = second.witnesses
    assert (witness.unseen, witness.unseen_since, witness.refuses) == (0, None, False)
    assert witness.name.startswith("witness.test/one+")


def test_a_store_without_a_log_has_no_figures(reader):
    without = Store(reader.client, reader.settings.model_copy(update={"log_keys": ()}))

    assert LogWatch().look(without, datetime.now(timezone.utc)) is None


def test_a_long_log_is_read_a_piece_at_a_time(watch, look, monkeypatch):
    """All entries of years together would fill the memory of the exporter."""
    watch.grow(300)
    pieces: list[tuple[int, int]] = []
    whole = Log.entries_of

    def piece(log: Log, head: Checkpoint, start: int, end: int) -> list[bytes]:
        pieces.append((start, end))
        return whole(log, head, start, end)

    monkeypatch.setattr(Log, "entries_of", piece)
    monkeypatch.setattr("strongroom.ledger.watching._AT_ONCE", 128)

    figures = look()

    assert (figures.problem, figures.entries) == (None, 300)
    assert pieces == [(0, 128), (128, 256), (256, 300)]


def test_an_empty_log_is_one_too(look):
    figures = look()

    assert (figures.problem, figures.grew, figures.entries, figures.newest_at) == (None, True, 0, None)


def test_a_witness_that_sleeps_is_behind_since_the_first_entry_that_it_has_not_seen(watch, reader, look):
    """That instant tells how long it sleeps. The age of its newest cosignature would not: of a quiet log it cosigns nothing."""
    watch.grow(2)
    [never] = look().witnesses
    watch.look()
    watch.grow(3)

    [later] = look().witnesses

    assert (never.cosigned_at, never.unseen, never.unseen_since) == (None, 2, made_at(reader, 0))
    assert later.cosigned_at is not None
    assert (later.unseen, later.unseen_since) == (3, made_at(reader, 2))


def test_a_log_that_was_rolled_back_has_not_grown_until_it_is_put_right(watch, look):
    watch.grow(2)
    older = watch.read("log/checkpoint")
    watch.grow(2)
    newer = watch.read("log/checkpoint")
    assert look().grew is True
    watch.write("log/checkpoint", older)
    rolled_back = [look().grew, look().grew]
    watch.write("log/checkpoint", newer)

    assert rolled_back == [False, False]
    assert look().grew is True


def test_an_exporter_that_starts_anew_sees_a_rollback_by_what_a_witness_cosigned(watch, reader):
    """Also if the witness cosigned the older head, as it does of each."""
    watch.grow(2)
    older = watch.read("log/checkpoint")
    watch.look()
    watch.grow(2)
    watch.look()
    watch.write("log/checkpoint", older)

    figures = looks_of(reader)()

    assert (figures.problem, figures.grew) == (None, False)


@pytest.mark.parametrize("size", [4, 9])
@pytest.mark.parametrize("witnessed", [True, False])
def test_a_log_that_was_rewritten_with_its_own_key_has_not_grown(watch, reader, size, witnessed):
    """In the same size or longer. Whoever starts anew knows it by the witness alone."""
    watch.grow(4)
    look = looks_of(reader)
    if witnessed:
        watch.look()
    else:
        look()
    watch.rewrite(size)

    assert look().grew is False


def test_what_a_witness_cosigned_is_remembered_when_it_vanishes(watch, look):
    watch.grow(2)
    watch.look()
    look()
    watch.grow(1)
    for key in watch.store.keys("log/witness/"):
        watch.admin.delete_object(Bucket=watch.bucket, Key=key)

    [witness] = look().witnesses

    assert witness.unseen == 1


@pytest.mark.parametrize("damage", ["junk", "another key", "gone"])
def test_a_head_that_cannot_be_believed_is_a_problem(watch, look, damage):
    """The figures of the last good look stay."""
    watch.grow(2)
    look()
    if damage == "gone":
        watch.admin.delete_object(Bucket=watch.bucket, Key="log/checkpoint")
    else:
        note = Note.parse("a head", watch.read("log/checkpoint"))
        forged = Note(note.text, ()).signed(SignerKey.generate(KEY.name)).to_bytes()
        watch.write("log/checkpoint", b"junk" if damage == "junk" else forged)

    figures = look()

    assert figures.problem is not None
    assert (figures.entries, figures.grew) == (2, True)


def test_a_head_whose_tiles_are_not_there_yet_is_waited_for_and_nothing_is_written(watch, look):
    """A writer is between head and tiles, or died there. The identity could not write them."""
    watch.grow(2)
    look()
    watch.grow(1)
    tile = watch.read("log/tile/0/000.p/3")
    watch.admin.delete_object(Bucket=watch.bucket, Key="log/tile/0/000.p/3")
    waiting = look()
    watch.write("log/tile/0/000.p/3", tile)

    found = look()

    assert waiting.problem is not None
    assert "has no tiles yet" in waiting.problem
    assert (waiting.entries, waiting.grew) == (2, True)
    assert (found.problem, found.entries) == (None, 3)


def test_a_damaged_tile_is_a_problem_and_no_fork(watch, look):
    watch.grow(2)
    look()
    watch.grow(2)
    watch.write("log/tile/0/000.p/4", b"cut")

    figures = look()

    assert figures.problem is not None
    assert figures.grew is True


def test_a_record_whose_writer_died_before_it_was_entered_is_missed_after_ten_minutes(watch, look):
    """Until `log adopt`, or the task that is repeated, enters it."""
    record(watch.store, "reports/verifications/entered.json", b"{}", Act(kind="verified"))
    watch.store.put_bytes(LOST, b"{}")
    now = datetime.now(timezone.utc)

    young = look(now + timedelta(minutes=5))
    not_listed = look(now + timedelta(minutes=30))
    missed = look(now + timedelta(minutes=66))
    record(watch.store, LOST, b"{}", Act(kind="verified"))
    entered = look(now + timedelta(minutes=67))

    assert (young.unentered, not_listed.unentered) == (0, 0)
    assert missed.unentered == 1
    assert missed.unentered_since is not None
    assert abs(missed.unentered_since - now) < timedelta(minutes=2)
    assert (entered.unentered, entered.unentered_since) == (0, None)


def test_a_refusal_is_told_until_the_witness_cosigns_again(watch, look):
    watch.grow(2)
    good = watch.read("log/checkpoint")
    watch.look()
    before = look()
    later = datetime.now(timezone.utc) + timedelta(minutes=1)
    watch.write("log/checkpoint", b"junk")
    assert watch.look(at=later) == 1
    watch.write("log/checkpoint", good)
    refused = look()
    watch.grow(1)
    assert watch.look(at=later + timedelta(minutes=1)) == 0

    after = look()

    assert [one.witnesses[0].refuses for one in (before, refused, after)] == [False, True, False]


def test_what_others_put_among_cosignatures_hides_none(watch, reader, look, monkeypatch):
    """Who may write into the log's folder could make a witness look as if it had never cosigned."""
    watch.grow(2)
    watch.look()
    [line] = reader.settings.witness_keys
    key_id = line.split("+")[1]
    folder = f"log/witness/{key_id}"
    stranger = SignerKey.generate("witness.test/one", COSIGNATURE)
    head = Note.parse("a head", watch.read("log/checkpoint"))
    watch.write(f"{folder}/9", head.cosigned(stranger, datetime.now(timezone.utc)).to_bytes())
    watch.write(f"{folder}/99", b"junk")
    watch.write(f"{folder}/²", b"junk")
    monkeypatch.setattr("strongroom.storage.store.LARGEST_READ_BYTES", 100_000)
    watch.write(f"{folder}/999", b"\n" * 100_001)
    watch.write(f"log/witness/refused/{key_id}/junk", b"junk")

    [found] = cosignatures(reader)
    [witness] = look().witnesses

    assert found.checkpoint.size == 2
    assert newest_cosignature(reader, found.witness) == found
    assert (witness.unseen, witness.refuses) == (0, False)


def test_what_a_witness_cosigned_of_another_log_says_nothing_of_this_one(watch, reader):
    """One key may cosign many logs. Whoever copies such a head here must not make this log look forked."""
    watch.grow(2)
    signer = SignerKey.parse((watch.folder / "state" / "key").read_text())
    other = SignerKey.generate("strongroom.test/other")
    head = (
        Note(Checkpoint(other.name, 3, bytes(32)).text, ()).signed(other).cosigned(signer, datetime.now(timezone.utc))
    )
    watch.write(f"log/witness/{signer.verifier.key_id.hex()}/3", head.to_bytes())

    figures = looks_of(reader)()

    assert (figures.problem, figures.grew, figures.witnesses[0].unseen) == (None, True, 2)


def test_a_look_at_what_did_not_change_reads_the_head_and_lists_refusals(watch, reader, look):
    """Growth costs the new tiles and entries, and the cosignature; the whole log is read at the first look alone."""
    watch.grow(600)
    watch.look()
    now = datetime.now(timezone.utc)
    first = count_requests(lambda: look(now), reader.client)

    idle = count_requests(lambda: look(now + timedelta(minutes=5)), reader.client)
    watch.grow(1)
    watch.look()
    grown = count_requests(lambda: look(now + timedelta(minutes=10)), reader.client)

    assert idle == {"GetObject": 1, "ListObjectsV2": 1}
    assert first["GetObject"] <= 12
    assert grown["GetObject"] <= 12
    assert grown["HeadObject"] == 1
    assert grown["ListObjectsV2"] == 1
