"""Parquet archives as one Iceberg table, on real servers: what an outsider reads, and what is left of archives that went."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from strongroom.errors import StoreAccessError
from strongroom.ledger.manifests import require_manifest
from strongroom.object_keys.archives import ArchiveId
from strongroom.retention.condemn import condemn_archive
from strongroom.retention.decide import judge
from strongroom.retention.purge import purge_archive
from strongroom.storage.purge_store import PurgeStore
from tests.support.chain import NOW, Chain
from tests.support.damaging import Vandal
from tests.support.database import execute
from tests.support.lakes import archive, closing
from tests.support.vault import NEXT_RUN, YES

MAY, JUNE = (ArchiveId("public", "audit", month, 1) for month in ("2026-05", "2026-06"))
LATER = datetime(2033, 6, 1, tzinfo=timezone.utc)
"""The term of May is over, that of June is not."""


def source_rows(chain: Chain) -> list[dict[str, Any]]:
    with psycopg.connect(chain.conninfo, row_factory=dict_row) as connection:
        connection.execute("SET TIME ZONE 'UTC'")
        columns = "id, at, kind, seconds, cost, who, day, flagged, score, detail::text"
        return connection.execute(f"SELECT {columns} FROM audit ORDER BY id").fetchall()


def test_an_outsider_reads_two_months_as_one_table_with_the_values_of_the_source(chain, lakeside):
    expected = source_rows(chain)
    archive(chain, "2026-05")
    first = lakeside.reconcile()
    archive(chain, "2026-06")

    second = lakeside.reconcile()

    assert (first.added, second.added) == ((str(MAY),), (str(JUNE),))
    assert (second.archives, second.rows, second.removed, second.left_out) == (2, 244, (), ())
    counted = [require_manifest(chain.store, one).record_count for one in (MAY, JUNE)]
    assert sum(counted) == second.rows == len(expected)
    found = lakeside.rows()
    assert [{name: value for name, value in row.items() if name != "strongroom_exact"} for row in found] == expected
    june = datetime(2026, 6, 1, tzinfo=timezone.utc)
    assert len(lakeside.rows(row_filter=f"at < '{june.isoformat()}'")) == counted[0]
    assert sorted(lakeside.keys()) == lakeside.needed()
    assert lakeside.look().is_current
    again = lakeside.reconcile()
    assert (again.is_current, again.metadata_location) == (True, second.metadata_location)


def test_a_purged_archive_leaves_the_table_before_its_purge_and_nothing_of_it_stays(chain, lakeside, object_store):
    archive(chain, "2026-05", "2026-06")
    lakeside.reconcile()
    due = lakeside.look(now=LATER - timedelta(hours=30))

    gone = lakeside.reconcile(now=LATER - timedelta(hours=30))

    assert due.removed == gone.removed == (str(MAY),)
    assert [one.reason for one in gone.left_out] == ["expiring"]
    assert {row["at"].month for row in lakeside.rows()} == {6}
    assert sorted(lakeside.keys()) == lakeside.needed()
    assert not [entry for entry in lakeside.entries() if str(MAY) in entry.data_file.file_path]

    [decision] = [one for one in judge(chain.store, now=LATER) if one.purge]
    purger = PurgeStore(object_store.client("purger"), chain.settings.store)
    purged = purge_archive(chain.store, purger, decision, YES, run=NEXT_RUN, now=LATER, claim_ttl=timedelta(hours=1))
    assert purged.result == "purged"
    after = lakeside.reconcile(now=LATER)
    assert (after.is_current, after.rows) == (True, 120)


def test_the_metadata_holds_no_value_but_the_first_and_last_date_of_each_part(archived, another):
    lakeside = another()
    lakeside.reconcile()

    with lakeside.outsider() as table:
        at = table.schema().find_field("at").field_id
    entries = lakeside.entries()

    assert len(entries) == 2
    for entry in entries:
        assert set(entry.data_file.lower_bounds) == set(entry.data_file.upper_bounds) == {at}


def test_a_condemned_archive_leaves_the_table_and_one_that_lost_a_part_does_so_at_once(chain, lakeside, object_store):
    archive(chain, "2026-05", "2026-06")
    lakeside.reconcile()
    Vandal(object_store.client("admin"), chain.store, chain.settings.store.bucket).remove(
        MAY.part_key(1, "zstd", "parquet")
    )

    lost = lakeside.reconcile()
    condemn_archive(chain.store, MAY, why="a disk", who="ada", now=NOW, claim_ttl=timedelta(hours=1))
    condemned = lakeside.reconcile()

    assert (lost.removed, [one.reason for one in lost.left_out]) == ((str(MAY),), ["unreadable"])
    assert (condemned.removed, [one.reason for one in condemned.left_out]) == ((), ["condemned"])
    assert len(lakeside.rows()) == 120


def test_an_archive_of_json_lines_is_named_and_makes_no_table(chain, lakeside):
    chain.settings = chain.settings.model_copy(update={"format": "jsonl"})
    archive(chain, "2026-05")

    state = lakeside.reconcile()

    assert (state.metadata_location, [one.reason for one in state.left_out]) == (None, ["json_lines"])
    assert lakeside.keys() == []


def test_columns_that_came_went_and_grew_are_one_table_and_one_that_became_another_type_is_left_out(chain, lakeside):
    archive(chain, "2026-05")
    lakeside.reconcile()
    execute(
        chain.conninfo,
        "ALTER TABLE audit ADD COLUMN grade integer; ALTER TABLE audit DROP COLUMN flagged; ALTER TABLE audit ALTER COLUMN seconds TYPE bigint;"
        "ALTER TABLE audit ALTER COLUMN cost TYPE numeric(12, 2); UPDATE audit SET grade = 3, seconds = 5000000000;",
    )
    archive(chain, "2026-06")

    lakeside.reconcile()

    found = {row["at"].month: row for row in lakeside.rows()}
    assert (found[5]["grade"], found[5]["flagged"], found[5]["seconds"]) == (None, False, 123)
    assert (found[6]["grade"], found[6]["flagged"], found[6]["seconds"]) == (3, None, 5_000_000_000)
    assert str(found[6]["cost"]) == "24.30"

    execute(
        chain.conninfo,
        "ALTER TABLE audit ALTER COLUMN cost TYPE text; INSERT INTO audit (at, cost) VALUES ('2026-07-05', 'dear')",
    )
    archive(chain, "2026-07")
    state = lakeside.reconcile()
    assert (state.rows, state.added) == (244, ())
    [left_out] = state.left_out
    assert (left_out.reason, left_out.detail) == (
        "other_columns",
        "column 'cost' is string in it, and decimal128(12, 2) in the table",
    )


def test_a_bucket_that_keeps_versions_is_refused(archived, another, bucket):
    lakeside = another()
    lakeside.bucket = bucket

    with pytest.raises(StoreAccessError, match="not fit for Iceberg tables"):
        lakeside.lake(lakeside.object_store.client("admin")).own.require_fit()


def test_a_table_that_was_dropped_from_the_catalogue_is_made_anew(archived, another):
    lakeside = another()
    lakeside.reconcile()
    with lakeside.lake().catalog as catalog:
        catalog.drop_table(("public", "audit"))

    state = lakeside.reconcile()

    assert (state.archives, len(lakeside.rows())) == (2, 244)
    assert sorted(lakeside.keys()) == lakeside.needed()


def test_pyiceberg_itself_cannot_write_or_remove_outside_its_place(archived, another):
    """Whatever a version of the library does: archives are out of its reach in code, too."""
    lakeside = another()
    lakeside.reconcile()
    with closing(lakeside.lake()) as lake:
        table = lake.find()
        part = next(iter(table.scan().plan_files())).file.file_path

        for forbidden in (table.io.new_output, table.io.delete):
            with pytest.raises(StoreAccessError, match="not where it may"):
                forbidden(part)
