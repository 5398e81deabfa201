"""One scenario: a ledger, a run with a fault at one moment, a recovery, and the comparison."""

from __future__ import annotations

import contextlib
import itertools
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from psycopg.conninfo import make_conninfo

from strongroom_local.servers.ports import LOOPBACK
from strongroom_local.servers.postgres import PostgresServer
from strongroom_local.servers.s3 import ObjectStore
from tests.support.chain import some_settings
from tests.support.database_proxy import DatabaseProxy
from tests.support.ledger import Ledger, Tally, examine, opened
from tests.support.logs import with_log
from tests.support.proxies import HoldingProxy, Moment, Watch, pass_all
from tests.system.faults.matrix import MATRIX
from tests.system.faults.processes import Ending, KillAt, step_process
from tests.system.faults.progress import TELLER
from tests.system.faults.steps import ARCHIVE_STEPS, CLAIM_TTL, Place, Steps

ROWS = 120
OUTSIDE = 20
RECOVERIES = ("retry", "clearing plan", "new run")
_SIDE_BY_SIDE = 4
_WAIT_SECONDS = 120

_numbers = itertools.count(1)
_One = TypeVar("_One")


def moment_of(boundary: str, side: str, pattern: str) -> Callable[[Moment], bool]:
    """A condition on a moment: its boundary, its side, and its text."""
    return lambda moment: (moment.boundary, moment.side) == (boundary, side) and bool(re.search(pattern, moment.what))


@dataclass
class Scene:
    """Servers, a database and a bucket."""

    postgres: PostgresServer
    object_store: ObjectStore
    conninfo: str
    bucket: str
    folder: Path

    def __post_init__(self) -> None:
        self.conninfo = make_conninfo(self.conninfo, connect_timeout=_WAIT_SECONDS)  # a busy machine may need a while

    def scenario(
        self,
        *,
        rows: int = ROWS,
        staging_on_s3: bool = False,
        open_ledger: Callable[..., Ledger] = opened,
        **settings: Any,
    ) -> Scenario:
        """A ledger on a fresh table, with its own prefix and staging. With staging on S3, each step also acts as another machine."""
        number = next(_numbers)
        folder = self.folder / str(number)
        folder.mkdir()
        table = f"audit_{number}"
        given: dict[str, Any] = {
            "part_rows": 70,
            "delete_batch_rows": 25,
            "scratch": str(folder / "scratch"),
            **settings,
        }
        staging = f"s3://{self.bucket}/{table}" if staging_on_s3 else folder / "staging"
        base = with_log(some_settings(self.bucket, staging, table, **given))
        store = base.store.model_copy(
            update={"prefix": table, "max_attempts": 1, "read_timeout_seconds": 60, "connect_timeout_seconds": 30}
        )
        place = Place(
            conninfo=self.conninfo,
            endpoint_url=self.object_store.endpoint_url,
            keys={identity: self.object_store.keys(identity) for identity in ("archiver", "purger", "stager")},
            settings=base.model_copy(update={"store": store}),
            folder=folder,
        )
        return Scenario(self, place, open_ledger(self.conninfo, table, rows))


@dataclass
class Scenario:
    """One table on its way through its run."""

    scene: Scene
    place: Place
    ledger: Ledger
    exit_code: int | None = None
    steps: Steps = field(init=False)

    def __post_init__(self) -> None:
        self.steps = Steps(self.place)

    def prepare(self, step: str, names: Sequence[str] = ARCHIVE_STEPS) -> None:
        """Run all steps before this one, undisturbed."""
        for name in itertools.takewhile(lambda name: name != step, names):
            self.steps.run(name)

    @contextlib.contextmanager
    def boundaries(self, watch: Watch = pass_all) -> Iterator[tuple[Place, HoldingProxy]]:
        """The place as reached through proxies."""
        postgres, store = self.scene.postgres, self.scene.object_store
        with (
            HoldingProxy(watch) as store_proxy,
            DatabaseProxy((postgres.host, postgres.port), watch) as database_proxy,
        ):
            store_proxy.forward_to(LOOPBACK, store.port)
            yield (
                replace(
                    self.place,
                    conninfo=database_proxy.conninfo(self.place.conninfo),
                    endpoint_url=store_proxy.endpoint_url,
                ),
                store_proxy,
            )

    def run_child(self, step: str, place: Place, ending: Ending | None = None) -> int:
        """Run one step in its own process until it ends in any way, and return its exit code."""
        process = step_process(place, step, ending)
        process.start()
        process.join(_WAIT_SECONDS)
        assert process.exitcode is not None, f"{step} neither ended nor was killed in {_WAIT_SECONDS} s"
        self.exit_code = process.exitcode
        return self.exit_code

    def record(self, step: str) -> list[Moment]:
        """The moments of an undisturbed run of a step."""
        seen: list[Moment] = []
        lock = threading.Lock()

        def watch(moment: Moment) -> bool:
            with lock:
                seen.append(moment)
            return True

        with self.boundaries(watch) as (place, _):
            assert self.run_child(step, place) == 0, self.said()
        return seen

    def kill_at(self, step: str, number: int, counted: Callable[[Moment], bool]) -> Moment:
        """Run a step and kill -9 it at the numbered moment among those that count. No message passes afterwards."""
        killing = KillAt(number, counted)
        with self.boundaries(killing) as (place, _):
            killed = killing.run(step_process(place, step), _WAIT_SECONDS)
        assert killed, f"{step} ended before moment {number}: {self.said()}"
        assert killing.moment is not None
        return killing.moment

    def recover(self, step: str, how: str, names: Sequence[str] = ARCHIVE_STEPS) -> None:
        """Finish the run as an operator of Airflow would."""
        if how == "retry":
            rest = tuple(itertools.dropwhile(lambda name: name != step, names))
            self.steps.run_all(rest)
            return
        if how == "new run":  # after the dead run's claim has expired
            self.place = replace(self.place, run_id=f"{self.place.run_id}-again", now=self.place.now + 2 * CLAIM_TTL)
            self.steps = Steps(self.place)
        self.steps.run_all(tuple(names))

    def examine(self, scenario: str, *, recovered: str, faults: int = 1, restored: bool = False) -> Tally:
        """Compare everything, record the result in the matrix, and fail if a row is wrong."""
        chain = replace(self.place, now=self.place.now + timedelta(days=1)).chain()
        tally = examine(self.ledger, chain, restored=restored)
        MATRIX.note(scenario, tally, recovered=recovered, faults=faults)
        tally.require_sound()
        return tally

    def require_all_archived(self) -> None:
        """Check that the run finished: no row of the window is left in the table."""
        assert len(self.ledger.live()) == OUTSIDE

    def said(self) -> str:
        """The output of the last process."""
        path = self.place.folder / "stderr"
        return path.read_text() if path.exists() else "nothing"


def side_by_side(work: Callable[[_One], None], given: Sequence[_One], *, at_once: int = _SIDE_BY_SIDE) -> None:
    """Do the same work for several items in parallel, and fail with the first failure."""

    def work_and_tell(one: _One) -> None:
        work(one)
        TELLER.moment()

    TELLER.moments(len(given))
    with ThreadPoolExecutor(at_once) as workers:
        for done in [workers.submit(work_and_tell, one) for one in given]:
            done.result()
