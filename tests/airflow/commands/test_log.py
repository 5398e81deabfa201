"""`airflow strongroom log`, as a user types it, on a real store."""

from __future__ import annotations

import json

import pytest

from strongroom.ledger.holds import place_hold, read_holds, release_hold
from strongroom.ledger.manifests import require_manifest
from strongroom.settings import StoreSettings
from strongroom.storage.author import Author
from strongroom.storage.store import Store
from strongroom.tlog.checkpoints import Checkpoint
from strongroom.tlog.notes import Note, SignerKey, VerifierKey
from tests.support.chain import NOW, some_settings
from tests.support.damaging import Vandal
from tests.support.logs import KEY, kinds_of, with_log
from tests.support.sealing import seal_month
from tests.support.vault import an_archive


@pytest.fixture
def unlogged(object_store, bucket, deployment, tmp_path) -> Store:
    """A store that is older than its log: two archives, one of them held and released."""
    deployment.store(object_store, bucket)
    settings = some_settings(bucket, tmp_path)
    store = Store(object_store.client("archiver"), settings.store)
    for month in ("2026-05", "2026-06"):
        seal_month(store, settings, month)
    hold = place_hold(store, "public.audit.2026-05", why="case A", who="eve", reference="R/1", now=NOW)
    release_hold(store, hold.hold_id, who="frank", reason="closed", now=NOW)
    return store


@pytest.fixture
def store(unlogged, deployment, bucket, tmp_path, airflow) -> Store:
    """The same store when its settings have a key, before anybody adopted anything."""
    deployment.log(KEY)
    settings = with_log(some_settings(bucket, tmp_path))
    return Store(unlogged.client, settings.store, author=Author(lambda: KEY))


def begin(store: Store) -> None:
    from strongroom.ledger.journal import begin_log

    begin_log(store)


def test_a_new_key_is_printed_with_where_its_halves_belong(airflow):
    made = airflow("strongroom", "log", "key", "strongroom.example.com/archive")
    as_json = airflow("strongroom", "log", "key", "witness.example.com", "--witness", "--json")

    assert made.returncode == 0, made.stderr
    private, public = (line.strip() for line in made.stdout.splitlines() if line.startswith("  "))
    assert SignerKey.parse(private).verifier == VerifierKey.parse(public)
    assert "strongroom_log" in made.stdout
    assert "store.log_keys" in made.stdout
    halves = json.loads(as_json.stdout)
    assert str(SignerKey.parse(halves["private"]).verifier) == halves["public"]
    assert StoreSettings(witness_keys=(halves["public"],)).witness_keys == (halves["public"],)


def test_a_name_that_cannot_be_a_key_is_refused(airflow):
    ended = airflow("strongroom", "log", "key", "two words")

    assert ended.returncode == 1
    assert "cannot be the name of a key" in ended.stderr


def test_archives_that_are_older_than_the_log_count_again_when_they_are_adopted(store, airflow):
    """Each is read back first. Until then nothing believes them, and the command's dry run says what is missing."""
    begin(store)
    listed = airflow("strongroom", "list")
    missing = airflow("strongroom", "log", "adopt", "--why", "a test", "--dry-run")
    adopted = airflow("strongroom", "log", "adopt", "--why", "a test", "--who", "ada")
    again = airflow("strongroom", "log", "adopt", "--why", "a test", "--json")
    shown = airflow("strongroom", "log", "show")

    assert listed.returncode == 1
    assert "does not vouch for it" in listed.stdout
    assert missing.returncode == 1
    assert "the archive public.audit.2026-05.0001" in missing.stdout
    assert "the release of hold" in missing.stdout
    assert adopted.returncode == 0, adopted.stderr
    assert "2 archives, 1 releases of holds" in adopted.stdout
    assert json.loads(again.stdout)[0]["missing"] == {"archives": [], "releases": [], "records": []}
    assert require_manifest(store, an_archive("2026-05")).record_count == 30
    assert [hold.released_by for hold in read_holds(store)] == ["frank"]
    assert kinds_of(store) == ["log begun", "adopted", "adopted", "released", "adoption reported"]
    assert "not witnessed" in shown.stdout
    assert "adopted" in shown.stdout


def test_an_archive_that_is_damaged_is_not_adopted(store, airflow, object_store, bucket):
    begin(store)
    Vandal(object_store.client("admin"), store, bucket).remove(an_archive("2026-05").part_key(0, "zstd"))

    adopted = airflow("strongroom", "log", "adopt", "--why", "a test")

    assert adopted.returncode == 1
    assert "Refused public.audit.2026-05.0001: it is missing" in adopted.stdout
    assert require_manifest(store, an_archive("2026-06")).record_count == 30


def test_a_record_whose_writer_died_is_entered_late(store, unlogged, airflow):
    begin(store)
    airflow("strongroom", "log", "adopt", "--why", "a test")
    hold = place_hold(unlogged, "public.audit", why="case B", who="eve", reference="R/2", now=NOW)

    adopted = airflow("strongroom", "log", "adopt", "--why", "a crash")

    assert adopted.returncode == 0, adopted.stderr
    assert kinds_of(store)[-2:] == ["recorded late", "adoption reported"]
    assert hold.hold_id in {one.hold_id for one in read_holds(store)}


def test_a_key_is_replaced_and_both_sign_the_head_that_says_so(store, airflow, deployment, bucket, tmp_path):
    begin(store)
    new = SignerKey.generate(KEY.name)
    deployment.log(new, trusted=(KEY, new))
    deployment.connection("log_earlier", deployment.generic(KEY.secret))

    rotated = airflow("strongroom", "log", "rotate", "--from-conn-id", "strongroom_log_earlier")
    again = airflow("strongroom", "log", "rotate", "--from-conn-id", "strongroom_log")
    adopted = airflow("strongroom", "log", "adopt", "--why", "a test")
    shown = json.loads(airflow("strongroom", "log", "show", "--json").stdout)

    assert rotated.returncode == 0, rotated.stderr
    assert again.returncode == 1
    assert "the same key twice" in again.stderr
    assert adopted.returncode == 0, adopted.stderr
    [kept] = store.keys("log/rotations/")
    note = Note.parse(kept, store.read(kept)[0])
    assert {key.key_id for key in note.require_signature(kept, [KEY.verifier, new.verifier])} == {
        KEY.verifier.key_id,
        new.verifier.key_id,
    }
    assert Checkpoint.parse(kept, note.text).size == 2
    head = Note.parse("head", shown[0]["checkpoint"].encode())
    assert head.require_signature("head", [new.verifier])


def test_without_the_key_the_command_says_which_connection_is_missing(store, airflow, monkeypatch):
    begin(store)
    monkeypatch.delenv("AIRFLOW_CONN_STRONGROOM_LOG")

    ended = airflow("strongroom", "log", "adopt", "--why", "a test")

    assert ended.returncode == 1
    assert "Airflow has no connection strongroom_log" in ended.stderr
    assert "HINT:" in ended.stderr


def test_a_store_without_a_log_says_so(unlogged, airflow):
    shown = airflow("strongroom", "log", "show")
    adopted = airflow("strongroom", "log", "adopt", "--why", "a test")

    assert shown.returncode == 0
    assert "No store has a transparency log." in shown.stdout
    assert adopted.returncode == 1
    assert "store.log_keys" in adopted.stderr
