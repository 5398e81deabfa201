"""The whole local stack in one folder: starts, stops and shows PostgreSQL, an S3 server and Airflow together."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from strongroom.database.session import open_source, read_identity
from strongroom.errors import ConfigurationError
from strongroom.ledger.adopt import adopt, missing_from_log
from strongroom.ledger.journal import begin_log
from strongroom.ledger.owner import record_owner
from strongroom.settings import load_settings
from strongroom_local.demo import sample
from strongroom_local.servers.airflow import (
    COMPONENTS,
    Component,
    call_api,
    inherited_environment,
    read_health,
)
from strongroom_local.servers.ports import PortClaims
from strongroom_local.servers.processes import (
    ServerError,
    exclusively,
    group_alive,
    let_go,
    read_record,
    record_of,
    require_space,
    spawn,
    stop_group,
    tail,
    write_private,
    write_record,
)
from strongroom_local.servers.s3 import ICEBERG_BUCKET, REGION, TASK_LOG_BUCKET
from strongroom_local.servers.stack_folder import (
    AIRFLOW_DATABASE,
    AIRFLOW_ROLE,
    ARCHIVER_ROLE,
    BUCKET,
    SOURCE_DATABASE,
    StackFolder,
)

SCHEDULED_DAGS = ("archive_statistics", "audit_report", "restore_drill", "retention_purge", "scrub_archives")
"""The DAGs that cover all tables and have their own schedule. Like every DAG, they start paused."""

_HEALTHY_SECONDS = 900
"""Twenty seconds are enough on an idle machine."""
_STOP_SECONDS = 20

Progress = Callable[[str], None]


@dataclass(frozen=True)
class ComponentStatus:
    """One line of ``make status``.

    Args:
        name: The component.
        pid: Its process while it runs.
        address: Where it listens; empty if it does not listen.
        health: ``healthy``, ``unhealthy``, ``unknown`` (it has not reported yet) or ``stopped``.
    """

    name: str
    pid: int | None
    address: str
    health: str


class Stack(StackFolder):
    """PostgreSQL, S3 and Airflow in one folder, with its own state, secrets, logs and ports.

    Args:
        folder: Where everything lives. Stacks in different folders can run at the same time.
    """

    @property
    def running(self) -> bool:
        """Whether every process of the stack is alive."""
        return all(status.pid is not None for status in self._processes())

    def up(self, progress: Progress = lambda _: None, *, unpaused: bool | None = None) -> None:
        """Start what is not running and wait until everything is healthy. Safe to repeat.

        Args:
            progress: Called with a few words before each stage.
            unpaused: Whether to unpause or pause `SCHEDULED_DAGS`; None leaves them as they are.

        Raises:
            ServerError: Something could not be started; what already runs keeps running.
            PortTakenError: There is no free port.
        """
        self.make_folders()
        with exclusively(self.folder), PortClaims() as claims:
            require_space(self.folder)
            progress("starting PostgreSQL and the S3 server")
            with ThreadPoolExecutor() as pool:
                bucket = pool.submit(self._start_object_store)
                self.postgres.start()
                self.write_state(claims)
                progress("preparing databases")
                self._create_databases()
                source = pool.submit(self._prepare_source)
                bucket.result()  # Airflow's environment needs the store's address
                self._migrate()
                source.result()
            self._claim_bucket()
            self.write_state(claims)  # a stranger may have taken a port since
            progress("starting Airflow")
            for component in COMPONENTS:
                self._start_component(component)
            self._wait_until_healthy(progress)
            self._create_pool()
            if unpaused is not None:
                progress(f"{'unpausing' if unpaused else 'pausing'} {' and '.join(SCHEDULED_DAGS)}")
                self.pause_scheduled(not unpaused)

    def start_source(self) -> None:
        """Start only PostgreSQL and prepare the source database, empty if it is new. Safe to repeat.

        Raises:
            ServerError: It could not be started.
        """
        self.make_folders()
        with exclusively(self.folder), PortClaims() as claims:
            self.postgres.start()
            self.write_state(claims)
            self._create_databases()
            self._prepare_source()

    def down(self) -> None:
        """Stop everything that this folder's stack started, and nothing else. Data is kept. Safe to repeat."""
        if not self.folder.exists():
            return
        with exclusively(self.folder):
            with ThreadPoolExecutor() as pool:
                for _ in pool.map(self._stop_component, COMPONENTS):
                    pass
            with ThreadPoolExecutor() as pool:
                for _ in pool.map(lambda stop: stop(), (self.postgres.stop, self.object_store.stop)):
                    pass

    def destroy(self) -> None:
        """Stop everything and remove the stack's databases, objects, logs and secrets."""
        self.down()
        self.postgres.destroy()
        self.object_store.destroy()
        for folder in (self.home, self.staging, self.logs, self.runs):
            shutil.rmtree(folder, ignore_errors=True)
        for file in (self.state_file, self.folder / "claimed"):
            file.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            (self.folder / ".lock").unlink()
            self.folder.rmdir()

    def status(self) -> list[ComponentStatus]:
        """Whether each component runs, where, and whether it is healthy."""
        processes = self._processes()
        health = read_health(self.api_url, self.exporter_url) if any(status.pid for status in processes[2:]) else {}
        keys = {component.name: component.health_key for component in COMPONENTS}
        return [
            status
            if status.pid is None or status.name not in keys
            else ComponentStatus(status.name, status.pid, status.address, health.get(keys[status.name], "unknown"))
            for status in processes
        ]

    def paused(self) -> dict[str, bool]:
        """Whether each of `SCHEDULED_DAGS` is paused; DAGs that Airflow has not read yet are missing.

        Raises:
            ServerError: Airflow does not answer.
        """
        dags = call_api(self.api_url, "GET", "/api/v2/dags?limit=500", token=self.token())["dags"]
        return {dag["dag_id"]: dag["is_paused"] for dag in dags if dag["dag_id"] in SCHEDULED_DAGS}

    def pause_scheduled(self, paused: bool) -> None:
        """Pause or unpause `SCHEDULED_DAGS`, as soon as Airflow has read their files.

        Raises:
            ServerError: Airflow does not answer, or did not read the files within 15 minutes.
        """
        deadline = time.monotonic() + _HEALTHY_SECONDS
        while missing := sorted(set(SCHEDULED_DAGS) - set(self.paused())):
            if time.monotonic() > deadline:
                raise ServerError(
                    f"Airflow did not read the files of {' and '.join(missing)} within {_HEALTHY_SECONDS} s",
                    hint=f"nothing was changed and the stack runs; read the logs in {self.logs}",
                )
            time.sleep(0.5)
        token = self.token()
        for dag_id in SCHEDULED_DAGS:
            call_api(self.api_url, "PATCH", f"/api/v2/dags/{dag_id}", body={"is_paused": paused}, token=token)

    def environment(self) -> dict[str, str]:
        """Return the variables that connect ``psql``, ``aws`` and ``airflow`` to this stack.

        Raises:
            ServerError: The stack was never started.
        """
        access_key, secret_key = self.object_store.keys("archiver")
        folders = [Path(sys.executable).parent, self.postgres.binaries]
        return {
            **self.airflow_environment(),
            "PGHOST": self.postgres.host,
            "PGPORT": str(self.postgres.port),
            "PGUSER": self.postgres.superuser,
            "PGPASSWORD": self.postgres.password,
            "PGDATABASE": SOURCE_DATABASE,
            "AWS_ENDPOINT_URL": self.object_store.endpoint_url,
            "AWS_ACCESS_KEY_ID": access_key,
            "AWS_SECRET_ACCESS_KEY": secret_key,
            "AWS_DEFAULT_REGION": REGION,
            "STRONGROOM_BUCKET": BUCKET,
            "PATH": os.pathsep.join([*map(str, folders), os.environ.get("PATH", os.defpath)]),
        }

    def _start_object_store(self) -> None:
        self.object_store.start()
        self.object_store.create_bucket(BUCKET)
        self.object_store.create_bucket(TASK_LOG_BUCKET)
        self.object_store.create_bucket(ICEBERG_BUCKET, versioned=False)

    def _claim_bucket(self) -> None:
        """Claim the bucket for the source database, only once: a bucket that was emptied later is not claimed again.

        What a stack archived before it had a log is adopted.
        """
        claimed, logged = self.folder / "claimed", self.folder / "logged"
        if claimed.exists() and logged.exists():
            return
        store = self.archive_store("make up")
        if claimed.exists():
            begin_log(store)
            if missing := missing_from_log(store):
                adopt(store, missing, who="make up", why="the stack is older than its log", now=store.clock())
        else:
            password = self.state["secrets"][ARCHIVER_ROLE]
            archiver = make_conninfo(self.source_conninfo(), user=ARCHIVER_ROLE, password=password)
            with open_source(archiver, application_name="strongroom bucket claim") as connection:
                record_owner(store, read_identity(connection))
            claimed.touch()
        logged.touch()

    def _create_databases(self) -> None:
        """Create Airflow's role and database and the empty source database if missing."""
        with psycopg.connect(self.postgres.conninfo(), autocommit=True) as connection:
            password = sql.Literal(self.state["secrets"]["airflow"])
            role = sql.Identifier(AIRFLOW_ROLE)
            if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (AIRFLOW_ROLE,)).fetchone():
                connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(role))
            connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(role, password))
            for database, owner in ((AIRFLOW_DATABASE, AIRFLOW_ROLE), (SOURCE_DATABASE, self.postgres.superuser)):
                if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (database,)).fetchone():
                    statement = sql.SQL("CREATE DATABASE {} OWNER {}")
                    connection.execute(statement.format(sql.Identifier(database), sql.Identifier(owner)))

    def _prepare_source(self) -> None:
        """Create the empty sample tables, and the roles for them and for the other tables in archive.yaml."""
        sample.create_schema(self.source_conninfo())
        passwords = {role: self.state["secrets"][role] for role in sample.ROLES}
        try:
            further = [(table.schema_name, table.table_name) for table in load_settings().tables.values()]
        except ConfigurationError:  # Airflow shows it as an import error
            further = []
        sample.create_roles(self.source_conninfo(), passwords, further=further)

    def _migrate(self) -> None:
        """Migrate Airflow's tables to the installed version; skipped if the last start already did so."""
        marker = self.home / "migrated"
        installed = version("apache-airflow")
        if marker.exists() and marker.read_text() == installed:
            return
        log = self.logs / "migrate.log"
        result = subprocess.run(
            [sys.executable, "-m", "airflow", "db", "migrate"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            cwd=self.home,
            env={**inherited_environment(), **self.airflow_environment()},
        )
        write_private(log, result.stdout + result.stderr)
        if result.returncode != 0:
            raise ServerError(
                "Airflow could not create its tables",
                found=tail(log),
                hint=f"your data was not changed; read the full log in {log}",
            )
        marker.write_text(installed)

    def _start_component(self, component: Component) -> None:
        """Start a component if it is not running. First stop what a killed predecessor left running."""
        if self.pid_of(component) is not None:
            return
        self._stop_component(component)
        process = spawn(
            component.command(),
            log=self.log_of(component),
            environment={**inherited_environment(), **self.environment_of(component)},
            folder=self.home,
        )
        record = record_of(process)
        if record is None:
            raise self._ended(component)
        let_go(process)
        write_record(self.pid_file(component), record)

    def _stop_component(self, component: Component) -> None:
        record = read_record(self.pid_file(component))
        if record is not None and group_alive(record):
            stop_group(record, timeout_seconds=_STOP_SECONDS)
        self.pid_file(component).unlink(missing_ok=True)

    def _wait_until_healthy(self, progress: Progress) -> None:
        deadline = time.monotonic() + _HEALTHY_SECONDS
        waiting: set[str] = set()
        while True:
            health = read_health(self.api_url, self.exporter_url)
            missing = {component.name for component in COMPONENTS if health.get(component.health_key) != "healthy"}
            if not missing:
                self._warm_up(progress)
                return
            if missing != waiting:
                progress(f"waiting for {', '.join(sorted(missing))}")
                waiting = missing
            for component in COMPONENTS:
                if self.pid_of(component) is None:
                    raise self._ended(component)
            if time.monotonic() > deadline:
                raise ServerError(
                    f"Airflow is not healthy after {_HEALTHY_SECONDS} s",
                    expected="every component reports healthy",
                    found=f"{', '.join(sorted(missing))} did not",
                    hint=f"nothing is lost; read the logs in {self.logs}, then 'make down' and 'make up'",
                )
            time.sleep(0.3)

    def _warm_up(self, progress: Progress) -> None:
        """Call the API's slow first requests before tasks need them. The responses do not matter."""
        progress("warming the API up")
        with contextlib.suppress(ServerError):
            call_api(self.api_url, "GET", "/execution/health")
        with contextlib.suppress(ServerError):
            call_api(self.api_url, "GET", "/api/v2/dags?limit=1", token=self.token())

    def _ended(self, component: Component) -> ServerError:
        log = self.log_of(component)
        return ServerError(
            f"the {component.name} exited unexpectedly",
            found=tail(log),
            hint=f"nothing is lost; read the full log in {log}",
        )

    def _create_pool(self) -> None:
        """Create the pool that limits concurrent work on the source database; an existing one keeps its size."""
        settings, token = self.airflow_environment(), self.token()
        name = settings["STRONGROOM__POOL"]
        try:
            call_api(self.api_url, "GET", f"/api/v2/pools/{name}", token=token)
        except ServerError as error:
            if not str(error.found).startswith("404"):
                raise
            slots = int(settings["STRONGROOM_POOL_SLOTS"])
            pool = {"name": name, "slots": slots, "description": "Work on the source database at the same time"}
            call_api(self.api_url, "POST", "/api/v2/pools", body=pool, token=token)

    def _processes(self) -> list[ComponentStatus]:
        """List the servers and Airflow's processes. Health here only says whether the process is alive."""
        pids = {"PostgreSQL": self.postgres.pid, "S3 server": self.object_store.pid}
        pids |= {component.name: self.pid_of(component) for component in COMPONENTS}
        return [
            ComponentStatus(name, pid, self._address_of(name) if pid else "", "healthy" if pid else "stopped")
            for name, pid in pids.items()
        ]

    def _address_of(self, name: str) -> str:
        """Where a running component listens; most of Airflow's components do not."""
        if name == "PostgreSQL":
            return f"{self.postgres.host}:{self.postgres.port}"
        if name == "S3 server":
            return self.object_store.endpoint_url
        if name == COMPONENTS[-1].name:
            return f"{self.exporter_url}/metrics"
        return self.api_url if name == COMPONENTS[0].name else ""
