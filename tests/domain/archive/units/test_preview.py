"""`airflow strongroom plan` of a root says what a run would do with all tables of its unit."""

from __future__ import annotations

from strongroom.preview.look import look_at_table
from strongroom.preview.saved import changes
from strongroom.tables.unit_graph import unit_graph
from tests.support.database import execute
from tests.support.units import rows_of


def test_a_preview_says_what_the_run_then_plans(unit):
    unit.plan()  # claims the store
    before = rows_of(unit.conninfo)
    root, *members = unit.settings

    told = look_at_table("orders", root, unit.store, unit.root.source, unit.root.owning, now=unit.now, members=members)

    assert told.problem is None
    [may] = [one for one in told.partitions if one.partition_key == "2026-05"]
    assert may.plan is not None
    assert [*unit_graph(may.plan)] == [*unit_graph(unit.plan())]
    assert len([*unit_graph(may.plan)]) == 4
    assert rows_of(unit.conninfo) == before


def test_a_saved_plan_of_a_unit_no_longer_holds_when_rows_of_a_member_came(unit):
    """Who approved it saw how many rows of each table go."""
    unit.plan()  # claims the store
    root, *members = unit.settings

    def looked():
        return look_at_table(
            "orders", root, unit.store, unit.root.source, unit.root.owning, now=unit.now, members=members
        )

    then = looked()
    execute(unit.conninfo, "INSERT INTO order_alerts SELECT n, 1, now() FROM generate_series(1000, 1499) AS n")

    assert "2026-05 public.order_alerts: rows to archive: then 30, now 530" in " | ".join(
        map(str, changes([then], [looked()]))
    )
