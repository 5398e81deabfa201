"""CeleryExecutor with a real Redis and two workers that share no folder. One is killed in the middle of a step."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import psycopg
import pytest

from strongroom.calendar import Frequency, Partition, Term, newest_due
from strongroom_local.demo import sample
from strongroom_local.servers.celery import STAGING_BUCKET, CeleryStack
from strongroom_local.servers.ports import LOOPBACK
from tests.support.proxies import HoldingProxy
from tests.system.helpers import Airflow, Books, Run, query, run_airflow, wait_for

TABLE = "call_detail_records"
DAG_ID = f"archive__{TABLE}"
ROWS = 10_000
PART_ROWS = 2_500


@pytest.fixture(scope="module")
def proxy() -> Iterator[HoldingProxy]:
    """A proxy in front of the S3 server, to hold one request."""
    with HoldingProxy() as running:
        yield running


@pytest.fixture(scope="module")
def celery(session_folder: Path, proxy: HoldingProxy) -> Iterator[CeleryStack]:
    """A separate stack with two workers."""
    settings = {
        "STRONGROOM__STORE__ENDPOINT_URL": proxy.endpoint_url,
        "STRONGROOM__PART_ROWS": str(PART_ROWS),
        "STRONGROOM__DELETE_BATCH_ROWS": "1000",
    }
    stack = CeleryStack(session_folder / "machines" / "celery", settings=settings)
    try:
        stack.object_store.start()
        proxy.forward_to(LOOPBACK, stack.object_store.port)
        stack.up()
        yield stack
    finally:
        stack.destroy()


def due_month() -> Partition:
    month = newest_due(Frequency.MONTHLY, Term.parse("P90D"), datetime.now(timezone.utc))
    assert month is not None
    return month


def worker_of(stack: CeleryStack, pid: int) -> str:
    """The worker that a process belongs to. Each worker has its own process session."""
    return {stack.leader_of(worker): worker for worker in stack.workers}[os.getsid(pid)]


def steps_of(stack: CeleryStack, worker: str) -> set[tuple[str, int]]:
    """Steps and parts that a worker has run, from the logs that only it has."""
    found = set()
    for log in stack.home_of(worker).glob("logs/dag_id=*/run_id=*/task_id=*/map_index=*/attempt=*.log"):
        folders = dict(part.partition("=")[::2] for part in log.parts if "=" in part)
        found.add((folders["task_id"], int(folders["map_index"])))
    return found


def ids(conninfo: str, where: str = "true") -> set[int]:
    """Primary keys of the table's rows."""
    return {id_ for (id_,) in query(conninfo, f"SELECT id FROM {TABLE} WHERE {where}")}


def running_upload(stack: CeleryStack, number: int) -> int | None:
    """The pid of the task that uploads a part, if it is running."""
    found = query(
        stack.postgres.conninfo("airflow"),
        "SELECT pid FROM task_instance WHERE dag_id = %s AND task_id = 'part.upload' AND map_index = %s AND state = 'running'",
        DAG_ID,
        number,
    )
    return found[0][0] if found else None


def test_a_worker_that_is_killed_in_mid_step_loses_nothing_and_the_other_one_goes_on(celery, proxy):
    """Afterwards every row is accounted for: in the verified archive, or in the table because it was not due."""
    month = due_month()
    source, airflow, books = celery.source_conninfo(), Airflow(celery), Books(celery)
    last = month.window.end - timedelta(seconds=1)
    sample.load(source, call_records_per_month=ROWS, months=2, now=last)
    due = f"call_start_time >= '{month.window.start}'"
    before, not_due = ids(source, due), ids(source, f"NOT ({due})")
    upload = proxy.hold("PUT", f".{month.key}.0001/part-00001", "request")
    airflow.pause(DAG_ID, paused=False)

    assert upload.reached.wait(300)
    pid = wait_for(lambda: running_upload(celery, 1), "the upload of part 1 to be on record")
    killed = worker_of(celery, pid)
    [survivor] = [worker for worker in celery.workers if worker != killed]
    celery.kill_worker(killed)
    upload.over.set()
    [run] = airflow.runs(DAG_ID)
    ended = airflow.wait_for_run(DAG_ID, run.run_id, seconds=600)
    airflow.pause(DAG_ID)

    assert ended.state == "success"
    archived = [row["id"] for row in books.archived_rows(f"public.{TABLE}", month.key)]
    assert len(archived) == len(set(archived)) == len(before)
    assert (ids(source), set(archived)) == (not_due, before)
    [manifest] = books.manifests(f"public.{TABLE}")
    assert len(manifest["parts"]) >= 4
    verified = run_airflow(celery, "strongroom", "verify", manifest["archive_id"])
    assert verified.returncode == 0, verified.stdout + verified.stderr
    both = {number for _, number in steps_of(celery, killed)} & {number for _, number in steps_of(celery, survivor)}
    assert 1 in both, "the part whose upload was killed went on with the other worker"
    assert ("part.upload", 1) in steps_of(celery, survivor)
    assert_nothing_is_left(celery, run, survivor)


def assert_nothing_is_left(stack: CeleryStack, run: Run, survivor: str) -> None:
    """Staging is empty, and so is the surviving worker's scratch folder. Its next step removes the dead worker's."""
    admin = stack.object_store.client("admin")
    assert "Contents" not in admin.list_objects_v2(Bucket=STAGING_BUCKET)
    assert [path.name for path in stack.scratch_of(survivor).iterdir()] == [".lock"]
    assert not stack.staging.exists() or not any(stack.staging.iterdir())
    with psycopg.connect(stack.postgres.conninfo("airflow")) as metadata:
        tries = metadata.execute(
            "SELECT max(try_number) FROM task_instance WHERE run_id = %s AND task_id = 'part.upload' AND map_index = 1",
            (run.run_id,),
        ).fetchone()
    assert tries == (2,)
