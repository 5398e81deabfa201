"""An application writes into the window during the whole run."""

from __future__ import annotations

from dataclasses import replace

import psycopg
import pytest

from strongroom.ledger.evidence import DeleteEvidence, parse_evidence
from tests.support import restoring
from tests.support.deleting import kept_of
from tests.support.ledger import read_archives
from tests.system.faults.scenario import Scenario, Scene
from tests.system.faults.steps import ARCHIVE_STEPS, Steps
from tests.system.races.writer import Writer


@pytest.mark.exhaustive
def test_nothing_of_a_busy_writer_is_lost_or_comes_back(scene: Scene):
    _archive_under_a_writer(scene, rows=600, rounds=2, part_rows=150)


@pytest.mark.exhaustive
def test_nothing_of_a_busy_writer_is_lost_or_comes_back_in_many_rounds(scene: Scene):
    _archive_under_a_writer(scene, rows=20_000, rounds=20, part_rows=1500)


def _archive_under_a_writer(scene: Scene, *, rows: int, rounds: int, part_rows: int) -> None:
    scenario = scene.scenario(rows=rows, part_rows=part_rows, delete_batch_rows=100)
    ledger = scenario.ledger

    with Writer(ledger) as writer:
        for number in range(rounds):
            Steps(replace(scenario.place, run_id=f"round {number}")).run_all(ARCHIVE_STEPS)

    scenario.examine("a writer at 500 statements a second", recovered="by itself", faults=writer.statements)
    kept = _kept_rows(scenario)
    assert kept, "the writer changed no row between its extraction and its delete"
    assert kept <= {one.row.id for one in ledger.ended}, "only what the application changed"


def _kept_rows(scenario: Scenario) -> set[int]:
    """Ids that the evidence of all parts of all archives lists as changed."""
    store = scenario.steps.chain.store
    keys = [key for key in store.keys("evidence/") if "/delete-part-" in key]
    evidence: list[DeleteEvidence] = [parse_evidence(key, store.read(key)[0]) for key in keys]
    kept = [(one, kept_of(store, one)) for one in evidence]
    assert all(one.changed == sum(row.reason == "changed" for row in rows) for one, rows in kept)
    return {int(row.key[0]) for _, rows in kept for row in rows}


@pytest.mark.parametrize("first", [0, 1])
def test_a_row_that_moves_from_one_part_to_another_comes_back_as_it_was_last(scene: Scene, first):
    """Parts are read one after another, so both may contain the row. The part that was read later is right."""
    scenario = scene.scenario(part_rows=70)
    ledger, chain = scenario.ledger, scenario.steps.chain
    scenario.steps.claim()
    plan = chain.plan()
    parts = {part.number: part for part in plan.parts}
    half = len(ledger.rows) // 4
    earlier, later = half, half + 70  # one row in each part
    moved, seconds = ((earlier, 20 * 24 * 3600), (later, -20 * 24 * 3600))[first]

    verified = [chain.verified(plan, parts.pop(first))]
    with psycopg.connect(ledger.conninfo, autocommit=True) as session:
        ledger.update(session, moved, seconds)
    verified += [chain.verified(plan, part) for part in parts.values()]
    for part in chain.seal_parts(plan, verified).parts:
        chain.delete(part)

    archived = [one for one in read_archives(chain.client, chain.settings) if one.row.id == moved]
    assert len(archived) == 2, "both parts have it"
    scenario.examine("a row that moves between two parts as they are read", recovered="by itself")


def test_parts_come_back_side_by_side_where_each_row_is_in_one_of_them(scene: Scene):
    """The evidence of the delete shows it. Without it the parts are loaded one after another."""
    scenario = scene.scenario(part_rows=70)
    chain = scenario.steps.chain
    scenario.steps.claim()
    plan = chain.plan()
    sealed = chain.seal(plan)
    before = restoring.plan(chain, "before", dry_run=True)
    for part in sealed.parts:
        chain.delete(part)

    after = restoring.plan(chain, "after", dry_run=True)

    assert [len(lane) for lane in before.lanes] == [2]
    assert [len(lane) for lane in after.lanes] == [1, 1]
