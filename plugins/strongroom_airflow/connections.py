"""From Airflow connections to stores of the domain; :mod:`strongroom_airflow.database_connections` is for databases.

Commands and the exporter call :func:`strongroom_airflow.stored_connections.find_stored_connections` first. That module is apart
because not every command needs the hooks that this one loads.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import boto3
from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook
from airflow.providers.amazon.aws.utils.connection_wrapper import AwsConnectionWrapper
from airflow.sdk import BaseHook, get_current_context
from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.utils.platform import getuser
from botocore.exceptions import BotoCoreError
from botocore.loaders import Loader, create_loader

from strongroom.errors import ConfigurationError, IntegrityError
from strongroom.object_keys.archives import ArchiveId
from strongroom.settings import Settings, StoreSettings, TableSettings
from strongroom.storage.author import Author
from strongroom.storage.bucket import BucketStore
from strongroom.storage.purge_store import PurgeStore
from strongroom.storage.s3 import make_client
from strongroom.storage.staging import StagingRoot
from strongroom.storage.staging_folder import FolderRoot
from strongroom.storage.staging_s3 import S3Root
from strongroom.storage.store import Store
from strongroom.tlog.notes import SignerKey
from strongroom_airflow.identity import identity_of

if TYPE_CHECKING:
    from strongroom.formats.persons import Persons, SubjectKey
    from strongroom.restore.thaw import GlacierStore
    from strongroom.retention.second_copy import SecondCopy
    from strongroom.storage.tried_store import TriedStore

# Airflow's wrapper logs each time where a connection's credentials came from, which here is always Airflow. Its warnings stay.
# Each task configures logging again, which resets the level of every logger below `airflow`; so this one has another name, and
# the wrapper has no public attribute for it.
AwsConnectionWrapper._log = logging.getLogger("strongroom.connections")  # type: ignore[assignment]
AwsConnectionWrapper._log.setLevel(logging.WARNING)


def connect_store(settings: TableSettings) -> Store:
    """The table's archive store, with the keys (or role, or profile) of its Airflow connection of type aws."""
    return Store(
        connect_s3(settings, settings.store_conn_id),
        settings.store,
        author=author_for(settings),
        connect_replica=_replica_of(settings),
    )


def _replica_of(settings: TableSettings) -> Callable[[], Store] | None:
    """Opens the second copy of the table's store when somebody needs it; None if there is none."""
    where = settings.replica_store
    if where is None:
        return None
    return lambda: Store(connect_s3(settings, settings.replica.conn_id, where), where)


def connect_replica_bucket(settings: TableSettings, conn_id: str | None = None) -> BucketStore | None:
    """The replica's bucket as its administrator sees it; None if the table has no replica."""
    where = settings.replica_store
    if where is None:
        return None
    return BucketStore(connect_s3(settings, conn_id or settings.replica.conn_id, where), where)


def connect_second(settings: TableSettings, store: Store) -> SecondCopy | None:
    """The replica of a store, for who removes; None if the table has none.

    Raises:
        ConfigurationError: It is the store itself.
    """
    from strongroom.ledger.copies import require_apart
    from strongroom.retention.second_copy import SecondCopy  # only who removes needs it

    where = settings.replica_store
    if where is None or store.replica is None:
        return None
    require_apart(store, store.replica)
    purge_store = PurgeStore(connect_s3(settings, settings.replica.purge_conn_id, where), where)
    return SecondCopy(store.replica, purge_store, filled_by_us=settings.replica.filled_by == "strongroom")


def connect_purge_store(settings: TableSettings) -> PurgeStore:
    """The same store, with the identity that may remove versions."""
    return PurgeStore(connect_s3(settings, settings.purge_conn_id), settings.store)


def connect_bucket(settings: TableSettings, conn_id: str | None = None) -> BucketStore:
    """The same store as the administrator of its bucket sees it; ``conn_id`` replaces the store's own connection."""
    return BucketStore(connect_s3(settings, conn_id or settings.store_conn_id), settings.store)


def connect_tried(settings: TableSettings, conn_id: str, where: StoreSettings) -> TriedStore:
    """A bucket and prefix as the keys of a connection see it, for trying what they may do there."""
    from strongroom.storage.tried_store import TriedStore  # only the checks need it

    return TriedStore(connect_s3(settings, conn_id, where), where)


def connect_glacier(settings: TableSettings) -> GlacierStore:
    """The table's store, for parts that may lie in a Glacier class."""
    from strongroom.restore.thaw import GlacierStore  # only restores need it and all that it imports

    return GlacierStore(
        connect_s3(settings, settings.store_conn_id),
        settings.store,
        author=author_for(settings),
        connect_replica=_replica_of(settings),
    )


def connect_staging(settings: TableSettings) -> StagingRoot:
    """The table's staging: a folder, or a prefix on S3 with an identity of its own."""
    where = settings.staging_store
    if where is None:
        return FolderRoot(settings.staging)
    return S3Root(PurgeStore(connect_s3(settings, settings.staging_conn_id), where), settings.scratch)


def author_for(settings: TableSettings) -> Author | None:
    """Whoever runs this code, as the author of entries in the log of a table's store; None if the store has no log."""
    if not settings.store.log_keys:
        return None
    sign_with = partial(signing_key, settings.log_conn_id)
    try:
        context = get_current_context()
    except RuntimeError:  # a command
        return Author(sign_with, person=getuser())
    task = context["ti"]
    return Author(sign_with, run=identity_of(context), task_id=task.task_id, try_number=task.try_number)


def signing_key(conn_id: str) -> SignerKey:
    """The key of a transparency log, from the password of its Airflow connection of type generic.

    Raises:
        ConfigurationError: There is no such connection, or its password is no key.
    """
    try:
        secret = BaseHook.get_connection(conn_id).password
    except AirflowNotFoundException:
        raise no_connection(conn_id, "generic, with the key of the transparency log as its password") from None
    try:
        return SignerKey.parse(secret or "")
    except ConfigurationError as error:
        raise ConfigurationError(
            f"the password of the connection {conn_id} is not a key of a transparency log",
            expected=error.expected,
            hint="Nothing was deleted that needs an entry in the log. Copy the whole line that `airflow strongroom log key` printed "
            "into the password.",
        ) from None


def subject_key_of(settings: TableSettings) -> SubjectKey:
    """The key for tokens and protected records of persons, from the password of its Airflow connection of type generic.

    Raises:
        ConfigurationError: There is no such connection, or its password is no key.
    """
    from strongroom.formats.persons import SubjectKey  # few tasks need it, and with it cryptography's ciphers

    try:
        secret = BaseHook.get_connection(settings.subject_conn_id).password
    except AirflowNotFoundException:
        raise no_connection(
            settings.subject_conn_id, "generic, with the key for records of persons as its password"
        ) from None
    return SubjectKey(secret or "")


def persons_for(settings: TableSettings, store: Store) -> Persons | None:
    """Columns of persons in a table, the key, and who was erased; None where the settings name no columns."""
    if not settings.subjects.columns:
        return None
    from strongroom.ledger.suppressed import persons_of

    return persons_of(store, subject_key_of(settings), settings)


StoreKey = tuple[str | None, str, str, str]
"""Address, bucket, prefix and connection of a store."""


def store_key(settings: TableSettings) -> StoreKey:
    """What tells the table's archive store from other stores."""
    return settings.store.endpoint_url, settings.store.bucket, settings.store.prefix, settings.store_conn_id


def store_tables(settings: Settings) -> list[TableSettings]:
    """One table for each archive store: its settings open the store.

    Raises:
        ConfigurationError: Two tables of one store name different replicas of it.
    """
    tables: dict[StoreKey, TableSettings] = {}
    for table in settings.tables.values():
        first = tables.setdefault(store_key(table), table)
        if first.replica != table.replica:
            raise ConfigurationError(
                f"{first.table} and {table.table} share a store, and their `replica:` differs",
                expected="one second copy of the store, since evidence and log are copied with it",
                hint="Nothing was started. Write `replica:` at the top of archive.yaml, or give one table a store of its own.",
            )
    return list(tables.values())


def connect_stores(settings: Settings) -> list[Store]:
    """Every archive store that a configured table uses, once each."""
    return [connect_store(table) for table in store_tables(settings)]


def find_archive(settings: Settings, text: str) -> tuple[TableSettings, Store, ArchiveId]:
    """The store that holds an archive, and a configured table whose settings open it; its own table's store is searched first.

    Raises:
        ArchiveIdError: The text is no archive id.
        IntegrityError: No store holds such an archive, or a certificate of its destruction.
    """
    archive = ArchiveId.parse(text)
    tables = sorted(
        settings.tables.values(),
        key=lambda table: (table.schema_name, table.table_name) != (archive.schema_name, archive.table_name),
    )
    searched: list[str] = []
    for table in tables:
        store = connect_store(table)
        if str(store) in searched:
            continue
        searched.append(str(store))
        if any(
            store.head(key) is not None for key in (archive.manifest_key, archive.seal_key, archive.destruction_key)
        ):
            return table, store, archive
    raise IntegrityError(
        f"there is no archive {archive}",
        found=f"none in {', '.join(searched)}",
        hint="Nothing was changed. `airflow strongroom list` prints the archives that exist.",
    )


def connect_s3(settings: TableSettings, conn_id: str, where: StoreSettings | None = None) -> Any:
    """A client for the table's store, or for another place."""
    hook = AwsGenericHook(aws_conn_id=conn_id, client_type="s3")
    if not hook.conn_config:  # without a connection the hook would use the keys of this machine
        raise no_connection(conn_id, "aws")
    session, endpoint_url = _sharing(hook.get_session()), hook.conn_config.get_service_endpoint_url("s3")
    where = where or settings.store
    return make_client(where, session=session, endpoint_url=endpoint_url, tls_required=settings.tls_required)


def read_service_descriptions() -> None:
    """Read botocore's descriptions of S3 now, for all later clients of this process and of those that it forks."""
    with suppress(BotoCoreError):  # such as a profile that does not exist: whoever needs it says so
        nobody = boto3.Session("none", "none")
        make_client(StoreSettings(), session=_sharing(nobody), tls_required=False)


def _sharing(session: boto3.Session) -> boto3.Session:
    """Have a session share what botocore reads of S3. Each session reads it anew otherwise, for 0.13 s of CPU."""
    core = session._session  # it has no public attribute
    core.register_component("data_loader", _loader(core.get_config_variable("data_path")))
    return session


@cache
def _loader(data_path: str | None) -> Loader:
    return create_loader(data_path)


def no_connection(conn_id: str, kind: str) -> ConfigurationError:
    """The error for a connection that Airflow does not have."""
    return ConfigurationError(
        f"Airflow has no connection {conn_id}",
        expected=f"a connection of type {kind}",
        hint=f"Nothing was started. Add it under Admin, Connections, or set AIRFLOW_CONN_{conn_id.upper()}, or: "
        f"airflow connections add {conn_id} --conn-type {kind.partition(',')[0]} --conn-login … --conn-password …",
    )
