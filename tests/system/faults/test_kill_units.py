"""Kill -9 while a unit of four tables is sealed and deleted: whole objects stay, or are in sealed archives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from psycopg.conninfo import make_conninfo

from strongroom.ledger.manifests import read_manifest
from strongroom.settings.units import UnitSettings
from strongroom_local.servers.ports import LOOPBACK
from tests.support.database import execute
from tests.support.database_proxy import DatabaseProxy
from tests.support.ledger import Tally
from tests.support.logs import with_log
from tests.support.proxies import HoldingProxy, Moment
from tests.support.restoring import restore
from tests.support.units import ORDERS, TABLES, UnitChain, archive_named, rows_of, rows_of_may, unit_settings
from tests.system.faults.matrix import MATRIX
from tests.system.faults.processes import KillAt
from tests.system.faults.scenario import moment_of
from tests.system.faults.steps import Place
from tests.system.faults.unit_steps import UnitRun, unit_process

_WAIT_SECONDS = 120
RECOVERIES = ("retry", "clearing plan")


@dataclass
class Stage:
    """Servers on which a run of a unit is broken."""

    postgres: Any
    object_store: Any
    conninfo: str
    bucket: str
    folder: Path

    def begin(self) -> UnitRun:
        """A run up to ``verify``."""
        execute(self.conninfo, ORDERS)
        settings = []
        for one in unit_settings(self.bucket, self.folder / "staging", delete_batch_rows=40, scratch=str(self.folder)):
            logged = with_log(one)
            store = logged.store.model_copy(update={"max_attempts": 1})
            settings.append(logged.model_copy(update={"store": store}).in_unit(UnitSettings(TABLES)))
        keys = {identity: self.object_store.keys(identity) for identity in ("archiver", "purger", "stager")}
        place = Place(self.conninfo, self.object_store.endpoint_url, keys, settings[0], self.folder)
        chain = UnitChain(self.conninfo, place.client("archiver"), settings)
        plan = chain.plan()
        return UnitRun(place, tuple(settings), plan, tuple(chain.verified(plan)))

    def kill_at(self, run: UnitRun, step: str, number: int, counted: Callable[[Moment], bool]) -> None:
        """Kill -9 a step at the numbered moment among those that count. No message passes afterwards."""
        killing = KillAt(number, counted)
        with (
            HoldingProxy(killing) as store_proxy,
            DatabaseProxy((self.postgres.host, self.postgres.port), killing) as database_proxy,
        ):
            store_proxy.forward_to(LOOPBACK, self.object_store.port)
            conninfo, endpoint_url = database_proxy.conninfo(self.conninfo), store_proxy.endpoint_url
            through = run.through(replace(run.place, conninfo=conninfo, endpoint_url=endpoint_url))
            killed = killing.run(unit_process(through, step), _WAIT_SECONDS)
        assert killed, (run.place.folder / "stderr").read_text()


@pytest.fixture
def stage(postgres, object_store, source, bucket, tmp_path) -> Stage:
    return Stage(postgres, object_store, make_conninfo(source, connect_timeout=_WAIT_SECONDS), bucket, tmp_path)


MANIFEST = r"PUT .*/metadata/.*2026-05"
TELLING = {
    "seal, before the first manifest is stored": ("seal", 0, ("store", "request", MANIFEST)),
    "seal, when the first manifest is stored": ("seal", 0, ("store", "answer", MANIFEST)),
    "seal, before the last manifest is stored": ("seal", 3, ("store", "request", MANIFEST)),
    "seal, when the last manifest is stored": ("seal", 3, ("store", "answer", MANIFEST)),
    "delete, when a batch of children is committed": ("delete", 1, ("database", "answer", "^COMMIT")),
    "delete, when the evidence of a level is stored": (
        "delete",
        0,
        ("store", "answer", r"PUT .*/delete-part-.*\.json"),
    ),
    "delete, before the last batch is committed": ("delete", 11, ("database", "request", "^COMMIT")),
    "delete, when the evidence of the root is stored": (
        "delete",
        3,
        ("store", "answer", r"PUT .*/delete-part-.*\.json"),
    ),
}


ALWAYS = ("seal, before the last manifest is stored", "delete, when the evidence of a level is stored")


@pytest.mark.parametrize(
    "name", [name if name in ALWAYS else pytest.param(name, marks=pytest.mark.exhaustive) for name in TELLING]
)
def test_a_unit_killed_at_a_telling_moment_loses_nothing(stage: Stage, name):
    step, moment, what = TELLING[name]
    run = stage.begin()
    if step == "delete":
        run.seal()
    before, of_may = rows_of(stage.conninfo), rows_of_may(stage.conninfo)

    stage.kill_at(run, step, moment, moment_of(*what))

    require_whole(run, before)
    recover(run, step, how := RECOVERIES[[*TELLING].index(name) % len(RECOVERIES)])
    require_all_archived(run, before, of_may)
    at_risk = sum(map(len, of_may.values()))
    examine(run, before, f"kill -9 of {step} of a unit of four tables", at_risk=at_risk, how=how)


def require_whole(run: UnitRun, before: dict[str, list[Any]]) -> None:
    """Before all archives of the unit are sealed, no row has left; afterwards no child has lost the row that it refers to."""
    sealed = [read_manifest(run.chain().store, archive_named(table)) is not None for table in TABLES]
    if not all(sealed):
        assert rows_of(run.place.conninfo) == before


def recover(run: UnitRun, step: str, how: str) -> None:
    """Finish the run as an operator would. A plan that is cleared finds what is sealed, or begins anew."""
    if how == "retry":
        if step == "seal":
            run.seal()
        run.delete()
        return
    run.chain().run()


def require_all_archived(run: UnitRun, before: dict[str, list[Any]], of_may: dict[str, list[Any]]) -> None:
    assert rows_of(run.place.conninfo) == {
        table: [row for row in rows if row not in of_may[table]] for table, rows in before.items()
    }


def examine(run: UnitRun, before: dict[str, list[Any]], scenario: str, *, at_risk: int, how: str) -> None:
    """Restore all archives of the month, and compare every row of every table with what it was."""
    restore(run.chain().root)
    after = rows_of(run.place.conninfo)
    lost = [row for table, rows in before.items() for row in rows if row not in after[table]]
    more = [row for table, rows in after.items() for row in rows if row not in before[table]]
    MATRIX.note(scenario, Tally(at_risk=at_risk, kept=0, lost=lost, resurrected=more), recovered=how)
    assert after == before
