"""Kill -9 of a restore of a unit: parents stay before children, nothing is doubled, and no archive of it is purged meanwhile."""

from __future__ import annotations

import itertools
import os
import signal
from datetime import datetime, timedelta, timezone

import pytest

from strongroom.ledger.manifests import require_manifest
from strongroom.records import RunIdentity
from strongroom.restore.report import report_restore
from strongroom.retention.certificate import BY_POLICY, Approval
from strongroom.retention.decide import Decision, decide, judge
from strongroom.retention.purge import purge_archive
from strongroom.storage.purge_store import PurgeStore
from tests.support.database import execute
from tests.support.restoring import TTL, load, plan, restore
from tests.support.units import ORDERS, TABLES, UnitChain, archive_named, rows_of, rows_of_may, unit_settings
from tests.system.faults.steps import Place
from tests.system.faults.unit_restore import BATCH_ROWS, load_in_a_process, wait_until_stopped

AFTER_THE_TERM = datetime(2036, 1, 1, tzinfo=timezone.utc)
CLAIMS_ARE_OVER = AFTER_THE_TERM + 2 * TTL
PARENTS = {"order_lines": "orders", "line_notes": "order_lines", "order_alerts": "orders"}
ROWS = {"orders": 100, "order_lines": 270, "line_notes": 120, "order_alerts": 30}


@pytest.fixture
def unit(source, bucket, object_store, tmp_path) -> UnitChain:
    execute(source, ORDERS)
    return UnitChain(source, object_store.client("archiver"), unit_settings(bucket, tmp_path / "staging"))


@pytest.fixture
def place(unit, object_store, tmp_path) -> Place:
    keys = {identity: object_store.keys(identity) for identity in ("archiver", "purger", "stager")}
    return Place(unit.conninfo, object_store.endpoint_url, keys, unit.root.settings, tmp_path)


@pytest.fixture
def tried_purges(unit, object_store):
    """What a purge makes of each archive if it begins at an instant, whatever it decided before."""
    purge_store = PurgeStore(object_store.client("purger"), unit.root.settings.store)
    run = RunIdentity(dag_id="retention_purge", run_id="scheduled__2036-01-01")

    def tried(now: datetime) -> set[str]:
        manifests = [require_manifest(unit.store, archive_named(table)) for table in TABLES]
        decided: list[Decision] = decide(manifests, [], now)
        assert all(one.purge for one in decided)
        given = {"run": run, "now": now, "claim_ttl": TTL}
        approval = Approval(approved=True, by=BY_POLICY, at=now)
        return {purge_archive(unit.store, purge_store, one, approval, **given).result for one in decided}

    return tried


def require_parents(unit: UnitChain) -> dict[str, int]:
    """No table has rows before its parent has all of them; the number of rows of each."""
    counts = {table: len(rows) for table, rows in rows_of_may(unit.conninfo).items()}
    for child, parent in PARENTS.items():
        assert not counts[child] or counts[parent] == ROWS[parent], counts
    return counts


def test_a_restore_of_a_unit_that_is_killed_at_each_batch_ends_whole(unit, place, tried_purges):
    """Every other process dies when it has committed a batch, before it has noted that; the others when they have noted that one."""
    before = rows_of(unit.conninfo)
    unit.run()
    planned = plan(unit.root, now=AFTER_THE_TERM)

    deaths, seen = 0, []
    for moment in itertools.cycle([1, 3]):
        process = load_in_a_process(place, planned, moment=moment)
        process.join(120)
        seen.append(require_parents(unit))
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL, (place.folder / "stderr").read_text()
        deaths += 1
        if deaths in (1, 5):
            assert tried_purges(AFTER_THE_TERM) == tried_purges(CLAIMS_ARE_OVER) == {"contended"}

    assert rows_of(unit.conninfo) == before
    assert deaths >= sum(-(-rows // BATCH_ROWS) for rows in ROWS.values())
    assert any(0 < counts["order_lines"] < ROWS["order_lines"] for counts in seen)
    parts = load(unit.root, planned)
    with unit.root.source() as connection:
        report = report_restore(connection, unit.store, planned, parts, now=AFTER_THE_TERM)
    assert (report.inserted + report.unchanged, report.different, report.results.get("unfinished")) == (520, 0, None)
    assert rows_of(unit.conninfo) == before


@pytest.mark.parametrize(("moment", "rows"), [(2, 100), (6, 270)], ids=["between two tables", "within a table"])
def test_a_unit_whose_restore_was_killed_is_restored_by_another_run(unit, place, tried_purges, moment, rows):
    """Nobody clears the first one. The second one waits for its claims, finds what is there, and brings the rest."""
    before = rows_of(unit.conninfo)
    unit.run()
    process = load_in_a_process(place, plan(unit.root, now=AFTER_THE_TERM), moment=moment)
    process.join(120)
    assert process.exitcode == -signal.SIGKILL, (place.folder / "stderr").read_text()
    assert sum(require_parents(unit).values()) == rows
    assert {one.reason for one in judge(unit.store, now=CLAIMS_ARE_OVER)} == {"contended"}

    report = restore(unit.root, "restore-2", now=CLAIMS_ARE_OVER)

    assert rows_of(unit.conninfo) == before
    assert (report.outcome, report.inserted, report.unchanged) == ("restored", 520 - rows, rows)
    assert tried_purges(CLAIMS_ARE_OVER + timedelta(days=29)) == {"contended"}


@pytest.mark.parametrize(("moment", "ended"), [(0, 1), (1, 0)], ids=["in a transaction", "after a commit"])
def test_a_restore_of_a_unit_that_stood_still_changes_nothing_that_another_restored(unit, place, moment, ended):
    """In a transaction it finds that it lost its claims. Between two parts it takes them again, and finds all rows there."""
    before = rows_of(unit.conninfo)
    unit.run()
    process = load_in_a_process(place, plan(unit.root), moment=moment, sent=signal.SIGSTOP)
    wait_until_stopped(process.pid)
    report = restore(unit.root, "restore-2", now=unit.now + 2 * TTL)
    assert rows_of(unit.conninfo) == before

    os.kill(process.pid, signal.SIGCONT)
    process.join(120)

    assert process.exitcode == ended
    assert ("ContendedError" in (place.folder / "stderr").read_text()) == bool(ended)
    assert rows_of(unit.conninfo) == before
    assert report.inserted + report.unchanged == 520
