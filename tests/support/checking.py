"""A deployment with a role for each connection and an identity for each store, that tests break in one place at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any

from psycopg.conninfo import make_conninfo

from strongroom.checks.result import CheckResult
from strongroom.database.session import Connection, open_source
from strongroom.errors import ConfigurationError
from strongroom.settings import StoreSettings, TableSettings
from strongroom.storage.store import Store
from strongroom.storage.tried_store import TriedStore
from strongroom.tlog.notes import SignerKey
from strongroom_local.servers.s3 import ObjectStore
from tests.support.database import execute
from tests.support.logs import KEY, SUBJECT_KEY

PASSWORD = "a test's"  # pragma: allowlist secret
ROLES = ("archiver", "restorer", "eraser", "drill", "owner")

_RIGHTS = """
GRANT SELECT, DELETE ON audit TO {archiver};
GRANT SELECT, INSERT ON audit TO {restorer};
GRANT SELECT, UPDATE, DELETE ON audit TO {eraser};
CREATE SCHEMA strongroom_drill;
GRANT USAGE, CREATE ON SCHEMA strongroom_drill TO {drill};
ALTER TABLE audit OWNER TO {owner};
"""


def now() -> datetime:
    return datetime.now(timezone.utc)


def create_roles(conninfo: str, prefix: str) -> dict[str, str]:
    """Create a role for each connection, with exactly its rights on the table `audit`. Returns their connection strings."""
    names = {role: f"{prefix}_{role}" for role in ROLES}
    for name in names.values():
        execute(conninfo, f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD.replace(chr(39), chr(39) * 2)}'")
    execute(conninfo, _RIGHTS.format(**names))
    return {role: make_conninfo(conninfo, user=name, password=PASSWORD) for role, name in names.items()}


@dataclass(frozen=True)
class Deployed:
    """Opens a deployment's databases and stores as :class:`strongroom.checks.doors.Doors` does.

    Attributes:
        databases: Connection string of each connection id.
        identities: Identity of each connection id of a store.
        key: What signs the log.
    """

    object_store: ObjectStore
    databases: Mapping[str, str]
    identities: Mapping[str, str] = field(
        default_factory=lambda: {
            "strongroom_store": "archiver",
            "strongroom_purge": "purger",
            "strongroom_staging": "stager",
            "strongroom_iceberg": "iceberg",
            "strongroom_replica": "archiver",
            "strongroom_replica_purge": "purger",
        }
    )
    key: SignerKey = KEY
    endpoint_url: str | None = None

    def change(self, **changes: Any) -> Deployed:
        """The same deployment with other databases, identities or keys."""
        for name in ("databases", "identities"):
            if name in changes:
                changes[name] = {**getattr(self, name), **changes[name]}
        return replace(self, **changes)

    @contextmanager
    def database(self, settings: TableSettings, conn_id: str) -> Iterator[Connection]:
        if conn_id not in self.databases:
            raise ConfigurationError(f"Airflow has no connection {conn_id}", hint="Add it.")
        conninfo = self.databases[conn_id]
        with open_source(
            conninfo, application_name="strongroom check", tls_required=settings.tls_required, connect_timeout_seconds=5
        ) as connection:
            yield connection

    def store(self, settings: TableSettings) -> Store:
        return Store(self._client(settings.store_conn_id), settings.store)

    def purger(self, settings: TableSettings) -> TriedStore:
        return self._tried(settings.purge_conn_id, settings.store)

    def replica(self, settings: TableSettings) -> Store:
        assert settings.replica_store is not None
        return Store(self._client(settings.replica.conn_id), settings.replica_store)

    def replica_purger(self, settings: TableSettings) -> TriedStore:
        assert settings.replica_store is not None
        return self._tried(settings.replica.purge_conn_id, settings.replica_store)

    def stager(self, settings: TableSettings) -> TriedStore:
        assert settings.staging_store is not None
        return self._tried(settings.staging_conn_id, settings.staging_store)

    def publisher(self, settings: TableSettings, *, own: bool) -> TriedStore:
        where = settings.iceberg_store if own else settings.store
        assert where is not None
        return self._tried(settings.iceberg.conn_id, where)

    def signing_key(self, settings: TableSettings) -> SignerKey:  # noqa: ARG002 - all tables have one
        return self.key

    def subject_key(self, settings: TableSettings) -> object:  # noqa: ARG002 - all tables have one
        return SUBJECT_KEY

    def _tried(self, conn_id: str, where: StoreSettings) -> TriedStore:
        return TriedStore(self._client(conn_id), where)

    def _client(self, conn_id: str) -> Any:
        if conn_id not in self.identities:
            raise ConfigurationError(f"Airflow has no connection {conn_id}", hint="Add it.")
        return self.object_store.client(self.identities[conn_id])


def faults(results: list[CheckResult]) -> list[str]:
    """Each failed check in one line."""
    return [f"{one.what}: {one.found}" for one in results if one.verdict == "failed"]


def warnings(results: list[CheckResult]) -> list[str]:
    """Each warning in one line."""
    return [f"{one.what}: {one.found}" for one in results if one.verdict == "warning"]
