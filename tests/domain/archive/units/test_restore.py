"""A unit comes back as one: parents first, in one report."""

from __future__ import annotations

import pytest

from strongroom.errors import RestoreError
from strongroom.object_keys.records import suppressed_prefix
from tests.support.chain import NOW, Chain, some_settings
from tests.support.database import execute
from tests.support.restoring import restore
from tests.support.units import TABLES, rows_of


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
