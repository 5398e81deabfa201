"""Tables that belong together are archived as one: planned in one view, sealed together, deleted children first."""

from __future__ import annotations

import pytest

from strongroom.errors import ChildrenLeftError, IntegrityError, UnarchivableError
from strongroom.ledger.manifests import read_manifest, require_manifest
from tests.support.database import ask, execute, scalar
from tests.support.units import TABLES, DiedError, archive_named, die_at_manifest, rows_of, rows_of_may


def counts(plan) -> dict[str, int]:
    return {one.shape.table_name: one.due_rows for one in plan.all_tables}


def test_rows_belong_to_the_partition_of_their_order(unit):
    plan = unit.plan()

    assert counts(plan) == {"line_notes": 120, "order_lines": 270, "order_alerts": 30, "orders": 100}
    assert plan.all_tables[0].shape.table_name == "line_notes"
    assert plan.all_tables[-1].shape.table_name == "orders"
    path = next(one.shape.dated_through for one in plan.members if one.shape.table_name == "line_notes")
    assert [(key.columns, key.parent, key.parent_columns) for key in path] == [
        (("order_id", "line"), "public.order_lines", ("order_id", "line")),
        (("order_id",), "public.orders", ("id",)),
    ]


def test_a_row_that_belongs_to_no_order_is_counted_and_stays(unit):
    plan = unit.plan()

    [excluded] = [one for each in plan.members for one in each.exclusions if one.reason == "no_parent"]
    assert (excluded.rows, excluded.detail) == (
        1,
        "their order_id or line is NULL; they belong to no row of public.order_lines",
    )
    unit.run()
    assert ask(unit.conninfo, "SELECT id FROM line_notes WHERE order_id IS NULL") == [(5000,)]


def test_whole_orders_are_archived_and_leave_all_tables(unit):
    before, of_may = rows_of(unit.conninfo), rows_of_may(unit.conninfo)

    reports = unit.run()

    assert {table: report.deleted_rows for table, report in reports.items()} == {
        f"public.{table}": len(rows) for table, rows in of_may.items()
    }
    assert rows_of(unit.conninfo) == {
        table: [row for row in rows if row not in of_may[table]] for table, rows in before.items()
    }
    assert unit.plan().outcome == "nothing_due"


def test_each_manifest_names_all_archives_of_the_unit(unit):
    unit.run()

    manifests = [require_manifest(unit.store, archive_named(table)) for table in TABLES]
    assert {manifest.unit for manifest in manifests} == {manifests[0].unit}
    assert {one.archive_id: one.record_count for one in manifests[0].unit} == {
        manifest.archive_id: manifest.record_count for manifest in manifests
    }
    assert manifests[0].unit[0].archive_id == "public.orders.2026-05.0001"
    assert {manifest.format_version for manifest in manifests} == {5}
    assert len({manifest.retention_until for manifest in manifests}) == 1


def test_a_reference_from_outside_keeps_the_whole_order(unit):
    """A complaint about a note keeps the note, its line, the order and all other rows of the order; and so does one about an order."""
    execute(
        unit.conninfo,
        "INSERT INTO complaints SELECT NULL, min(id) FROM line_notes WHERE order_id = 4; INSERT INTO complaints VALUES (5, NULL)",
    )

    plan = unit.plan()

    excluded = {
        one.shape.table_name: sum(each.rows for each in one.exclusions if each.reason == "referenced")
        for one in plan.all_tables
    }
    assert excluded == {"orders": 2, "order_lines": 6, "line_notes": 3, "order_alerts": 2}
    assert any(
        "refers to rows of public.line_notes (complaints_note_id_fkey); the whole objects stay" in one.detail
        for one in plan.exclusions
    )
    unit.run()
    assert ask(unit.conninfo, "SELECT id FROM orders WHERE id <= 100 ORDER BY id") == [(4,), (5,)]
    assert scalar(unit.conninfo, "SELECT count(*) FROM order_lines WHERE order_id IN (4, 5)") == 6
    execute(unit.conninfo, "DELETE FROM complaints")
    assert unit.run()["public.orders"].deleted_rows == 2
    assert scalar(unit.conninfo, "SELECT count(*) FROM order_lines WHERE order_id <= 100") == 0


def test_a_complaint_that_comes_after_the_seal_keeps_the_whole_order(unit):
    parts = unit.seal(unit.plan())
    execute(unit.conninfo, "INSERT INTO complaints VALUES (7, NULL)")

    deleted = [unit.delete(part) for part in parts]

    assert sum(part.referenced for part in deleted) == 1 + 3 + 1
    assert scalar(unit.conninfo, "SELECT count(*) FROM order_lines WHERE order_id = 7") == 3
    assert scalar(unit.conninfo, "SELECT count(*) FROM order_alerts WHERE order_id = 7") == 1


def test_nothing_is_deleted_before_all_archives_are_sealed(unit, monkeypatch):
    """The run dies between two seals. What is sealed already lets no row go; a later run archives all of it again."""
    before = rows_of(unit.conninfo)
    plan = unit.plan()
    parts = unit.verified(plan)
    die_at_manifest(monkeypatch, unit, 3)
    with pytest.raises(DiedError):
        unit.seal_parts(plan, parts)
    monkeypatch.undo()
    sealed = [table for table in TABLES if read_manifest(unit.store, archive_named(table)) is not None]
    assert len(sealed) == 2

    for part in parts:
        with pytest.raises(IntegrityError):
            unit.delete(part)
    assert rows_of(unit.conninfo) == before

    again = unit.plan()
    assert again.outcome == "planned"
    assert sorted(str(one.archive_id) for one in again.all_tables)[0].endswith(".0002")
    unit.run()
    assert not any(rows for rows in rows_of_may(unit.conninfo).values())


def test_a_seal_that_broke_off_is_finished_by_the_same_run(unit, monkeypatch):
    plan = unit.plan()
    parts = unit.verified(plan)
    die_at_manifest(monkeypatch, unit, 2)
    with pytest.raises(DiedError):
        unit.seal_parts(plan, parts)
    monkeypatch.undo()

    sealed = unit.seal_parts(plan, parts)

    unit.finish(plan, [part for one in sealed for part in one.parts])
    assert not any(rows for rows in rows_of_may(unit.conninfo).values())


def test_no_archive_is_sealed_before_the_parts_of_all_are_verified(unit):
    plan = unit.plan()
    parts = unit.verified(plan)

    with pytest.raises(IntegrityError, match="are not complete"):
        unit.seal_parts(plan, [part for part in parts if part.archive.table_name != "order_lines"])

    assert not any(read_manifest(unit.store, archive_named(table)) for table in TABLES)


def test_parents_wait_for_their_children(unit):
    parts = unit.seal(unit.plan())
    before = rows_of(unit.conninfo)

    for part in parts:
        if part.archive.table_name in ("orders", "order_lines"):
            with pytest.raises(ChildrenLeftError):
                unit.delete(part)

    assert rows_of(unit.conninfo) == before


def test_a_run_that_died_between_the_levels_is_resumed(unit):
    parts = unit.seal(unit.plan())
    unit.delete(next(part for part in parts if part.archive.table_name == "line_notes"))

    plan = unit.plan()

    assert {one.outcome for one in plan.all_tables} == {"resumed"}
    assert [part.archive_id for one in plan.all_tables for part in one.parts] == [part.archive_id for part in parts]
    unit.finish(plan, unit.sealed(plan))
    assert not any(rows for rows in rows_of_may(unit.conninfo).values())
    assert unit.plan().outcome == "nothing_due"


def test_a_child_that_comes_meanwhile_keeps_its_order_for_the_next_run(unit):
    """The order is in an archive and in its table; the new row only in its table. The next run archives both."""
    parts = unit.seal(unit.plan())
    execute(
        unit.conninfo,
        "INSERT INTO order_lines VALUES (10, 1, 'late'); INSERT INTO order_alerts VALUES (777, 20, now())",
    )

    deleted = {part.archive_id: part for part in map(unit.delete, parts)}

    assert deleted["public.orders.2026-05.0001"].referenced == 2
    assert ask(unit.conninfo, "SELECT id FROM orders WHERE id <= 100 ORDER BY id") == [(10,), (20,)]
    assert counts(unit.plan()) == {"line_notes": 0, "order_lines": 1, "order_alerts": 1, "orders": 2}
    unit.run()
    assert not any(rows for rows in rows_of_may(unit.conninfo).values())


def test_a_child_that_changed_after_the_seal_stays_with_the_rows_above_it(unit):
    parts = unit.seal(unit.plan())
    execute(unit.conninfo, "UPDATE line_notes SET words = 'changed' WHERE order_id = 6 AND line = 2")

    deleted = {part.archive.table_name: unit.delete(part) for part in parts}

    assert deleted["line_notes"].changed == 1
    assert (deleted["order_lines"].referenced, deleted["orders"].referenced) == (1, 1)
    assert ask(unit.conninfo, "SELECT order_id, line, words FROM line_notes WHERE order_id <= 100") == [
        (6, 2, "changed")
    ]
    assert ask(unit.conninfo, "SELECT order_id, line FROM order_lines WHERE order_id <= 100") == [(6, 2)]
    assert ask(unit.conninfo, "SELECT id FROM orders WHERE id <= 100") == [(6,)]


def test_a_foreign_key_that_leads_elsewhere_since_the_plan_stops_the_delete(unit):
    parts = unit.seal(unit.plan())
    unit.delete(next(part for part in parts if part.archive.table_name == "line_notes"))
    execute(
        unit.conninfo,
        "ALTER TABLE order_alerts DROP CONSTRAINT order_alerts_order_id_fkey, "
        "ADD CONSTRAINT another FOREIGN KEY (order_id) REFERENCES orders",
    )
    before = rows_of(unit.conninfo)

    with pytest.raises(UnarchivableError, match="changed its columns or key"):
        unit.delete(next(part for part in parts if part.archive.table_name == "order_alerts"))

    assert rows_of(unit.conninfo) == before


def test_of_two_runs_at_once_the_slower_one_seals_and_deletes_nothing(unit):
    """Its claims ran out, and another run archived the orders meanwhile. A late order is in its table alone."""
    slow = unit.plan()
    unit.run()
    execute(
        unit.conninfo,
        "INSERT INTO orders VALUES (50, '2026-05-20', 'late'); INSERT INTO order_lines VALUES (50, 1, 'late')",
    )
    before = rows_of(unit.conninfo)

    with pytest.raises(IntegrityError):
        unit.seal(slow)

    assert rows_of(unit.conninfo) == before
    assert unit.run()["public.orders"].archive_id == "public.orders.2026-05.0002"
    assert not any(rows for rows in rows_of_may(unit.conninfo).values())
