"""The folder of a local stack: its secrets, its ports, and the environment of each process."""

from __future__ import annotations

import base64
import json
import secrets
from pathlib import Path
from typing import Any
from urllib.parse import quote

from strongroom.settings import StoreSettings
from strongroom.storage.author import Author
from strongroom.storage.store import Store
from strongroom.tlog.notes import SignerKey
from strongroom_local.demo import sample
from strongroom_local.servers.airflow import (
    COMPONENTS,
    REPOSITORY,
    USER,
    VIEWER,
    Component,
    call_api,
    local_settings,
)
from strongroom_local.servers.ports import LOOPBACK, PortClaims
from strongroom_local.servers.postgres import PostgresServer
from strongroom_local.servers.processes import (
    ServerError,
    read_record,
    write_private,
)
from strongroom_local.servers.s3 import REGION, ObjectStore

DEFAULT_FOLDER = REPOSITORY / ".strongroom"
BUCKET = "strongroom-archive"
SOURCE_DATABASE = "strongroom"
ARCHIVER_ROLE = "strongroom_archiver"
RESTORER_ROLE = "strongroom_restorer"
READER_ROLE = "strongroom_reader"
DRILL_ROLE = "strongroom_drill"
ERASER_ROLE = "strongroom_eraser"
EXPORTER_PORT = 9092
"""The port of the Prometheus metrics; another one is chosen if it is taken."""
AIRFLOW_DATABASE = "airflow"
AIRFLOW_ROLE = "airflow"
_EXPORTER_SECONDS = 30


class StackFolder:
    """One folder with the state, secrets, logs and ports of a stack.

    Args:
        folder: Where everything lives. Stacks in different folders can run at the same time.
    """

    def __init__(self, folder: Path = DEFAULT_FOLDER) -> None:
        self.folder = folder.absolute()
        self.home = self.folder / "airflow"
        self.staging = self.folder / "staging"
        self.logs = self.folder / "logs"
        self.postgres = PostgresServer(self.folder / "postgres")
        self.object_store = ObjectStore(self.folder / "store")
        self.state_file = self.folder / "stack.json"

    @property
    def api_url(self) -> str:
        """Address of Airflow's API and UI, without a trailing slash."""
        return f"http://{LOOPBACK}:{self.state['port']}"

    @property
    def exporter_url(self) -> str:
        """Address of the Prometheus metrics, without the trailing ``/metrics``."""
        return f"http://{LOOPBACK}:{self.state['exporter_port']}"

    @property
    def login(self) -> tuple[str, str]:
        """User and password for the UI: who may do everything."""
        return USER, self.password(USER)

    def password(self, user: str) -> str:
        """The password of one of the users."""
        return str(self.state["secrets"][user])

    @property
    def archive_page(self) -> str:
        """Address of the map of all archives, in Airflow's UI."""
        return f"{self.api_url}/plugin/archive/strongroom/archive"

    def token(self, user: str = USER) -> str:
        """Log in to Airflow's API and return a bearer token.

        Raises:
            ServerError: Airflow does not answer.
        """
        password = self.password(user)
        body = {"username": user, "password": password}
        return str(call_api(self.api_url, "POST", "/auth/token", body=body)["access_token"])

    @property
    def runs(self) -> Path:
        """The folder with the process records."""
        return self.folder / "run"

    @property
    def state(self) -> dict[str, Any]:
        """Secrets and ports.

        Raises:
            ServerError: The stack was never started.
        """
        try:
            state: dict[str, Any] = json.loads(self.state_file.read_text())
        except FileNotFoundError:
            raise ServerError(
                f"there is no stack in {self.folder}", hint="nothing is lost; start it with 'make up'"
            ) from None
        return state

    def make_folders(self) -> None:
        """Create the folders. PostgreSQL's user may enter the outer one; folders with secrets are private."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o711)
        for private in (self.home, self.staging, self.logs, self.runs):
            private.mkdir(exist_ok=True)
            private.chmod(0o700)

    def write_state(self, claims: PortClaims) -> None:
        """Keep secrets and ports across restarts. Choose a new port if another process took it in the meantime.

        Args:
            claims: Keep the ports for this start until what listens there runs.
        """
        state = _new_state()
        if self.state_file.exists():  # an older version's state has fewer secrets
            state = {**state, **self.state, "secrets": {**state["secrets"], **self.state["secrets"]}}
        for name, owner in (("port", COMPONENTS[0]), ("exporter_port", COMPONENTS[-1])):
            if self.pid_of(owner) is None and (state[name] == 0 or not claims.keep([state[name]])):
                [state[name]] = claims.choose(1)
        write_private(self.state_file, json.dumps(state))
        write_private(
            self.home / "passwords.json", json.dumps({user: state["secrets"][user] for user in (USER, VIEWER)})
        )

    def airflow_environment(self) -> dict[str, str]:
        """The variables for Airflow's processes, on top of the caller's environment."""
        state = self.state
        password = quote(state["secrets"]["airflow"], safe="")
        database = f"{AIRFLOW_ROLE}:{password}@{LOOPBACK}:{self.postgres.port}/{AIRFLOW_DATABASE}"
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
            "STRONGROOM__STORE__LOG_KEYS": str(self.log_key.verifier),
            "AIRFLOW_CONN_STRONGROOM_LOG": json.dumps({"conn_type": "generic", "password": self.log_key.secret}),
            "AIRFLOW_CONN_STRONGROOM_SOURCE": self._source_connection(ARCHIVER_ROLE),
            "AIRFLOW_CONN_STRONGROOM_RESTORE": self._source_connection(RESTORER_ROLE),
            "AIRFLOW_CONN_STRONGROOM_DRILL": self._source_connection(DRILL_ROLE),
            "AIRFLOW_CONN_STRONGROOM_ERASURE": self._source_connection(ERASER_ROLE),
            "AIRFLOW_CONN_STRONGROOM_SUBJECTS": json.dumps(
                {"conn_type": "generic", "password": state["secrets"]["subjects"]}
            ),
            "AIRFLOW_CONN_STRONGROOM_STORE": self._store_connection("archiver"),
            "AIRFLOW_CONN_STRONGROOM_PURGE": self._store_connection("purger"),
            "AIRFLOW_CONN_STRONGROOM_TASK_LOGS": self._store_connection("logger"),
            "AIRFLOW_CONN_STRONGROOM_ICEBERG": self._store_connection("iceberg"),
            "AIRFLOW_CONN_STRONGROOM_ICEBERG_CATALOG": json.dumps(
                {"conn_type": "generic", "extra": {"type": "sql", "uri": f"sqlite:///{self.home}/iceberg.db"}}
            ),
        }

    def environment_of(self, component: Component) -> dict[str, str]:
        """The variables for one process. The exporter only counts rows and reads manifests, so it connects as the reader."""
        environment = self.airflow_environment()
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
            "password": self.state["secrets"][role],
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

    def pid_of(self, component: Component) -> int | None:
        """The component's pid while it is alive."""
        record = read_record(self.pid_file(component))
        return record.pid if record is not None and record.alive else None

    def pid_file(self, component: Component) -> Path:
        """Where the component's process is recorded."""
        return self.runs / f"{component.name}.pid"

    def log_of(self, component: Component) -> Path:
        """The component's log file."""
        return self.logs / f"{component.name}.log"

    def archive_store(self, person: str) -> Store:
        """The archive store, as a person with the archiver's keys and the log's key uses it."""
        key = self.log_key
        settings = StoreSettings(
            bucket=BUCKET, endpoint_url=self.object_store.endpoint_url, log_keys=(str(key.verifier),)
        )
        return Store(self.object_store.client("archiver"), settings, author=Author(lambda: key, person=person))

    @property
    def log_key(self) -> SignerKey:
        """The key that signs the store's transparency log."""
        return SignerKey.parse(self.state["secrets"]["log"])

    def source_conninfo(self) -> str:
        """Return the superuser's connection string for the source database, whose rows are archived."""
        return self.postgres.conninfo(SOURCE_DATABASE)


def _new_state() -> dict[str, Any]:
    """Generate all secrets of a new stack."""
    names = ("jwt", "api", "airflow", *sample.ROLES)
    # 48 bytes become 64 characters, the minimum for JWT's HMAC-SHA512.
    drawn = {name: secrets.token_urlsafe(48) for name in names}
    drawn |= {user: secrets.token_urlsafe(9) for user in (USER, VIEWER)}  # people type these
    # A Fernet key is 32 bytes in URL-safe base64, with padding.
    drawn["fernet"] = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    drawn["subjects"] = secrets.token_hex(32)
    drawn["log"] = SignerKey.generate("strongroom.local/archive").secret
    return {"port": 0, "exporter_port": EXPORTER_PORT, "secrets": drawn}
