"""Restore, first step: find the archives that were asked for, and decide how their rows are restored.

:mod:`strongroom.restore.load` then loads each part. Nothing here changes an archive.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from strongroom.database.session import Connection
from strongroom.errors import IntegrityError, RestoreError
from strongroom.ledger.evidence import parse_evidence
from strongroom.ledger.index import stray_keys
from strongroom.ledger.manifest_record import Manifest
from strongroom.ledger.manifests import archive_ids, in_range, is_destroyed, require_readable
from strongroom.ledger.owner import require_owned
from strongroom.ledger.restore_records import keep_record, split_table
from strongroom.ledger.units import depth
from strongroom.object_keys.archives import ArchiveId, emptied_and_kept
from strongroom.object_keys.records import evidence_prefix
from strongroom.records import RestoreRecord, TableShape
from strongroom.restore.claims import take_claims
from strongroom.restore.erased import require_nobody_erased_from, require_nobody_restored
from strongroom.restore.fit import fit_columns, shape_of_its_own
from strongroom.restore.records import RestorePart, RestorePlan, RestoreRequest
from strongroom.restore.target import (
    Target,
    create_target,
    find_target,
    require_rights,
    require_schema,
    require_writable,
)
from strongroom.storage.store import Store

if TYPE_CHECKING:
    from strongroom.formats.persons import Persons

MOST_LANES = 1000
"""Airflow maps a task over at most 1024 values (``max_map_length``)."""

_READERS = 8

LISTED_STRAYS = 10
"""How many stray objects a plan names at most."""


def plan_restore(
    connection: Connection,
    store: Store,
    request: RestoreRequest,
    *,
    restore_id: str,
    owner: str,
    claim_ttl: timedelta,
    now: datetime,
    persons: Persons | None = None,
    folder: Path | None = None,
) -> RestorePlan:
    """Find the archives, check that the target takes their rows, and record the restore before a row is loaded.

    Unless it is a dry run, the partitions are claimed, and a missing target is created if that was asked for. A repeat
    reuses the claims, the record and the target of the first try.

    Args:
        connection: A session that may read the target, and create it if that was asked for.
        restore_id: From :func:`strongroom.ledger.restore_records.make_restore_id`.
        owner: Names the run in the claims.
        claim_ttl: How long the claims hold without being renewed.
        persons: Columns of persons and the list of those who were erased; None where the settings of the table name none.
        folder: Where to keep files without names meanwhile, if archives must be searched for such persons.

    Raises:
        RestoreError: The request makes no sense, finds nothing, or the target does not take the rows.
        ContendedError: Another run works on one of the partitions.
        IntegrityError: A manifest is missing or damaged.
        ErasedError: Rows of a person who was erased would come back.
    """
    manifests = locate_archives(store, request)
    if request.target is not None and split_table(request.target) == split_table(manifests[0].table_name):
        request = request.model_copy(update={"target": None})  # a table's own name names no other target
    require_nobody_restored(store, manifests, persons, folder)
    members = _members(store, request, manifests)
    for of_table in members:
        require_nobody_erased_from(store, of_table)
    require_writable(connection)
    planned = [
        _plan_table(connection, store, request, of_table, restore_id=restore_id, now=now)
        for of_table in (manifests, *members)
    ]
    plan = _together([one for one, _ in planned])
    if request.dry_run:
        return plan
    take_claims(store, plan, owner=owner, now=now, ttl=claim_ttl)
    records = [keep_record(store, _record(one), now=now) for one in plan.all_tables]
    for one, own in planned:
        if own is not None:
            create_target(connection, own, *split_table(one.target))
    return plan.model_copy(update={"until": records[0].until})


def _plan_table(
    connection: Connection,
    store: Store,
    request: RestoreRequest,
    manifests: Sequence[Manifest],
    *,
    restore_id: str,
    now: datetime,
) -> tuple[RestorePlan, TableShape | None]:
    """The plan of one table, and what its target must be created from."""
    shapes = _shapes(manifests)
    plan = _plan(store, request, manifests, restore_id=restore_id, now=now)
    _require_keys(request, manifests)
    target = find_target(connection, *split_table(plan.target))
    if target is not None:
        return _fitted(connection, plan, target, shapes.values()), None
    if request.create_target:
        require_schema(connection, split_table(plan.target)[0])
        return plan.model_copy(update={"creates_target": True}), shape_of_its_own(shapes)
    raise _no_target(plan)


def _members(store: Store, request: RestoreRequest, manifests: Sequence[Manifest]) -> list[list[Manifest]]:
    """The archives that were sealed together with those of a root, by their tables, parents first.

    A restore that names archives brings back just those.

    Raises:
        RestoreError: Some of the rows are asked for, and it is unknown which rows of other tables belong to them.
            Or one of the archives was destroyed.
        IntegrityError: One of the archives is missing or damaged.
    """
    partial = request.since is not None or request.before is not None
    if partial and (dating := next((one.table.dated_through for one in manifests if one.table.dated_through), None)):
        raise RestoreError(
            f"rows of {manifests[0].table_name} have no date of their own: rows of {dating[-1].parent} date them",
            hint="Nothing was loaded. Name whole partitions, or keys.",
        )
    of_roots = [one for one in manifests if one.unit and not depth(one)]
    if request.archives or not of_roots:
        return []  # of a member its own rows are meant
    if partial or request.keys or request.target is not None:
        raise RestoreError(
            f"{manifests[0].table_name} was archived together with other tables, and is restored together with them",
            expected="whole partitions into the tables that the rows came from",
            found="a time range, keys or another target",
            hint="Nothing was loaded. Name whole partitions; or name the archives of one table, which are restored alone.",
        )
    ids = {entry.archive_id for one in of_roots for entry in one.unit} - {one.archive_id for one in manifests}
    found = [_of_unit(store, archive) for archive in map(ArchiveId.parse, sorted(ids))]
    found.sort(key=lambda one: (depth(one), one.table_name, one.window_start, one.partition_key, one.rank))
    return [list(group) for _, group in groupby(found, key=lambda one: one.table_name)]


def _of_unit(store: Store, archive: ArchiveId) -> Manifest:
    """The manifest of an archive that comes back because of another one.

    Raises:
        RestoreError: It was destroyed, so no object that had rows in it comes back whole.
    """
    try:
        return require_readable(store, archive)
    except IntegrityError:
        if not is_destroyed(store, archive):
            raise
    raise RestoreError(
        f"{archive} was destroyed, which was sealed together with archives that are to come back",
        found=f"its certificate {store}{archive.destruction_key}",
        hint=f"Nothing was loaded. The term of {archive.partition_key} is over, and a purge is destroying the others, too: leave this "
        "partition out. Name the archives that are left if you need their rows, parents first: each is restored alone.",
    )


def _together(plans: Sequence[RestorePlan]) -> RestorePlan:
    """One plan whose lanes load a partition of all tables, parents first: no row can come before the one that it refers to."""
    root, *members = plans
    if not members:
        return root
    parts = [part for one in plans for part in one.parts]
    lanes = [
        tuple(part for part in parts if ArchiveId.parse(part.archive_id).partition_key == key)
        for key in root.partition_keys
    ]
    alone = tuple(one.model_copy(update={"lanes": ()}) for one in members)
    return root.model_copy(update={"lanes": _at_most(lanes), "members": alone})


def _no_target(plan: RestorePlan) -> RestoreError:
    return RestoreError(
        f"there is no table {plan.target}",
        hint="Nothing was loaded. Name another target, or ask for it to be created from the archive's columns.",
    )


def _plan(
    store: Store, request: RestoreRequest, manifests: Sequence[Manifest], *, restore_id: str, now: datetime
) -> RestorePlan:
    """The plan as far as the store alone decides it."""
    table = manifests[0].table_name
    return RestorePlan(
        restore_id=restore_id,
        request=request,
        table=table,
        target=request.target or table,
        archive_ids=tuple(manifest.archive_id for manifest in manifests),
        partition_keys=tuple(sorted({manifest.partition_key for manifest in manifests})),
        lanes=_cut_lanes(store, request, manifests),
        creates_target=False,
        kept_aside=(),
        added=(),
        strays=stray_keys(store, *split_table(table))[:LISTED_STRAYS],
        until=now + timedelta(days=request.keep_days),
        planned_at=now,
    )


def _fitted(connection: Connection, plan: RestorePlan, target: Target, shapes: Iterable[TableShape]) -> RestorePlan:
    """The plan with what becomes of columns that were dropped or added since."""
    require_rights(connection, target)
    fits = [fit_columns(connection, shape, target, plan.request.dropped_columns) for shape in shapes]
    return plan.model_copy(
        update={
            "kept_aside": tuple(sorted({name for fit in fits for name in fit.kept_aside})),
            "added": tuple(sorted({name for fit in fits for name in fit.added})),
        }
    )


def locate_archives(store: Store, request: RestoreRequest) -> list[Manifest]:
    """Manifests of the archives that a request names, oldest window and lowest rank first.

    Raises:
        RestoreError: There are none, or they are of several tables.
        IdentityError: The store is unclaimed.
        IntegrityError: One that is named does not exist, or its manifest is damaged.
    """
    if bool(request.archives) == bool(request.table):
        raise RestoreError(
            "a restore needs either archives or a table with a range of partitions",
            found="both" if request.archives else "neither",
            hint="Nothing was read. `airflow strongroom list` prints the archives that exist.",
        )
    require_owned(store)
    wanted = [ArchiveId.parse(text) for text in request.archives] or list(_archives_in_range(store, request))
    if not wanted:
        raise RestoreError(
            f"no archive of {request.table} is in the range {request.first_partition or '…'} to {request.last_partition or '…'}",
            hint="Nothing was loaded. `airflow strongroom list` prints the archives that exist.",
        )
    manifests = sorted(
        _without_superseded(store, wanted, named=bool(request.archives)),
        key=lambda manifest: (manifest.window_start, manifest.partition_key, manifest.rank),
    )
    tables = sorted({manifest.table_name for manifest in manifests})
    if len(tables) > 1:
        raise RestoreError(
            "one restore brings back one table",
            found=", ".join(tables),
            hint="Nothing was loaded. Start one restore for each table.",
        )
    return manifests


def _without_superseded(store: Store, wanted: Iterable[ArchiveId], *, named: bool) -> Iterator[Manifest]:
    """Manifests of archives; those that later ones supersede are left out, or are an error where a person named them.

    Raises:
        RestoreError: One that was named is superseded.
    """
    for _, group in groupby(sorted(set(wanted)), key=lambda one: (one.table_folder, one.partition_key)):
        asked = list(group)
        manifests = [require_readable(store, archive) for archive in asked]
        beside = {*archive_ids(store, asked[0].schema_name, asked[0].table_name, asked[0].partition_key)} - {*asked}
        every = [*manifests, *filter(None, (_readable(store, archive) for archive in beside))]
        later = {one.supersedes.archive_id: one.archive_id for one in every if one.supersedes is not None}
        for manifest in manifests:
            archive_id = manifest.archive_id
            if archive_id not in later:
                yield manifest
            elif named:
                raise RestoreError(
                    f"{archive_id} is superseded: rows of a person who was erased are still in it until it is removed",
                    expected=later[archive_id],
                    found=archive_id,
                    hint=f"Nothing was loaded. Restore {later[archive_id]}, which holds its other rows.",
                )


def _readable(store: Store, archive: ArchiveId) -> Manifest | None:
    """The manifest of an archive that nobody asked for; None if it is damaged or gone."""
    try:
        return require_readable(store, archive)
    except IntegrityError:
        return None


def _archives_in_range(store: Store, request: RestoreRequest) -> Iterator[ArchiveId]:
    table = split_table(str(request.table))
    # An archive whose manifest is gone is included, too, and stops the restore: leaving it out would lose its rows silently.
    known = (*emptied_and_kept(store.keys(evidence_prefix(*table))), *archive_ids(store, *table))
    return in_range(known, request.first_partition, request.last_partition)


def _cut_lanes(
    store: Store, request: RestoreRequest, manifests: Sequence[Manifest]
) -> tuple[tuple[RestorePart, ...], ...]:
    """Group the parts into lanes that may be loaded side by side.

    If a partition has several archives, a row may be in more than one of them (restored, changed, archived again). The
    newest must be loaded first, so such a partition is one lane. The parts of one archive were read one after the other:
    a row whose date changed meanwhile may be in two of them, and the later form must be loaded first.
    """
    lanes: list[tuple[RestorePart, ...]] = []
    for _, group in groupby(manifests, key=lambda manifest: manifest.partition_key):
        archives = list(group)
        if len(archives) == 1 and _has_each_row_once(store, archives[0]):
            lanes += [(part,) for part in _parts_of(request, archives[0])]
        elif parts := tuple(part for archive in reversed(archives) for part in _latest_first(request, archive)):
            lanes.append(parts)
    return _at_most(lanes)


def _at_most(lanes: Sequence[tuple[RestorePart, ...]]) -> tuple[tuple[RestorePart, ...], ...]:
    if len(lanes) > MOST_LANES:
        lanes = [tuple(part for lane in lanes[start::MOST_LANES] for part in lane) for start in range(MOST_LANES)]
    return tuple(lanes)


def _latest_first(request: RestoreRequest, manifest: Manifest) -> list[RestorePart]:
    def read_at(part: RestorePart) -> tuple[int, int, int, datetime]:
        """Orders snapshots of one server: a later one saw more transactions end. A standby does not list running ones."""
        entry = manifest.parts[part.number]
        lowest, highest, running = entry.snapshot.split(":")
        return int(highest), int(lowest), -len(running.split(",")), entry.extracted_at

    return sorted(_parts_of(request, manifest), key=read_at, reverse=True)


def _has_each_row_once(store: Store, manifest: Manifest) -> bool:
    """Whether the evidence shows that each row of an archive was in the table, as it was archived, until the delete."""
    archive = ArchiveId.parse(manifest.archive_id)
    if len(manifest.parts) == 1:
        return True

    def is_whole(number: int) -> bool:
        key = archive.delete_evidence_key(number)
        present = store.read(key)
        if present is None:
            return False
        evidence = parse_evidence(f"{store}{key}", present[0])
        return evidence.deleted + evidence.referenced + evidence.kept_by_trigger == evidence.rows

    with ThreadPoolExecutor(_READERS) as readers:
        return all(readers.map(is_whole, range(len(manifest.parts))))


def _parts_of(request: RestoreRequest, manifest: Manifest) -> Iterator[RestorePart]:
    for part in manifest.parts:
        late = request.since is not None and part.end_at <= request.since
        early = request.before is not None and part.start_at >= request.before
        if not late and not early:
            yield RestorePart(archive_id=manifest.archive_id, number=part.number, rows=part.record_count)


def _require_keys(request: RestoreRequest, manifests: Sequence[Manifest]) -> None:
    for manifest in manifests:
        key = manifest.table.primary_key
        odd = next((one for one in request.keys if len(one) != len(key)), None)
        if odd is not None:
            raise RestoreError(
                f"{', '.join(odd)} is not the primary key of {manifest.table_name}",
                expected=f"{len(key)} values: {', '.join(key)}",
                found=f"{len(odd)}",
                hint="Nothing was loaded. Write each key as a list of its columns' values.",
            )


def _shapes(manifests: Iterable[Manifest]) -> dict[str, TableShape]:
    """Each different shape, by the names of the archives that have it."""
    of_each: dict[str, list[Manifest]] = {}
    for manifest in manifests:
        of_each.setdefault(manifest.shape_sha256, []).append(manifest)
    return {", ".join(manifest.archive_id for manifest in having): having[0].table for having in of_each.values()}


def _record(plan: RestorePlan) -> RestoreRecord:
    return RestoreRecord(
        restore_id=plan.restore_id,
        archive_ids=plan.archive_ids,
        table=plan.target,
        partition_keys=plan.partition_keys,
        who=plan.request.who,
        triggered_by=plan.request.triggered_by,
        why=plan.request.why,
        restored_at=plan.planned_at,
        until=plan.until,
    )
