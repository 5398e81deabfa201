"""From settings and Airflow connections to Iceberg tables. PyIceberg is loaded when one is opened."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from strongroom.errors import ConfigurationError
from strongroom.settings import Settings, TableSettings, qualify
from strongroom_airflow.connections import connect_s3, no_connection

if TYPE_CHECKING:
    from strongroom.lake.catalogue import Lake


def iceberg_tables(settings: Settings) -> list[TableSettings]:
    """The tables whose settings name a bucket for Iceberg tables."""
    return [table for table in settings.tables.values() if table.iceberg_store is not None]


@contextmanager
def opened_lake(settings: TableSettings) -> Iterator[Lake]:
    """Open a table's Iceberg table, with the identity that reads archives and writes a bucket of its own.

    Raises:
        ConfigurationError: PyIceberg is not installed, or a connection is missing or unfit.
        StoreAccessError: The bucket is missing, or keeps versions.
        LakeError: The catalogue does not answer.
    """
    where = settings.iceberg_store
    if where is None:
        raise ConfigurationError(
            f"{settings.table} has no Iceberg table",
            expected="`iceberg.bucket` in its settings",
            hint="Nothing was read or changed. docs/howto/iceberg.md says how to set it up.",
        )
    try:
        from strongroom.lake.catalogue import Lake, open_catalogue
        from strongroom.lake.places import OwnPlace, ReadPlace
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("pyiceberg"):
            raise
        raise ConfigurationError(
            "PyIceberg is not installed, and the settings ask for Iceberg tables",
            hint='Nothing was read or changed. Install it where tasks and commands run: pip install "strongroom[iceberg]". Or remove `iceberg:` from the settings.',
        ) from None
    archives = ReadPlace(connect_s3(settings, settings.iceberg.conn_id), settings.store)
    own = OwnPlace(connect_s3(settings, settings.iceberg.conn_id, where), where)
    own.require_fit()
    properties = catalogue_properties(settings)
    with open_catalogue(settings.iceberg.catalog, properties, archives=archives, own=own) as catalog:
        yield Lake(catalog, archives, own, settings.schema_name, settings.table_name, date_column=settings.date_column)


def catalogue_properties(settings: TableSettings) -> Mapping[str, str]:
    """PyIceberg's properties of a catalogue, from an Airflow connection: a database of PostgreSQL, or what the extra says.

    Raises:
        ConfigurationError: There is no such connection, or it names no catalogue, or it would not be encrypted.
    """
    conn_id = settings.iceberg.catalog_conn_id
    try:
        connection = BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        raise no_connection(
            conn_id, "postgres, or another one whose extra holds PyIceberg's properties of a catalogue"
        ) from None
    if connection.conn_type == "postgres":
        return {"type": "sql", "uri": _postgres_url(conn_id, tls_required=settings.tls_required)}
    properties = {str(name): str(value) for name, value in connection.extra_dejson.items()}
    if "uri" not in properties and "type" not in properties:
        raise ConfigurationError(
            f"the connection {conn_id} names no Iceberg catalogue",
            expected='type postgres, or an extra such as {"type": "sql", "uri": "…"}',
            found=f"type {connection.conn_type}, and neither type nor uri in the extra",
            hint="Nothing was read or changed. docs/howto/iceberg.md shows both kinds.",
        )
    return properties


def _postgres_url(conn_id: str, *, tls_required: bool) -> str:
    from psycopg.conninfo import conninfo_to_dict
    from sqlalchemy import URL

    from strongroom.database.session import require_tls
    from strongroom_airflow.database_connections import source_conninfo

    parameters = {name: str(value) for name, value in conninfo_to_dict(source_conninfo(conn_id)).items()}
    if tls_required:
        require_tls(parameters)
    url = URL.create(
        "postgresql+psycopg",
        username=parameters.pop("user", None),
        password=parameters.pop("password", None),
        host=parameters.pop("host", None),
        port=int(port) if (port := parameters.pop("port", None)) else None,
        database=parameters.pop("dbname", None),
        query=parameters,
    )
    return url.render_as_string(hide_password=False)


def published_tables(settings: Settings) -> set[str]:
    """``schema.table`` of each table that keeps its Iceberg table, also of those whose settings are wrong at the moment."""
    return {*(table.qualified_name for table in iceberg_tables(settings)), *map(qualify, settings.left_out)}
