"""The steps of a unit that let rows leave their tables, each as a process of its own that can be killed."""

from __future__ import annotations

import multiprocessing
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from strongroom.records import ArchivePlan, VerifiedPart
from strongroom.settings import TableSettings
from tests.support.units import UnitChain
from tests.system.faults.steps import Place

_FORKSERVER = multiprocessing.get_context("forkserver")


@dataclass(frozen=True)
class UnitRun:
    """A run of a unit after ``verify``: where it works, what was planned, and the parts, children first."""

    place: Place
    settings: tuple[TableSettings, ...]
    plan: ArchivePlan
    parts: tuple[VerifiedPart, ...]

    def chain(self) -> UnitChain:
        """The unit's steps, as the place reaches its servers."""
        return UnitChain(self.place.conninfo, self.place.client("archiver"), [*self.settings], now=self.place.now)

    def through(self, place: Place) -> UnitRun:
        """The same run behind proxies."""
        return replace(self, place=place)

    def seal(self) -> None:
        self.chain().seal_parts(self.plan, [*self.parts])

    def delete(self) -> None:
        """Delete the rows of all parts that are sealed, children first, and report."""
        chain = self.chain()
        chain.finish(self.plan, chain.sealed(self.plan))


def unit_process(run: UnitRun, step: str) -> Any:
    """A process that will run one step of a unit. The caller starts it."""
    _FORKSERVER.set_forkserver_preload(["tests.system.faults.warm"])
    return _FORKSERVER.Process(target=_run, args=(run, step, run.place.folder / "stderr"), daemon=True)


def _run(run: UnitRun, step: str, said: Path) -> None:
    sys.stderr = said.open("w")
    getattr(run, step)()
