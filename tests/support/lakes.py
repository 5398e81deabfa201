"""An archive store with parquet archives, and their Iceberg table in a bucket without versions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

from pyiceberg.catalog import load_catalog
from pyiceberg.manifest import ManifestEntry
from pyiceberg.table import Table

from strongroom.lake.catalogue import Lake, open_catalogue
from strongroom.lake.places import OwnPlace, ReadPlace
from strongroom.lake.reconcile import look_at_table, reconcile_table
from strongroom.lake.records import TableState
from strongroom.object_keys.archives import table_folder
from strongroom.settings import TableSettings
from strongroom_local.servers.s3 import ICEBERG_BUCKET, ObjectStore
from tests.support.chain import NOW, Chain

CATALOGUE = "strongroom"


@dataclass
class Lakeside:
    """The Iceberg table of one table, as its runs and an outsider see it."""

    object_store: ObjectStore
    settings: TableSettings
    bucket: str
    uri: str
    prefix: str = "tables"

    def lake(self, client: Any = None) -> Lake:
        """Opened anew, as by a process of its own."""
        client = client or self.object_store.client("iceberg")
        archives = ReadPlace(client, self.settings.store)
        own = OwnPlace(client, self.settings.store.model_copy(update={"bucket": self.bucket, "prefix": self.prefix}))
        catalog = open_catalogue(CATALOGUE, {"type": "sql", "uri": self.uri}, archives=archives, own=own)
        where = (self.settings.schema_name, self.settings.table_name)
        return Lake(catalog, archives, own, *where, date_column=self.settings.date_column)

    def reconcile(self, *, now: datetime = NOW, client: Any = None) -> TableState:
        with closing(self.lake(client)) as lake:
            return reconcile_table(lake, now=now)

    def look(self, *, now: datetime = NOW) -> TableState:
        with closing(self.lake()) as lake:
            return look_at_table(lake, now=now)

    @contextmanager
    def outsider(self) -> Iterator[Table]:
        """The table as another program opens it: with PyIceberg's own way to S3, and keys that only read."""
        access_key, secret_key = self.object_store.keys("auditor")
        with load_catalog(
            CATALOGUE,
            **{
                "type": "sql",
                "uri": self.uri,
                "s3.endpoint": self.object_store.endpoint_url,
                "s3.access-key-id": access_key,
                "s3.secret-access-key": secret_key,
                "s3.region": "us-east-1",
            },
        ) as catalog:
            yield catalog.load_table((self.settings.schema_name, self.settings.table_name))

    def rows(self, **scan: Any) -> list[dict[str, Any]]:
        """What a full scan finds, by `id`."""
        with self.outsider() as table:
            return sorted(table.scan(**scan).to_arrow().to_pylist(), key=lambda row: row["id"])

    def keys(self) -> list[str]:
        """Everything in its place."""
        pages = self.object_store.client("admin").get_paginator("list_objects_v2")
        found = pages.paginate(Bucket=self.bucket, Prefix=f"{self.prefix}/")
        return [entry["Key"] for page in found for entry in page.get("Contents", ())]

    def needed(self) -> list[str]:
        """What the table's current state takes, with the hint, by what the metadata says."""
        with self.outsider() as table:
            snapshot = table.current_snapshot()
            assert snapshot is not None
            [only] = table.metadata.snapshots
            assert only == snapshot
            places = [table.metadata_location, snapshot.manifest_list]
            places += [manifest.manifest_path for manifest in snapshot.manifests(table.io)]
        keys = [place.removeprefix(f"s3://{self.bucket}/") for place in places]
        return sorted([*keys, self.hint_key])

    @property
    def hint_key(self) -> str:
        folder = table_folder(self.settings.schema_name, self.settings.table_name)
        return f"{self.prefix}/{folder}/metadata/version-hint.text"

    def hint(self) -> str:
        client = self.object_store.client("admin")
        return client.get_object(Bucket=self.bucket, Key=self.hint_key)["Body"].read().decode()

    def entries(self) -> list[ManifestEntry]:
        """Every entry of every manifest in the bucket, those of removed parts too."""
        with self.outsider() as table:
            snapshot = table.current_snapshot()
            assert snapshot is not None
            manifests = snapshot.manifests(table.io)
            return [one for each in manifests for one in each.fetch_manifest_entry(table.io, discard_deleted=False)]


@contextmanager
def closing(lake: Lake) -> Iterator[Lake]:
    """Close the catalogue's connections."""
    with lake.catalog:
        yield lake


def a_lakeside(object_store: ObjectStore, settings: TableSettings, folder: Path) -> Lakeside:
    """The lakeside of a table, in a new bucket."""
    bucket = f"{ICEBERG_BUCKET}-{settings.store.bucket}"
    object_store.create_bucket(bucket, versioned=False)
    return Lakeside(object_store, settings, bucket, f"sqlite:///{folder}/catalogue.db")


def archive(chain: Chain, *months: str) -> None:
    """Seal archives of months of a table. Their rows stay in it: whether they were deleted is nothing to a reader of archives."""
    for month in months:
        chain.key = month
        assert chain.seal(chain.plan()).parts


@dataclass(frozen=True)
class Write:
    """A write to the bucket: its number from 1, the client's method, and the key."""

    number: int
    method: str
    key: str


class Watched:
    """An S3 client, with something that happens before or after one of its writes, once.

    Args:
        at: Whether this write is the one.
        happens: What happens then.
    """

    def __init__(self, client: Any, at: Callable[[Write], bool], happens: Callable[[], Any], *, before: bool) -> None:
        self._client, self._at, self._happens, self._before = client, at, happens, before
        self._writes, self.fired, self._lock = 0, False, Lock()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        return partial(self._write, method, name) if name in ("put_object", "delete_object") else method

    def _write(self, method: Any, name: str, **arguments: Any) -> Any:
        with self._lock:
            self._writes += 1
            now = not self.fired and self._at(Write(self._writes, name, arguments["Key"]))
            self.fired |= now
        if now and self._before:
            self._happens()
        answer = method(**arguments)
        if now and not self._before:
            self._happens()
        return answer


class Killed(BaseException):
    """Ends a run at once: nobody catches it."""


def kill() -> None:
    raise Killed
