"""`airflow strongroom plan` of a root says what a run would do with all tables of its unit."""

from __future__ import annotations

from strongroom.preview.look import look_at_table
from strongroom.tables.unit_graph import unit_graph
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
