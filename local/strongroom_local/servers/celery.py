"""The local stack with CeleryExecutor: Redis, and workers that share no folder, as if each ran on its own machine."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from strongroom_local.servers.airflow import inherited_environment
from strongroom_local.servers.processes import (
    ProcessRecord,
    ServerError,
    kill_group,
    read_record,
    record_of,
    spawn,
    tail,
    write_record,
)
from strongroom_local.servers.processes import let_go as let_process_go
from strongroom_local.servers.redis import RedisServer
from strongroom_local.servers.stack import Progress, Stack

STAGING_BUCKET = "strongroom-staging"

# A lost worker is noticed within seconds here. For real installations see docs/howto/many-machines.md.
_TIMINGS = {
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "2",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
    "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT": "300",
    "AIRFLOW__CELERY__OPERATION_TIMEOUT": "20",
}


class CeleryStack(Stack):
    """A stack whose tasks run in Celery workers and stage their files on S3.

    Args:
        folder: Where everything lives.
        workers: Number of workers; each has its own AIRFLOW_HOME, logs and scratch folder.
        settings: Extra variables for all Airflow processes.
    """

    def __init__(self, folder: Path, *, workers: int = 2, settings: Mapping[str, str] | None = None) -> None:
        super().__init__(folder)
        self.redis = RedisServer(self.folder / "redis")
        self.workers = [f"worker-{number}" for number in range(1, workers + 1)]
        self._settings = dict(settings or {})

    def up(self, progress: Progress = lambda _: None, *, unpaused: bool | None = None) -> None:
        progress("starting Redis")
        self.redis.start()
        super().up(progress, unpaused=unpaused)
        for worker in self.workers:
            self.start_worker(worker)

    def down(self) -> None:
        for worker in self.workers:
            self.kill_worker(worker)
        super().down()
        self.redis.stop()

    def destroy(self) -> None:
        self.down()
        self.redis.destroy()
        for worker in self.workers:
            shutil.rmtree(self.home_of(worker), ignore_errors=True)
        super().destroy()

    def home_of(self, worker: str) -> Path:
        """A worker's AIRFLOW_HOME, which also holds its logs and scratch folder."""
        return self.folder / worker

    def scratch_of(self, worker: str) -> Path:
        """Where a worker's tasks keep their files."""
        return self.home_of(worker) / "scratch"

    def start_worker(self, worker: str) -> bool:
        """Start a worker that runs one task at a time. Returns False if it is already running."""
        if self._worker(worker) is not None:
            return False
        home, log = self.home_of(worker), self.logs / f"{worker}.log"
        home.mkdir(exist_ok=True)
        home.chmod(0o700)
        words = ["celery", "worker", "--concurrency", "1", "--celery-hostname", worker, "--skip-serve-logs"]
        process = spawn(
            [sys.executable, "-m", "airflow", *words, "--without-mingle", "--without-gossip"],
            log=log,
            environment={
                **inherited_environment(),
                **self.airflow_environment(),
                "AIRFLOW_HOME": str(home),
                "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
                "STRONGROOM__SCRATCH": str(self.scratch_of(worker)),
            },
            folder=home,
        )
        record = record_of(process)
        if record is None:
            raise ServerError(f"{worker} exited unexpectedly", found=tail(log), hint=f"read the full log in {log}")
        let_process_go(process)
        write_record(self._worker_file(worker), record)
        return True

    def kill_worker(self, worker: str) -> None:
        """Kill -9 a worker and all its children, like a power failure. Safe to repeat."""
        record = self._worker(worker)
        if record is not None:
            kill_group(record)
        self._worker_file(worker).unlink(missing_ok=True)

    def leader_of(self, worker: str) -> int:
        """Return the session id of a worker's processes, which is its leader's pid.

        Raises:
            ServerError: The worker is not running.
        """
        record = self._worker(worker)
        if record is None:
            raise ServerError(f"{worker} is not running", hint=f"read its log in {self.logs}")
        return record.pid

    def _worker(self, worker: str) -> ProcessRecord | None:
        return read_record(self._worker_file(worker))

    def _worker_file(self, worker: str) -> Path:
        return self.runs / f"{worker}.pid"

    def _start_object_store(self) -> None:
        super()._start_object_store()
        self.object_store.create_bucket(STAGING_BUCKET, versioned=False)

    def airflow_environment(self) -> dict[str, str]:
        environment = super().airflow_environment()
        database = environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]
        return {
            **environment,
            **_TIMINGS,
            "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
            "AIRFLOW__CELERY__BROKER_URL": self.redis.url,
            "AIRFLOW__CELERY__RESULT_BACKEND": f"db+{database}",
            "AIRFLOW_CONN_STRONGROOM_STAGING": self._store_connection("stager"),
            "STRONGROOM__STAGING": f"s3://{STAGING_BUCKET}/scratch",
            **self._settings,
        }
