"""A unit comes back as one: parents first, in one report."""

from __future__ import annotations

from datetime import timedelta

import pytest

from strongroom.errors import ContendedError, RestoreError
from strongroom.ledger.claims import parse_claim, take_claim
from strongroom.object_keys.records import claim_key, suppressed_prefix
from tests.support.chain import NOW, Chain, some_settings
from tests.support.database import execute
from tests.support.restoring import plan, restore
from tests.support.units import TABLES, UnitChain, rows_of, rows_of_may


def test_whole_orders_come_back_as_they_were(unit):
    before = rows_of(unit.conninfo)
    unit.run()
    assert rows_of(unit.conninfo) != before

    report = restore(unit.root, first_partition="2026-05", last_partition="2026-05")

    assert rows_of(unit.conninfo) == before
    assert (report.outcome, report.table, report.inserted) == ("restored", "public.orders", 520)
    assert report.archive_ids[0] == "public.orders.2026-05.0001"
    assert len(report.archive_ids) == 4
    assert unit.plan().outcome == "restored"
    assert {one.outcome for one in unit.plan().all_tables} == {"restored"}


def test_orders_of_two_runs_come_back_whole(unit):
    """The second archive holds orders that got a row meanwhile."""
    parts = unit.seal(unit.plan())
    execute(unit.conninfo, "INSERT INTO order_lines VALUES (10, 1, 'late')")
    before = rows_of(unit.conninfo)
    for part in parts:
        unit.delete(part)
    unit.run()

    report = restore(unit.root)

    assert rows_of(unit.conninfo) == before
    assert (len(report.archive_ids), report.different) == (6, 0)


def test_one_archive_comes_back_alone(unit):
    unit.run()
    execute(unit.conninfo, "TRUNCATE complaints, order_lines, line_notes, order_alerts, orders")

    report = restore(unit.root, archives=["public.orders.2026-05.0001"])
    restore(unit.chains["public.order_alerts"], "restore-2", first_partition="2026-05", now=NOW)

    assert report.inserted == 100
    assert {table: len(rows) for table, rows in rows_of(unit.conninfo).items()} == dict(
        zip(TABLES, (100, 0, 0, 30), strict=True)
    )


@pytest.mark.parametrize("asked", [{"keys": [["1"]]}, {"since": "2026-05-03"}, {"target": "public.elsewhere"}])
def test_part_of_a_unit_is_not_restored_by_its_root(unit, asked):
    unit.run()

    with pytest.raises(RestoreError, match="restored together with them"):
        restore(unit.root, **asked)


def test_a_time_range_of_rows_without_a_date_is_refused(unit):
    unit.run()

    with pytest.raises(RestoreError, match=r"rows of public\.orders date them"):
        restore(unit.chains["public.order_lines"], since="2026-05-03")


def test_a_member_that_was_archived_alone_before_comes_back_alone(unit, bucket, tmp_path):
    execute(unit.conninfo, "UPDATE order_alerts SET at = '2026-04-02' WHERE id > 25")
    unit.plan()  # claims the store
    alone = Chain(unit.conninfo, unit.client, some_settings(bucket, tmp_path, "order_alerts"), "2026-04")
    for part in alone.seal(alone.plan()).parts:
        alone.delete(part)
    unit.run()
    restore(unit.root)
    execute(unit.conninfo, "DELETE FROM order_alerts")

    report = restore(unit.chains["public.order_alerts"], "restore-2")

    assert (report.inserted, report.archive_ids) == (
        30,
        ("public.order_alerts.2026-04.0001", "public.order_alerts.2026-05.0001"),
    )


def test_rows_of_erased_persons_do_not_come_back_with_another_table(unit):
    """The table was taken out of the unit, and a person was erased from it."""
    unit.run()
    unit.store.put_bytes(f"{suppressed_prefix('public', 'order_lines')}some.json", b"{}")
    before = rows_of(unit.conninfo)

    with pytest.raises(RestoreError, match=r"persons were erased from public\.order_lines"):
        restore(unit.root)

    assert rows_of(unit.conninfo) == before


def test_tables_that_refer_to_a_part_that_is_gone_are_left_out(unit, object_store, bucket):
    """Otherwise the foreign key would be named as the cause, or without one the notes would come back without their lines."""
    parts = {part.archive.table_name: part for part in unit.seal(unit.plan())}
    for part in parts.values():
        unit.delete(part)
    execute(unit.conninfo, "ALTER TABLE line_notes DROP CONSTRAINT line_notes_order_id_line_fkey")
    gone = parts["order_lines"]
    object_store.client("admin").delete_object(Bucket=bucket, Key=gone.object_key, VersionId=gone.version_id)

    report = restore(unit.root)

    assert report.outcome == "incomplete"
    assert report.results == {"missing": 1, "restored": 2, "unfinished": 1}
    assert {table: len(rows) for table, rows in rows_of_may(unit.conninfo).items()} == {
        "orders": 100,
        "order_lines": 0,
        "line_notes": 0,
        "order_alerts": 30,
    }


@pytest.mark.parametrize("table", ["orders", "line_notes"])
def test_two_restores_that_share_a_table_do_not_run_at_once(unit, table):
    unit.run()
    plan(unit.root, first_partition="2026-05")
    kept = {key: unit.store.read(key)[0] for key in unit.store.keys("claims/")}

    with pytest.raises(ContendedError):
        plan(unit.chains[f"public.{table}"], "restore-2", first_partition="2026-05")

    assert {key: unit.store.read(key)[0] for key in unit.store.keys("claims/")} == kept
    assert not [key for key in unit.store.keys("restores/") if "restore-2" in key]


def test_a_restore_that_finds_its_last_table_claimed_leaves_no_claim_on_the_others(unit):
    unit.run()
    place = claim_key("public", "line_notes", "2026-05")
    take_claim(unit.store, place, owner="a purge", now=NOW, ttl=timedelta(hours=1))

    with pytest.raises(ContendedError, match="a purge"):
        plan(unit.root)

    claims = {key: parse_claim(key, unit.store.read(key)[0]) for key in unit.store.keys("claims/public")}
    assert [key for key, claim in claims.items() if claim.state == "held"] == [place]
    assert not [*unit.store.keys("restores/")]


@pytest.mark.parametrize("read", ["before it moved", "after it moved"])
def test_an_order_that_moved_to_another_month_comes_back_with_both_months_the_new_one_first(unit, read):
    """Its lines were archived and deleted with the old month. The order itself may be in the archive of that month, as it was then."""
    plan_of_may = unit.plan()
    *members, root = plan_of_may.all_tables
    moving = "UPDATE orders SET at = '2026-06-15' WHERE id = 1"
    verified = [unit.chain_of(part).verified(one, part) for one in members for part in one.parts]
    if read == "after it moved":
        execute(unit.conninfo, moving)
    verified += [unit.root.verified(root, part) for part in root.parts]
    sealed = unit.seal_parts(plan_of_may, verified)
    if read == "before it moved":
        execute(unit.conninfo, moving)
    before = rows_of(unit.conninfo)
    unit.finish(plan_of_may, [part for one in sealed for part in one.parts])
    assert not [row for row in rows_of(unit.conninfo)["order_lines"] if row.startswith("(1,")]
    june = UnitChain(unit.conninfo, unit.client, unit.settings, key="2026-06")
    june.run()
    may = {"first_partition": "2026-05", "last_partition": "2026-05"}
    if read == "after it moved":
        with pytest.raises(RestoreError, match="foreign key order_"):
            restore(unit.root, "of-may", **may)

    restore(june.root, "of-june", first_partition="2026-06", last_partition="2026-06")
    again = restore(unit.root, "of-may", **may)

    assert rows_of(unit.conninfo) == before
    assert again.different == (read == "before it moved"), "the order of May is not loaded over that of June"
