"""Drop Iceberg tables of ours that the settings do not ask for any more, so that nothing of their archives stays behind unwatched."""

from __future__ import annotations

from collections.abc import Collection

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.table import Table

from strongroom.lake.catalogue import OF_STORE, OF_TABLE, translated
from strongroom.lake.places import OwnPlace, ReadPlace


def retire_tables(catalog: Catalog, archives: ReadPlace, own: OwnPlace, *, kept: Collection[str]) -> tuple[str, ...]:
    """Drop the tables over an archive store that are not kept. Safe to repeat, also after it broke off.

    Args:
        catalog: That names them.
        archives: The store.
        own: Where their metadata lies.
        kept: ``schema.table`` of each table that stays.

    Returns:
        ``schema.table`` of each table that was dropped.
    """
    with translated(catalog.name):
        return tuple(sorted(_retire(catalog, own, table) for table in _ours(catalog, archives, own, kept)))


def _ours(catalog: Catalog, archives: ReadPlace, own: OwnPlace, kept: Collection[str]) -> list[Table]:
    found = []
    for namespace in catalog.list_namespaces():
        for identifier in catalog.list_tables(namespace):
            try:
                table = catalog.load_table(identifier)
            except (NoSuchTableError, FileNotFoundError):  # dropped since, or broken: its own reconciliation says so
                continue
            of = table.properties.get(OF_TABLE)
            ours = table.properties.get(OF_STORE) == str(archives) and table.location().startswith(str(own))
            if ours and of is not None and of not in kept:
                found.append(table)
    return found


def _retire(catalog: Catalog, own: OwnPlace, table: Table) -> str:
    """The current metadata, which names the table as ours, goes last."""
    last = table.metadata_location.removeprefix(str(own))
    folder = f"{table.location().removeprefix(str(own))}/"
    for key in list(own.keys(folder)):
        if key != last:
            own.remove(key)
    catalog.drop_table(table.name())
    own.remove(last)
    return table.properties[OF_TABLE]
