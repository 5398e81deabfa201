"""The manifests in a store: which there are, and reading one that can be trusted.

A manifest is the JSON commit record of an archive, and the only thing that makes parts an archive.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from strongroom.calendar import Partition
from strongroom.errors import IntegrityError, StrongroomError
from strongroom.ledger.entries import OF_MANIFESTS, Subject, subject_of
from strongroom.ledger.journal import doubt_of_entry
from strongroom.ledger.manifest_record import Manifest, faults_of
from strongroom.object_keys.archives import ArchiveId, manifest_archive_id, manifest_prefix, partition_prefix
from strongroom.object_keys.records import evidence_prefix, proof_key
from strongroom.records import PlannedPart, VerifiedPart, upload_of
from strongroom.storage.store import Store
from strongroom.storage.versions import StoredVersion, by_key, is_there


@dataclass(frozen=True)
class Attested:
    """A manifest that equals its copy, and what else was known of its archive at that moment.

    Attributes:
        evidence: Keys of all evidence of the archive that was ever written, even if a delete marker hides it.
    """

    manifest: Manifest
    evidence: frozenset[str]


def read_manifest(store: Store, archive: ArchiveId, *, attested: bool = True) -> Manifest | None:
    """Read and check one manifest.

    Args:
        attested: Whether to require that it equals its copy under ``evidence/`` byte for byte, that both have exactly one
            version, that the store's transparency log has it, and that the archive has no certificate of destruction. Code that deletes, loads or proves anything
            must require it. A listing checks versions and evidence by itself, and saves requests; the log is asked all the same.

    Returns:
        None if there is none. Then the archive does not exist, even if there are parts of it.

    Raises:
        IntegrityError: It is not the manifest it should be, or the archive was destroyed.
    """
    if attested:
        found = read_attested(store, archive)
        return None if found is None else found.manifest
    present = store.read(archive.manifest_key)
    if present is None:
        return None
    manifest = parse_manifest(store, archive, present[0])
    _require_entered(store, archive, present[0])
    return manifest


def read_attested(store: Store, archive: ArchiveId, *, entered: bool = True) -> Attested | None:
    """:func:`read_manifest`, together with the keys of the archive's evidence, in four requests, or five with a log.

    Args:
        entered: Whether to require that the store's log has the manifest. Only who is about to enter it must not.
    """
    body = _read_only_version(store, archive, archive.manifest_key, store.history(archive.manifest_key))
    if body is None:
        return None
    evidence = by_key(store.versions(archive.evidence_prefix))
    written = frozenset(key for key, versions in evidence.items() if is_there(versions))
    if archive.destruction_key in written:
        raise _destroyed(store, archive)
    manifest = parse_manifest(store, archive, body)
    _require_equal_copy(store, archive, body, evidence.get(archive.seal_key, ()))
    if entered:
        _require_entered(store, archive, body)
    return Attested(manifest, written)


def manifest_of(sealed: Attested) -> Subject:
    """An archive's manifest, as what an entry of the log is about."""
    manifest = sealed.manifest
    return Subject(key=ArchiveId.parse(manifest.archive_id).manifest_key, sha256=manifest.sha256)


def fault_of_versions(versions: Sequence[StoredVersion]) -> str | None:
    """What is wrong with the versions (oldest first) of a manifest or of its copy; None if there is exactly one.

    Both are created once and never overwritten, so anything else was put there by somebody else.
    """
    if len(versions) == 1:
        return None
    if versions[-1].is_marker:
        return "a delete marker that hides it"
    kept = [version for version in versions if not version.is_marker]
    markers = len(versions) - len(kept)
    beside = f" and {markers} delete {'marker' if markers == 1 else 'markers'}" if markers else ""
    first = kept[0]
    count = f"{len(kept)} version{'s' if len(kept) > 1 else ''}{beside}"
    return f"{count}, of which the first is {first.version_id} of {first.modified_at:%Y-%m-%d %H:%M:%S} UTC"


def _read_only_version(store: Store, archive: ArchiveId, key: str, versions: Sequence[StoredVersion]) -> bytes | None:
    """The body of a manifest or of its copy, which must have exactly one version; None if it has none."""
    if not is_there(versions):
        return None
    if (fault := fault_of_versions(versions)) is not None:
        raise _damaged(store, archive, fault, key)
    present = store.read(key, versions[0].version_id)
    return None if present is None else present[0]


def _destroyed(store: Store, archive: ArchiveId) -> IntegrityError:
    return IntegrityError(
        f"{archive} was destroyed, and somebody has put it back since",
        found=f"its certificate {store}{archive.destruction_key}",
        hint="Nothing was deleted or loaded, and nothing will be: a destroyed archive is never used again. Find out who put "
        "it there, and let an administrator of the bucket remove it.",
    )


def is_destroyed(store: Store, archive: ArchiveId) -> bool:
    """Whether a certificate of an archive's destruction was ever written, even if a delete marker hides it."""
    return is_there(store.history(archive.destruction_key))


def manifest_exists(store: Store, archive: ArchiveId) -> bool:
    """Whether an archive has a manifest, sound or not, even if a delete marker hides it."""
    return is_there(store.history(archive.manifest_key))


def parse_manifest(store: Store, archive: ArchiveId, body: bytes) -> Manifest:
    """Read a manifest from its bytes, and check that it is sound.

    Raises:
        IntegrityError: It is not; the error says why.
    """
    try:
        manifest = Manifest.model_validate_json(body)
    except ValidationError as error:
        problem = error.errors(include_input=False, include_url=False)[0]
        raise _damaged(
            store, archive, f"{'.'.join(map(str, problem['loc'])) or 'the document'}: {problem['msg']}"
        ) from None
    for fault in faults_of(manifest, archive):
        raise _damaged(store, archive, fault)
    return manifest


def _require_equal_copy(store: Store, archive: ArchiveId, body: bytes, versions: Sequence[StoredVersion]) -> None:
    copy = _read_only_version(store, archive, archive.seal_key, versions)
    if copy is None:
        raise _damaged(store, archive, f"no copy of it at {archive.seal_key}")
    if copy != body:
        try:
            written = json.loads(copy)
            fields = sorted(name for name, value in json.loads(body).items() if written.get(name) != value)
        except (ValueError, AttributeError, RecursionError):
            fields = []
        what = f"in {', '.join(fields)}" if fields else "in its bytes"
        raise _damaged(store, archive, f"one that differs {what} from its copy at {archive.seal_key}")


def _damaged(store: Store, archive: ArchiveId, found: str, key: str | None = None) -> IntegrityError:
    one_version = key is not None
    return IntegrityError(
        f"{store}{key or archive.manifest_key} is not a sound manifest",
        expected="one version and no delete marker"
        if one_version
        else f"the manifest of {archive}, format version 1 to 5",
        found=found,
        hint=f"Nothing was deleted or loaded. The manifest and its copy {archive.seal_key} were each written once, with the "
        "same bytes. List all versions of both. Let an administrator of the bucket remove, by version id, the delete markers "
        "and every version except the right one, which is the first unless that one is damaged; write nothing over it. If no "
        "version of one is right, remove them all, then write the bytes of the other. docs/howto/when-a-task-fails.md shows the commands.",
    )


def _require_entered(store: Store, archive: ArchiveId, body: bytes) -> None:
    """Require that the store's log has a manifest, if the store has a log."""
    subject = subject_of(archive.manifest_key, body)
    doubt = doubt_of_entry(store, subject, proof_key(archive.seal_key), OF_MANIFESTS)
    if doubt is None:
        return
    raise IntegrityError(
        f"the transparency log of {store} does not vouch for {archive}",
        expected=f"a proof that its manifest was entered, {proof_key(archive.seal_key)}",
        found=doubt,
        hint="Nothing was deleted or loaded. If the archive is older than the log, `airflow strongroom log adopt` reads it back "
        "and enters it. Otherwise somebody with the archiver's keys put the manifest there: find out who, and let an "
        "administrator of the bucket remove it.",
    )


def archive_ids(
    store: Store, schema_name: str | None = None, table_name: str | None = None, partition_key: str | None = None
) -> Iterator[ArchiveId]:
    """Ids of the sealed archives of all tables, one table or one partition, including those hidden by a delete marker."""
    seen = set()
    for version in store.versions(manifest_prefix(schema_name, table_name, partition_key)):
        archive = None if version.is_marker else manifest_archive_id(version.key)
        if archive is not None and archive not in seen:
            seen.add(archive)
            yield archive


def traces_of(
    store: Store, schema_name: str, table_name: str, partition_key: str, *, evidence: Iterable[str] | None = None
) -> list[ArchiveId]:
    """Archives of a partition that left a part or evidence, also those of a broken run and those that were purged; sorted.

    Args:
        evidence: Keys of the partition's evidence, if they are known.
    """
    where = (schema_name, table_name, partition_key)
    of_parts, of_evidence = partition_prefix(*where), evidence_prefix(*where)
    known = store.keys(of_evidence) if evidence is None else evidence
    folders = {key.removeprefix(of_parts).partition("/")[0] for key in store.keys(of_parts)}
    folders |= {key.removeprefix(of_evidence).partition("/")[0] for key in known}
    return sorted(filter(None, map(ArchiveId.parse_or_none, folders)))


def in_range(
    archives: Iterable[ArchiveId], first_partition: str | None, last_partition: str | None
) -> Iterator[ArchiveId]:
    """The archives whose window lies between two partitions, both included; None leaves that end open.

    Raises:
        PartitionError: A key names no partition.
    """
    start = Partition.named(first_partition).window.start if first_partition else None
    end = Partition.named(last_partition).window.end if last_partition else None
    for archive in archives:
        window = Partition.named(archive.partition_key).window
        if (start is None or window.start >= start) and (end is None or window.end <= end):
            yield archive


def require_manifest(store: Store, archive: ArchiveId) -> Manifest:
    """:func:`read_manifest`, where a missing one is an error.

    Raises:
        IntegrityError: There is no manifest, or it is damaged.
    """
    return require_attested(store, archive).manifest


def require_readable(store: Store, archive: ArchiveId) -> Manifest:
    """:func:`require_manifest` for who only reads: the replica's copy if the store's own is gone, hidden or damaged.

    The copy must be attested as well, which it is by the same log. No archive that was destroyed, or whose purge began, is read so.

    Raises:
        IntegrityError: Neither copy is sound; says what is wrong with the first one.
    """
    try:
        return require_manifest(store, archive)
    except IntegrityError:
        if is_destroyed(store, archive) or is_there(store.history(archive.purge_intent_key)):
            raise
        try:
            copy = None if store.replica is None else read_manifest(store.replica, archive)
        except StrongroomError:
            copy = None
        if copy is None:
            raise
        return copy


def require_attested(store: Store, archive: ArchiveId) -> Attested:
    """:func:`read_attested`, where a missing manifest is an error.

    Raises:
        IntegrityError: There is no manifest, or it is damaged.
    """
    found = read_attested(store, archive)
    if found is None:
        raise _missing(store, archive)
    return found


def _missing(store: Store, archive: ArchiveId) -> IntegrityError:
    if is_destroyed(store, archive):
        return IntegrityError(
            f"{archive} was destroyed",
            found=f"its certificate {store}{archive.destruction_key}",
            hint="Nothing was deleted or loaded. Its term was over; nothing of it is left to restore.",
        )
    if store.head(archive.seal_key) is not None:
        return IntegrityError(
            f"the manifest of {archive} is gone from {store}",
            expected=archive.manifest_key,
            found=f"only its copy {archive.seal_key}",
            hint="Nothing was deleted or loaded. Unless a run is sealing the archive right now, somebody removed the manifest: "
            "let an administrator of the bucket remove any delete markers on it, then write the bytes of the copy there.",
        )
    return IntegrityError(
        f"there is no archive {archive} in {store}",
        expected=archive.manifest_key,
        hint="No row was deleted. `airflow strongroom list` prints the archives that exist.",
    )


def sealed_part(store: Store, part: PlannedPart) -> VerifiedPart | None:
    """The verification record of a part whose archive is already sealed; None if it is not."""
    manifest = read_manifest(store, part.archive)
    if manifest is None:
        return None
    if part.number >= len(manifest.parts):
        raise IntegrityError(
            f"{part.archive_id} is sealed and has no part {part.number}",
            expected=f"a part below {len(manifest.parts)}",
            hint="Nothing was changed. This task's record comes from an earlier plan: clear 'plan' and the tasks after it.",
        )
    return manifest.verified_part(part.number)


def require_part_of(manifest: Manifest, part: VerifiedPart) -> None:
    """Require that a verification record describes the part that the manifest lists.

    Raises:
        IntegrityError: Object, version, sums or counts differ.
    """
    sealed = manifest.verified_part(part.number) if part.number < len(manifest.parts) else None
    if sealed is None or upload_of(sealed) != upload_of(part):
        raise IntegrityError(
            f"the verification record of {part.archive_id} part {part.number} does not agree with its manifest",
            expected="no such part"
            if sealed is None
            else f"{sealed.object_key} version {sealed.version_id} {sealed.sha256}",
            found=f"{part.object_key} version {part.version_id} {part.sha256}",
            hint="No row was deleted. Clear 'plan' and the tasks after it.",
        )


def require_object(store: Store, part: VerifiedPart) -> None:
    """Require that the version that was verified is still in the store.

    Raises:
        IntegrityError: It is gone, or it is another object.
    """
    found = store.head(part.object_key, part.version_id)
    if found is None or (found.etag, found.size_bytes) != (part.etag, part.compressed_size_bytes):
        raise IntegrityError(
            f"{store}{part.object_key} is no longer the object that was verified",
            expected=f"version {part.version_id}, {part.compressed_size_bytes} bytes, ETag {part.etag}",
            found="nothing" if found is None else f"{found.size_bytes} bytes, ETag {found.etag}",
            hint="No row was deleted. Find out who changed the store before anything else; then run the partition again.",
        )
