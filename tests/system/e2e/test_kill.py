"""Under the real scheduler each step is killed in its middle and cleared. The result equals that of an undisturbed run.

No code is changed to hold a step in its middle. A database lock, a full pipe or a store that stops answering holds it.
All tables are rehearsed in parallel. Each test then checks one of them.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psycopg
import pytest

from strongroom_local.servers.stack import Stack
from tests.support.proxies import Hold as RequestHold
from tests.support.proxies import HoldingProxy, refuse
from tests.system.helpers import STEPS, Airflow, Books, query, wait_for
from tests.system.rehearsals import KILLS, SIBLINGS, create_table, dag_of, due_day, table_of

TASK_OF = {name.removeprefix("part."): name for name in STEPS} | {
    "nothing": "",
    "uploaded": "part.upload",
    "sealed": "seal",
    "deleted": "delete",
    "stopped": "delete",
    "evicted": "delete",
}
LONGEST_SECONDS = 600

MORE_KILLS = ("compress", "checksum", "uploaded", "verify", "seal", "deleted", "report")
"""Only `make test-faults` kills these. Airflow treats them like the others, and tests/system/faults kills every step anyway."""

each_kill = pytest.mark.parametrize(
    "kill", [pytest.param(kill, marks=pytest.mark.exhaustive) if kill in MORE_KILLS else kill for kill in KILLS]
)


class Hold(Protocol):
    """Something that stops a step in its middle."""

    def reached(self, pid: int, /) -> bool:
        """Whether the task with this pid has reached it."""

    def release(self) -> None:
        """Let the next try through."""


class SessionLock:
    """Another session that has locked what the step needs."""

    def __init__(self, stack: Stack, rehearsal: str, statement: str) -> None:
        self._conninfo = stack.source_conninfo()
        self._rehearsal = rehearsal
        self._session = psycopg.connect(self._conninfo)
        self._session.execute(statement)

    def reached(self, _pid: int) -> bool:
        waiting = "SELECT 1 FROM pg_stat_activity WHERE application_name = %s AND wait_event_type = 'Lock'"
        name = f"strongroom {table_of(self._rehearsal)} {TASK_OF[self._rehearsal]}"
        return bool(query(self._conninfo, waiting, name))

    def release(self) -> None:
        self._session.close()


class FullPipe:
    """A full pipe in place of the step's unfinished file. Later the torn file that a killed writer leaves."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.mkfifo(path)
        self._descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(self._descriptor, b"\0" * 4096)

    def reached(self, pid: int) -> bool:
        return any(_points_to(descriptor, self._path) for descriptor in Path(f"/proc/{pid}/fd").iterdir())

    def release(self) -> None:
        os.close(self._descriptor)
        self._path.unlink()
        self._path.write_bytes(b"torn")


class SilentStore:
    """A request to the store that stops half-way."""

    def __init__(self, hold: RequestHold) -> None:
        self._hold = hold

    def reached(self, _pid: int) -> bool:
        return self._hold.reached.is_set()

    def release(self) -> None:
        self._hold.over.set()


def _points_to(link: Path, path: Path) -> bool:
    try:
        return link.readlink() == path
    except FileNotFoundError:
        return False


@dataclass
class Rehearsal:
    """One table on its way through its run."""

    name: str
    hold: Hold | None = None
    killed_pid: int | None = None
    claim_then: str = ""
    cleared: bool = False
    state: str = "none"

    @property
    def dag_id(self) -> str:
        return dag_of(self.name)


def archive_of(kill: str) -> str:
    return f"{table_of(kill)}.{due_day()}.0001"


def hold_before_plan(stack: Stack, proxy: HoldingProxy, kill: str) -> Hold | None:
    """The hold for a step, if it can be set up before the run begins."""
    if kill == "plan":
        return SessionLock(stack, kill, f"LOCK TABLE {table_of(kill)} IN ACCESS EXCLUSIVE MODE")
    if TASK_OF[kill] == "delete" and kill != "deleted":
        # The third batch waits for this row. Two are committed.
        return SessionLock(stack, kill, f"SELECT 1 FROM {table_of(kill)} WHERE id = 1200 FOR UPDATE")
    archive_id = archive_of(kill)
    requests = {
        "upload": ("PUT", f"{archive_id}/part-00000", "request"),
        "uploaded": ("PUT", f"{archive_id}/part-00000", "answer"),
        "verify": ("GET", f"{archive_id}/part-00000", "answer"),
        "seal": ("PUT", f"/metadata/{table_of(kill)}/", "request"),
        "sealed": ("PUT", f"/metadata/{table_of(kill)}/", "answer"),
        "report": ("PUT", f"/reports/{table_of(kill)}/", "request"),
    }
    return SilentStore(proxy.hold(*requests[kill])) if kill in requests else None


def hold_after_plan(stack: Stack, kill: str) -> Hold | None:
    """The hold for a step in staging, set up after plan has cleared staging."""
    pipes = {
        "extract_to_staging": "part-00000.lines.zst.partial",
        "compress": "part-00000.jsonl.zst.partial",
        "checksum": "part-00000.checksummed.json.partial",
        "deleted": "part-00000.deleteprogress.json.partial",
    }
    return FullPipe(stack.staging / archive_of(kill) / pipes[kill]) if kill in pipes else None


@pytest.fixture(scope="module")
def rehearsals(
    request: pytest.FixtureRequest, stack: Stack, airflow: Airflow, proxy: HoldingProxy
) -> Iterator[dict[str, Rehearsal]]:
    """All rehearsals that the selected tests need, finished: archived by the scheduler, killed once, cleared."""
    all_of_them = {}
    for kill in KILLS:
        if kill in MORE_KILLS and not any(item.name.endswith(f"[{kill}]") for item in request.session.items):
            continue
        query(stack.source_conninfo(), create_table(kill, due_day()))
        all_of_them[kill] = Rehearsal(kill, hold_before_plan(stack, proxy, kill))
    for rehearsal in all_of_them.values():
        airflow.pause(rehearsal.dag_id, paused=False)
    deadline = time.monotonic() + LONGEST_SECONDS
    with psycopg.connect(stack.postgres.conninfo("airflow"), autocommit=True) as metadata:
        while time.monotonic() < deadline and any(one.state != "success" for one in all_of_them.values()):
            for rehearsal in all_of_them.values():
                move_on(stack, airflow, metadata, rehearsal)
            time.sleep(0.05)
    yield all_of_them
    for rehearsal in all_of_them.values():
        airflow.pause(rehearsal.dag_id)


def move_on(stack: Stack, airflow: Airflow, metadata: psycopg.Connection, rehearsal: Rehearsal) -> None:
    """Check the state of one rehearsal and do what comes next: hold, kill, clear, or wait."""
    for (state,) in metadata.execute("SELECT state FROM dag_run WHERE dag_id = %s", (rehearsal.dag_id,)):
        rehearsal.state = state
    tasks = {
        task_id: (state, pid)
        for task_id, state, pid in metadata.execute(
            "SELECT task_id, state, pid FROM task_instance WHERE dag_id = %s", (rehearsal.dag_id,)
        )
    }
    state, pid = tasks.get(TASK_OF[rehearsal.name], (None, None))
    if rehearsal.hold is None and tasks.get("plan", ("", 0))[0] == "success":
        rehearsal.hold = hold_after_plan(stack, rehearsal.name)
    if rehearsal.hold is None or rehearsal.cleared:
        return
    if rehearsal.killed_pid is None and state == "running" and pid and rehearsal.hold.reached(pid):
        end_task(rehearsal.name, pid)
        rehearsal.killed_pid = pid
    elif rehearsal.killed_pid is not None and rehearsal.state == "failed":
        # Not earlier: while the scheduler still marks the tasks after the failed one, it would also mark cleared ones.
        rehearsal.claim_then = claim_of(stack, rehearsal.name)
        rehearsal.hold.release()
        [run] = airflow.runs(rehearsal.dag_id)
        airflow.clear(run, TASK_OF[rehearsal.name])
        rehearsal.cleared = True


def end_task(kill: str, pid: int) -> None:
    """Kill a task's process, or tell it or its supervisor to end."""
    if kill == "evicted":
        supervisor = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(supervisor, signal.SIGTERM)
    else:
        os.kill(pid, signal.SIGTERM if kill == "stopped" else signal.SIGKILL)


def claim_of(stack: Stack, rehearsal: str) -> str:
    """State of the claim on the rehearsal's partition."""
    books = Books(stack)
    [claim] = [books.document(key) for key in books.objects(f"claims/{table_of(rehearsal)}/")]
    return str(claim["state"])


@dataclass(frozen=True)
class EndState:
    """The state after a run, without names that differ between tables."""

    ids_left: list[int]
    ids_archived: list[int]
    objects: list[str]
    sums: list[tuple[str, str, int]]
    report: dict[str, Any]


def end_state(stack: Stack, rehearsal: str) -> EndState:
    """Read the state by SQL and from the bucket."""
    books, table = Books(stack), table_of(rehearsal)
    keys = [
        key for root in ("archives", "metadata", "evidence", "reports") for key in books.objects(f"{root}/{table}/")
    ]
    [manifest] = books.manifests(table)
    [report] = [books.document(key) for key in keys if key.startswith("reports/")]
    kept = ("outcome", "archived_rows", "changed_rows", "referenced_rows", "excluded_rows", "parts", "sha256")
    return EndState(
        ids_left=[id_ for (id_,) in query(stack.source_conninfo(), f"SELECT id FROM {table} ORDER BY id")],
        ids_archived=[row["id"] for row in books.archived_rows(table)],
        objects=[re.sub(r"(?<=/settings/)[0-9a-f]{64}", "DIGEST", key.replace(table, "TABLE")) for key in keys],
        sums=[(part["sha256"], part["original_sha256"], part["record_count"]) for part in manifest["parts"]],
        report={name: report[name] for name in kept},
    )


@each_kill
def test_a_step_killed_in_its_middle_and_cleared_ends_like_an_undisturbed_run(stack, rehearsals, kill):
    """The same rows are left and the same bytes archived. Each row is in one place. Nothing of the killed try remains."""
    rehearsal = rehearsals[kill]

    assert rehearsal.state == "success"
    assert (rehearsal.killed_pid is not None, rehearsal.cleared) == (kill != "nothing", kill != "nothing")
    found = end_state(stack, kill)
    assert found == end_state(stack, "nothing")
    assert found.ids_left == [*range(-59, 1), *range(1441, 1501)]
    assert sorted(found.ids_archived) == [*range(1, 1441)]
    assert not (stack.staging / archive_of(kill)).exists()


@each_kill
def test_the_evidence_of_a_killed_run_adds_up(stack, rehearsals, kill):
    """Rows that the killed try deleted count as deleted, not as gone."""
    books, table = Books(stack), table_of(kill)

    [evidence] = [books.document(key) for key in books.objects(f"evidence/{table}/") if "/delete-" in key]
    [report] = [books.document(key) for key in books.objects(f"reports/{table}/")]
    [manifest] = books.manifests(table)

    assert (evidence["deleted"], evidence["gone"]) == (1440, 0)
    assert (report["deleted_rows"], report["gone_rows"]) == (evidence["deleted"], evidence["gone"])
    assert evidence["rows"] == manifest["record_count"] == report["archived_rows"] == 1440
    assert evidence["version_id"] == manifest["parts"][0]["version_id"]
    assert hashlib.sha256(books.read(evidence["object_key"])).hexdigest() == evidence["sha256"]


@each_kill
def test_a_killed_run_gives_its_claim_back_in_the_end(stack, rehearsals, kill):
    """No run has to wait for a claim to expire."""
    assert claim_of(stack, kill) == "released"


def test_a_task_that_is_told_to_end_gives_its_claim_back_at_once_and_a_killed_one_cannot(rehearsals):
    """Another run could take the partition between the task's end and its next try."""
    assert rehearsals["stopped"].claim_then == "released"
    assert rehearsals["evicted"].claim_then == "released"
    assert rehearsals["delete"].claim_then == "held"


def test_a_part_that_fails_for_good_keeps_the_claim_for_its_siblings(stack, airflow, proxy):
    """The last running part releases the claim when it also fails."""
    archive_id = f"{table_of(SIBLINGS)}.{due_day()}.0001"
    proxy.on("PUT", f"{archive_id}/part-00000", refuse(403, "AccessDenied"))
    hold = proxy.hold("PUT", f"{archive_id}/part-00001", "request")
    query(stack.source_conninfo(), create_table(SIBLINGS, due_day()))
    airflow.pause(dag_of(SIBLINGS), paused=False)

    def uploads() -> dict[int, str | None]:
        runs = airflow.runs(dag_of(SIBLINGS))
        tasks = airflow.tasks(runs[0]) if runs else []
        return {task.map_index: task.state for task in tasks if task.task_id == "part.upload"}

    wait_for(
        lambda: uploads().get(0) == "failed" and hold.reached.is_set(), "one part to fail", seconds=LONGEST_SECONDS
    )
    while_one_works = claim_of(stack, SIBLINGS)
    proxy.on("PUT", f"{archive_id}/part-00001", refuse(403, "AccessDenied"))  # the client retries
    hold.over.set()
    [run] = airflow.runs(dag_of(SIBLINGS))
    ended = airflow.wait_for_run(run.dag_id, run.run_id, seconds=LONGEST_SECONDS)
    airflow.pause(dag_of(SIBLINGS))

    assert (while_one_works, ended.state, claim_of(stack, SIBLINGS)) == ("held", "failed", "released")
