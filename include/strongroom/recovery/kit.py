"""The recovery kit: a folder that is kept where neither the machines nor the buckets are. It holds no secret."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, Field

from strongroom.errors import ConfigurationError, StrongroomError
from strongroom.ledger.entries import software
from strongroom.ledger.journal import checkpoint_of
from strongroom.ledger.owner import require_owned
from strongroom.records import Record, SourceIdentity, parse_record
from strongroom.settings import StoreSettings, TableSettings
from strongroom.storage.store import Store

KIT, SETTINGS, VARIABLES, README, SUMS = "kit.json", "archive.yaml", "settings.env", "README.md", "SHA256SUMS"


class RecoveryError(StrongroomError):
    """A kit or a bucket is not what a recovery needs."""

    code = "SR-605"


class Needed(Record):
    """An Airflow connection that somebody must make again. Its secret is not in the kit."""

    conn_id: str
    conn_type: Literal["aws", "postgres", "generic"]
    purpose: str


class KitPlace(Record):
    """Where a store or its replica lies."""

    bucket: str
    prefix: str
    region: str
    endpoint_url: str | None = Field(description="None if the connection names it, or it is Amazon's own.")
    sse: str
    kms_key_id: str | None


class KitStore(Record):
    """One store, as it was when the kit was written."""

    tables: tuple[str, ...] = Field(description="Tables of archive.yaml whose archives lie there.")
    place: KitPlace
    replica: KitPlace | None
    owner: SourceIdentity
    log_keys: tuple[str, ...] = Field(description="Public keys that may have signed the store's log.")
    witness_keys: tuple[str, ...]
    checkpoint: str | None = Field(description="Signed head of the log at that moment; None for a store without a log.")


class Kit(Record):
    """What a recovery needs to know."""

    kit_version: Literal[1] = 1
    made_at: AwareDatetime
    software: str
    python: str
    stores: tuple[KitStore, ...]
    connections: tuple[Needed, ...]


def describe_store(store: Store, tables: list[TableSettings]) -> KitStore:
    """One store for a kit.

    Raises:
        IdentityError: The store is unclaimed, or its log is gone.
    """
    replica = tables[0].replica_store
    return KitStore(
        tables=tuple(table.table for table in tables),
        place=_place(store.settings),
        replica=None if replica is None else _place(replica),
        owner=require_owned(store),
        log_keys=store.settings.log_keys,
        witness_keys=store.settings.witness_keys,
        checkpoint=checkpoint_of(store),
    )


def _place(settings: StoreSettings) -> KitPlace:
    return KitPlace(**{name: getattr(settings, name) for name in KitPlace.model_fields})


def needed_connections(table: TableSettings) -> Iterator[Needed]:
    """The connections that the work on a table needs, whether they exist or not."""
    yield Needed(conn_id=table.store_conn_id, conn_type="aws", purpose="reads and writes the archive store")
    yield Needed(conn_id=table.purge_conn_id, conn_type="aws", purpose="removes versions when terms end")
    if table.store.log_keys:
        yield Needed(conn_id=table.log_conn_id, conn_type="generic", purpose="the private key that signs the log")
    if table.replica_store is not None:
        yield Needed(conn_id=table.replica.conn_id, conn_type="aws", purpose="reads and writes the second copy")
        yield Needed(conn_id=table.replica.purge_conn_id, conn_type="aws", purpose="removes versions there")
    if table.iceberg_store is not None:
        yield Needed(conn_id=table.iceberg.conn_id, conn_type="aws", purpose="reads archives, writes Iceberg tables")
        yield Needed(conn_id=table.iceberg.catalog_conn_id, conn_type="postgres", purpose="names the Iceberg tables")
    if table.staging_store is not None:
        yield Needed(conn_id=table.staging_conn_id, conn_type="aws", purpose="staging")
    yield Needed(conn_id=table.source_conn_id, conn_type="postgres", purpose="the source database: reads and deletes")
    yield Needed(conn_id=table.restore_conn_id, conn_type="postgres", purpose="the database that rows come back to")
    yield Needed(conn_id=table.drill_conn_id, conn_type="postgres", purpose="restore drills")
    if table.subjects.columns:
        yield Needed(
            conn_id=table.subject_conn_id, conn_type="generic", purpose="the key of the list of erased persons"
        )


def make_kit(stores: list[KitStore], tables: list[TableSettings], *, now: AwareDatetime) -> Kit:
    """A kit of all stores; each connection is named once."""
    needed = {one.conn_id: one for table in tables for one in needed_connections(table)}
    return Kit(
        made_at=now,
        software=software(),
        python=".".join(map(str, sys.version_info[:3])),
        stores=tuple(stores),
        connections=tuple(needed.values()),
    )


def write_kit(folder: Path, kit: Kit, *, settings_file: bytes, variables: Mapping[str, str]) -> list[Path]:
    """Write a kit into a new or empty folder.

    Args:
        folder: Made if it is missing.
        kit: From :func:`make_kit`.
        settings_file: archive.yaml as it is.
        variables: Settings that came from the environment, by the variable's name.

    Raises:
        ConfigurationError: The folder holds something.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise ConfigurationError(
            f"{folder} is not empty",
            expected="a new or empty folder",
            hint="Nothing was written. Name another folder; an older kit stays as it is.",
        )
    lines = [f"{name}={value}" for name, value in sorted(variables.items()) if "\n" not in value]
    files = {
        KIT: kit.to_bytes(),
        SETTINGS: settings_file,
        VARIABLES: "".join(f"{line}\n" for line in lines).encode(),
        README: _readme(kit).encode(),
    }
    for number, store in enumerate(kit.stores):
        if store.checkpoint is not None:
            files[f"checkpoint-{number}.txt"] = store.checkpoint.encode()
    files[SUMS] = "".join(f"{hashlib.sha256(body).hexdigest()}  {name}\n" for name, body in files.items()).encode()
    for name, body in files.items():
        (folder / name).write_bytes(body)
    return [folder / name for name in files]


def read_kit(folder: Path) -> Kit:
    """Read a kit, and check that its files are those that were written.

    Raises:
        RecoveryError: It is no kit, or one of its files was changed.
    """
    try:
        for line in (folder / SUMS).read_text().splitlines():
            sha256, _, name = line.partition("  ")
            found = hashlib.sha256((folder / Path(name).name).read_bytes()).hexdigest()
            if found != sha256:
                raise RecoveryError(
                    f"{folder / name} is not the file of the kit",
                    expected=sha256,
                    found=found,
                    hint="Nothing was changed. Take another copy of the kit; if it was changed on purpose, create SHA256SUMS again.",
                )
        body = (folder / KIT).read_bytes()
    except (OSError, UnicodeDecodeError) as error:
        raise RecoveryError(
            f"{folder} is not a recovery kit",
            expected=f"a folder with {SUMS} and all files that it names",
            found=getattr(error, "strerror", None) or str(error),
            hint="Nothing was changed. `airflow strongroom recovery-kit` writes one.",
        ) from None
    return parse_record(Kit, body, where=str(folder / KIT), what="a recovery kit", hint="Nothing was changed.")


def read_variables(folder: Path) -> dict[str, str]:
    """The settings of a kit that came from the environment."""
    lines = (line.partition("=") for line in (folder / VARIABLES).read_text().splitlines())
    return {name: value for name, _, value in lines if name}


def _readme(kit: Kit) -> str:
    places = [
        f"- {store.place.bucket}/{store.place.prefix} in {store.place.region}, endpoint {store.place.endpoint_url or 'of its connection'}"
        + (
            ""
            if store.replica is None
            else f"; second copy in {store.replica.bucket}/{store.replica.prefix}, {store.replica.region}"
        )
        + f": {', '.join(store.tables)}"
        for store in kit.stores
    ]
    needed = [f"- `{one.conn_id}` ({one.conn_type}): {one.purpose}" for one in kit.connections]
    keys = [f"- `{key}`" for store in kit.stores for key in (*store.log_keys, *store.witness_keys)]
    kms = sorted(
        {place.kms_key_id for one in kit.stores for place in (one.place, one.replica) if place and place.kms_key_id}
    )
    return "\n".join(
        [
            "# Recovery kit",
            "",
            f"Written at {kit.made_at:%Y-%m-%d %H:%M} UTC by {kit.software} on Python {kit.python}. It holds no secret. Keep it where neither the",
            "machines nor the buckets are, and write a new one after each change of the settings and at least each month.",
            "",
            "## What a person must bring",
            "",
            f"- A machine with {kit.software} and Airflow, and a PostgreSQL for the rows that come back.",
            "- The secrets of these connections:",
            *needed,
            *(
                [f"- The right to use the KMS keys {', '.join(kms)}. Without them nobody reads the archives."]
                if kms
                else []
            ),
            "- The private key of the log is in no bucket. Without it archives can be verified and read by hand; a restore, which enters what it does, cannot begin.",
            "",
            "## Stores",
            "",
            *places,
            "",
            "## Public keys",
            "",
            *(keys or ["- none: these stores have no transparency log"]),
            "",
            "## What to do",
            "",
            "1. `sha256sum -c SHA256SUMS`",
            "2. Set `STRONGROOM_CONFIG` to `archive.yaml`, and the variables of `settings.env`.",
            "3. Make the connections.",
            "4. `airflow strongroom recover THIS_FOLDER`, or with `--from replica --fill` where the first bucket is lost.",
            "5. `airflow strongroom restore …`",
            "",
            "The runbook is docs/howto/recover.md of Strongroom.",
            "",
        ]
    )
