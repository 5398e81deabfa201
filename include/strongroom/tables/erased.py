"""Rows of erased persons in parts of archives: none may be sealed, and none may come back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from strongroom.records import TableShape, VerifiedPart
from strongroom.storage.either import read_either
from strongroom.storage.store import Store
from strongroom.tables.archived_rows import archived_texts

if TYPE_CHECKING:
    from strongroom.formats.persons import LocatorWriter, Persons

_HINT = "Nothing was sealed or loaded. `airflow strongroom verify` says what is wrong with a sealed archive."


def require_nobody_erased(
    store: Store, shape: TableShape, parts: Iterable[VerifiedPart], persons: Persons, folder: Path | None
) -> None:
    """Require that no part has rows that must not come back. Parts whose locators say so are read and searched row by row.

    Args:
        shape: Of the rows.
        persons: Columns of persons, and the list of those who were erased.
        folder: Where to keep files without names meanwhile; None means the system's folder for temporary files.

    Raises:
        ErasedError: One has; names the cases.
        IntegrityError: A part is not what was archived, in either copy.
    """
    if not persons.suppressed or not any(column.name in persons.columns for column in shape.columns):
        return
    from strongroom.ledger.suppressed import part_may_hold

    for part in parts:
        if part_may_hold(store, part, persons.key, persons.suppressed):
            _search(store, shape, part, persons, folder)


def _search(store: Store, shape: TableShape, part: VerifiedPart, persons: Persons, folder: Path | None) -> None:
    from strongroom.formats.persons import LocatorWriter

    def search(chunks: Iterator[bytes]) -> LocatorWriter:
        searching = LocatorWriter(shape, "parquet", persons, rows=part.rows)  # canonical texts, as those of parquet
        for _ in searching.watch(archived_texts(store, folder, shape, part, hint=_HINT, chunks=chunks)):
            pass
        return searching

    searched, _ = read_either(store, part.object_key, part.version_id, search)
    searched.require_none_suppressed(f"{part.archive_id} part {part.number}")
