"""Make an Iceberg table hold the archives that belong to it, and nothing else.

One commit adds and removes parts, drops every earlier snapshot, and leaves no entry of what was removed. Then whatever the table's place holds besides its
current state is removed: metadata of earlier states and of runs that were killed.

Two runs at once keep one result. Each lists the place before it commits, and removes only what it listed. A commit succeeds only if the table's snapshot is
still the one that it was planned on, so what a slower run has written, and loses, was never used; what a later run writes was not listed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from pyarrow import ArrowException
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.expressions import AlwaysTrue
from pyiceberg.io.pyarrow import parquet_file_to_data_file, schema_to_pyarrow
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table, TableProperties, Transaction
from pyiceberg.table.update.snapshot import ExpireSnapshots

from strongroom.errors import ContendedError
from strongroom.lake.catalogue import Lake, translated
from strongroom.lake.choose import choose_archives
from strongroom.lake.columns import Fitted, fit_columns
from strongroom.lake.contents import Contents, hint_key, hint_of, read_contents
from strongroom.lake.records import LeftOut, TableState
from strongroom.ledger.manifest_record import Manifest

_TRIES = 5
_READERS = 8

_Done = TypeVar("_Done")


@dataclass(frozen=True)
class _Plan:
    """What a table should hold, beside what it holds."""

    table: Table | None
    contents: Contents
    fitted: Fitted
    left_out: tuple[LeftOut, ...]
    listed: frozenset[str]
    hint: bytes | None

    def wanted(self, lake: Lake) -> dict[str, tuple[Manifest, int]]:
        """The archive and the rows of each part that belongs to the table, by its location."""
        return {
            f"{lake.archives}{part.object_key}": (manifest, part.record_count)
            for manifest in self.fitted.manifests
            for part in manifest.parts
        }

    @property
    def stale(self) -> frozenset[str]:
        """Keys that the table's current state does not take."""
        return self.listed - self.contents.needed

    @property
    def hint_is_right(self) -> bool:
        return self.table is None or self.hint == hint_of(self.table)


def look_at_table(lake: Lake, *, now: datetime) -> TableState:
    """Say what an Iceberg table holds, and what a reconciliation would change. Changes nothing.

    Args:
        lake: The table.
        now: Aware instant that terms are measured against.
    """
    with translated(lake.catalog.name):
        plan = _retried(lake, lambda: _plan(lake, now))
        wanted, held = plan.wanted(lake), plan.contents.archives(lake)
        should = {manifest.archive_id for manifest, _ in wanted.values()}
        state = _state(lake, plan.table, plan.contents, plan.left_out)
        stale = len(plan.stale) + (not plan.hint_is_right)
        return state.model_copy(
            update={"added": _sorted(should - held), "removed": _sorted(held - should), "stale": stale}
        )


def reconcile_table(lake: Lake, *, now: datetime) -> TableState:
    """Make an Iceberg table hold what it should. A repeat changes nothing; a run that was killed is finished by the next one.

    Args:
        lake: The table.
        now: Aware instant that terms are measured against.

    Raises:
        ContendedError: Other runs were faster, again and again.
        LakeError: The catalogue failed.
    """
    with translated(lake.catalog.name):
        return _retried(lake, lambda: _reconcile(lake, now))


def _retried(lake: Lake, work: Callable[[], _Done]) -> _Done:
    for _ in range(_TRIES):
        with suppress(CommitFailedException, FileNotFoundError):
            return work()
    raise ContendedError(
        f"the Iceberg table of {lake.table} was changed by others, or its metadata is gone",
        expected=f"its metadata below {lake.own}{lake.folder}/, and no other run at the same time",
        hint="No archive was touched. Run it again. If that does not help, drop the table from the catalogue: the next run creates it again.",
    )


def _plan(lake: Lake, now: datetime) -> _Plan:
    chosen = choose_archives(lake.archives, lake.schema_name, lake.table_name, now=now)
    table = lake.find()
    present = None if table is None else schema_to_pyarrow(table.schema())
    fitted = fit_columns(present, chosen.manifests)
    listed = frozenset(lake.own.keys(f"{lake.folder}/"))
    contents = Contents() if table is None else read_contents(lake, table)
    hint = lake.own.read(hint_key(lake))
    return _Plan(
        table, contents, fitted, (*chosen.left_out, *fitted.left_out), listed, None if hint is None else hint[0]
    )


def _reconcile(lake: Lake, now: datetime) -> TableState:
    plan = _plan(lake, now)
    if plan.table is None:
        if not plan.fitted.manifests and not plan.listed:
            return _state(lake, None, Contents(), plan.left_out)
        table = lake.create(plan.fitted.schema)
    else:
        table = plan.table
    before = plan.contents.archives(lake)
    transaction = table.transaction()
    changed = _stage_properties(lake, transaction, table)
    with transaction.update_schema() as update:
        update.union_by_name(plan.fitted.schema)
    wanted = plan.wanted(lake)
    added, unreadable = _data_files(transaction, table, wanted, plan.contents.files)
    for one in unreadable:
        wanted = {path: held for path, held in wanted.items() if held[0].archive_id != one.archive_id}
    removed = [file for path, file in plan.contents.files.items() if path not in wanted]
    listed = plan.listed
    if changed or added or removed or plan.stale or len(table.metadata.snapshots) > 1:
        _stage_files(transaction, added, removed)
        listed = frozenset(lake.own.keys(f"{lake.folder}/"))
        table = transaction.commit_transaction()
    contents = read_contents(lake, table)
    _keep_hint(lake)
    stale = listed - contents.needed
    for key in sorted(stale):
        lake.own.remove(key)
    after = contents.archives(lake)
    state = _state(lake, table, contents, (*plan.left_out, *unreadable))
    return state.model_copy(
        update={"added": _sorted(after - before), "removed": _sorted(before - after), "stale": len(stale)}
    )


def _stage_properties(lake: Lake, transaction: Transaction, table: Table) -> bool:
    """Set the properties that differ. Without a mapping from names to Iceberg's numbers of columns no reader understands our files."""
    wanted = dict(lake.properties)
    if table.name_mapping() is None or TableProperties.DEFAULT_NAME_MAPPING not in table.properties:
        wanted[TableProperties.DEFAULT_NAME_MAPPING] = table.schema().name_mapping.model_dump_json()
    properties = {name: value for name, value in wanted.items() if table.properties.get(name) != value}
    if properties:
        transaction.set_properties(properties)
    return bool(properties)


def _data_files(
    transaction: Transaction,
    table: Table,
    wanted: Mapping[str, tuple[Manifest, int]],
    present: Mapping[str, DataFile],
) -> tuple[list[DataFile], list[LeftOut]]:
    """What Iceberg must know of each part that is new, from the part's footer; and the archives that have a part which is none."""
    metadata = transaction.table_metadata
    new = [path for path in wanted if path not in present]

    def read(path: str) -> DataFile | str:
        try:
            file = parquet_file_to_data_file(table.io, metadata, path)
        except (ArrowException, FileNotFoundError, OSError, ValueError) as error:
            return type(error).__name__
        rows = wanted[path][1]
        return file if file.record_count == rows else f"{file.record_count} rows, expected {rows}"

    with ThreadPoolExecutor(_READERS) as readers:
        found = dict(zip(new, readers.map(read, new), strict=True))
    bad = {wanted[path][0].archive_id: f"{path}: {why}" for path, why in found.items() if isinstance(why, str)}
    files = [
        file for path, file in found.items() if not isinstance(file, str) and wanted[path][0].archive_id not in bad
    ]
    return files, [LeftOut(archive_id=one, reason="unreadable", detail=why) for one, why in sorted(bad.items())]


def _stage_files(transaction: Transaction, added: Sequence[DataFile], removed: Sequence[DataFile]) -> None:
    """Add and remove parts, and drop all snapshots but the last. Without either, the new snapshot keeps slower runs from committing."""
    if removed:
        with transaction.update_snapshot().overwrite() as overwriting:
            overwriting.delete_by_predicate(AlwaysTrue())
            for file in removed:
                overwriting.delete_data_file(file)
            for file in added:
                overwriting.append_data_file(file)
    with (
        transaction.update_snapshot().fast_append() as appending
    ):  # it does not take over the entries of what was removed
        for file in () if removed else added:
            appending.append_data_file(file)
    expiring = ExpireSnapshots(transaction)
    last = transaction.table_metadata.current_snapshot_id
    expiring.by_ids([one.snapshot_id for one in transaction.table_metadata.snapshots if one.snapshot_id != last])
    expiring.commit()


def _keep_hint(lake: Lake) -> None:
    """Write the hint, and look afterwards whether it is still right: whoever writes last has seen the newest state."""
    key = hint_key(lake)
    for _ in range(_TRIES):
        if (table := lake.find()) is None:
            return
        hint, found = hint_of(table), lake.own.read(key)
        if found is not None and found[0] == hint:
            return
        lake.own.write(key, hint, overwrite=True)


def _state(lake: Lake, table: Table | None, contents: Contents, left_out: Iterable[LeftOut]) -> TableState:
    return TableState(
        table=lake.table,
        name=".".join(lake.identifier),
        metadata_location=None if table is None else table.metadata_location,
        archives=len(contents.archives(lake)),
        parts=len(contents.files),
        rows=sum(file.record_count for file in contents.files.values()),
        left_out=tuple(left_out),
    )


def _sorted(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(names))
