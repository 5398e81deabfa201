"""The catalogue that names the tables: an SQL database, as a rule, that Trino and Spark read too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.exceptions import (
    CommitFailedException,
    NamespaceAlreadyExistsError,
    NoSuchPropertyException,
    NoSuchTableError,
    NotInstalledError,
    TableAlreadyExistsError,
)
from pyiceberg.table import Table
from sqlalchemy.exc import SQLAlchemyError

from strongroom.errors import ConfigurationError
from strongroom.lake import file_io
from strongroom.lake.places import OwnPlace, ReadPlace
from strongroom.lake.records import LakeError
from strongroom.object_keys.layout import table_folder

OF_TABLE, OF_STORE = "strongroom.table", "strongroom.store"
"""Properties of a table: which table of the source it is, and in which store its archives lie."""

_STARTS = 3
"""Two that begin with an empty database at once may both create the catalogue's own tables."""


@dataclass(frozen=True)
class Lake:
    """One table of the source and its Iceberg table.

    Attributes:
        catalog: That names the Iceberg table.
        archives: The archive store.
        own: Where the metadata lies.
        date_column: The one column whose least and greatest values the metadata holds, so that readers skip parts.
    """

    catalog: Catalog
    archives: ReadPlace
    own: OwnPlace
    schema_name: str
    table_name: str
    date_column: str

    @property
    def table(self) -> str:
        """``schema.table``."""
        return f"{self.schema_name}.{self.table_name}"

    @property
    def identifier(self) -> tuple[str, str]:
        """Namespace and name in the catalogue."""
        return self.schema_name, self.table_name

    @property
    def folder(self) -> str:
        """Key prefix of the table's metadata, without its final slash."""
        return table_folder(self.schema_name, self.table_name)

    @property
    def properties(self) -> Mapping[str, str]:
        """What the table itself says.

        No bounds of values but the dates', since they may be of a person. No retries: a commit that lost against another one is planned anew.
        And no reader may collect garbage: the files are archives.
        """
        return {
            OF_TABLE: self.table,
            OF_STORE: str(self.archives),
            "commit.retry.num-retries": "0",
            "gc.enabled": "false",
            "write.metadata.metrics.default": "counts",
            f"write.metadata.metrics.column.{self.date_column}": "full",
            "write.metadata.previous-versions-max": "1",
        }

    def find(self) -> Table | None:
        """The Iceberg table; None if there is none."""
        with suppress(NoSuchTableError):
            return self.catalog.load_table(self.identifier)
        return None

    def create(self, schema: Any) -> Table:
        """Create the Iceberg table, without rows.

        Args:
            schema: Of Arrow.
        """
        with suppress(NamespaceAlreadyExistsError):
            self.catalog.create_namespace(self.schema_name)
        try:
            return self.catalog.create_table(
                self.identifier,
                schema,
                location=f"{self.own}{self.folder}",
                properties=dict(self.properties),
            )
        except TableAlreadyExistsError as error:
            raise CommitFailedException(str(error)) from None


def open_catalogue(name: str, properties: Mapping[str, str], *, archives: ReadPlace, own: OwnPlace) -> Catalog:
    """Open a catalogue.

    Args:
        name: Of the catalogue: one database can hold several.
        properties: PyIceberg's, such as ``type`` and ``uri``.
        archives: What its tables read.
        own: Where they are written.

    Raises:
        LakeError: It does not answer.
        ConfigurationError: The properties are of no catalogue.
    """
    given: dict[str, object] = {
        **properties,
        "py-io-impl": file_io.IMPLEMENTATION,
        file_io.ARCHIVES: archives,
        file_io.OWN: own,
    }
    with translated(name), _misconfigured(name):
        for _ in range(_STARTS - 1):
            with suppress(SQLAlchemyError):
                return load_catalog(name, **given)  # type: ignore[arg-type]
        return load_catalog(name, **given)  # type: ignore[arg-type]


@contextmanager
def _misconfigured(name: str) -> Iterator[None]:
    """What PyIceberg says of wrong properties quotes them all, passwords too, so it is not told."""
    try:
        yield
    except (ValueError, ImportError, NoSuchPropertyException, NotInstalledError) as error:
        raise ConfigurationError(
            f"no Iceberg catalogue can be opened as {name}",
            expected="PyIceberg's properties of a catalogue whose client is installed",
            found=type(error).__name__,
            hint="Nothing was read or changed. Look at the extra of the connection `iceberg.catalog_conn_id`; docs/howto/iceberg.md shows it.",
        ) from None


@contextmanager
def translated(name: str) -> Iterator[None]:
    """Turn errors of the catalogue's database into ours. What they say may quote the connection, so it is not told."""
    try:
        yield
    except SQLAlchemyError as error:
        raise LakeError(
            f"the Iceberg catalogue {name} failed",
            found=type(error).__name__,
            hint="No archive was touched, and its tables are as they were or as they should be. Check the connection `iceberg.catalog_conn_id` and its database, then "
            "run it again.",
        ) from None
