"""`make mutants`: make one small change at a time to the code that guards the delete, and check that a test fails.

The servers start once. Each mutant is tested in its own process, forked from one that has imported all slow modules.
Survivors are printed. Mutants that no test can tell from the original are listed in ``equivalent.py`` with a reason.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import select
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from bench.mutants.equivalent import EQUIVALENT
from bench.mutants.making import Mutant, make_mutants
from strongroom_local.servers.postgres import PostgresServer
from strongroom_local.servers.s3 import ObjectStore
from tests.support.repository import REPOSITORY

TARGETS: dict[str, tuple[str, ...]] = {
    "strongroom.archive.delete": (),
    "strongroom.tables.delete_batch": (),
    "strongroom.tables.delete_range": (),
    "strongroom.tables.block_ranges": (),
    "strongroom.tables.equal_blocks": (),
    "strongroom.tables.delete_progress": (),
    "strongroom.tables.archived_rows": (),
    "strongroom.tables.pace": (),
    "strongroom.formats.blocks": (),
    "strongroom.formats.copy_text": ("instant_of",),
    "strongroom.ledger.deletable": (),
    "strongroom.database.key_batch": (),
    "strongroom.database.questions": (),
    "strongroom.database.inspect": ("inspect_unchanged", "inspect_again"),
    "strongroom.database.rows": ("references_that_keep", "dated_inside"),
    "strongroom.database.paths": (),
    "strongroom.database.units": (),
    "strongroom.ledger.units": (),
    "strongroom.calendar": ("Window.covers", "Window.overlaps"),
    "strongroom.ledger.evidence": ("detached_windows", "covers", "parse_evidence"),
    "strongroom.ledger.manifests": ("require_part_of", "require_object"),
    "strongroom.ledger.restore_records": ("require_wanted",),
    "strongroom.tables.guard": (),
    "strongroom.tables.compare": (),
    "strongroom.retention.drop_detached": (),
    "strongroom.retention.drop_warm": (),
    "strongroom.retention.warm_rows": (),
    "strongroom.retention.policy": (),
    "strongroom.ledger.configuration": ("notice_change", "past_settings", "_values", "_Known"),
}
"""Modules, and those of their functions and methods that the delete depends on. An empty entry means all."""

_DELETE, _DETACH, _UNITS = (f"tests/domain/archive/{folder}" for folder in ("delete", "detach", "units"))
_SUCCESSOR = "tests/domain/erasure/test_erasure.py::test_a_successor_lets_no_row_leave_the_table"
_KEPT_SETTINGS = "tests/domain/ledger/test_journal.py::test_a_store_without_a_log_keeps_settings_too_and_what_changed"
_POLICY = "tests/domain/retention/test_policy.py"
TESTS = {
    **dict.fromkeys(TARGETS, (_DELETE,)),
    "strongroom.database.rows": (_UNITS, _DELETE),
    "strongroom.database.paths": (_UNITS, _DELETE),
    "strongroom.database.units": ("tests/domain/database/test_units.py", _UNITS),
    "strongroom.ledger.units": ("tests/domain/ledger/test_units.py", _UNITS),
    "strongroom.ledger.deletable": (f"{_UNITS}/test_archive.py", _DELETE, _SUCCESSOR),
    "strongroom.database.questions": ("tests/domain/database/test_questions.py", _DELETE),
    "strongroom.tables.pace": ("tests/domain/tables/test_pace.py", "tests/domain/database/test_replica.py"),
    "strongroom.tables.block_ranges": ("tests/domain/tables/test_block_ranges.py",),
    "strongroom.tables.equal_blocks": ("tests/domain/tables/test_equal_blocks.py",),
    "strongroom.formats.copy_text": (
        "tests/domain/formats/test_copy_text.py",
        "tests/domain/tables/test_block_ranges.py",
    ),
    "strongroom.formats.blocks": ("tests/domain/formats/test_blocks.py", _DELETE),
    "strongroom.calendar": (_DELETE, _DETACH),
    "strongroom.tables.guard": ("tests/domain/tables/test_guard.py", _DETACH),
    "strongroom.tables.compare": (_DETACH,),
    "strongroom.retention.drop_detached": (_DETACH,),
    "strongroom.retention.drop_warm": ("tests/domain/tables/test_warm.py",),
    "strongroom.retention.warm_rows": ("tests/domain/retention/test_warm_rows.py",),
    "strongroom.retention.policy": (_POLICY,),
    "strongroom.ledger.configuration": (_KEPT_SETTINGS, _POLICY),
}
"""The tests that must fail for a mutant of a module, fastest first."""

FIRST = {
    "BatchDelete._move": "to_the_warm_table or warm_before",
    "move_statement": "to_the_warm_table or warm_before",
    "settle": "earlier_try or server_knows or broke_off",
    "_status": "earlier_try or server_knows or broke_off",
    "require_wanted": "restored_and_are_needed",
    "_Deleting._delete": "takes_the_batch_back or waits_too_long or deadlock",
    "_Deleting._try": "takes_the_batch_back or waits_too_long or kept_somebody_waiting or broke_off",
    "_Deleting._earlier_progress": "broke_off or gone_on_with",
    "_keep_evidence": "evidence_says_so",
    "_Deleting._require_unchanged": "takes_the_batch_back or does_no_harm or broke_off",
    "Questions": "noticed or asked_again or changes_no_answer or takes_the_batch_back",
    "BatchDelete._kept_rows": "told_apart",
    "_kept_query": "told_apart",
    "BatchDelete._leave_out_detached": "detached",
    "detached_windows": "detached",
    "covers": "detached",
    "Window.covers": "detached",
    "Window.overlaps": "share_an_instant",
    "dated_inside": "detached",
    "DeleteProgress": "told_apart or broke_off or each_kind or only_so_many",
    "require_part_of": "does_not_bear_out",
    "require_object": "no_longer_the_one",
    "restore_blocks": "made_anew or blocks_back",
    "read_blocks": "made_anew or blocks_back",
    "_cut_again": "made_anew or blocks_back",
    "archived_texts": "all_are_read or made_anew",
    "blocks_read_back": "as_blocks",
    "ArchivedKeys": "told_apart",
    "KeysInTurn": "told_apart or by_range",
    "_Deleting._by_range": "by_range",
    "_Deleting._delete_block": "by_range",
    "_Deleting._leave_out": "by_range",
    "_Deleting._rows_without_range": "by_range",
    "_Deleting._next_blocks": "by_range",
    "_ranges": "by_range",
    "ranges_of": "test_block_ranges",
    "BlockRange": "test_block_ranges",
    "delete_range": "by_range or test_warm",
    "references_that_keep": "meanwhile or complaint or told_apart",
    "matches": "told_apart or comes_to_be_referred_to or collation",
    "object_references": "complaint or outside",
    "way_up": "complaint or outside or leave_all_tables",
    "_way_to": "complaint or outside",
    "require_unit": "another_unit",
    "children_left": "wait_for_all_parts",
    "require_children_gone": "told_for_what",
    "covering_unit": "covers_all_archives",
    "require_sealed": "wait_for_their_children or before_all_archives",
    "inspect_unchanged": "other_columns",
    "compare_with_archive": "as_blocks or just_what_was_archived or look_and_the_guard or many_batches or share_an_instant",
    "wrong_columns": "not_what_was_proved",
    "_query": "many_batches",
    "_Comparing": "as_blocks or many_batches",
    "purge_detached": "just_what_was_archived or clone or no_trace",
    "_Dropping": "just_what_was_archived",
    "_Dropping.judge": "just_what_was_archived or goes_no_further",
    "_Dropping._judge": "just_what_was_archived or killed or very_end or another_table or not_even_read",
    "_Dropping._free": "broken_run",
    "_Dropping._wanted": "hold_that_comes or restored_stays or condemned_stays",
    "_Dropping._drop": "just_what_was_archived or loses_its_claim or damaged or long_reader_is_waited or earlier_try",
    "_Dropping._drop_proved": "just_what_was_archived or becomes_another or behind or in_the_middle or off or number or not_what_was_proved or loses",
    "_Dropping._go": "goes_no_further",
}
"""The tests most likely to kill mutants of a function or class, as an expression for pytest's -k. If none fails, the whole
file runs."""

_HEAVY = (
    "boto3",
    "botocore",
    "psycopg",
    "pydantic",
    "zstandard",
    "pytest",
    "_pytest",
    "pendulum",
    "yaml",
    "strongroom.storage.store",
)
_SECONDS = 600


def main() -> int:
    parser = argparse.ArgumentParser(prog="make mutants")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--only", default="", help="Mutants whose name has this text, or one of several with commas between them"
    )
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the servers are stopped in this case too
    mutants = all_mutants(asked.only.split(","))
    tested = [one for one in mutants if key_of(one) not in EQUIVALENT]
    print(f"{len(mutants)} mutants, {len(mutants) - len(tested)} of them equivalent", flush=True)
    with servers() as folder:
        os.environ["STRONGROOM_TEST_SERVERS"] = str(folder)
        for name in _HEAVY:
            importlib.import_module(name)
        for tests in dict.fromkeys(TESTS[one.module] for one in tested):
            if run_tests(tests).survives is False:
                print(f"{' '.join(tests)} fails without any mutant: fix that first")
                return 2
        survivors = list(judge(tested, asked.workers))
    stale = [] if asked.only else sorted(EQUIVALENT.keys() - {key_of(one) for one in mutants})
    for name in stale:
        print(f"STALE     {name}: equivalent.py lists it, and there is no such mutant")
    print(f"{len(tested) - len(survivors)} of {len(tested)} killed")
    return 1 if survivors or stale else 0


def all_mutants(texts: Sequence[str] = ("",)) -> list[Mutant]:
    """Those whose module and name have one of some texts."""
    found = []
    for module, functions in TARGETS.items():
        path = REPOSITORY / "include" / Path(*module.split(".")).with_suffix(".py")
        wanted = partial(_is_wanted, texts, module)
        found += make_mutants(module, path.read_text(), functions, wanted)
    return found


def _is_wanted(texts: Sequence[str], module: str, name: str) -> bool:
    return any(text in f"{module} {name}" for text in texts)


def key_of(mutant: Mutant) -> str:
    return f"{mutant.module.rpartition('.')[2]}.{mutant.name}"


@contextlib.contextmanager
def servers() -> Iterator[Path]:
    """A PostgreSQL and an S3 server for all mutants, in a RAM-backed folder if there is one."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None, prefix="strongroom-mutants-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # PostgreSQL's user must be able to enter the folder
        postgres, store = PostgresServer(folder / "postgres"), ObjectStore(folder / "store")
        try:
            postgres.start()
            store.start()
            yield folder
        finally:
            store.destroy()
            postgres.destroy()


class Trial:
    """A test process that runs against one mutant."""

    def __init__(self, tests: Sequence[str], mutant: Mutant | None = None) -> None:
        self.tests, self.mutant = tests, mutant
        self.started = time.monotonic()
        self.log = tempfile.NamedTemporaryFile(delete=False)  # noqa: SIM115
        self.survives: bool | None = None
        self.pid = os.fork()
        if self.pid == 0:
            self._work()
        self.ended = os.pidfd_open(self.pid)

    def _work(self) -> None:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.dup2(self.log.fileno(), 1)
        os.dup2(self.log.fileno(), 2)
        status = 1
        try:
            if self.mutant is not None:
                sys.meta_path.insert(0, Finder(self.mutant))
                if self.mutant.module in sys.modules:  # modules that imported the original must be imported again
                    for name in [name for name in sys.modules if name.startswith("strongroom.")]:
                        del sys.modules[name]
            import pytest

            words = ["-x", "-q", "--no-header", "-p", "no:warnings", "-m", "not exhaustive", *self.tests]
            likely = _first(self.mutant) if self.mutant is not None else None
            status = int(pytest.main([*words, "-k", likely])) if likely else 0
            if status in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
                status = int(pytest.main(words))
        finally:
            os._exit(status)

    def end(self, *, timed_out: bool) -> None:
        """Wait for the process, and stop it if it takes too long."""
        if timed_out:
            os.killpg(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        os.close(self.ended)
        self.survives = os.waitstatus_to_exitcode(status) == 0
        self.by = "time" if timed_out else self._killer()
        self.log.close()
        Path(self.log.name).unlink()

    def _killer(self) -> str:
        lines = Path(self.log.name).read_text(errors="replace").splitlines()
        failed = [line.partition("::")[2].partition(" - ")[0] for line in lines if line.startswith(("FAILED", "ERROR"))]
        return failed[0] if failed else (lines[-1] if lines else "nothing was said")


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Loads the mutant in place of its module."""

    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant

    def find_spec(self, fullname: str, _path: Any, _target: Any = None) -> importlib.machinery.ModuleSpec | None:
        return importlib.util.spec_from_loader(fullname, self) if fullname == self._mutant.module else None

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self._mutant.source, f"<mutant of {self._mutant.module}>", "exec"), module.__dict__)


def _first(mutant: Mutant) -> str | None:
    where = mutant.name.partition(":")[0]
    return FIRST.get(where) or FIRST.get(where.partition(".")[0])


def run_tests(tests: Sequence[str]) -> Trial:
    trial = Trial(tests)
    select.select([trial.ended], [], [])
    trial.end(timed_out=False)
    return trial


def judge(mutants: Sequence[Mutant], workers: int) -> Iterator[Mutant]:
    """Test all mutants, several at a time. Print one line for each, and yield the survivors."""
    waiting = list(reversed(mutants))
    running: list[Trial] = []
    while waiting or running:
        while waiting and len(running) < workers:
            mutant = waiting.pop()
            running.append(Trial(TESTS[mutant.module], mutant))
        ready, _, _ = select.select([trial.ended for trial in running], [], [], 5)
        for trial in list(running):
            timed_out = time.monotonic() - trial.started > _SECONDS
            if trial.ended in ready or timed_out:
                running.remove(trial)
                trial.end(timed_out=timed_out)
                assert trial.mutant is not None
                name, seconds = key_of(trial.mutant), time.monotonic() - trial.started
                print(
                    f"{'SURVIVED' if trial.survives else 'killed  '}  {name}  [{seconds:.0f} s, {trial.by}]", flush=True
                )
                if trial.survives:
                    yield trial.mutant


if __name__ == "__main__":
    sys.exit(main())
