"""The whole local stack in one folder: PostgreSQL, an S3 server and Airflow, started, looked at and stopped together."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from strongroom.database.session import open_source, read_identity
from strongroom.errors import ConfigurationError
from strongroom.ledger.owner import record_owner
from strongroom.settings import StoreSettings, load_settings
from strongroom.storage.store import Store
from strongroom_local.demo import sample
from strongroom_local.servers.airflow import (
    COMPONENTS,
    REPOSITORY,
    USER,
    Component,
    call_api,
    inherited_environment,
    local_settings,
    read_health,
)
from strongroom_local.servers.ports import LOOPBACK, choose_ports, come_free
from strongroom_local.servers.postgres import PostgresServer
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
from strongroom_local.servers.s3 import REGION, ObjectStore

DEFAULT_FOLDER = REPOSITORY / ".strongroom"
BUCKET = "strongroom-archive"
SOURCE_DATABASE = "strongroom"
ARCHIVER_ROLE = "strongroom_archiver"
RESTORER_ROLE = "strongroom_restorer"
READER_ROLE = "strongroom_reader"
SCHEDULED_DAGS = ("archive_statistics", "retention_purge")
"""What looks after all tables by a schedule of its own; paused, like every DAG, until somebody says otherwise."""
EXPORTER_PORT = 9092
"""Where the figures for Prometheus are; on another port when this one is taken."""

_AIRFLOW_DATABASE = "airflow"
_AIRFLOW_ROLE = "airflow"
_HEALTHY_SECONDS = 900
"""Twenty seconds on a machine with nothing else to do."""
_STOP_SECONDS = 20
_EXPORTER_SECONDS = 30

Progress = Callable[[str], None]


@dataclass(frozen=True)
class ComponentStatus:
    """One line of ``make status``.

    Args:
        name: The component.
        pid: Its process while it runs.
        address: Where it listens; empty when it does not.
        health: ``healthy``, ``unhealthy``, ``unknown`` (it has not reported yet) or ``stopped``.
    """

    name: str
    pid: int | None
    address: str
    health: str


class Stack:
    """PostgreSQL, S3 and Airflow with state, secrets, logs and ports of their own in one folder.

    Args:
        folder: Where everything lives; another folder is another stack, and both may run at once.
    """

    def __init__(self, folder: Path = DEFAULT_FOLDER) -> None:
        self.folder = folder.absolute()
        self.home = self.folder / "airflow"
        self.staging = self.folder / "staging"
        self.logs = self.folder / "logs"
        self.postgres = PostgresServer(self.folder / "postgres")
        self.object_store = ObjectStore(self.folder / "store")
        self._state_file = self.folder / "stack.json"

    @property
    def api_url(self) -> str:
        """Address of Airflow's API and UI, without a final slash."""
        return f"http://{LOOPBACK}:{self._state['port']}"

    @property
    def exporter_url(self) -> str:
        """Address of the figures for Prometheus, without the final ``/metrics``."""
        return f"http://{LOOPBACK}:{self._state['exporter_port']}"

    @property
    def login(self) -> tuple[str, str]:
        """User and password of the UI."""
        return USER, str(self._state["secrets"]["admin"])

    @property
    def running(self) -> bool:
        """Whether every process of the stack is alive."""
        return all(status.pid is not None for status in self._processes())

    def up(self, progress: Progress = lambda _: None, *, unpaused: bool | None = None) -> None:
        """Start whatever does not run yet and wait until all of it is healthy. Twice is once.

        Args:
            progress: Told in a few words what comes next.
            unpaused: Whether `SCHEDULED_DAGS` run by their schedule from now on; None leaves them as they are.

        Raises:
            ServerError: Something could not be started; what runs already is left running.
            PortTakenError: There is no free port.
        """
        self._make_folders()
        with exclusively(self.folder):
            require_space(self.folder)
            progress("starting PostgreSQL and the S3 server")
            with ThreadPoolExecutor() as pool:
                bucket = pool.submit(self._start_object_store)
                self.postgres.start()
                self._write_state()
                progress("preparing databases")
                self._create_databases()
                source = pool.submit(self._prepare_source)
                bucket.result()  # what Airflow is told names the store's address
                self._migrate()
                source.result()
            self._claim_bucket()
            progress("starting Airflow")
            for component in COMPONENTS:
                self._start_component(component)
            self._wait_until_healthy(progress)
            self._create_pool()
            if unpaused is not None:
                progress(f"{'unpausing' if unpaused else 'pausing'} {' and '.join(SCHEDULED_DAGS)}")
                self.pause_scheduled(not unpaused)

    def start_source(self) -> None:
        """Start PostgreSQL alone and make the source database ready, empty if it is new. Twice is once.

        Raises:
            ServerError: It could not be started.
        """
        self._make_folders()
        with exclusively(self.folder):
            self.postgres.start()
            self._write_state()
            self._create_databases()
            self._prepare_source()

    def down(self) -> None:
        """Stop everything that this folder's stack started, and nothing else. Twice is once; all data stay."""
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
        for folder in (self.home, self.staging, self.logs, self._runs):
            shutil.rmtree(folder, ignore_errors=True)
        for file in (self._state_file, self.folder / "claimed"):
            file.unlink(missing_ok=True)
        self.__dict__.pop("_state", None)
        with contextlib.suppress(OSError):
            (self.folder / ".lock").unlink()
            self.folder.rmdir()

    def status(self) -> list[ComponentStatus]:
        """Say of every component whether it runs, where, and whether it is well."""
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
        """Say of each of `SCHEDULED_DAGS` whether it is paused; those that Airflow has not read yet are missing.

        Raises:
            ServerError: Airflow does not answer.
        """
        dags = call_api(self.api_url, "GET", "/api/v2/dags?limit=500", token=self.token())["dags"]
        return {dag["dag_id"]: dag["is_paused"] for dag in dags if dag["dag_id"] in SCHEDULED_DAGS}

    def pause_scheduled(self, paused: bool) -> None:
        """Pause or unpause `SCHEDULED_DAGS`, as soon as Airflow has read their files.

        Raises:
            ServerError: It does not answer, or did not read them within a quarter of an hour.
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

    def token(self) -> str:
        """Log in to Airflow's API and give a bearer token.

        Raises:
            ServerError: Airflow does not answer.
        """
        user, password = self.login
        body = {"username": user, "password": password}
        return str(call_api(self.api_url, "POST", "/auth/token", body=body)["access_token"])

    def source_conninfo(self) -> str:
        """Give the superuser's connection string of the database whose rows are archived."""
        return self.postgres.conninfo(SOURCE_DATABASE)

    def environment(self) -> dict[str, str]:
        """Give the variables with which ``psql``, ``aws`` and ``airflow`` talk to this stack.

        Raises:
            ServerError: The stack was never started.
        """
        access_key, secret_key = self.object_store.keys("archiver")
        folders = [Path(sys.executable).parent, self.postgres.binaries]
        return {
            **self._airflow_environment(),
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

    @property
    def _runs(self) -> Path:
        return self.folder / "run"

    @cached_property
    def _state(self) -> dict[str, Any]:
        try:
            state: dict[str, Any] = json.loads(self._state_file.read_text())
        except FileNotFoundError:
            raise ServerError(
                f"there is no stack in {self.folder}", hint="nothing is lost; start it with 'make up'"
            ) from None
        return state

    def _make_folders(self) -> None:
        """Make the folders; the outer one lets PostgreSQL's user pass, those with secrets let nobody in."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o711)
        for private in (self.home, self.staging, self.logs, self._runs):
            private.mkdir(exist_ok=True)
            private.chmod(0o700)

    def _write_state(self) -> None:
        """Keep secrets and ports over restarts; a port is chosen anew if a stranger took it while its owner was down."""
        state = _new_state()
        if self._state_file.exists():  # perhaps of an older version, which drew fewer secrets
            state = {**state, **self._state, "secrets": {**state["secrets"], **self._state["secrets"]}}
        for name, owner in (("port", COMPONENTS[0]), ("exporter_port", COMPONENTS[-1])):
            if self._pid_of(owner) is None and (state[name] == 0 or not come_free([state[name]])):
                [state[name]] = choose_ports(1)
        write_private(self._state_file, json.dumps(state))
        write_private(self.home / "passwords.json", json.dumps({USER: state["secrets"]["admin"]}))
        self.__dict__.pop("_state", None)

    def _airflow_environment(self) -> dict[str, str]:
        """Give what Airflow's processes are told beyond the caller's own environment."""
        state = self._state
        password = quote(state["secrets"]["airflow"], safe="")
        database = f"{_AIRFLOW_ROLE}:{password}@{LOOPBACK}:{self.postgres.port}/{_AIRFLOW_DATABASE}"
        return {
            **local_settings(
                self.home,
                port=state["port"],
                database_url=f"postgresql+psycopg2://{database}",
                secrets=state["secrets"],
                staging=self.staging,
            ),
            "STRONGROOM_EXPORTER_PORT": str(state["exporter_port"]),
            "STRONGROOM_EXPORTER_INTERVAL": str(_EXPORTER_SECONDS),
            "STRONGROOM__STORE__BUCKET": BUCKET,
            "STRONGROOM__STORE__ENDPOINT_URL": self.object_store.endpoint_url,
            "AIRFLOW_CONN_STRONGROOM_SOURCE": self._source_connection(ARCHIVER_ROLE),
            "AIRFLOW_CONN_STRONGROOM_RESTORE": self._source_connection(RESTORER_ROLE),
            "AIRFLOW_CONN_STRONGROOM_STORE": self._store_connection("archiver"),
            "AIRFLOW_CONN_STRONGROOM_PURGE": self._store_connection("purger"),
        }

    def _environment_of(self, component: Component) -> dict[str, str]:
        """What one process is told: the exporter, which only counts and reads manifests, has the readers' connections alone."""
        environment = self._airflow_environment()
        if component is not COMPONENTS[-1]:
            return environment
        others = {name: value for name, value in environment.items() if not name.startswith("AIRFLOW_CONN_")}
        return {
            **others,
            "AIRFLOW_CONN_STRONGROOM_SOURCE": self._source_connection(READER_ROLE),
            "AIRFLOW_CONN_STRONGROOM_STORE": self._store_connection("reader"),
        }

    def _source_connection(self, role: str) -> str:
        connection = {
            "conn_type": "postgres",
            "host": self.postgres.host,
            "port": self.postgres.port,
            "schema": SOURCE_DATABASE,
            "login": role,
            "password": self._state["secrets"][role],
        }
        return json.dumps(connection)

    def _store_connection(self, identity: str) -> str:
        access_key, secret_key = self.object_store.keys(identity)
        extra = {
            "endpoint_url": self.object_store.endpoint_url,
            "region_name": REGION,
            "config_kwargs": {"s3": {"addressing_style": "path"}},
        }
        return json.dumps({"conn_type": "aws", "login": access_key, "password": secret_key, "extra": extra})

    def _start_object_store(self) -> None:
        self.object_store.start()
        self.object_store.create_bucket(BUCKET)

    def _claim_bucket(self) -> None:
        """Make the bucket the source database's, once: a bucket that was emptied since is not claimed again."""
        marker = self.folder / "claimed"
        if marker.exists():
            return
        settings = StoreSettings(bucket=BUCKET, endpoint_url=self.object_store.endpoint_url)
        store = Store(self.object_store.client("archiver"), settings)
        password = self._state["secrets"][ARCHIVER_ROLE]
        archiver = make_conninfo(self.source_conninfo(), user=ARCHIVER_ROLE, password=password)
        with open_source(archiver, application_name="strongroom bucket claim") as connection:
            record_owner(store, read_identity(connection))
        marker.touch()

    def _create_databases(self) -> None:
        """Create Airflow's role and database and the empty source database, where they are missing."""
        with psycopg.connect(self.postgres.conninfo(), autocommit=True) as connection:
            password = sql.Literal(self._state["secrets"]["airflow"])
            role = sql.Identifier(_AIRFLOW_ROLE)
            if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (_AIRFLOW_ROLE,)).fetchone():
                connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(role))
            connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(role, password))
            for database, owner in ((_AIRFLOW_DATABASE, _AIRFLOW_ROLE), (SOURCE_DATABASE, self.postgres.superuser)):
                if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (database,)).fetchone():
                    statement = sql.SQL("CREATE DATABASE {} OWNER {}")
                    connection.execute(statement.format(sql.Identifier(database), sql.Identifier(owner)))

    def _prepare_source(self) -> None:
        """Create the sample tables, empty, and the roles that own and archive them and the other tables of archive.yaml."""
        sample.create_schema(self.source_conninfo())
        passwords = {role: self._state["secrets"][role] for role in sample.ROLES}
        try:
            further = [(table.schema_name, table.table_name) for table in load_settings().tables.values()]
        except ConfigurationError:  # Airflow shows it, as an import error
            further = []
        sample.create_roles(self.source_conninfo(), passwords, further=further)

    def _migrate(self) -> None:
        """Bring Airflow's tables to this Airflow's version; skipped when the last start did so with the same version."""
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
            env={**inherited_environment(), **self._airflow_environment()},
        )
        write_private(log, result.stdout + result.stderr)
        if result.returncode != 0:
            raise ServerError(
                "Airflow could not create its tables",
                found=tail(log),
                hint=f"your data were not touched; the whole story is in {log}",
            )
        marker.write_text(installed)

    def _start_component(self, component: Component) -> None:
        """Start a component that does not run, after what a killed predecessor may have left behind is gone."""
        if self._pid_of(component) is not None:
            return
        self._stop_component(component)
        process = spawn(
            component.command(),
            log=self._log_of(component),
            environment={**inherited_environment(), **self._environment_of(component)},
            folder=self.home,
        )
        record = record_of(process)
        if record is None:
            raise self._ended(component)
        let_go(process)
        write_record(self._pid_file(component), record)

    def _stop_component(self, component: Component) -> None:
        record = read_record(self._pid_file(component))
        if record is not None and group_alive(record):
            stop_group(record, timeout_seconds=_STOP_SECONDS)
        self._pid_file(component).unlink(missing_ok=True)

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
                if self._pid_of(component) is None:
                    raise self._ended(component)
            if time.monotonic() > deadline:
                raise ServerError(
                    f"Airflow is not healthy after {_HEALTHY_SECONDS} s",
                    expected="every component says that it is healthy",
                    found=f"{', '.join(sorted(missing))} did not",
                    hint=f"nothing is lost; read the logs in {self.logs}, then 'make down' and 'make up'",
                )
            time.sleep(0.3)

    def _warm_up(self, progress: Progress) -> None:
        """Have the API do once what it does slowly the first time, before tasks ask for it; whether it answers does not matter."""
        progress("warming the API up")
        with contextlib.suppress(ServerError):
            call_api(self.api_url, "GET", "/execution/health")
        with contextlib.suppress(ServerError):
            call_api(self.api_url, "GET", "/api/v2/dags?limit=1", token=self.token())

    def _ended(self, component: Component) -> ServerError:
        log = self._log_of(component)
        return ServerError(
            f"the {component.name} ended by itself",
            found=tail(log),
            hint=f"nothing is lost; the whole story is in {log}",
        )

    def _create_pool(self) -> None:
        """Create the pool that bounds the work against the source database; one that exists keeps its size."""
        settings, token = self._airflow_environment(), self.token()
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
        """List the servers and Airflow's processes; health is what can be told from their pids alone."""
        pids = {"PostgreSQL": self.postgres.pid, "S3 server": self.object_store.pid}
        pids |= {component.name: self._pid_of(component) for component in COMPONENTS}
        return [
            ComponentStatus(name, pid, self._address_of(name) if pid else "", "healthy" if pid else "stopped")
            for name, pid in pids.items()
        ]

    def _address_of(self, name: str) -> str:
        """Say where a running component listens; most of Airflow's listen nowhere."""
        if name == "PostgreSQL":
            return f"{self.postgres.host}:{self.postgres.port}"
        if name == "S3 server":
            return self.object_store.endpoint_url
        if name == COMPONENTS[-1].name:
            return f"{self.exporter_url}/metrics"
        return self.api_url if name == COMPONENTS[0].name else ""

    def _pid_of(self, component: Component) -> int | None:
        record = read_record(self._pid_file(component))
        return record.pid if record is not None and record.alive else None

    def _pid_file(self, component: Component) -> Path:
        return self._runs / f"{component.name}.pid"

    def _log_of(self, component: Component) -> Path:
        return self.logs / f"{component.name}.log"


def _new_state() -> dict[str, Any]:
    """Draw all the secrets of a new stack."""
    names = ("jwt", "api", "airflow", *sample.ROLES)
    # 48 bytes are 64 characters, the least that JWT's HMAC-SHA512 wants.
    drawn = {name: secrets.token_urlsafe(48) for name in names}
    drawn["admin"] = secrets.token_urlsafe(9)  # people type this one
    # The shape of a Fernet key: 32 bytes, URL-safe base64 with its padding.
    drawn["fernet"] = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    return {"port": 0, "exporter_port": EXPORTER_PORT, "secrets": drawn}
