"""Restore, first and last step: find what was asked for and say how it comes back; sum up what became of it.

In between each part is loaded by :mod:`strongroom.restore.load`. Nothing here changes an archive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, time, timedelta, timezone
from itertools import groupby
from typing import Annotated, Literal

from pydantic import AwareDatetime, BeforeValidator, Field

from strongroom.archive.delete import parse_evidence
from strongroom.calendar import Partition
from strongroom.database.session import Connection
from strongroom.errors import RestoreError, StrongroomError
from strongroom.ledger.claims import KeepClaim, claim_keeper, release_claim, take_claim
from strongroom.ledger.index import stray_keys
from strongroom.ledger.manifests import Manifest, archive_ids, require_manifest
from strongroom.ledger.owner import require_claimed
from strongroom.ledger.restores import keep_record, split_table
from strongroom.object_keys import ArchiveId, claim_key, emptied_and_kept, evidence_prefix, restore_report_key
from strongroom.records import Record, RestoreRecord, TableShape
from strongroom.restore.target import (
    DroppedColumns,
    create_target,
    find_target,
    fit_columns,
    move_sequences,
    require_rights,
    require_schema,
    require_writable,
    shape_of_its_own,
)
from strongroom.settings.values import TableName
from strongroom.storage.store import Store

MOST_LANES = 1000
"""Airflow maps a task over at most 1024 values (``max_map_length``)."""

_READERS = 8

LISTED_STRAYS = 10
"""How many objects that are no manifests a plan names."""

LISTED_KEYS = 1000
"""How many keys of rows that are there but different one part names; it always counts them all."""

_RESULT_ORDER = ("missing", "corrupted", "different", "restored", "unchanged")


def _instant(value: object) -> object:
    """A date is its midnight; what has no zone is UTC, as everything here."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.replace("Z", "+00:00"))
        except ValueError:
            return value
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime.combine(value, time())
    return value.replace(tzinfo=timezone.utc) if isinstance(value, datetime) and value.tzinfo is None else value


def _key(value: object) -> object:
    """A key of one column may be written without a list; its values are texts that the server reads."""
    values = value if isinstance(value, (list, tuple)) else [value]
    return tuple(str(one) for one in values)


Instant = Annotated[AwareDatetime, BeforeValidator(_instant)]
Key = Annotated[tuple[str, ...], BeforeValidator(_key)]


GlacierTier = Literal["Expedited", "Standard", "Bulk"]
"""How quickly S3 brings an object back; `Expedited` is not for `DEEP_ARCHIVE`."""


class RestoreRequest(Record):
    """What somebody asks for.

    Either ``archives``, or ``table`` with a range of partitions, both ends included, either one open.
    """

    archives: tuple[str, ...] = ()
    table: str | None = Field(default=None, description="schema.table whose archives are meant.")
    first_partition: str | None = None
    last_partition: str | None = None
    target: TableName | None = Field(default=None, description="schema.table to load into; None is the archived table.")
    create_target: bool = False
    since: Instant | None = None
    before: Instant | None = None
    keys: tuple[Key, ...] = Field(default=(), description="Only rows with these primary keys; none means all.")
    dropped_columns: DroppedColumns = "refuse"
    keep_days: int = Field(default=30, ge=1, le=3650, description="How long the rows are not archived again.")
    glacier_days: int = Field(
        default=7, ge=1, le=365, description="How long parts stay readable that come from Glacier."
    )
    glacier_tier: GlacierTier = "Standard"
    who: str
    triggered_by: str | None = Field(default=None, description="Airflow's name of the user who started the run.")
    why: str
    dry_run: bool = False


class RestorePart(Record):
    """One part that is to come back."""

    archive_id: str
    number: int
    rows: int


class RestorePlan(Record):
    """How the rows come back, as one run does it."""

    restore_id: str
    request: RestoreRequest
    table: str
    target: str
    archive_ids: tuple[str, ...]
    partition_keys: tuple[str, ...]
    lanes: tuple[tuple[RestorePart, ...], ...] = Field(
        description="Parts of a lane come back one after the other; lanes side by side."
    )
    creates_target: bool
    kept_aside: tuple[str, ...] = Field(description="Columns the target no longer has; their values go aside.")
    added: tuple[str, ...] = Field(description="Columns the archive does not know; they take their default.")
    strays: tuple[str, ...] = Field(
        default=(), description="Some keys among the table's manifests that are of none: somebody else wrote there."
    )
    until: AwareDatetime
    planned_at: AwareDatetime

    @property
    def parts(self) -> tuple[RestorePart, ...]:
        """All parts, lane by lane."""
        return tuple(part for lane in self.lanes for part in lane)

    @property
    def rows(self) -> int:
        """Archived rows of all parts, before any filter."""
        return sum(part.rows for part in self.parts)


class DifferentRow(Record):
    """An archived row that was not loaded, by its primary key as text.

    ``changed``: a row of that key is there, with other contents. ``taken``: no row of that key is there, but another row
    has a value that must be unique.
    """

    key: tuple[str, ...]
    why: Literal["changed", "taken"]


class RestoredPart(Record):
    """What became of one part. ``inserted + unchanged + different == wanted``."""

    archive_id: str
    number: int
    result: Literal["restored", "unchanged", "different", "corrupted", "missing"]
    rows: int
    wanted: int = Field(default=0, description="Rows inside the time range and key list.")
    inserted: int = 0
    unchanged: int = Field(default=0, description="There already, and equal.")
    different: int = Field(default=0, description="There already, and not equal: not loaded.")
    listed: tuple[DifferentRow, ...] = ()
    highest: dict[str, int] = Field(
        default_factory=dict, description="Highest value loaded, by column with a sequence."
    )
    detail: str = ""

    @property
    def failed(self) -> bool:
        """Whether nothing was loaded because the object is not what was archived."""
        return self.result in ("corrupted", "missing")

    def sentence(self) -> str:
        """The one line that a reader of the log needs."""
        where = f"{self.archive_id} part {self.number}"
        if self.failed:
            return f"{self.result}: {where}, nothing was loaded from it: {self.detail}"
        return (
            f"{self.result}: {where}, {self.inserted} of {self.wanted} rows inserted, {self.unchanged} were there and equal, "
            f"{self.different} are there but different" + (f"; {self.detail}" if self.detail else "")
        )


class RestoreReport(Record):
    """What one restore did; lies under ``reports/``."""

    outcome: Literal["restored", "unchanged", "different", "incomplete", "dry_run"]
    restore_id: str
    table: str
    target: str
    archive_ids: tuple[str, ...]
    partition_keys: tuple[str, ...]
    rows: int
    wanted: int
    inserted: int
    unchanged: int
    different: int
    results: dict[str, int] = Field(description="Parts by their result; unfinished ones have none.")
    moved_sequences: tuple[str, ...]
    parts: tuple[RestoredPart, ...]
    who: str
    triggered_by: str | None = None
    """Reports of the first versions have none."""
    why: str
    until: AwareDatetime
    planned_at: AwareDatetime
    finished_at: AwareDatetime

    def sentence(self) -> str:
        """The one line that a reader of the log needs."""
        count = sum(self.results.values())
        parts = f"{count} {'part' if count == 1 else 'parts'}"
        if self.outcome == "dry_run":
            return f"dry run: {self.rows} rows in {parts} would be looked at for {self.target}; nothing was loaded"
        results = ", ".join(f"{number} {result}" for result, number in self.results.items())
        return (
            f"{self.outcome}: {self.target} from {parts} of {self.table} ({results}): {self.inserted} of {self.wanted} rows "
            f"inserted, {self.unchanged} were there and equal, {self.different} are there but different; "
            f"not archived again before {self.until:%Y-%m-%d %H:%M} UTC"
        )


def plan_restore(
    connection: Connection,
    store: Store,
    request: RestoreRequest,
    *,
    restore_id: str,
    owner: str,
    claim_ttl: timedelta,
    now: datetime,
) -> RestorePlan:
    """Find the archives, see that the target takes their rows, and put the restore on record before a row is loaded.

    Unless it is a dry run, the partitions are claimed and a missing target is created where that was asked for. A
    repeat finds claims, record and target that are there.

    Args:
        connection: A session that may read the target, and create it where that is asked for.
        restore_id: From :func:`strongroom.ledger.restores.make_restore_id`.
        owner: Names the run in the claims.
        claim_ttl: How long the claims hold without being renewed.

    Raises:
        RestoreError: The request makes no sense, finds nothing, or the target does not take the rows.
        ContendedError: Another run works on one of the partitions.
        IntegrityError: A manifest is missing or damaged.
    """
    manifests = locate_archives(store, request)
    table = manifests[0].table_name
    target_name = request.target or table
    plan = RestorePlan(
        restore_id=restore_id,
        request=request,
        table=table,
        target=target_name,
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
    _require_keys(request, manifests)
    require_writable(connection)
    target = find_target(connection, *split_table(target_name))
    own: TableShape | None = None
    if target is None and not request.create_target:
        raise RestoreError(
            f"there is no table {target_name}",
            hint="Nothing was loaded. Name another target, or ask for it to be created from the archive's columns.",
        )
    if target is not None:
        require_rights(connection, target)
        fits = [
            fit_columns(connection, shape, target, request.dropped_columns) for shape in _shapes(manifests).values()
        ]
        plan = plan.model_copy(
            update={
                "kept_aside": tuple(sorted({name for fit in fits for name in fit.kept_aside})),
                "added": tuple(sorted({name for fit in fits for name in fit.added})),
            }
        )
    else:
        require_schema(connection, split_table(target_name)[0])
        own = shape_of_its_own(_shapes(manifests))
        plan = plan.model_copy(update={"creates_target": True})
    if request.dry_run:
        return plan
    _take_claims(store, plan, owner=owner, now=now, ttl=claim_ttl)
    record = keep_record(store, _record(plan), now=now)
    if own is not None:
        create_target(connection, own, *split_table(target_name))
    return plan.model_copy(update={"until": record.until})


def locate_archives(store: Store, request: RestoreRequest) -> list[Manifest]:
    """Manifests of the archives that a request names, oldest window and lowest sequence first.

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
    require_claimed(store)
    wanted = [ArchiveId.parse(text) for text in request.archives] or list(_archives_in_range(store, request))
    if not wanted:
        raise RestoreError(
            f"no archive of {request.table} lies in the range {request.first_partition or '…'} to {request.last_partition or '…'}",
            hint="Nothing was loaded. `airflow strongroom list` prints the archives that exist.",
        )
    manifests = sorted(
        (require_manifest(store, archive) for archive in sorted(set(wanted))),
        key=lambda manifest: (
            manifest.window_start,
            manifest.partition_key,
            ArchiveId.parse(manifest.archive_id).sequence,
        ),
    )
    tables = sorted({manifest.table_name for manifest in manifests})
    if len(tables) > 1:
        raise RestoreError(
            "one restore brings back one table",
            found=", ".join(tables),
            hint="Nothing was loaded. Start one restore for each table.",
        )
    return manifests


def _archives_in_range(store: Store, request: RestoreRequest) -> Iterator[ArchiveId]:
    start = Partition.named(request.first_partition).window.start if request.first_partition else None
    end = Partition.named(request.last_partition).window.end if request.last_partition else None
    table = split_table(str(request.table))
    # One whose manifest is gone is asked for as well: to bring back only the others would be to lose its rows in silence.
    for archive in (*emptied_and_kept(store.keys(evidence_prefix(*table))), *archive_ids(store, *table)):
        window = Partition.named(archive.partition_key).window
        if (start is None or window.start >= start) and (end is None or window.end <= end):
            yield archive


def _cut_lanes(
    store: Store, request: RestoreRequest, manifests: Sequence[Manifest]
) -> tuple[tuple[RestorePart, ...], ...]:
    """Parts that may come back side by side.

    Where a partition has several archives, a row may be in more than one of them (restored, changed, archived again):
    the newest one must come first, so such a partition is one lane. The parts of one archive were read one after the
    other: a row that was moved in time meanwhile may be in two of them, and the later form must come first.
    """
    lanes: list[tuple[RestorePart, ...]] = []
    for _, group in groupby(manifests, key=lambda manifest: manifest.partition_key):
        archives = list(group)
        if len(archives) == 1 and _has_each_row_once(store, archives[0]):
            lanes += [(part,) for part in _parts_of(request, archives[0])]
        elif parts := tuple(part for archive in reversed(archives) for part in _latest_first(request, archive)):
            lanes.append(parts)
    if len(lanes) > MOST_LANES:
        lanes = [tuple(part for lane in lanes[start::MOST_LANES] for part in lane) for start in range(MOST_LANES)]
    return tuple(lanes)


def _latest_first(request: RestoreRequest, manifest: Manifest) -> list[RestorePart]:
    def read_at(part: RestorePart) -> tuple[int, int, int, datetime]:
        """Orders snapshots of one server: a later one has seen more transactions end. A standby does not tell which run."""
        entry = manifest.parts[part.number]
        lowest, highest, running = entry.snapshot.split(":")
        return int(highest), int(lowest), -len(running.split(",")), entry.extracted_at

    return sorted(_parts_of(request, manifest), key=read_at, reverse=True)


def _has_each_row_once(store: Store, manifest: Manifest) -> bool:
    """Whether the evidence says of each row of an archive that it lay in the table as it was archived, to the end."""
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
                f"{', '.join(odd)} is no primary key of {manifest.table_name}",
                expected=f"{len(key)} values: {', '.join(key)}",
                found=f"{len(odd)}",
                hint="Nothing was loaded. Write each key as a list of its columns' values.",
            )


def _shapes(manifests: Iterable[Manifest]) -> dict[str, TableShape]:
    """Each shape once, by the archives that have it."""
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


def claim_keys(plan: RestorePlan) -> list[str]:
    """Keys of the claims that keep archive runs and purges away while rows come back."""
    tables = sorted({split_table(plan.table), split_table(plan.target)})
    return [claim_key(*table, key) for table in tables for key in plan.partition_keys]


def _take_claims(store: Store, plan: RestorePlan, *, owner: str, now: datetime, ttl: timedelta) -> None:
    taken: list[str] = []
    try:
        for key in claim_keys(plan):
            take_claim(store, key, owner=owner, now=now, ttl=ttl)
            taken.append(key)
    except StrongroomError:
        for key in taken:
            release_claim(store, key, owner=owner, now=now)
        raise


def renew_claims(
    store: Store,
    plan: RestorePlan,
    part: RestorePart,
    *,
    owner: str,
    clock: Callable[[], datetime],
    ttl: timedelta,
) -> KeepClaim:
    """Renew the claims on the partition of one part; each part does so before it changes anything.

    Returns:
        What looks after them while the part is loaded.
    """
    archive = ArchiveId.parse(part.archive_id)
    tables = sorted({split_table(plan.table), split_table(plan.target)})
    keys = [claim_key(*table, archive.partition_key) for table in tables]
    for key in keys:
        take_claim(store, key, owner=owner, now=clock(), ttl=ttl)
    return claim_keeper(store, keys, owner=owner, clock=clock, ttl=ttl)


def release_claims(store: Store, plan: RestorePlan, *, owner: str, now: datetime) -> None:
    """Give the claims back."""
    for key in claim_keys(plan):
        release_claim(store, key, owner=owner, now=now)


def report_restore(
    connection: Connection, store: Store, plan: RestorePlan, parts: Sequence[RestoredPart], *, now: datetime
) -> RestoreReport:
    """Move the sequences past what was loaded, sum up, and keep the summary under ``reports/``.

    A repeat writes the summary anew; the bucket's versions keep the older one. A dry run leaves no object.

    Raises:
        SourceAccessError: A sequence must be moved and the role may not.
    """
    parts = sorted(parts, key=lambda part: (part.archive_id, part.number))
    highest: dict[str, int] = {}
    for part in parts:
        highest = _highest_of(highest, part.highest)
    target = find_target(connection, *split_table(plan.target)) if highest else None
    report = RestoreReport(
        outcome=_outcome(plan, parts),
        restore_id=plan.restore_id,
        table=plan.table,
        target=plan.target,
        archive_ids=plan.archive_ids,
        partition_keys=plan.partition_keys,
        rows=plan.rows,
        wanted=sum(part.wanted for part in parts),
        inserted=sum(part.inserted for part in parts),
        unchanged=sum(part.unchanged for part in parts),
        different=sum(part.different for part in parts),
        results=_count_results(plan, parts),
        moved_sequences=move_sequences(connection, target, highest) if target is not None else (),
        parts=tuple(parts),
        who=plan.request.who,
        triggered_by=plan.request.triggered_by,
        why=plan.request.why,
        until=plan.until,
        planned_at=plan.planned_at,
        finished_at=now,
    )
    if not plan.request.dry_run:
        key = restore_report_key(*split_table(plan.target), plan.restore_id)
        present = store.read(key)
        store.swap(key, report.model_dump_json(indent=2).encode() + b"\n", etag=present[1] if present else None)
    return report


def _highest_of(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    """The higher value of each column."""
    return {name: max(values[name] for values in (one, other) if name in values) for name in one | other}


def _count_results(plan: RestorePlan, parts: Sequence[RestoredPart]) -> dict[str, int]:
    counts = {result: sum(part.result == result for part in parts) for result in _RESULT_ORDER}
    counts["unfinished"] = len(plan.parts) - len(parts)
    return {result: number for result, number in counts.items() if number}


def _outcome(
    plan: RestorePlan, parts: Sequence[RestoredPart]
) -> Literal["restored", "unchanged", "different", "incomplete", "dry_run"]:
    if plan.request.dry_run:
        return "dry_run"
    if len(parts) < len(plan.parts) or any(part.failed for part in parts):
        return "incomplete"
    if any(part.different for part in parts):
        return "different"
    return "restored" if any(part.inserted for part in parts) else "unchanged"


def require_complete(report: RestoreReport) -> None:
    """See that every part came back.

    Raises:
        RestoreError: Names the parts that did not, and why.
    """
    if report.outcome != "incomplete":
        return
    failed = [f"{part.archive_id} part {part.number} is {part.result}" for part in report.parts if part.failed]
    unfinished = report.results.get("unfinished", 0)
    raise RestoreError(
        f"restore {report.restore_id} into {report.target} is incomplete",
        found="; ".join([*failed[:10], *([f"{unfinished} parts unfinished: see their tasks"] if unfinished else [])]),
        hint="Nothing was loaded from those parts; rows of the others are in the table. `airflow strongroom verify` says "
        "what is wrong with an archive, and earlier versions of a damaged object may still be in the bucket. "
        "Clear the failed tasks when the objects are sound again: rows that are there are not loaded twice.",
    )
