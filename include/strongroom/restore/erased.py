"""Let no restore bring a person back who was erased.

After an erasure, no archive in use has the person's rows. One may have them nevertheless: an archive that was copied back from elsewhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from strongroom.errors import RestoreError
from strongroom.ledger.manifest_record import Manifest
from strongroom.object_keys import suppressed_prefix
from strongroom.records import VerifiedPart
from strongroom.storage.either import read_either
from strongroom.storage.store import Store
from strongroom.tables.archived_rows import archived_texts

if TYPE_CHECKING:
    from strongroom.formats.persons import Persons

_HINT = "Nothing was loaded. `airflow strongroom verify` says what is wrong with the archive."


def require_nobody_erased(
    store: Store, manifests: Iterable[Manifest], persons: Persons | None, folder: Path | None
) -> None:
    """Require that no part of some archives of one table has rows that must not come back.

    Parts whose locators say so are read and searched row by row.

    Raises:
        ErasedError: One has; names the cases.
        RestoreError: Persons were erased from the table, and its settings do not name their columns any more.
    """
    for manifest in manifests:
        if persons is None:
            if any(store.keys(suppressed_prefix(manifest.table.schema_name, manifest.table.table_name))):
                raise _without_columns(manifest)
            return
        if not persons.suppressed:
            return
        for part in map(manifest.verified_part, range(len(manifest.parts))):
            if any(column.name in persons.columns for column in manifest.table.columns) and _may_hold(
                store, part, persons
            ):
                _search(store, manifest, part, persons, folder)


def _may_hold(store: Store, part: VerifiedPart, persons: Persons) -> bool:
    from strongroom.formats.persons import Locator

    where = part.archive.locator_key(part.number)
    present = store.read(where) if part.locator_sha256 is not None else None
    if present is None or hashlib.sha256(present[0]).hexdigest() != part.locator_sha256:
        return True
    locator = Locator.parse(f"{store}{where}", present[0])
    return locator.key_id != persons.key.key_id or any(map(locator.may_hold, persons.suppressed))


def _search(store: Store, manifest: Manifest, part: VerifiedPart, persons: Persons, folder: Path | None) -> None:
    from strongroom.formats.persons import LocatorWriter

    def search(chunks: Iterator[bytes]) -> LocatorWriter:
        # Canonical texts, as those of parquet.
        searching = LocatorWriter(manifest.table, "parquet", persons, rows=part.rows)
        for _ in searching.watch(archived_texts(store, folder, manifest.table, part, hint=_HINT, chunks=chunks)):
            pass
        return searching

    searched, _ = read_either(store, part.object_key, part.version_id, search)
    searched.require_none_suppressed(f"{part.archive_id} part {part.number}")


def _without_columns(manifest: Manifest) -> RestoreError:
    return RestoreError(
        f"persons were erased from {manifest.table_name}, and nobody can tell which rows are theirs",
        expected="`subjects.columns` in the settings of the table",
        found="none",
        hint="Nothing was loaded. Put the columns of persons back into archive.yaml.",
    )
