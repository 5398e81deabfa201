"""Environment variables that tell Airflow a test's tables, stores and databases."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from psycopg.conninfo import conninfo_to_dict

from strongroom.tlog.notes import SignerKey


def postgres_connection(conninfo: str) -> str:
    """An Airflow connection to a database, as JSON."""
    where = conninfo_to_dict(conninfo)
    return json.dumps(
        {
            "conn_type": "postgres",
            "host": where["host"],
            "port": int(str(where["port"])),
            "schema": where["dbname"],
            "login": where["user"],
            "password": where["password"],
        }
    )


def aws_connection(access_key: str, secret_key: str) -> str:
    """An Airflow connection to a store, as JSON."""
    return json.dumps({"conn_type": "aws", "login": access_key, "password": secret_key})


def write_config(folder: Path, tables: Mapping[str, Mapping[str, Any]] | None = None) -> Path:
    """Write an archive.yaml. By default it has the table `audit`."""
    path = folder / "archive.yaml"
    path.write_text(json.dumps({"legal_basis": "a test", "tables": tables or {"audit": {"date_column": "at"}}}))
    return path


class Deployment:
    """Sets the variables for one test.

    Args:
        monkeypatch: Restores them at the end of the test.
        folder: Where archive.yaml and staging are placed.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self._monkeypatch = monkeypatch
        self._folder = folder
        self.tables()
        monkeypatch.setenv("STRONGROOM__STAGING", str(folder / "staging"))

    def tables(self, **sections: Mapping[str, Any]) -> None:
        """Configure these tables instead of the previous ones. By default, the table `audit`."""
        self._monkeypatch.setenv("STRONGROOM_CONFIG", str(write_config(self._folder, sections)))

    def store(self, object_store: Any, bucket: str, **identities: str) -> None:
        """Set the store, and which identity each connection to it uses, such as `purge="purger"`. The archiver uses `store`."""
        self._monkeypatch.setenv("STRONGROOM__STORE__BUCKET", bucket)
        self._monkeypatch.setenv("STRONGROOM__STORE__ENDPOINT_URL", object_store.endpoint_url)
        for name, identity in {"store": "archiver", **identities}.items():
            self.connection(name, aws_connection(*object_store.keys(identity)))

    def glacier_store(self, url: str, bucket: str) -> None:
        """Set a store of moto, which accepts any keys."""
        self._monkeypatch.setenv("STRONGROOM__STORE__BUCKET", bucket)
        self._monkeypatch.setenv("STRONGROOM__STORE__ENDPOINT_URL", url)
        self.connection("store", aws_connection("test", "test"))

    def database(self, conninfo: str, *names: str) -> None:
        """Point the connections of these names, such as `source`, to a database."""
        for name in names:
            self.connection(name, postgres_connection(conninfo))

    def log(self, key: SignerKey, *, trusted: Sequence[SignerKey] = ()) -> None:
        """Give the store a transparency log that a key signs."""
        keys = [str(one.verifier) for one in trusted or (key,)]
        self._monkeypatch.setenv("STRONGROOM__STORE__LOG_KEYS", json.dumps(keys))
        self.connection("log", self.generic(key.secret))

    @staticmethod
    def generic(password: str) -> str:
        """An Airflow connection that is nothing but a password, as JSON."""
        return json.dumps({"conn_type": "generic", "password": password})

    def connection(self, name: str, connection: str) -> None:
        """Create one of Strongroom's connections."""
        self._monkeypatch.setenv(f"AIRFLOW_CONN_STRONGROOM_{name.upper()}", connection)
