"""`airflow strongroom restore`, followed to its end through the real scheduler and triggerer."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone

import pytest

from strongroom.calendar import Frequency
from strongroom.object_keys.archives import ArchiveId
from tests.support import glacier
from tests.support.chain import Chain, some_settings
from tests.system.helpers import Airflow, ended, query, run_airflow, start_airflow, wait_for
from tests.system.rehearsals import GLACIER_BUCKET, create_table, due_day, glacier_client, table_of

RESTORE = "restore_archive"
TABLE = table_of("frozen")


@dataclass(frozen=True)
class Frozen:
    """A day of a table, archived and deleted. Its three parts are in Glacier."""

    day: str
    parts: tuple[str, ...]


@pytest.fixture(scope="module")
def frozen(stack, airflow, glacier_url, tmp_path_factory) -> Iterator[Frozen]:
    """A frozen day. The restore DAG is unpaused meanwhile."""
    day = due_day()
    query(stack.source_conninfo(), create_table("frozen", day))
    settings = some_settings(
        GLACIER_BUCKET, tmp_path_factory.mktemp("staging"), TABLE, frequency=Frequency.DAILY, part_rows=500
    )
    now = datetime.now(timezone.utc)
    logged = stack.archive_store("a test")
    store = settings.store.model_copy(update={"log_keys": logged.settings.log_keys})
    settings = settings.model_copy(update={"store": store})
    chain = Chain(stack.source_conninfo(), glacier_client(glacier_url), settings, day, now, author=logged.author)
    report = chain.run()
    assert report.deleted_rows == 1440
    archive = ArchiveId.parse(str(report.archive_id))
    parts = tuple(archive.part_key(number, "zstd") for number in range(report.parts))
    for part in parts:
        glacier.freeze(GLACIER_BUCKET, part)
    airflow.pause(RESTORE, paused=False)
    yield Frozen(day, parts)
    airflow.pause(RESTORE)


def rows_left(stack) -> int:
    return int(query(stack.source_conninfo(), f"SELECT count(*) FROM {TABLE}")[0][0])


def waits_deferred(airflow: Airflow) -> bool:
    return any(
        task.task_id == "thaw" and task.state == "deferred"
        for run in airflow.runs(RESTORE)
        for task in airflow.tasks(run)
    )


@pytest.mark.exhaustive
def test_a_restore_waits_for_glacier_without_a_worker_and_is_followed_to_its_end(stack, airflow, frozen):
    """Ctrl-C does not stop the run. The same command then follows it again until the rows are restored."""
    words = ("strongroom", "restore", TABLE, "--partition", frozen.day, "--why", "a case", "--who", "ada")
    first = start_airflow(stack, *words)
    wait_for(
        lambda: waits_deferred(airflow) or first.poll() is not None, "the restore to wait for Glacier", seconds=180
    )
    again = start_airflow(stack, *words, "--json")
    time.sleep(3)
    os.killpg(first.pid, signal.SIGINT)
    left = ended(first)
    away = rows_left(stack)
    for part in frozen.parts:
        glacier.bring_back(GLACIER_BUCKET, part)
    followed = ended(again)

    assert left.returncode == 130, left.stderr
    assert "Stopped following; the run continues." in left.stderr
    assert f"thaw waits for {len(frozen.parts)} parts to come back from Glacier" in left.stderr
    assert "Traceback" not in left.stderr
    assert away == 120
    assert followed.returncode == 0, followed.stderr
    document = json.loads(followed.stdout)
    assert (document["state"], document["problems"]) == ("success", [])
    assert (document["report"]["inserted"], document["report"]["who"]) == (1440, "ada")
    assert document["run_id"] in left.stdout
    assert rows_left(stack) == 1560
    assert len([run for run in airflow.runs(RESTORE) if TABLE in run.run_id]) == 1


def test_a_run_that_fails_is_told_with_its_own_error_and_what_to_do(stack, frozen):
    """The target table does not exist: the command shows the error of the task `locate` and its hint, and exits with 1."""
    failed = run_airflow(
        stack,
        "strongroom",
        "restore",
        TABLE,
        "--partition",
        frozen.day,
        "--target",
        "rehearsal.nowhere",
        "--why",
        "a case",
    )

    assert failed.returncode == 1
    assert "failed: locate: there is no table rehearsal.nowhere\nHINT: Nothing was loaded." in failed.stderr
    assert "error: the run restore__rehearsal.frozen__" in failed.stderr
    assert "/dags/restore_archive/runs/restore__" in failed.stderr
    assert "Traceback" not in failed.stderr + failed.stdout
