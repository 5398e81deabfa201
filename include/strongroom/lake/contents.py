"""What an Iceberg table holds now, and which objects that takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from strongroom.lake.catalogue import Lake
from strongroom.object_keys.archives import stored_archive_id

HINT = "version-hint.text"
"""Names the current metadata for readers that know the table's place alone, such as DuckDB."""


@dataclass(frozen=True)
class Contents:
    """A table.

    Attributes:
        files: The parts in it, by their location.
        needed: Keys, in the place of its own, of all objects that its current state takes.
    """

    files: Mapping[str, DataFile] = field(default_factory=dict)
    needed: frozenset[str] = frozenset()

    def archives(self, lake: Lake) -> set[str]:
        """The ids of the archives that have a part in it."""
        found = (stored_archive_id(path.removeprefix(str(lake.archives))) for path in self.files)
        return {str(archive) for archive in found if archive is not None}


def read_contents(lake: Lake, table: Table) -> Contents:
    """Read what a table holds.

    Raises:
        FileNotFoundError: Another run has just replaced it.
    """
    files: dict[str, DataFile] = {}
    needed = {table.metadata_location, f"{lake.own}{hint_key(lake)}"}
    snapshot = table.current_snapshot()
    if snapshot is not None:
        needed.add(snapshot.manifest_list)
        for manifest in snapshot.manifests(table.io):
            needed.add(manifest.manifest_path)
            entries = manifest.fetch_manifest_entry(table.io)
            files.update((entry.data_file.file_path, entry.data_file) for entry in entries)
    return Contents(files, frozenset(one.removeprefix(str(lake.own)) for one in needed))


def hint_key(lake: Lake) -> str:
    """Key of the hint of a table."""
    return f"{lake.folder}/metadata/{HINT}"


def hint_of(table: Table) -> bytes:
    """What the hint of a table should say."""
    return table.metadata_location.rpartition("/")[2].removesuffix(".metadata.json").encode()
