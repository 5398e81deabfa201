"""Rows of a warm partition are proved in whole blocks where that is possible, and each is counted once."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from psycopg import errors

from strongroom.formats import blocks
from strongroom.ledger.holds import place_hold
from strongroom.object_keys.archives import ArchiveId
from strongroom.retention import warm_rows
from strongroom.retention.warm_rows import WarmRows
from tests.support.chain import NOW
from tests.support.database import execute, scalar
from tests.support.old_archives import as_version_1
from tests.support.statements import Watched
from tests.support.warm import WarmChain, a_warm_chain, an_archiver, purge


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch) -> None:
    """Blocks of fifty rows; each part has 248."""
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 50)


@pytest.fixture
def make_chain(source, object_store, bucket, tmp_path) -> Iterator[Any]:
    with an_archiver(source) as archiver:
        yield partial(
            a_warm_chain, source, archiver, object_store.client("archiver"), bucket, tmp_path, format="parquet"
        )


@pytest.fixture
def chain(make_chain) -> WarmChain:
    chain = make_chain()
    chain.apply()
    return chain


@pytest.fixture
def keys(monkeypatch) -> list[int]:
    """How many keys were sent to the server, each time."""
    sent, original = [], warm_rows.KeysInTurn.next

    def following(self: Any, first: int, rows: int) -> list[bytes]:
        found = original(self, first, rows)
        sent.append(len(found))
        return found

    monkeypatch.setattr(warm_rows.KeysInTurn, "next", following)
    return sent


def come_back(chain: WarmChain, which: str) -> None:
    """Rows are in the live table again, as they are in the warm one."""
    execute(chain.owner, f"INSERT INTO audit OVERRIDING SYSTEM VALUE SELECT * FROM warm.audit WHERE {which}")


def test_a_month_that_is_just_what_was_archived_is_read_once_and_needs_no_key(chain, keys, monkeypatch):
    chain.run()
    watched = Watched()
    original = warm_rows.WarmRows.count

    def count(self: WarmRows) -> tuple[int, int]:
        watched(self._connection)
        return original(self)

    monkeypatch.setattr(WarmRows, "count", count)

    result = purge(chain)["2026-05"]

    assert (result.result, result.rows, keys) == ("dropped", 744, [])
    assert len(watched.plans) == 1, "three parts, in one COPY"


def test_a_month_of_json_lines_needs_no_key_either(make_chain, keys):
    chain = make_chain(format="jsonl")
    chain.apply()
    chain.run()

    result = purge(chain)["2026-05"]

    assert (result.result, result.rows, keys) == ("dropped", 744, [])


def test_rows_without_blocks_are_looked_up_by_keys_that_were_read_before_the_lock(make_chain, keys, monkeypatch):
    chain = make_chain(delete_by="key")
    chain.apply()
    chain.run()
    keys.clear()  # those of the delete
    original, before = WarmRows.count, []

    def count(self: WarmRows) -> tuple[int, int]:
        before.append(sum(keys))
        return original(self)

    monkeypatch.setattr(WarmRows, "count", count)

    result = purge(chain)["2026-05"]

    assert (result.result, result.rows, sum(keys), before[-1]) == ("dropped", 744, 744, 744)


SPOILED = {
    "a row that changed": ("UPDATE warm.audit SET cost = 0 WHERE id = 10", 1, 744, 50),
    "a row from nowhere": ("INSERT INTO warm.audit VALUES (9000, '2026-05-05', 'from nowhere', 1)", 1, 745, 50),
    "a row in place of another": ("UPDATE warm.audit SET id = 9000 WHERE id = 10", 1, 744, 50),
    "a row with another date": ("UPDATE warm.audit SET at = at + interval '3 days' WHERE id = 10", 1, 744, 100),
    "a row behind the last": ("INSERT INTO warm.audit VALUES (9000, '2026-05-31 23:59:59', 'late', 1)", 1, 745, 48),
}


@pytest.mark.parametrize(("change", "unproved", "rows", "wanted"), SPOILED.values(), ids=SPOILED)
def test_only_the_block_of_a_row_that_no_archive_holds_is_looked_up(chain, keys, change, unproved, rows, wanted):
    chain.run()
    execute(chain.owner, change)

    result = purge(chain)["2026-05"]

    assert (result.result, result.detail) == (
        "unverifiable",
        f"{unproved} of its {rows} rows are in no archive as they are here",
    )
    assert sum(keys) == wanted
    assert scalar(chain.owner, "SELECT count(*) FROM warm.audit") == rows


def test_a_row_that_is_gone_keeps_no_month(chain, keys):
    chain.run()
    execute(chain.owner, "DELETE FROM warm.audit WHERE id = 10")

    result = purge(chain)["2026-05"]

    assert (result.result, result.rows, sum(keys)) == ("dropped", 743, 50)


def test_late_rows_that_another_archive_holds_are_proved_with_the_block_they_came_into(chain, keys):
    chain.run()
    execute(chain.owner, "INSERT INTO audit (at, who) VALUES ('2026-05-11 10:30+00', 'late')")
    chain.run()

    result = purge(chain)["2026-05"]

    assert (result.result, result.rows) == ("dropped", 745)
    assert result.detail.startswith("745 rows, each in one of 2 archives")
    assert sorted(keys) == [1, 50]


def test_a_row_that_was_archived_twice_is_counted_once(chain, keys):
    """A few rows come back unchanged; then all; then one that was changed."""
    chain.run()
    for which in ("id IN (10, 300)", "true"):
        come_back(chain, which)
        chain.run()
    come_back(chain, "id = 11")
    execute(chain.owner, "UPDATE audit SET who = 'corrected' WHERE id = 11")
    chain.run()

    result = purge(chain)["2026-05"]

    assert (result.result, result.rows) == ("dropped", 744)
    assert result.detail.startswith("744 rows, each in one of 4 archives")
    assert sum(keys) == 50 + 50 + 1 + 2, (
        "of the block with row 11, in two archives; of that row; of the two that came first"
    )


def test_no_key_is_needed_of_an_archive_whose_rows_lie_among_proved_ones(chain, keys):
    """Its one block is as long as many of the other archive's."""
    chain.run()
    come_back(chain, "id IN (10, 200)")
    chain.run()

    result = purge(chain)["2026-05"]

    assert (result.result, result.rows, keys) == ("dropped", 744, [])
    assert result.detail.startswith("744 rows, each in one of 2 archives")


def test_a_block_that_two_shapes_of_the_table_hold_is_counted_once(chain, keys):
    chain.run()
    execute(chain.owner, "ALTER TABLE audit ADD note text")
    chain.apply()
    execute(chain.owner, "INSERT INTO audit OVERRIDING SYSTEM VALUE SELECT * FROM warm.audit")
    chain.run()

    result = purge(chain)["2026-05"]

    assert (result.result, result.rows, keys) == ("dropped", 744, [])
    assert result.detail.startswith("744 rows, each in one of 2 archives")


def test_rows_of_days_that_no_archive_has_are_found(make_chain, keys):
    """Every day is an archive of its own, and two of them were archived."""
    chain = make_chain(frequency="daily", key="2026-05-05", part_rows=1000)
    chain.apply()
    chain.run()
    make_chain("SELECT", frequency="daily", key="2026-05-07", part_rows=1000).run()
    proved = scalar(chain.owner, "SELECT count(*) FROM warm.audit")
    execute(chain.owner, "INSERT INTO warm.audit VALUES (9000, '2026-05-06', 'x', 1), (9001, '2026-05-09', 'x', 1)")

    stays = purge(chain)["2026-05"]
    execute(chain.owner, "DELETE FROM warm.audit WHERE id >= 9000")
    dropped = purge(chain)["2026-05"]

    assert (proved, stays.result, stays.detail) == (
        48,
        "unverifiable",
        "2 of its 50 rows are in no archive as they are here",
    )
    assert (dropped.result, dropped.rows, keys) == ("dropped", 48, [])


def test_blocks_that_straddle_the_end_of_a_month_are_looked_up_in_both(make_chain, keys):
    chain = make_chain(
        frequency="weekly", key="2026-W18", part_rows=1000
    )  # 27 April to 3 May; rows from 30 April 23:00
    chain.apply()
    moved = chain.run().deleted_rows

    results = purge(chain)

    assert moved == 73
    assert [(results[month].result, results[month].rows) for month in ("2026-04", "2026-05")] == [
        ("dropped", 1),
        ("dropped", 72),
    ]
    assert keys == [50, 50], "the first block, for April and for May"


def test_rows_archived_before_the_table_got_another_column_are_proved_as_blocks_too(chain, keys):
    chain.run()
    execute(chain.owner, "ALTER TABLE audit ADD note text")
    chain.apply()
    execute(chain.owner, "INSERT INTO audit (at, who, note) VALUES ('2026-05-11 10:30+00', 'late', 'x')")
    chain.run()

    result = purge(chain)["2026-05"]

    assert (result.result, result.rows, sorted(keys)) == ("dropped", 745, [1, 50])


def test_an_archive_of_an_earlier_version_is_looked_up(make_chain, object_store, keys):
    chain = make_chain(format="jsonl")
    chain.apply()
    as_version_1(chain, object_store, ArchiveId.parse(chain.run().archive_id))

    result = purge(chain)["2026-05"]

    assert (result.result, result.rows, sum(keys)) == ("dropped", 744, 744)


def test_ranges_of_another_date_than_that_of_the_settings_are_not_used(make_chain, keys):
    chain = make_chain()
    chain.apply()
    chain.run()
    execute(chain.owner, "ALTER TABLE audit ADD entered timestamptz")
    chain.settings = chain.settings.model_copy(update={"date_column": "entered"})

    result = purge(chain)["2026-05"]

    assert (result.result, result.rows, sum(keys)) == ("dropped", 744, 744)


@pytest.mark.parametrize("type_", ["date", "timestamp"])
def test_dates_of_each_type_are_proved(make_chain, keys, type_):
    chain = make_chain(
        f"""
        CREATE TABLE audit (id bigint PRIMARY KEY, at {type_} NOT NULL, who text);
        CREATE INDEX ON audit (at);
        INSERT INTO audit SELECT n, '2026-05-01'::timestamp + n * interval '1 hour', 'x' FROM generate_series(0, 743) AS n;
        """
    )
    chain.apply()
    chain.run()
    execute(chain.owner, "INSERT INTO warm.audit VALUES (9000, '2026-05-20', 'x')")

    stays = purge(chain)["2026-05"]
    execute(chain.owner, "DELETE FROM warm.audit WHERE id = 9000")
    looked_up = sum(keys)
    dropped = purge(chain)["2026-05"]

    assert stays.detail == "1 of its 745 rows are in no archive as they are here"
    assert 0 < looked_up <= 50
    assert (dropped.result, dropped.rows, sum(keys)) == ("dropped", 744, looked_up)


def test_nobody_adds_a_row_while_the_rows_are_counted(chain, monkeypatch):
    chain.run()
    original, refused = WarmRows.count, []

    def count(self: WarmRows) -> tuple[int, int]:
        found = original(self)
        if not found[0]:
            return found  # an empty month
        with pytest.raises(errors.LockNotAvailable):
            execute(
                chain.owner, "SET lock_timeout = '100ms'; INSERT INTO warm.audit VALUES (9000, '2026-05-05', 'x', 1)"
            )
        refused.append(found)
        return found

    monkeypatch.setattr(WarmRows, "count", count)

    assert (purge(chain)["2026-05"].result, refused) == ("dropped", [(744, 744)])


def test_a_hold_that_comes_while_the_rows_are_counted_keeps_them(chain, monkeypatch):
    chain.run()
    original = WarmRows.count

    def count(self: WarmRows) -> tuple[int, int]:
        place_hold(chain.store, "public.audit.2026-05", why="a case", who="ada", reference="17", now=NOW)
        return original(self)

    monkeypatch.setattr(WarmRows, "count", count)

    assert purge(chain)["2026-05"].result == "held"
    assert chain.figures() == (56, 744, 800)
