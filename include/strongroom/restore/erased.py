"""Let no restore bring a person back who was erased.

After an erasure, no archive in use has the person's rows. One may have them nevertheless: an archive that was copied back from elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from strongroom.errors import RestoreError
from strongroom.ledger.manifest_record import Manifest
from strongroom.object_keys.records import suppressed_prefix
from strongroom.storage.store import Store
from strongroom.tables.erased import require_nobody_erased

if TYPE_CHECKING:
    from strongroom.formats.persons import Persons


def require_nobody_restored(
    store: Store, manifests: Sequence[Manifest], persons: Persons | None, folder: Path | None
) -> None:
    """Require that some archives of one table have no rows that must not come back.

    Raises:
        ErasedError: One has; names the cases.
        RestoreError: Persons were erased from the table, and its settings do not name their columns any more.
    """
    shape = manifests[0].table
    if persons is not None:
        for manifest in manifests:
            parts = map(manifest.verified_part, range(len(manifest.parts)))
            require_nobody_erased(store, manifest.table, parts, persons, folder)
    elif any(store.keys(suppressed_prefix(shape.schema_name, shape.table_name))):
        raise RestoreError(
            f"persons were erased from {manifests[0].table_name}, and nobody can tell which rows are theirs",
            expected="`subjects.columns` in the settings of the table",
            found="none",
            hint="Nothing was loaded. Put the columns of persons back into archive.yaml.",
        )


def require_nobody_erased_from(store: Store, manifests: Sequence[Manifest]) -> None:
    """Require that no person was erased from a table whose archives come back with those of another table.

    Raises:
        RestoreError: Some were. Which rows are theirs is known where the table is restored by its own name.
    """
    shape = manifests[0].table
    if any(store.keys(suppressed_prefix(shape.schema_name, shape.table_name))):
        raise RestoreError(
            f"persons were erased from {manifests[0].table_name}, so it is not restored together with other tables",
            hint="Nothing was loaded. Name the archives of each table, parents first: their restores know which rows must not come back.",
        )
