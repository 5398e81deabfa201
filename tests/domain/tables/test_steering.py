"""Orders to running steps: a pause in the middle of a delete, a throttle, a store that is down, and what steps tell."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from strongroom.archive.report import report_run
from strongroom.errors import ContendedError, IntegrityError, OutOfTimeError, PausedError, StagingError, StoreError
from strongroom.ledger.claims import running_clock
from strongroom.ledger.orders import Orders, Pause, Throttle, change_orders, pause_until, read_orders
from strongroom.records import DeletedPart, VerifiedPart
from strongroom.storage.purge_store import PurgeStore
from strongroom.storage.staging_folder import FolderRoot
from strongroom.tables import steering
from strongroom.tables.steering import Steered, StepProgress, progress_name
from tests.support.chain import NOW, Chain, some_settings
from tests.support.database import execute, scalar

ORDERS_KEY = "claims/orders/public.audit.json"

TABLE = """
CREATE TABLE audit (id bigint PRIMARY KEY, at timestamptz NOT NULL, who text);
INSERT INTO audit SELECT n, '2026-05-02 00:00+00', 'agent ' || n FROM generate_series(1, 40) AS n;
"""


@pytest.fixture(autouse=True)
def _quick(monkeypatch) -> None:
    """Orders are read, and progress is written, more often than outside tests."""
    monkeypatch.setattr(steering, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(steering, "TELL_SECONDS", 0.05)
    monkeypatch.setattr(steering, "_SLICE_SECONDS", 0.01)


@pytest.fixture
def chain(source, object_store, bucket, tmp_path) -> Chain:
    execute(source, TABLE)
    settings = some_settings(bucket, tmp_path, delete_batch_rows=4)
    return Chain(source, object_store.client("archiver"), settings, steered=True)


@pytest.fixture
def part(chain) -> VerifiedPart:
    """The one part of a sealed archive of all forty rows."""
    [part] = chain.seal(chain.plan()).parts
    return part


def order(chain: Chain, **changes: Any) -> Orders:
    return change_orders(chain.store, chain.settings, lambda orders: orders.model_copy(update=changes))


def a_pause(chain: Chain, **changes: Any) -> Pause:
    given = {"who": "ada", "why": "an index is built", "since": NOW, "until": pause_until(chain.settings, NOW)}
    return Pause(**given | changes)


def rows_left(chain: Chain) -> int:
    return int(scalar(chain.conninfo, "SELECT count(*) FROM audit"))


def comes(condition: Callable[[], Any]) -> Any:
    """Whether something comes true within a time that is long enough on a busy machine."""
    return next((found for _ in range(3000) if (found := condition()) or time.sleep(0.02)), None)


def _fail() -> None:
    raise StoreError("the store did not answer", hint="Try again.")


def _lose() -> None:
    raise ContendedError("contended: another run has it", hint="Nothing was changed.")


class Deleting(threading.Thread):
    """A delete in a thread of its own. Before its third batch the table is paused."""

    def __init__(self, chain: Chain, part: VerifiedPart, at_third: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self.chain, self.part, self.claims = chain, part, 0
        self.outcome: DeletedPart | BaseException | None = None
        self._at_third = at_third
        chain.keep_claim = self._keep_claim

    def _keep_claim(self) -> None:
        self.claims += 1
        if self.claims == 3:
            self._at_third()
            time.sleep(0.3)  # the thread that reads orders has read them before the batch ends

    def run(self) -> None:
        try:
            self.outcome = self.chain.delete(self.part)
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.outcome = error

    def told(self) -> StepProgress | None:
        with self.chain.staging(self.part.archive_id) as staging:
            return staging.kept(progress_name("delete", 0), StepProgress)

    def waits(self) -> StepProgress | None:
        progress = self.told()
        return progress if progress is not None and progress.waits else None


@pytest.fixture
def paused(chain, part) -> Iterator[Deleting]:
    """A delete that has come to a pause after three of its batches."""
    deleting = Deleting(chain, part, lambda: order(chain, pause=a_pause(chain)))
    deleting.start()
    assert comes(deleting.waits)
    yield deleting
    order(chain, pause=None)
    deleting.join(timeout=60)
    assert not deleting.is_alive()


def test_a_paused_delete_finishes_its_batch_and_goes_on_when_it_is_resumed(paused, chain):
    progress = paused.told()

    assert rows_left(chain) == 40 - 3 * 4
    assert (progress.done_rows, progress.rows) == (12, 40)
    assert progress.waits == "paused by ada at 2026-11-23 12:00 UTC: an index is built"
    order(chain, pause=None)
    paused.join(timeout=60)

    assert isinstance(paused.outcome, DeletedPart), paused.outcome
    assert (paused.outcome.deleted, paused.outcome.batches, rows_left(chain)) == (40, 10, 0)


def test_a_paused_delete_has_no_transaction_no_lock_and_no_snapshot_and_keeps_its_claim(paused, chain):
    before = paused.claims
    mine = "FROM pg_stat_activity a WHERE application_name = 'test audit'"

    state = scalar(
        chain.conninfo, f"SELECT state || coalesce(backend_xmin::text, '') || coalesce(xact_start::text, '') {mine}"
    )
    locks = scalar(chain.conninfo, f"SELECT (SELECT count(*) FROM pg_locks l WHERE l.pid = a.pid) {mine}")

    assert (state, locks) == ("idle", 0)
    assert comes(lambda: paused.claims > before + 1)


def test_rows_that_change_in_a_pause_stay(paused, chain):
    with psycopg.connect(chain.conninfo, autocommit=True) as other:
        changed = other.execute("UPDATE audit SET who = 'changed in the pause'").rowcount
        other.execute("DELETE FROM audit WHERE id = (SELECT max(id) FROM audit)")
    order(chain, pause=None)
    paused.join(timeout=60)

    assert (changed, rows_left(chain)) == (28, 27)
    assert (paused.outcome.deleted, paused.outcome.changed, paused.outcome.gone) == (12, 27, 1)


def test_a_column_that_is_added_in_a_pause_stops_the_delete(paused, chain):
    execute(chain.conninfo, "ALTER TABLE audit ADD note text")
    order(chain, pause=None)
    paused.join(timeout=60)

    assert "changed its columns or key" in str(paused.outcome)
    assert rows_left(chain) == 28


def test_a_claim_that_is_lost_and_a_time_that_is_over_end_a_pause(chain, part):
    order(chain, pause=a_pause(chain))

    chain.keep_claim = _lose
    with pytest.raises(ContendedError):
        chain.delete(part)
    chain.keep_claim, chain.stop_at = lambda: None, NOW + timedelta(seconds=0.5)
    with pytest.raises(OutOfTimeError):
        chain.delete(part)
    assert rows_left(chain) == 40


def test_a_store_that_is_down_in_a_pause_does_not_end_it(chain, part):
    calls: list[int] = []

    def keep_claim() -> None:
        calls.append(1)
        if len(calls) < 3:
            raise StoreError("the store did not answer", hint="Try again.")
        order(chain, pause=None)

    order(chain, pause=a_pause(chain))
    chain.keep_claim = keep_claim

    assert chain.delete(part).deleted == 40


def test_a_pause_that_is_forgotten_ends_in_an_error_that_says_how_to_go_on(chain, part):
    order(chain, pause=a_pause(chain, until=NOW + timedelta(seconds=0.3)))

    with pytest.raises(PausedError, match="paused by ada") as caught:
        chain.delete(part)

    assert "airflow strongroom resume audit" in str(caught.value)
    assert not caught.value.retryable
    assert rows_left(chain) == 40
    order(chain, pause=None)
    assert chain.delete(part).deleted == 40


def test_a_part_is_not_begun_in_a_pause(chain):
    plan = chain.plan()
    order(chain, pause=a_pause(chain, until=NOW + timedelta(seconds=0.3)))

    with pytest.raises(PausedError):
        chain.extract(plan.parts[0])

    with chain.staging(plan.archive_id) as staging:
        assert not list(staging.folder.glob("*.lines*"))
    order(chain, pause=None)
    assert chain.extract(plan.parts[0]).rows == 40


def test_a_part_that_waited_is_dated_when_it_was_read(chain):
    plan = chain.plan()
    order(chain, pause=a_pause(chain))
    chain.keep_claim = lambda: order(chain, pause=None)

    assert chain.extract(plan.parts[0]).extracted_at > NOW


def test_no_partition_is_detached_in_a_pause(source, object_store, bucket, tmp_path):
    execute(
        source,
        "CREATE TABLE audit (id bigint, at timestamptz NOT NULL, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);"
        "CREATE TABLE may PARTITION OF audit FOR VALUES FROM ('2026-05-01+00') TO ('2026-06-01+00');"
        "INSERT INTO audit SELECT n, '2026-05-02Z' FROM generate_series(1, 40) AS n",
    )
    settings = some_settings(bucket, tmp_path, partition_delete={"enabled": True})
    chain = Chain(source, object_store.client("archiver"), settings, steered=True)
    parts = chain.seal(chain.plan()).parts
    order(chain, pause=a_pause(chain, until=NOW + timedelta(seconds=0.3)))

    with pytest.raises(PausedError):
        chain.detach(parts)

    assert scalar(source, "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'strongroom%%'") == 0
    order(chain, pause=None)
    assert [one.partition for one in chain.detach(parts).detached] == ["public.may"]


def test_a_throttle_makes_batches_smaller_and_waits_between_them(chain, part, monkeypatch):
    """Two rows in a batch of a fortieth of a second each, instead of four at once."""
    slept: list[float] = []
    real = time.sleep
    monkeypatch.setattr(steering.time, "sleep", lambda seconds: slept.append(seconds) or real(seconds))
    order(chain, throttle=Throttle(rows_per_second=2, who="ada", why="a busy hour", since=NOW))
    deleting = Deleting(chain, part, lambda: order(chain, throttle=None))
    deleting.start()
    deleting.join(timeout=60)

    assert isinstance(deleting.outcome, DeletedPart), deleting.outcome
    assert slept.count(0.01) > 1  # a batch of two rows takes a second: a hundred slices, or a few on a busy machine
    assert deleting.outcome.batches > 10  # ten without the throttle
    assert deleting.outcome.deleted == 40


def steered(chain: Chain, staging: Any, *, store: Any = None, kind: type[Steered] = Steered) -> Any:
    progress = StepProgress(
        step="delete", archive_id="a", number=0, run="r", host="h", rows=40, began_at=NOW, told_at=NOW
    )
    return kind(store or chain.store, staging, chain.settings, progress, clock=running_clock(NOW))


def test_the_last_known_orders_count_while_the_store_is_down(chain, tmp_path, monkeypatch):
    down = threading.Event()
    real = chain.store.read

    def read(*place: Any, **how: Any) -> Any:
        if down.is_set():
            raise StoreError("the store did not answer", hint="Try again.")
        return real(*place, **how)

    monkeypatch.setattr(chain.store, "read", read)
    order(chain, throttle=Throttle(rows_per_second=7, who="ada", why="a busy hour", since=NOW))

    with steered(chain, FolderRoot(tmp_path).of("a")) as one:
        down.set()
        time.sleep(0.2)
        assert one.most_rows == 7
        down.clear()
        order(chain, throttle=None)
        assert comes(lambda: one.most_rows is None)


def test_a_store_that_does_not_answer_keeps_no_step_waiting(chain, tmp_path, monkeypatch):
    """The thread that reads hangs; the step goes on, and ends."""
    hangs, looked = threading.Event(), threading.Event()
    real = chain.store.read

    def read(*place: Any, **how: Any) -> Any:
        if looked.is_set():
            hangs.wait(30)
        looked.set()
        return real(*place, **how)

    monkeypatch.setattr(chain.store, "read", read)
    with steered(chain, FolderRoot(tmp_path).of("a")) as one:
        time.sleep(0.2)
        assert one.wait(lambda: None) is False
    hangs.set()


def test_progress_that_cannot_be_written_fails_no_step(chain, part, monkeypatch, caplog):
    caplog.set_level("INFO", logger="strongroom.tables.steering")
    real = steering.Staging.keep

    def keep(self: Any, name: str, record: Any) -> None:
        if isinstance(record, StepProgress):
            raise StagingError("the disk is full", hint="Free space.")
        real(self, name, record)

    monkeypatch.setattr(steering.Staging, "keep", keep)
    order(chain, pause=a_pause(chain))
    deleting = Deleting(chain, part, lambda: None)
    deleting.start()
    said = comes(lambda: [one for one in caplog.messages if "cannot be written (the disk is full)" in one])
    order(chain, pause=None)
    deleting.join(timeout=60)

    assert said
    assert isinstance(deleting.outcome, DeletedPart)


def test_progress_tells_speed_and_what_is_left(chain, tmp_path):
    with steered(chain, FolderRoot(tmp_path).of("a")) as one:
        one.tell(done_rows=0)
        time.sleep(0.1)
        one.tell(done_rows=10)
        staging = FolderRoot(tmp_path).of("a")

        def told_of_ten() -> StepProgress | None:
            progress = staging.kept(progress_name("delete", 0), StepProgress)
            return progress if progress is not None and progress.done_rows == 10 else None

        told = comes(told_of_ten)

    assert told is not None
    assert told.seconds_left == pytest.approx(30 / told.rows_per_second)


def test_progress_in_staging_on_s3_is_read_by_another_machine_and_goes_with_the_run(
    source, object_store, bucket, tmp_path
):
    execute(source, TABLE)
    changes = {"delete_batch_rows": 4, "scratch": str(tmp_path)}
    settings = some_settings(bucket, f"s3://{bucket}/scratch", **changes)
    clients = {"client": object_store.client("archiver"), "staging_client": object_store.client("stager")}
    chain = Chain(source, settings=settings, steered=True, **clients)
    plan = chain.plan()
    sealed = chain.seal(plan)
    deleting = Deleting(chain, sealed.parts[0], lambda: order(chain, pause=a_pause(chain)))
    deleting.start()

    told = comes(deleting.waits)  # each look has a staging of its own, as on another machine
    order(chain, pause=None)
    deleting.join(timeout=60)
    with chain.staging(str(plan.archive_id)) as staging:
        report_run(chain.store, staging, plan, sealed.parts, [deleting.outcome], now=NOW)

    assert (told.done_rows, told.rows, told.waits[:13]) == (12, 40, "paused by ada")
    assert isinstance(deleting.outcome, DeletedPart)
    assert list(PurgeStore(chain.staging_client, settings.staging_store).versions("staging/")) == []


DAMAGED = {
    "not JSON": b"slip",
    "cut": b'{"throttle": null, "pau',
    "empty": b"",
    "of another version": b'{"throttle": null, "pause": null, "format_version": 2}',
    "of wrong types": b'{"throttle": {"rows_per_second": "fast", "who": "b", "why": "w", "since": "2026-11-23T12:00:00Z"}}',
    "a list": b"[]",
}


def damage(chain: Chain, body: bytes = DAMAGED["not JSON"]) -> None:
    """Write over the orders, whatever they are, as whoever may write the store can."""
    present = chain.store.read(ORDERS_KEY)
    assert chain.store.swap(ORDERS_KEY, body, etag=None if present is None else present[1])


@pytest.mark.parametrize("body", DAMAGED.values(), ids=DAMAGED)
def test_damaged_orders_hold_a_step_as_a_pause_does_until_an_order_replaces_them(chain, part, body):
    damage(chain, body)
    with pytest.raises(IntegrityError, match=r"claims/orders/public\.audit\.json is not a sound record of orders"):
        read_orders(chain.store, chain.settings)
    deleting = Deleting(chain, part, lambda: None)
    deleting.start()

    told = comes(deleting.waits)
    left = rows_left(chain)
    order(chain, throttle=None)
    deleting.join(timeout=60)

    assert "its orders are damaged: s3://" in told.waits
    assert "`airflow strongroom resume audit` replaces it" in told.waits
    assert left == 40
    assert isinstance(deleting.outcome, DeletedPart), deleting.outcome
    assert read_orders(chain.store, chain.settings) == Orders()


def test_a_pause_whose_object_is_damaged_stays_one(paused, chain):
    damage(chain)

    told = comes(lambda: (progress := paused.waits()) and "are damaged" in progress.waits and progress)
    time.sleep(0.3)

    assert told.done_rows == 12
    assert rows_left(chain) == 28


def test_orders_that_stay_damaged_end_in_an_error_that_names_object_and_command(chain, part):
    damage(chain)
    chain.settings = chain.settings.model_copy(update={"pause_limit_seconds": 1})

    with pytest.raises(
        PausedError, match=r"its orders are damaged: s3://.*claims/orders/public\.audit\.json"
    ) as caught:
        chain.delete(part)

    assert "`airflow strongroom resume audit`" in str(caught.value)
    assert rows_left(chain) == 40
    order(chain, throttle=Throttle(rows_per_second=10_000, who="ada", why="night", since=NOW))
    assert chain.delete(part).deleted == 40


def test_orders_that_are_too_long_to_be_any_are_not_read_and_an_order_replaces_them(chain):
    """Each step would read them every two seconds."""
    damage(chain, b"{}" + b" " * 65_536)

    with pytest.raises(
        IntegrityError, match=r"claims/orders/public\.audit\.json is larger than any object of its kind"
    ):
        read_orders(chain.store, chain.settings)

    assert order(chain, throttle=None) == read_orders(chain.store, chain.settings) == Orders()


def test_no_pause_holds_a_step_longer_than_the_settings_allow_whatever_is_written_into_it(chain, part):
    """By somebody who may write the store, or while `pause_limit_seconds` was longer."""
    order(chain, pause=a_pause(chain, until=NOW + timedelta(days=9_000)))
    chain.settings = chain.settings.model_copy(update={"pause_limit_seconds": 1})

    with pytest.raises(PausedError, match=r"resume audit` until 2026-11-"):
        chain.delete(part)

    assert rows_left(chain) == 40


def test_damaged_orders_still_count_while_the_store_is_down(chain, tmp_path, monkeypatch):
    damage(chain)
    down = threading.Event()

    with steered(chain, FolderRoot(tmp_path).of("a")) as one:
        monkeypatch.setattr(chain.store, "read", lambda *_, **__: down.set() or _fail())
        assert down.wait(60)
        with pytest.raises(ContendedError):
            one.wait(_lose)


class ReplacedMeanwhile(Steered):
    """Whose damaged orders are replaced with a pause, and read, while it looks at what it knows."""

    replace: Callable[[], object] | None = None
    _known = Orders()

    @property
    def orders(self) -> Orders:
        known, replace, self.replace = self._known, self.replace, None
        if replace is not None:
            replace()
            self._look()
        return known

    @orders.setter
    def orders(self, orders: Orders) -> None:
        self._known = orders


def test_a_pause_that_replaces_damaged_orders_holds_the_very_next_batch(chain, tmp_path):
    damage(chain)

    with steered(chain, FolderRoot(tmp_path).of("a"), kind=ReplacedMeanwhile) as one:
        one.replace = lambda: order(chain, pause=a_pause(chain))
        with pytest.raises(ContendedError):
            one.wait(_lose)


def test_two_who_change_orders_at_once_lose_nothing(chain):
    one = lambda number: order(  # noqa: E731
        chain,
        **(
            {"pause": a_pause(chain)}
            if number
            else {"throttle": Throttle(rows_per_second=9, who="b", why="w", since=NOW)}
        ),
    )
    both = [threading.Thread(target=one, args=(number,)) for number in range(2)]
    for each in both:
        each.start()
    for each in both:
        each.join(timeout=30)

    orders = read_orders(chain.store, chain.settings)
    assert orders.pause is not None
    assert orders.throttle is not None
