"""Whole blocks of a partition are compared at once; only the rows of the others are looked up by their keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from strongroom.database.session import qualified
from strongroom.formats import blocks
from strongroom.ledger.manifests import read_manifest
from strongroom.object_keys.archives import ArchiveId
from strongroom.records import VerifiedPart
from strongroom.retention import drop_detached as detached_purge
from strongroom.storage.store import Store
from strongroom.tables import compare as comparing
from strongroom.tables.archived_rows import ArchivedKeys, read_blocks
from tests.support.chain import Chain
from tests.support.database import execute, scalar
from tests.support.old_archives import as_version_1
from tests.support.partitions import COOLED, HELD, ROWS, TABLE, WEEKS, left, tables

INDEX = "CREATE INDEX ON audit (at);"


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch) -> None:
    """Blocks of fifty rows; each part has 372."""
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 50)


@pytest.fixture
def looked_up(monkeypatch) -> list[int]:
    """How many keys were looked up, batch by batch."""
    found, original = [], comparing.fill_batch

    def fill(connection: Any, lines: list[bytes]) -> None:
        found.append(len(lines))
        original(connection, lines)

    monkeypatch.setattr(comparing, "fill_batch", fill)
    return found


@pytest.fixture
def read(monkeypatch) -> list[str]:
    """The objects that were read from the store, in order."""
    found, original = [], Store.chunks

    def chunks(self: Store, key: str, *arguments: Any) -> Any:
        found.append(key)
        return original(self, key, *arguments)

    monkeypatch.setattr(Store, "chunks", chunks)
    return found


def compared(chain: Chain, parts: tuple[VerifiedPart, ...]) -> comparing.Comparison:
    """The partition, as it is, with its archive; without the look and the guard before."""
    manifest = read_manifest(chain.store, parts[0].archive)
    with (
        chain.owning() as connection,
        chain.staging(parts[0].archive_id) as staging,
        ArchivedKeys(chain.store, manifest.table, None) as keys,
    ):
        return comparing.compare_with_archive(
            connection,
            qualified("public", "audit_2026_05"),
            chain.partition.window,
            comparing.ArchivedRows(manifest.table, parts, keys, lambda part: read_blocks(staging, part) or []),
            transaction=connection.transaction,
            before_batch=lambda: None,
        )


@pytest.mark.parametrize("format_", ["jsonl", "parquet"])
def test_of_a_partition_that_is_just_what_was_archived_no_row_is_looked_up(make_chain, looked_up, format_):
    """The blocks are in staging until the delete; for the drop they are rebuilt from the archive."""
    chain = make_chain(format=format_)

    report = chain.run()
    [dropped] = chain.drop_detached(now=COOLED)

    assert (report.detached_rows, dropped.result, dropped.rows) == (744, "dropped", 744)
    assert looked_up == []


CHANGES = {
    "nothing": ("", (744, 744, 744), 0),
    "a row that changed": ("UPDATE audit SET cost = 0 WHERE id = 10", (744, 744, 743), 50),
    "a row that is gone": ("DELETE FROM audit WHERE id = 10", (743, 744, 743), 50),
    "a row that came late": ("INSERT INTO audit VALUES (9000, '2026-05-20 10:30+00', 'late', 1)", (745, 744, 744), 50),
    "a row in place of another": ("UPDATE audit SET id = 9000 WHERE id = 10", (744, 744, 743), 50),
    "a row that came late behind the last": (
        "INSERT INTO audit VALUES (9000, '2026-05-31 23:59:59.999999+00', 'late', 1)",
        (745, 744, 744),
        22,
    ),
    "a row of another block": ("UPDATE audit SET at = at + interval '10 days' WHERE id = 10", (744, 744, 743), 100),
}


@pytest.mark.parametrize(("change", "numbers", "keys"), CHANGES.values(), ids=CHANGES)
def test_only_the_rows_of_a_block_that_differs_are_looked_up_and_all_are_counted_once(
    chain, looked_up, change, numbers, keys
):
    sealed = chain.seal(chain.plan())
    execute(chain.owner, change)

    found = compared(chain, sealed.parts)

    assert (found.rows, found.archived, found.equal) == numbers
    assert (found.proved, sum(looked_up)) == (not change, keys)


def test_a_partition_with_a_changed_row_stays_and_says_the_same_as_ever(chain, looked_up):
    sealed = chain.seal(chain.plan())
    execute(chain.owner, "UPDATE audit SET cost = 0 WHERE id = 10")

    evidence = chain.detach(sealed.parts)

    assert left(evidence)["audit_2026_05"] == (
        "it is not what was archived: 744 rows there, 744 in the archive, 743 equal"
    )
    assert looked_up == [50]


def test_a_block_that_straddles_the_bounds_of_a_partition_goes_by_key_in_both(make_chain, looked_up):
    """May begins in one week and ends in another. Blocks outside a partition are not looked at."""
    chain = make_chain(WEEKS + INDEX + ROWS, part_rows=1000)

    report = chain.run()

    assert (report.detached_rows, report.deleted_rows, report.gone_rows) == (336, 408, 0)
    # Blocks begin at hours 0, 50, 100, …; w19 at hour 72, w20 at hour 240, w21 at hour 408.
    assert looked_up == [50, 50, 50, 50], "50 to 99 and 200 to 249; 200 to 249 and 400 to 449"


def test_partitions_that_end_where_blocks_do_need_no_key(make_chain, looked_up, read, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 24)
    chain = make_chain(WEEKS + INDEX + ROWS, part_rows=1000, format="parquet")
    chain.run()
    read.clear()

    assert [one.result for one in chain.drop_detached(now=COOLED)] == ["dropped", "dropped"]
    assert (looked_up, len(read)) == ([], 4), "twice for each: for its sums and for its blocks"


def test_rows_of_one_instant_that_fill_more_than_a_block_go_by_key(make_chain, looked_up):
    chain = make_chain(TABLE + ROWS + "UPDATE audit SET at = '2026-05-10 00:00+00' WHERE id BETWEEN 100 AND 250;")

    report = chain.run()

    assert report.detached_rows == 744
    assert sum(looked_up) in range(151, 251)


@pytest.mark.parametrize("format_", ["jsonl", "parquet"])
def test_blocks_that_staging_lost_are_made_anew_from_the_archive(make_chain, looked_up, format_):
    chain = make_chain(format=format_)
    sealed = chain.seal(chain.plan())
    for part in sealed.parts:
        chain.staging(part.archive_id).blocks(part.number).unlink()

    assert chain.detach(sealed.parts).rows == 744
    assert looked_up == []


def test_an_archive_of_an_earlier_version_is_compared_by_keys(chain, object_store, looked_up):
    archive = ArchiveId.parse(chain.run().archive_id)
    as_version_1(chain, object_store, archive)

    [dropped] = chain.drop_detached(now=COOLED)

    assert (dropped.result, dropped.detail, sum(looked_up)) == ("dropped", f"744 rows, each in {archive}", 744)


def test_rows_that_were_archived_in_other_blocks_than_they_give_now_are_compared_by_keys(
    make_chain, looked_up, monkeypatch
):
    """Another version of this program may cut them at other places."""
    chain = make_chain(format="parquet")
    chain.run()
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 40)

    [dropped] = chain.drop_detached(now=COOLED)

    assert (dropped.result, sum(looked_up)) == ("dropped", 744)


@pytest.mark.parametrize("ddl", [TABLE.replace(INDEX, ""), TABLE], ids=["in no order", "in the order of dates"])
def test_an_archive_in_parquet_is_read_twice_for_a_drop(make_chain, read, ddl):
    """Once for its sums, once for its blocks or its keys."""
    chain = make_chain(ddl + ROWS, format="parquet")
    chain.run()
    read.clear()
    [dropped] = chain.drop_detached(now=COOLED)

    assert (dropped.result, len(read)) == ("dropped", 4)


def test_what_a_drop_needs_of_the_archive_is_read_before_the_lock(make_chain, read, monkeypatch):
    """The first week lies in one part, the second in both, and blocks straddle their bounds, so keys are needed too."""
    chain = make_chain(WEEKS + INDEX + ROWS, format="parquet")
    chain.run()
    read.clear()
    before: list[int] = []
    compare = detached_purge.compare_with_archive

    def comparing_from_here(*arguments: Any, **named: Any) -> Any:
        before.append(len(read))
        return compare(*arguments, **named)

    monkeypatch.setattr(detached_purge, "compare_with_archive", comparing_from_here)

    assert [one.result for one in chain.drop_detached(now=COOLED)] == ["dropped", "dropped"]
    assert (before, len(read)) == ([4, 10], 10), (
        "two parts for their sums, then one for blocks and keys; two, then both"
    )


SPOILED: dict[str, Callable[[str], str]] = {
    "a row that changed": lambda table: f"UPDATE {table} SET cost = 0 WHERE id = 10",
    "a row that came": lambda table: f"INSERT INTO {table} VALUES (9000, '2026-05-20 10:30+00', 'late', 1)",
    "a row in place of another": lambda table: f"UPDATE {table} SET id = 9000 WHERE id = 10",
    "a row that is gone": lambda table: f"DELETE FROM {table} WHERE id = 10",
}


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED)
def test_a_detached_partition_that_is_no_longer_what_was_proved_stays(make_chain, source, spoil):
    chain = make_chain(format="parquet")
    chain.run()
    execute(
        source,
        f"ALTER TABLE {HELD}.audit_2026_05 DISABLE TRIGGER ALL; {spoil(f'{HELD}.audit_2026_05')};"
        f"ALTER TABLE {HELD}.audit_2026_05 ENABLE ALWAYS TRIGGER strongroom_guard, ENABLE ALWAYS TRIGGER strongroom_guard_truncate",
    )

    [stays] = chain.drop_detached(now=COOLED)

    assert stays.result == "unverifiable"
    assert "it is not what was archived: 74" in stays.detail
    assert tables(chain)["detached"] == ["audit_2026_05"]


def test_rows_of_a_child_are_not_rows_of_the_table(make_chain):
    chain = make_chain(format="parquet")
    chain.run()
    execute(
        chain.owner,
        f"CREATE TABLE child () INHERITS ({HELD}.audit_2026_05); INSERT INTO child SELECT * FROM ONLY {HELD}.audit_2026_05 WHERE id = 10",
    )

    [stays] = chain.drop_detached(now=COOLED)

    assert (stays.result, stays.detail) == ("contended", "something else in the database depends on it")
    assert scalar(chain.owner, "SELECT count(*) FROM child") == 1
