"""Step 7, seal: write SHA256SUMS and a copy of the manifest as evidence, enter it in the log, and write the manifest.

With the manifest the archive exists. It is believed only with the proof that the store's transparency log has it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from strongroom.calendar import Window
from strongroom.errors import IntegrityError
from strongroom.ledger.manifest_record import Manifest, UnitArchive, format_version_of, manifest_part, sha256_sums
from strongroom.ledger.manifests import parse_manifest, read_manifest, require_object, require_part_of
from strongroom.ledger.object_lock import lock_archive
from strongroom.ledger.sealing import software_versions, write_sealed
from strongroom.object_keys.archives import ArchiveId, sealed_and_kept
from strongroom.object_keys.records import evidence_prefix
from strongroom.records import ArchivePlan, RunIdentity, SealedArchive, VerifiedPart, shape_sha256
from strongroom.settings import TableSettings
from strongroom.storage.store import Store
from strongroom.tables.erased import require_nobody_erased

if TYPE_CHECKING:
    from strongroom.formats.persons import Persons

_OF_THE_TRY = ("created_at", "dag_id", "run_id", "triggered_by", "software", "storage_class", "encryption")
"""What two tries to seal one archive may say differently."""


def seal_archive(
    store: Store,
    settings: TableSettings,
    plan: ArchivePlan,
    parts: Sequence[VerifiedPart],
    *,
    run: RunIdentity,
    now: datetime,
    persons: Persons | None = None,
) -> SealedArchive:
    """Write the manifest of an archive whose parts are all verified; a repeat finds the one that is there.

    With Object Lock everything is locked only after that, so parts that never became an archive can be swept away.

    Args:
        run: Which Airflow run this is.
        persons: Columns of persons and the list of those who were erased; None where the settings name none. A person may have been
            erased after ``verify`` looked, so the list is read once the claim on the partition is held.

    Raises:
        IntegrityError: Parts or their objects are missing, a manifest of other parts exists already, or another archive of
            the partition was sealed since this one was planned.
    """
    parts = _parts_of(plan, parts)
    _require_complete(plan, parts)
    return _seal(store, settings, plan, parts, _Sealing(run, now, (), persons))


def seal_unit(
    store: Store,
    tables: Sequence[tuple[TableSettings, ArchivePlan]],
    parts: Sequence[VerifiedPart],
    *,
    run: RunIdentity,
    now: datetime,
) -> list[SealedArchive]:
    """Seal the archives of all tables of a unit, the root's last; a repeat finds those that are there.

    Before the first one is sealed, the parts of all of them must be complete. Each manifest names all archives.

    Args:
        tables: Of which something is due.
        parts: Verification records of all of them.

    Raises:
        IntegrityError: As :func:`seal_archive`, of any of them; or they would expire at different times.
    """
    of_each = [(settings, plan, _parts_of(plan, parts)) for settings, plan in tables]
    for _, plan, own in of_each:
        _require_complete(plan, own)
    # By their names, too: the order in which the settings name them may change before the run is resumed.
    children_first = sorted(of_each, key=lambda one: (-len(one[1].shape.dated_through), one[1].table))
    unit = _unit([(plan, own) for _, plan, own in reversed(children_first)])
    if len(of_each) == 1 and _sealed_alone(store, of_each[0][1]):
        unit = ()
    _require_one_term(store, children_first)
    return [_seal(store, settings, plan, own, _Sealing(run, now, unit)) for settings, plan, own in children_first]


def _require_one_term(
    store: Store, of_each: Sequence[tuple[TableSettings, ArchivePlan, Sequence[VerifiedPart]]]
) -> None:
    """Check that the archives of a unit will expire together, if the settings changed after some of them were sealed."""
    terms = {}
    for settings, plan, _ in of_each:
        present = read_manifest(store, ArchiveId.parse(str(plan.archive_id)))
        terms[plan.archive_id] = _term(settings, plan) if present is None else present.retention_until
    if len({*terms.values()}) > 1:
        raise IntegrityError(
            f"the archives of {of_each[-1][1].table} {of_each[-1][1].partition_key} and its members would expire at different times",
            expected="one term for all, because objects are kept whole",
            found=", ".join(f"{archive_id} until {until:%Y-%m-%d %H:%M} UTC" for archive_id, until in terms.items()),
            hint="No row was deleted. If `cold_retention` changed after an earlier try of this run, clear 'plan' and the tasks after it: "
            "everything goes into new archives.",
        )


def _term(settings: TableSettings, plan: ArchivePlan) -> datetime:
    """When an archive expires."""
    return settings.cold_retention.after(plan.end_at)


def _sealed_alone(store: Store, plan: ArchivePlan) -> bool:
    """Whether an archive was sealed while its table was archived without members."""
    present = read_manifest(store, ArchiveId.parse(str(plan.archive_id)))
    return present is not None and not present.unit


def _parts_of(plan: ArchivePlan, parts: Sequence[VerifiedPart]) -> list[VerifiedPart]:
    """The parts of a plan. A run that was cleared may still show records of the archive that its earlier try had planned."""
    return sorted((part for part in parts if part.archive_id == plan.archive_id), key=lambda part: part.number)


def _unit(tables: Sequence[tuple[ArchivePlan, Sequence[VerifiedPart]]]) -> tuple[UnitArchive, ...]:
    """How each manifest of a unit names all of its archives."""
    return tuple(
        UnitArchive(
            archive_id=str(plan.archive_id),
            record_count=sum(part.rows for part in parts),
            checksum=hashlib.sha256(sha256_sums(tuple(map(manifest_part, parts)))).hexdigest(),
        )
        for plan, parts in tables
    )


class _Sealing(NamedTuple):
    """What the archives of one run are sealed with."""

    run: RunIdentity
    now: datetime
    unit: tuple[UnitArchive, ...]
    persons: Persons | None = None


def _seal(
    store: Store, settings: TableSettings, plan: ArchivePlan, parts: Sequence[VerifiedPart], sealing: _Sealing
) -> SealedArchive:
    archive = ArchiveId.parse(str(plan.archive_id))
    present = read_manifest(store, archive)
    if present is None:
        for part in parts:  # if a run was frozen for long, they may have been swept away
            require_object(store, part)
        if sealing.persons is not None:
            require_nobody_erased(store, plan.shape, parts, sealing.persons, settings.working_folder[0])
        present = _manifest(settings, plan, parts, sealing)
        present = _begun(store, archive, present) or present
        write_sealed(store, settings, present, check=partial(_require_first, store, plan, archive))
    _require_same(present, parts, sealing.unit)
    if settings.store.object_lock != "off":
        lock_archive(store, present, mode=settings.store.object_lock, now=sealing.now)
    return SealedArchive(
        archive_id=str(archive),
        manifest_key=archive.manifest_key,
        manifest_sha256=present.sha256,
        parts=tuple(parts),
    )


def _require_first(store: Store, plan: ArchivePlan, archive: ArchiveId) -> None:
    """Check that the parts were not swept away, and that no other archive of the partition was sealed since the plan.

    Of two archives, the one with the higher sequence must have been read later, because a restore prefers its rows. Each run
    records its seal just before this check, so of two runs that seal at once at least one finds the other.
    """
    evidence = set(store.keys(evidence_prefix(archive.schema_name, archive.table_name, archive.partition_key)))
    if archive.sweep_key in evidence:
        raise IntegrityError(
            f"the parts of {archive} were swept away as leftovers",
            hint="Nothing was sealed and no row was deleted. Clear 'plan' and the tasks after it.",
        )
    others = map(str, sealed_and_kept(evidence))
    unknown = [one for one in others if one not in (*plan.known_archives, str(archive))]
    if unknown:
        raise IntegrityError(
            f"{archive} was overtaken",
            expected="no other archive of the partition since this one was planned",
            found=", ".join(unknown),
            hint="Nothing was sealed and no row was deleted. Clear 'plan' and the tasks after it: what is still in the table "
            "goes into another archive.",
        )


def _begun(store: Store, archive: ArchiveId, ours: Manifest) -> Manifest | None:
    """The manifest that an earlier try was about to write when it broke off; None if there was none.

    Raises:
        IntegrityError: It says something else of the archive than this try. The log does not vouch for it yet, so somebody may
            have put it there.
    """
    copy = store.read(archive.seal_key)
    if copy is None:
        return None
    begun = parse_manifest(store, archive, copy[0])
    alike = {name: getattr(ours, name) for name in _OF_THE_TRY}
    if begun.model_copy(update=alike) != ours:
        fields = [name for name in Manifest.model_fields if name not in _OF_THE_TRY]
        raise IntegrityError(
            f"{store}{archive.seal_key} is not the manifest of these parts",
            expected="what this run would write",
            found=f"other values of {', '.join(name for name in fields if getattr(begun, name) != getattr(ours, name))}",
            hint="Nothing was sealed and no row was deleted. If the settings changed since an earlier try of this run, clear 'plan' and "
            "the tasks after it. Otherwise find out who wrote that object.",
        )
    return begun


def _manifest(
    settings: TableSettings,
    plan: ArchivePlan,
    parts: Sequence[VerifiedPart],
    sealing: _Sealing,
) -> Manifest:
    run, now = sealing.run, sealing.now
    window = Window(plan.start_at, plan.end_at)
    described = tuple(manifest_part(part) for part in parts)
    return Manifest(
        format_version=format_version_of(described, None, sealing.unit),
        format=parts[0].format,
        archive_id=str(plan.archive_id),
        table_name=plan.table,
        partition_key=plan.partition_key,
        window_start=window.start,
        window_end=window.end,
        table=plan.shape,
        shape_sha256=shape_sha256(plan.shape),
        source=plan.source,
        record_count=sum(part.rows for part in parts),
        original_size=sum(part.original_size_bytes for part in parts),
        compressed_size=sum(part.compressed_size_bytes for part in parts),
        compression_type=parts[0].compression_type,
        compression_level=parts[0].compression_level,
        checksum=hashlib.sha256(sha256_sums(described)).hexdigest(),
        parts=described,
        created_at=now,
        retention_until=_term(settings, plan),
        legal_basis=settings.legal_basis,
        storage_class=settings.store.storage_class,
        encryption=settings.store.sse,
        dag_id=run.dag_id,
        run_id=run.run_id,
        triggered_by=run.triggered_by,
        software=software_versions(),
        unit=sealing.unit,
    )


def _require_complete(plan: ArchivePlan, parts: Sequence[VerifiedPart]) -> None:
    expected = [(str(plan.archive_id), part.number) for part in plan.parts]
    found = [(part.archive_id, part.number) for part in parts]
    shapes = {shape_sha256(plan.shape), *(part.shape_sha256 for part in parts)}
    if (
        not expected
        or expected != found
        or len({(part.format, part.compression_type) for part in parts}) != 1
        or len(shapes) != 1
    ):
        raise IntegrityError(
            f"the parts of {plan.archive_id} are not complete",
            expected=f"{len(expected)} verified parts of one format and compression type, of the columns that were planned",
            found=f"{len(found)}: {', '.join(f'{archive} {number}' for archive, number in found[:5])}",
            hint="Nothing was sealed and no row was deleted. Clear the part tasks that failed.",
        )


def _require_same(manifest: Manifest, parts: Sequence[VerifiedPart], unit: tuple[UnitArchive, ...]) -> None:
    for part in parts:
        require_part_of(manifest, part)
    if {*manifest.unit} != {*unit}:
        raise IntegrityError(
            f"{manifest.archive_id} was sealed together with other archives than those of this run",
            expected=", ".join(one.archive_id for one in unit) or "none",
            found=", ".join(one.archive_id for one in manifest.unit) or "none",
            hint="No row was deleted. Clear 'plan' and the tasks after it.",
        )
