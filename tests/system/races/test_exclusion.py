"""Two runs want the same partition at the same moment. One gets it. A dead run's claim is taken over."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import psycopg
import pytest

from strongroom.errors import ClockError, ContendedError, IntegrityError, StrongroomError
from strongroom.ledger.claims import MOST_APART, claim_keeper, release_claim, running_clock, shared_clock, take_claim
from strongroom.ledger.holds import place_hold
from strongroom.ledger.manifests import read_manifest
from strongroom.object_keys.archives import ArchiveId
from strongroom.records import RunIdentity
from strongroom.retention.certificate import BY_POLICY, Approval, begun_purges
from strongroom.retention.decide import judge
from strongroom.retention.purge import purge_archive
from strongroom.settings import StoreSettings
from strongroom.storage.purge_store import PurgeStore
from strongroom.storage.store import Store
from tests.support import restoring
from tests.support.chain import NOW
from tests.system.faults.scenario import Scenario, Scene
from tests.system.faults.steps import ARCHIVE_STEPS, Steps

TTL = timedelta(hours=1)
KEY = "claims/public.audit/2026-05.json"
AFTER_ITS_TERM = NOW + timedelta(days=3000)
PURGE = RunIdentity(dag_id="retention_purge", run_id="a purge")


@pytest.fixture
def stores(object_store, bucket) -> tuple[Store, Store]:
    """One store, reached through two clients."""
    settings = StoreSettings(bucket=bucket)
    return Store(object_store.client("archiver"), settings), Store(object_store.client("archiver"), settings)


def at_once(*sides: Callable[[], Any]) -> list[Any]:
    """Start all sides at the same moment, and return what each returned or raised."""
    begin = threading.Barrier(len(sides))

    def run(side: Callable[[], Any]) -> Any:
        begin.wait()
        try:
            return side()
        except StrongroomError as error:
            return error

    with ThreadPoolExecutor(len(sides)) as workers:
        return list(workers.map(run, sides))


@pytest.mark.parametrize("times", [10, pytest.param(100, marks=pytest.mark.exhaustive)])
def test_of_two_that_begin_at_the_same_moment_one_works(stores, source, times):
    """Each inserts a row while it is inside and deletes it afterwards. The table has room for one row, so two would clash."""
    with psycopg.connect(source, autocommit=True) as session:
        session.execute("CREATE TABLE inside (one boolean PRIMARY KEY DEFAULT true, who text)")

    def work(number: int) -> str:
        owner = f"run {number}"
        take_claim(stores[number], KEY, owner=owner, now=NOW, ttl=TTL)
        with psycopg.connect(source, autocommit=True) as session:
            session.execute("INSERT INTO inside (who) VALUES (%s)", [owner])
            session.execute("DELETE FROM inside")
        return owner

    for _ in range(times):
        results = at_once(lambda: work(0), lambda: work(1))

        winners = [result for result in results if isinstance(result, str)]
        assert len(winners) == 1, results
        assert [type(result) for result in results if result not in winners] == [ContendedError]
        release_claim(stores[0], KEY, owner=winners[0], now=NOW)


def test_the_claim_of_a_dead_owner_is_taken_over_when_its_time_is_over_and_by_one_alone(stores):
    take_claim(stores[0], KEY, owner="dead", now=NOW, ttl=TTL)

    def take(number: int, now: datetime) -> str:
        return take_claim(stores[number], KEY, owner=f"run {number}", now=now, ttl=TTL).owner

    early = at_once(*(lambda number=number: take(number, NOW + TTL - timedelta(seconds=1)) for number in range(2)))
    late = at_once(*(lambda number=number: take(number, NOW + TTL) for number in range(2)))

    assert [type(one) for one in early] == [ContendedError] * 2
    assert sum(isinstance(one, str) for one in late) == 1, late
    assert sum(isinstance(one, ContendedError) for one in late) == 1, late


def test_an_owner_whose_claim_another_had_meanwhile_notices_though_it_was_given_back(stores):
    late = NOW + 2 * TTL
    take_claim(stores[0], KEY, owner="sleeper", now=NOW, ttl=TTL)
    keep_claim = claim_keeper(stores[0], [KEY], owner="sleeper", clock=running_clock(NOW), ttl=TTL)
    keep_claim()
    take_claim(stores[1], KEY, owner="other", now=late, ttl=TTL)
    release_claim(stores[1], KEY, owner="other", now=late)

    with pytest.raises(ContendedError, match=r"no longer held by sleeper.*other took it"):
        keep_claim()


def test_an_owner_that_works_for_long_renews_its_claim(stores):
    clock = iter([NOW + TTL * 0.4, *[NOW + TTL * 0.8] * 2])
    take_claim(stores[0], KEY, owner="worker", now=NOW, ttl=TTL)
    keep_claim = claim_keeper(stores[0], [KEY], owner="worker", clock=lambda: next(clock), ttl=TTL)

    keep_claim()
    keep_claim()

    with pytest.raises(ContendedError, match="held by worker"):
        take_claim(stores[1], KEY, owner="other", now=NOW + TTL * 1.7, ttl=TTL)


@pytest.mark.parametrize("jump", [timedelta(days=400), timedelta(days=-400), MOST_APART + timedelta(seconds=5)])
def test_a_machine_whose_clock_is_wrong_decides_nothing(stores, jump):
    """A fast clock would purge early and take over live claims. A slow clock would never take over a dead one."""
    with pytest.raises(ClockError, match=r"seconds apart(?s:.*)Nothing was changed"):
        shared_clock(stores[0], datetime.now(timezone.utc) + jump)


def test_machines_whose_clocks_differ_a_little_share_the_clock_of_the_store(stores):
    here = datetime.now(timezone.utc)

    clocks = [shared_clock(store, here + apart)() for store, apart in zip(stores, (-TTL / 15, TTL / 15), strict=True)]

    assert abs(clocks[0] - clocks[1]) < timedelta(minutes=1)


# ------------------------------------------------------------------------------------------- whole runs side by side


def _another(scenario: Scenario, run_id: str, **changes: Any) -> Steps:
    """Another run of the same partition, with its own records."""
    folder = scenario.place.folder / run_id
    folder.mkdir()
    return Steps(replace(scenario.place, run_id=run_id, folder=folder, **changes))


def test_two_runs_of_one_partition_at_once(scene: Scene):
    scenario = scene.scenario()
    runs = [scenario.steps, _another(scenario, "the other run")]

    results = at_once(*(lambda run=run: run.run_all(ARCHIVE_STEPS) for run in runs))

    assert sum(result is None for result in results) >= 1, results
    assert all(isinstance(result, ContendedError) for result in results if result is not None)
    for run in runs:
        run.run_all(ARCHIVE_STEPS)
    scenario.require_all_archived()
    scenario.examine("two runs of one partition at once", recovered="retry", faults=2)


def test_two_deployments_of_airflow_on_one_store(scene: Scene):
    """Their runs have the same names, so claims do not separate them. What they write does."""
    scenario = scene.scenario()
    folder = scenario.place.folder / "other deployment"
    folder.mkdir()
    settings = scenario.place.settings.model_copy(update={"staging": str(folder / "staging")})
    other = Steps(replace(scenario.place, folder=folder, settings=settings))

    results = at_once(
        lambda: scenario.steps.run_all(ARCHIVE_STEPS),
        lambda: other.run_all(ARCHIVE_STEPS),
    )

    assert all(result is None or isinstance(result, (IntegrityError, ContendedError)) for result in results), results
    scenario.recover("plan", "clearing plan")
    scenario.require_all_archived()
    scenario.examine("two deployments of Airflow on one store", recovered="clearing plan", faults=2)


@pytest.mark.exhaustive
@pytest.mark.parametrize("until", ["plan", "extract_to_staging", "verify", "seal", "delete"])
@pytest.mark.parametrize("jump", [2 * TTL, -2 * TTL])
def test_a_run_by_a_clock_that_jumped_beside_one_that_lives(scene: Scene, until, jump):
    """With a fast clock it takes over a live claim; with a slow one the other waits. Either way no row is wrong."""
    scenario = scene.scenario()
    scenario.prepare(until)
    other = _another(scenario, "jumped", now=scenario.place.now + jump)

    for run, names in ((other, ARCHIVE_STEPS), (scenario.steps, ARCHIVE_STEPS[ARCHIVE_STEPS.index(until) :])):
        try:
            run.run_all(names)
        except (ContendedError, IntegrityError):
            continue

    scenario.recover("plan", "new run")
    scenario.require_all_archived()
    scenario.examine("a clock that jumps between two runs of one partition", recovered="new run")


# --------------------------------------------------------------------------------------- restore, purge, hold, sweep


def _purge(scenario: Scenario, now: datetime = AFTER_ITS_TERM) -> list[Any]:
    place, store = scenario.place, scenario.steps.chain.store
    purge_store = PurgeStore(place.client("purger"), place.settings.store)
    yes = Approval(approved=True, by=BY_POLICY, at=now)
    given = {"run": PURGE, "now": now, "claim_ttl": TTL}
    return [purge_archive(store, purge_store, one, yes, **given).result for one in judge(store, now=now)]


def test_a_restore_against_an_archive_run(scene: Scene):
    """The second waits or finds what the first has left. Restored rows stay."""
    scenario = scene.scenario()
    scenario.steps.run_all(ARCHIVE_STEPS)
    run = _another(scenario, "again", now=NOW + TTL * 3)
    chain = replace(scenario.place, now=NOW + TTL * 3).chain()

    results = at_once(
        lambda: run.run_all(ARCHIVE_STEPS), lambda: restoring.restore(chain, "restore", now=NOW + TTL * 3)
    )

    if isinstance(results[1], ContendedError):
        restoring.restore(chain, "restore", now=NOW + TTL * 3)
    run.run_all(ARCHIVE_STEPS)
    assert len(scenario.ledger.live()) == len(scenario.ledger.rows), "they are needed for 30 days"
    scenario.examine("a restore against an archive run", recovered="retry", faults=2, restored=True)


def test_a_purge_against_a_restore(scene: Scene):
    """Either the archive is gone and no restore begins, or the restore is on record and the archive stays whole."""
    scenario = scene.scenario()
    scenario.steps.run_all(ARCHIVE_STEPS)
    chain = replace(scenario.place, now=AFTER_ITS_TERM).chain()

    purged, restored = at_once(
        lambda: _purge(scenario), lambda: restoring.restore(chain, "restore", now=AFTER_ITS_TERM)
    )

    gone = purged == ["purged"]
    assert isinstance(restored, StrongroomError) == gone, (purged, restored)
    if not gone:
        assert purged in (["contended"], [])
        scenario.examine("a purge against a restore", recovered="by itself", faults=2, restored=True)


def test_a_purge_against_a_new_hold(scene: Scene):
    """If placing a hold does not report a purge in progress, every object of the archive is still there."""
    scenario = scene.scenario()
    scenario.steps.run_all(ARCHIVE_STEPS)
    store, table = scenario.steps.chain.store, scenario.place.settings.qualified_name

    def hold() -> list[ArchiveId]:
        reasons = {"why": "a case", "who": "ada", "reference": "1/26", "now": AFTER_ITS_TERM}
        return begun_purges(store, place_hold(store, table, **reasons))

    before = set(store.keys("archives/"))
    purged, begun = at_once(lambda: _purge(scenario), hold)

    left = set(store.keys("archives/"))
    assert (left == before) or begun or purged == ["purged"], (purged, begun, before - left)
    if purged == ["held"] and not begun:
        assert left == before
        scenario.examine("a purge against a new hold", recovered="by itself", faults=2)
    else:
        assert purged in (["purged"], ["held"])


def test_an_archive_that_another_overtook_is_not_sealed(scene: Scene):
    """A run that is cleared long after another did its partition must not put later rows under the lower number."""
    scenario = scene.scenario()
    scenario.prepare("verify")
    scenario.steps.release()
    other = _another(scenario, "overtaking")
    other.run_all(ARCHIVE_STEPS)

    scenario.steps.run("verify")
    with pytest.raises(IntegrityError, match=r"overtaken.*0002"):
        scenario.steps.run("seal")

    assert read_manifest(scenario.steps.chain.store, _first_archive(scenario)) is None
    scenario.recover("plan", "clearing plan")
    scenario.require_all_archived()
    scenario.examine("a run that another overtook", recovered="clearing plan")


def _first_archive(scenario: Scenario) -> ArchiveId:
    return ArchiveId("public", scenario.ledger.table, "2026-05", 1)


COLUMN_AFTER = ("plan", "extract_to_staging", "upload", "verify", "seal")


@pytest.mark.exhaustive
@pytest.mark.parametrize("step", COLUMN_AFTER)
def test_a_column_that_is_added_in_mid_run(scene: Scene, step):
    """Rows archived without the column are not deleted. The newly planned run archives them with it."""
    scenario = scene.scenario()
    names = ARCHIVE_STEPS[: ARCHIVE_STEPS.index(step) + 1]
    scenario.steps.run_all(names)
    with psycopg.connect(scenario.ledger.conninfo, autocommit=True) as session:
        session.execute(f"ALTER TABLE {scenario.ledger.table} ADD note text DEFAULT 'nowhere else'")

    with pytest.raises(StrongroomError):
        scenario.steps.run_all(ARCHIVE_STEPS[len(names) :])

    assert len(scenario.ledger.live()) == len(scenario.ledger.rows)
    scenario.recover("plan", "clearing plan")
    scenario.require_all_archived()
    scenario.examine("a column that is added in mid-run", recovered="clearing plan")
