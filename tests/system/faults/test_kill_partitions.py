"""Kill -9 while a partition is detached and dropped: between guard and detach, in a concurrent detach, around the drop."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests.support.ledger import Ledger, Row, read_archives
from tests.support.proxies import Moment
from tests.system.faults.scenario import OUTSIDE, RECOVERIES, ROWS, Scenario, Scene, moment_of, side_by_side
from tests.system.faults.steps import COOLED_OFF, PARTITION_STEPS

PARTITION = {"partition_delete": {"enabled": True}}
_MOVES = re.compile(r"CREATE TRIGGER|ALTER TABLE|DROP TABLE \"strongroom_detached\"|COMMIT")


class PartitionedLedger(Ledger):
    """A ledger in a table with a partition for May. Detached rows still count as live."""

    ending = ""

    def create(self) -> None:
        super().create()
        with self._session() as session:
            names = {"plain": sql.Identifier(self.table), "may": sql.Identifier(f"{self.table}_may")}
            names |= {"rest": sql.Identifier(f"{self.table}_june"), "before": sql.Identifier(f"{self.table}_april")}
            for statement in (
                "DROP TABLE {plain}",
                "CREATE TABLE {plain} (id bigint, at timestamptz NOT NULL, stamp bigint NOT NULL, who text NOT NULL, "
                "amount numeric(12,2) NOT NULL, PRIMARY KEY (id, at)) PARTITION BY RANGE (at)",
                "CREATE TABLE {before} PARTITION OF {plain} FOR VALUES FROM ('2026-04-01+00') TO ('2026-05-01+00')",
                "CREATE TABLE {may} PARTITION OF {plain} FOR VALUES FROM ('2026-05-01+00') TO ('2026-06-01+00')",
                "CREATE TABLE {rest} PARTITION OF {plain} "
                + (self.ending or "FOR VALUES FROM ('2026-06-01+00') TO ('2026-07-01+00')"),
                "CREATE INDEX ON {plain} (at)",
            ):
                session.execute(sql.SQL(statement).format(**names))

    def live(self) -> list[Row]:
        """Rows of the table, and of May's former partition if it is detached or being detached."""
        query = """
            SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
            WHERE c.relname = %s AND (i.inhparent IS NULL OR i.inhdetachpending)
        """
        rows = super().live()
        with self._session() as session:
            for name in session.execute(query, (f"{self.table}_may",)).fetchall():
                found = session.execute(
                    sql.SQL("SELECT id, to_json(at)#>>'{{}}', stamp, who, amount FROM {}").format(sql.Identifier(*name))
                )
                rows += [Row(one[0], one[1], one[2], one[3], one[4]) for one in found.fetchall()]
        return rows


class WithDefault(PartitionedLedger):
    """A ledger whose partitions cannot be detached concurrently."""

    ending = "DEFAULT"


def opening(kind: type[PartitionedLedger]) -> Callable[..., Ledger]:
    def open_ledger(conninfo: str, table: str, rows: int) -> Ledger:
        ledger = kind(conninfo, table)
        ledger.create()
        ledger.fill(rows)
        return ledger

    return open_ledger


TELLING = {
    "detach, before the guard is committed": ("detach", "database", "request", "^COMMIT"),
    "detach, when the guard is committed": ("detach", "database", "answer", "^COMMIT"),
    "detach, before the partition is detached": ("detach", "database", "request", "DETACH PARTITION"),
    "detach, when the partition is detached": ("detach", "database", "answer", "DETACH PARTITION"),
    "detach, when the partition is moved": ("detach", "database", "answer", "SET SCHEMA"),
    "detach, when the evidence is stored": ("detach", "store", "answer", "PUT .*/detach.json"),
    "delete, when the evidence is stored": ("delete", "store", "answer", "PUT .*/evidence/"),
    "drop, when the evidence is stored": ("drop", "store", "answer", "PUT .*/dropped-"),
    "drop, before it is committed": ("drop", "database", "request", "^COMMIT"),
    "drop, when it is committed": ("drop", "database", "answer", "^COMMIT"),
}


def break_at(scene: Scene, kind: type[PartitionedLedger], step: str, counted: Any, number: int, how: str) -> None:
    """Kill a step at one of the moments that count. Check each row then, and again after the run was finished."""
    scenario = scene.scenario(open_ledger=opening(kind), **PARTITION)
    scenario.prepare(step, PARTITION_STEPS)
    scenario.kill_at(step, number, counted)
    chain = scenario.place.chain()
    scenario.ledger.compare(read_archives(chain.client, chain.settings)).require_sound()

    scenario.recover(step, how, PARTITION_STEPS)

    finish(scenario)
    scenario.examine(f"kill -9 of {step} of a partition", recovered=how)


def finish(scenario: Scenario) -> None:
    """Check that the partition is gone for good, and that all other rows are there."""
    scenario.steps.run("drop")
    assert scenario.steps.result("drop") == []
    assert len(scenario.ledger.live()) == OUTSIDE
    with psycopg.connect(scenario.place.conninfo) as connection:
        query = "SELECT count(*) FROM pg_class WHERE relname = %s"
        [left] = connection.execute(query, (f"{scenario.ledger.table}_may",)).fetchone() or [None]
    assert left == 0
    # A drop that was killed after all its work leaves its claim, which expires by itself.
    scenario.place = replace(scenario.place, now=scenario.place.now + 2 * COOLED_OFF)


@pytest.mark.exhaustive
def test_a_partition_whose_steps_are_killed_at_a_telling_moment_loses_nothing(scene: Scene):
    moments: Sequence[tuple[str, str, str, str]] = list(TELLING.values())

    def work(number: int) -> None:
        step, *moment = moments[number]
        kind = (PartitionedLedger, WithDefault)[number % 2]
        how = "retry" if step == "drop" else RECOVERIES[number % len(RECOVERIES)]
        break_at(scene, kind, step, moment_of(*moment), 0, how)

    side_by_side(work, range(len(moments)))


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", [PartitionedLedger, WithDefault])
@pytest.mark.parametrize("step", ["detach", "drop"])
def test_a_partition_whose_step_is_killed_at_any_moment_loses_nothing(scene: Scene, step, kind):
    def counted(moment: Moment) -> bool:
        return moment.boundary == "store" or bool(_MOVES.match(moment.what))

    rehearsal = scene.scenario(open_ledger=opening(kind), **PARTITION)
    rehearsal.prepare(step, PARTITION_STEPS)
    moments = [moment for moment in rehearsal.record(step) if counted(moment)]

    def work(number: int) -> None:
        how = "retry" if step == "drop" else RECOVERIES[number % len(RECOVERIES)]
        break_at(scene, kind, step, counted, number, how)

    side_by_side(work, range(len(moments)))
    assert len(moments) > 10


def test_a_partition_that_nobody_disturbs_goes_as_a_whole(scene: Scene):
    """Without this the tests above could pass although the rows were deleted one by one."""
    scenario = scene.scenario(open_ledger=opening(PartitionedLedger), **PARTITION)

    scenario.steps.run_all(PARTITION_STEPS)

    assert [one["rows"] for one in scenario.steps.result("drop")] == [ROWS]
    finish(scenario)
