"""What a store tells of its archives: read after real runs, kept in one object, and never believed over the listing."""

from __future__ import annotations

from datetime import timedelta

import psycopg
import pytest
import zstandard

from strongroom.errors import IntegrityError
from strongroom.ledger.holds import EVERYTHING, covered, place_hold, release_hold
from strongroom.object_keys.archives import ArchiveId
from strongroom.object_keys.layout import OVERVIEW
from strongroom.object_keys.reports import drill_key
from strongroom.overview.facts import ArchiveFacts, Left, StoreFacts, merged
from strongroom.overview.reading import keep_facts, read_facts, read_kept_facts
from strongroom.records import RestoreRecord
from strongroom.settings import StoreSettings
from strongroom.statistics.proofs import read_proofs, verify_and_record
from strongroom.storage.store import Store
from tests.support import restoring
from tests.support.chain import NOW, RUN, Chain, some_settings
from tests.support.counting import count_requests
from tests.support.damaging import Vandal
from tests.support.database import AUDIT, execute
from tests.support.partitions import COOLED, HELD, ROWS, TABLE
from tests.support.sealing import claim_if_unowned, seal_month
from tests.support.synthetic import a_manifest, many_manifests, put_manifests
from tests.support.vault import LATER, fill_vault
from tests.support.warm import a_warm_chain

MAY = ArchiveId("public", "audit", "2026-05", 1)


@pytest.fixture
def chain(source, object_store, bucket, tmp_path) -> Chain:
    """A table with 744 rows of May in three parts, and some of April and June."""
    execute(source, AUDIT)
    settings = some_settings(bucket, tmp_path, part_rows=300, delete_batch_rows=100)
    return Chain(source, object_store.client("archiver"), settings)


@pytest.fixture
def store(object_store, bucket) -> Store:
    store = Store(object_store.client("archiver"), StoreSettings(bucket=bucket))
    claim_if_unowned(store)
    return store


@pytest.fixture
def vandal(object_store, bucket) -> Vandal:
    store = Store(object_store.client("archiver"), StoreSettings(bucket=bucket))
    return Vandal(object_store.client("admin"), store, bucket)


def the_facts(store: Store, **earlier: StoreFacts | None) -> ArchiveFacts:
    [facts] = read_facts(store, now=NOW, **earlier).archives
    return facts


def keys_read(work, client) -> list[str]:
    """Do something, and list the keys of the objects that are read meanwhile."""
    keys: list[str] = []

    def note(params, **_: object) -> None:
        keys.append(params["Key"])

    client.meta.events.register("provide-client-params.s3.GetObject", note)
    try:
        work()
    finally:
        client.meta.events.unregister("provide-client-params.s3.GetObject", note)
    return keys


def test_facts_say_what_the_manifest_says_and_where_each_row_went(chain):
    """Of 744 rows one was changed and one was gone before the delete: the counts add up to all of them."""
    sealed = chain.seal(chain.plan())
    execute(chain.conninfo, "UPDATE audit SET who = 'new' WHERE id = 100; DELETE FROM audit WHERE id = 700")
    for part in sealed.parts:
        chain.delete(part)

    facts = the_facts(chain.store)

    manifest = restoring.manifest_of(chain)
    assert (facts.archive, facts.table_name, facts.partition_key) == (MAY, "public.audit", "2026-05")
    assert (facts.parts, facts.record_count) == (3, 744)
    assert (facts.window_start, facts.window_end) == (manifest.window_start, manifest.window_end)
    assert (facts.original_size, facts.compressed_size) == (manifest.original_size, manifest.compressed_size)
    assert (facts.dag_id, facts.run_id) == (RUN.dag_id, RUN.run_id)
    assert facts.sums == (*(part.sha256 for part in manifest.parts), manifest.checksum)
    assert facts.left == Left(rows=744, deleted=742, gone=1, changed=1)
    assert (facts.left.stayed, facts.emptied, facts.problem) == (1, True, None)


def test_an_archive_counts_as_emptied_when_each_of_its_parts_went_through_a_delete(chain):
    sealed = chain.seal(chain.plan())
    before = the_facts(chain.store)
    for part in sealed.parts[:2]:
        chain.delete(part)

    halfway = the_facts(chain.store)
    chain.delete(sealed.parts[2])
    after = the_facts(chain.store)

    assert (before.left, before.emptied) == (None, False)
    assert (halfway.left.rows, halfway.emptied) == (sum(part.rows for part in sealed.parts[:2]), False)
    assert (after.left.rows, after.emptied) == (744, True)


def test_what_is_known_under_the_same_etags_is_not_read_again(chain):
    chain.run()
    chain.key = "2026-04"
    chain.run()
    first = read_facts(chain.store, now=NOW)
    chain.key = "2026-06"
    chain.run()
    second: list[StoreFacts] = []

    read = keys_read(lambda: second.append(read_facts(chain.store, now=NOW, earlier=first)), chain.client)

    assert [one.partition_key for one in second[0].archives] == ["2026-04", "2026-05", "2026-06"]
    assert second[0].archives[:2] == first.archives
    assert {key.split("/")[-2] for key in read if key.startswith("evidence/")} == {"public.audit.2026-06.0001"}
    assert [key for key in read if key.startswith("metadata/public")] == [
        ArchiveId("public", "audit", "2026-06", 1).manifest_key
    ]


def test_one_more_delete_is_seen_because_its_evidence_is_new(chain):
    sealed = chain.seal(chain.plan())
    chain.delete(sealed.parts[0])
    first = read_facts(chain.store, now=NOW)
    chain.delete(sealed.parts[1])

    second = the_facts(chain.store, earlier=first)

    assert second.left.rows == sealed.parts[0].rows + sealed.parts[1].rows


def test_many_archives_are_read_with_as_many_requests_as_there_are_new_ones(store):
    """Apart from listings, the second reading asks for nothing but the owner of the store."""
    put_manifests(store, many_manifests(20))
    first = read_facts(store, now=NOW)

    asked = count_requests(lambda: read_facts(store, now=NOW, earlier=first), store.client)

    assert len(first.archives) == 20
    assert asked["GetObject"] + asked["HeadObject"] <= 1


def test_a_manifest_that_is_changed_hidden_or_gone_is_damaged_whatever_was_known_before(chain, vandal):
    for key in ("2026-04", "2026-05", "2026-06"):
        chain.key = key
        chain.run()
    known = read_facts(chain.store, now=NOW)
    april, june = (ArchiveId("public", "audit", key, 1) for key in ("2026-04", "2026-06"))
    vandal.replace(april.manifest_key, b"{}")
    vandal.hide(MAY.manifest_key)
    vandal.remove(june.manifest_key)

    facts = read_facts(chain.store, now=NOW, earlier=known)

    assert facts.archives == ()
    assert {one.archive_id for one in facts.damaged} == {str(april), str(MAY), str(june)}


def test_evidence_that_cannot_be_read_is_a_problem_of_its_archive_alone(chain, vandal):
    chain.run()
    chain.key = "2026-04"
    chain.run()
    vandal.replace(MAY.delete_evidence_key(0), b"slip")

    facts = read_facts(chain.store, now=NOW)

    april, may = facts.archives
    assert april.problem is None
    assert may.problem is not None
    assert MAY.delete_evidence_key(0) in may.problem


def test_a_purged_archive_is_destroyed_and_no_archive_any_more(object_store, bucket, tmp_path):
    vault = fill_vault(object_store, bucket, tmp_path)
    vault.purge("2026-04")

    facts = read_facts(vault.store, now=LATER)

    assert facts.destroyed == ("public.audit.2026-04.0001",)
    assert [one.partition_key for one in facts.archives] == ["2026-05", "2026-06"]
    assert facts.tables == {"public.audit"}


def test_holds_count_while_they_are_in_force(store):
    first, second = (
        place_hold(store, covered("public", "audit", key), why="w", who="ada", reference="r", now=NOW)
        for key in ("2026-04", "2026-05")
    )
    release_hold(store, first.hold_id, who="ada", reason="over", now=NOW)

    assert read_facts(store, now=NOW).holds == (second,)


def a_restore(number: int, **changes) -> RestoreRecord:
    given = {
        "restore_id": f"restore-{number}",
        "archive_ids": (str(MAY),),
        "table": "public.audit",
        "partition_keys": ("2026-05",),
        "who": "ada",
        "why": "a test",
        "restored_at": NOW,
        "until": NOW + timedelta(days=30),
    }
    return RestoreRecord.model_validate(given | changes)


def test_restores_count_until_their_date_and_one_that_cannot_be_read_is_named(store):
    over, lasting = a_restore(1, until=NOW), a_restore(2)
    for one in (over, lasting):
        store.put_bytes(f"restores/public.audit/{one.restore_id}.json", one.to_bytes())
    store.put_bytes("restores/public.my%20table/broken.json", b"{")

    facts = read_facts(store, now=NOW)

    assert facts.restores == (lasting,)
    [unreadable] = facts.unreadable
    assert unreadable.table == "public.my table"
    assert "broken.json" in unreadable.problem


def test_the_report_of_a_restore_is_read_once_and_proves_if_all_rows_came_back(chain):
    chain.run()
    restoring.restore(chain)
    first = read_facts(chain.store, now=NOW)
    again: list[StoreFacts] = []

    read = keys_read(lambda: again.append(read_facts(chain.store, now=NOW, earlier=first)), chain.client)

    assert [(one.table, one.proved_at) for one in first.reported] == [("public.audit", NOW)]
    assert first.proofs.last_restored_at == NOW
    assert again[0].reported == first.reported
    assert not [key for key in read if key.startswith("reports/")]
    chain.store.swap(first.reported[0].key, b"{}", etag=first.reported[0].etag)
    assert read_facts(chain.store, now=NOW, earlier=first).proofs.last_restored_at is None


def test_of_the_readings_of_an_archive_the_latest_counts_and_the_latest_that_was_sound(chain, vandal):
    chain.run()
    verify_and_record(chain.store, MAY, who="ada", now=NOW)
    vandal.replace(MAY.sums_key, b"slip")
    verify_and_record(chain.store, MAY, who="ada", now=NOW + timedelta(days=1))

    facts = read_facts(chain.store, now=NOW)

    reading = facts.readings[str(MAY)]
    assert (reading.at, reading.result, reading.sound_at) == (NOW + timedelta(days=1), "corrupted", NOW)
    assert dict(facts.proofs.verified) == {str(MAY): NOW}


def test_of_the_drills_of_an_archive_the_latest_counts_and_a_sound_one_proves_archive_and_restore(chain):
    chain.run()
    for days, result in enumerate(("sound", "failed", "skipped")):
        chain.store.put_bytes(drill_key(MAY, NOW + timedelta(days=days), result), b"{}")

    proofs = read_facts(chain.store, now=NOW).proofs

    assert proofs == read_proofs(chain.store)
    assert (dict(proofs.verified), dict(proofs.drilled)) == ({str(MAY): NOW}, {"public.audit": NOW})
    assert (proofs.last_restored_at, proofs.failed_drills) == (NOW, {str(MAY)})
    chain.store.put_bytes(MAY.condemnation_key, b"{}")
    assert read_facts(chain.store, now=NOW).proofs.failed_drills == frozenset()


def test_rows_in_a_detached_partition_wait_until_it_is_dropped(source, object_store, bucket, tmp_path):
    execute(source, f"{TABLE}{ROWS}CREATE SCHEMA {HELD};")
    settings = some_settings(bucket, tmp_path, partition_delete={"enabled": True})
    chain = Chain(source, object_store.client("archiver"), settings)
    chain.run()

    waiting = read_facts(chain.store, now=NOW)
    [dropped] = chain.drop_detached(now=COOLED)
    [gone] = read_facts(chain.store, now=COOLED, earlier=waiting).archives

    [before] = waiting.archives
    assert dropped.result == "dropped"
    assert (before.detached_waiting, gone.detached_waiting) == (744, 0)
    assert (before.left.detached, before.left.stayed, before.emptied) == (744, 0, True)


def test_rows_that_moved_to_a_warm_table_are_warm(source, object_store, bucket, tmp_path):
    chain = a_warm_chain(source, source, object_store.client("archiver"), bucket, tmp_path)
    chain.apply()
    chain.run()

    facts = the_facts(chain.store)

    assert (facts.left.warm, facts.left.deleted, facts.emptied) == (True, 744, True)


def test_kept_facts_are_those_that_were_read_and_the_next_writer_replaces_them(chain):
    chain.run()
    verify_and_record(chain.store, MAY, who="ada", now=NOW)
    first = read_facts(chain.store, now=NOW)
    keep_facts(chain.store, first)
    kept = read_kept_facts(chain.store)
    second = read_facts(chain.store, now=NOW + timedelta(days=1), earlier=kept)

    keep_facts(chain.store, second)

    assert (kept, read_kept_facts(chain.store)) == (first, second)


def test_nothing_is_kept_at_first(store):
    assert read_kept_facts(store) is None


def some_facts(**changes) -> StoreFacts:
    """The facts of one archive of May, and what else is asked for."""
    manifest = a_manifest()
    facts = ArchiveFacts(
        **{name: getattr(manifest, name) for name in ArchiveFacts.model_fields if hasattr(manifest, name)}
        | {"parts": 2, "sums": (), "left": None, "detached_waiting": 0, "etags": ("1",)}
    )
    return StoreFacts(read_at=NOW, archives=(facts,)).model_copy(update=changes)


def changed(**changes) -> bytes:
    """The same with another name in it, as no run writes it."""
    facts = some_facts()
    archive = facts.archives[0].model_copy(update=changes)
    return zstandard.compress(facts.model_copy(update={"archives": (archive,)}).model_dump_json().encode())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not zstd",
        b"\x28\xb5\x2f\xfd\x00\x00\x00\x00",
        zstandard.compress(b"null"),
        zstandard.compress(b'{"read_at": "2026-11-23T12:00:00Z", "colour": "blue"}'),
        changed(archive_id="nonsense"),
        changed(archive_id="public.audit.2026-99.0001", partition_key="2026-99"),
        changed(table_name="public.secret"),
        changed(partition_key="2026-06"),
        zstandard.compress(some_facts(destroyed=("nonsense",)).model_dump_json().encode()),
        zstandard.compress(some_facts(restores=(a_restore(1, partition_keys=("x",)),)).model_dump_json().encode()),
    ],
)
def test_kept_facts_that_make_no_sense_are_as_good_as_none(store, body):
    """The map takes their names apart before the store is read."""
    store.swap(OVERVIEW, body, etag=None)

    assert read_kept_facts(store) is None


def test_kept_facts_of_an_archive_that_is_not_listed_are_forgotten(store):
    """The listing says which archives there are."""
    keep_facts(store, some_facts())

    kept = read_kept_facts(store)

    assert kept == some_facts()
    assert read_facts(store, now=NOW, earlier=kept).archives == ()


def test_a_hold_that_cannot_be_read_is_a_doubt_about_the_whole_store(store):
    store.put_bytes("holds/20261123T120000Z-00000000.json", b"slip")

    with pytest.raises(IntegrityError):
        read_facts(store, now=NOW)


def test_two_ways_to_one_store_tell_of_each_archive_once(store, tmp_path, bucket):
    seal_month(store, some_settings(bucket, tmp_path), "2026-05")
    place_hold(store, EVERYTHING, why="w", who="ada", reference="r", now=NOW)
    earlier, later = read_facts(store, now=NOW), read_facts(store, now=NOW + timedelta(hours=1))

    told = merged([later, earlier])

    assert (told.archives, told.holds, told.read_at) == (earlier.archives, earlier.holds, NOW)
    assert merged([]) is None


def test_who_may_not_see_a_table_learns_nothing_of_it(source, object_store, bucket, tmp_path, vandal):
    """Two tables with one of everything: what is left for somebody who sees one of them names the other nowhere."""
    with psycopg.connect(source, autocommit=True) as connection:
        for table in ("audit", "secret"):
            connection.execute(f"CREATE TABLE {table} (id bigint PRIMARY KEY, at timestamptz NOT NULL)")
            connection.execute(
                f"INSERT INTO {table} SELECT n, '2026-04-15'::timestamptz + n * interval '1 month' FROM generate_series(0, 1) n"
            )
    for table in ("audit", "secret"):
        chain = Chain(source, object_store.client("archiver"), some_settings(bucket, tmp_path / table, table))
        for chain.key in ("2026-04", "2026-05"):
            chain.run()
        archive = ArchiveId("public", table, "2026-05", 1)
        verify_and_record(chain.store, archive, who="ada", now=NOW)
        restoring.restore(chain, f"restore-{table}", archives=(str(archive),))
        chain.store.put_bytes(drill_key(archive, NOW, "sound"), b"{}")
        vandal.replace(ArchiveId("public", table, "2026-04", 1).manifest_key, b"{}")
        place_hold(chain.store, covered("public", table), why="w", who="ada", reference="r", now=NOW)
        chain.store.put_bytes(ArchiveId("public", table, "2026-01", 1).destruction_key, b"{}")
        chain.store.put_bytes(f"restores/public.{table}/broken.json", b"{")
        chain.store.put_bytes(f"metadata/public.{table}/stray.json", b"{}")
    place_hold(chain.store, EVERYTHING, why="w", who="ada", reference="r", now=NOW)
    facts = read_facts(chain.store, now=NOW)

    seen = facts.seen(lambda table: table == "public.audit")

    assert "secret" not in seen.model_dump_json()
    of_one = dict.fromkeys(
        ("archives", "damaged", "strays", "destroyed", "restores", "reported", "readings", "drills", "unreadable"), 1
    )
    assert {name: len(getattr(seen, name)) for name in of_one} == of_one
    assert {name: len(getattr(facts, name)) for name in of_one} == dict.fromkeys(of_one, 2)
    assert {one.what for one in seen.holds} == {"public.audit", EVERYTHING}
