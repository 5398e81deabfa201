"""Give an archive a successor without a person's rows, and prove it.

Parts without such rows are copied byte for byte; the others are written again, in the archive's own format. Then everything is read
back from the store, the archive and its successor side by side: each row must be there as it was, or blanked just so, or be one of the
person's. Only then is the successor sealed. The archive itself stays until its cooling-off is over.

The order makes it safe to break off anywhere: before the seal nobody uses the successor, and after it nobody needs the archive.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime
from itertools import zip_longest

from strongroom.archive.upload import put_part
from strongroom.erasure.cases import keep
from strongroom.erasure.find import suspects, unfinished
from strongroom.erasure.rows import PersonRows, Wanted, split_rows
from strongroom.erasure.successions import PartSuccession, SuccessionRecord, read_succession
from strongroom.errors import ContendedError, IntegrityError
from strongroom.formats.blocks import cut_into_blocks
from strongroom.formats.codecs import Codec
from strongroom.formats.persons import LocatorWriter, Persons
from strongroom.ledger.claims import KeepClaim
from strongroom.ledger.entries import of_archive
from strongroom.ledger.holds import covering, holds_in_force
from strongroom.ledger.manifest_record import (
    Manifest,
    Succession,
    format_version_of,
    manifest_part,
    sha256_sums,
)
from strongroom.ledger.manifests import manifest_exists, parse_manifest, read_manifest, require_manifest, traces_of
from strongroom.ledger.object_lock import lock_archive
from strongroom.ledger.sealing import software_versions, write_sealed
from strongroom.object_keys.archives import ArchiveId
from strongroom.object_keys.records import evidence_prefix
from strongroom.records import RunIdentity, VerifiedPart
from strongroom.settings import TableSettings
from strongroom.storage.staging import Staging
from strongroom.storage.store import Store
from strongroom.tables.archived_rows import archived_texts

_HINT = "Nothing was removed, and the archive is as it was. Clear the task; if it happens again, please report the column types."


class Superseding:
    """Gives archives of one table their successors, for one case.

    Args:
        store: That has them.
        staging: Opens the staging of an archive by its id.
        settings: Of the table.
        wanted: Whose rows go.
        persons: Makes the locators of the successors. Its list of suppressed values proves once more that no such row is left.
        case_id: Of the case.
        run: Which Airflow run this is.
        clock: Returns the current instant.
    """

    def __init__(
        self,
        store: Store,
        staging: Callable[[str], AbstractContextManager[Staging]],
        settings: TableSettings,
        wanted: Wanted,
        persons: Persons,
        *,
        case_id: str,
        run: RunIdentity,
        clock: Callable[[], datetime],
    ) -> None:
        self._store, self._staging, self._settings, self._wanted = store, staging, settings, wanted
        self._persons, self._case_id, self._run, self._clock = persons, case_id, run, clock

    def supersede(self, archive: ArchiveId, keep_claim: KeepClaim) -> SuccessionRecord:
        """Make, prove and seal the successor of an archive. A repeat finishes the one that an earlier try began.

        Args:
            archive: Whose rows left the table.
            keep_claim: Keeps the claim on its partition.

        Raises:
            IntegrityError: A part is not what was archived, or the successor is not what it should be.
            ContendedError: The archive is still being worked on, or the claim was lost.
            ErasureError: A value cannot be blanked.
        """
        earlier = require_manifest(self._store, archive)
        if (working := unfinished(self._store, earlier)) is not None:
            raise _contended(archive, working)
        begun = self._begun(archive, earlier)
        new = ArchiveId.parse(begun.archive_id) if begun is not None else self._next(archive)
        with self._staging(str(new)) as staging:
            if begun is None:
                theirs = {part.number for part in suspects(self._store, earlier, self._wanted)}
                parts = [
                    self._write(staging, earlier, part.number, new, keep_claim, suspect=part.number in theirs)
                    for part in earlier.parts
                ]
            else:
                parts = [begun.verified_part(number) for number in range(len(begun.parts))]
            proved = [
                self._prove(staging, earlier.verified_part(part.number), part, earlier, keep_claim) for part in parts
            ]
            manifest = begun or self._manifest(earlier, new, parts, proved)
            self._require_counts(manifest, earlier, proved)
            self._seal(manifest, archive, keep_claim)
            record = self._record(manifest, earlier, proved)
            staging.clear()
        return record

    def _begun(self, archive: ArchiveId, earlier: Manifest) -> Manifest | None:
        """The successor that an earlier try sealed or was about to seal. It is proved again before it is believed."""
        where = (archive.schema_name, archive.table_name, archive.partition_key)
        for key in self._store.keys(evidence_prefix(*where)):
            other = ArchiveId.parse_or_none(key.rpartition("/")[0].rpartition("/")[2])
            if other is None or key != other.seal_key or other <= archive:
                continue
            copy = self._store.read(key)
            manifest = None if copy is None else parse_manifest(self._store, other, copy[0])
            succession = manifest.supersedes if manifest is not None else None
            if succession is not None and succession.archive_id == str(archive):
                if (succession.manifest_sha256, succession.case_id) != (earlier.sha256, self._case_id):
                    raise _contended(archive, f"{other} supersedes it for case {succession.case_id}")
                return manifest
        return None

    def _next(self, archive: ArchiveId) -> ArchiveId:
        """An id that nothing in the store has a trace of."""
        where = (archive.schema_name, archive.table_name, archive.partition_key)
        return ArchiveId(*where, max(one.sequence for one in (archive, *traces_of(self._store, *where))) + 1)

    def _write(
        self,
        staging: Staging,
        earlier: Manifest,
        number: int,
        new: ArchiveId,
        keep_claim: KeepClaim,
        *,
        suspect: bool,
    ) -> VerifiedPart:
        """Write one part of the successor to the store."""
        keep_claim()
        part = earlier.verified_part(number)
        if suspect or part.blocks_sha256 is None:  # older versions are written in the present form
            facts = self._rewrite(staging, earlier, part)
        else:
            facts = self._copy(staging, part)
        path = staging.of_store(number, part.compression_type, part.format)
        told = {"archive_id": str(new), "expected_rows": facts["rows"], "locator_sha256": None}
        ready = VerifiedPart.model_validate({**part.model_dump(), **facts, **told})
        version = put_part(self._store, path, ready)
        place = {"object_key": version.key, "version_id": version.version_id, "etag": version.etag}
        return ready.model_copy(update=place)

    def _rewrite(self, staging: Staging, earlier: Manifest, part: VerifiedPart) -> dict[str, object]:
        from strongroom.formats.part_writer import part_files  # it imports Arrow

        shape = earlier.table
        rows = PersonRows(shape, self._settings.subjects, self._wanted)
        codec = Codec(part.compression_type, part.compression_level)
        date = [column.name for column in shape.columns].index(shape.date_column) if part.ordered else None
        path = staging.of_store(part.number, part.compression_type, part.format)
        with (
            staging.writing(path, staging.blocks(part.number)) as [handle, blocks],
            part_files(shape, part.format, codec, handle, blocks) as written,
        ):
            texts = archived_texts(self._store, staging.folder, shape, part, hint=_HINT)
            for block in cut_into_blocks(_kept(texts, rows), date, part.end_at.isoformat()):
                written.add(block)
        packed = written.packed
        assert packed is not None  # noqa: S101 - the files are complete
        return {
            "rows": written.rows,
            "original_size_bytes": written.size_bytes,
            "original_sha256": written.original_sha256.hexdigest(),
            "blocks_sha256": written.blocks_sha256.hexdigest(),
            "compressed_size_bytes": packed.size_bytes,
            "compressed_sha256": packed.sha256,
            "sha256": packed.sha256,
        }

    def _copy(self, staging: Staging, part: VerifiedPart) -> dict[str, object]:
        path, found = staging.of_store(part.number, part.compression_type, part.format), hashlib.sha256()
        with staging.writing(path) as [handle]:
            for chunk in self._store.chunks(part.object_key, part.version_id):
                found.update(chunk)
                handle.write(chunk)
        if found.hexdigest() != part.sha256:
            raise IntegrityError(
                f"{self._store}{part.object_key} is not what was archived",
                expected=part.sha256,
                found=found.hexdigest(),
                hint=_HINT,
            )
        return {"rows": part.rows, "sha256": part.sha256}

    def _prove(
        self, staging: Staging, earlier: VerifiedPart, part: VerifiedPart, manifest: Manifest, keep_claim: KeepClaim
    ) -> tuple[PartSuccession, str]:
        """Read both parts from the store side by side. Returns what was compared, and the SHA-256 of the new locator."""
        shape = manifest.table
        rows = PersonRows(shape, self._settings.subjects, self._wanted)
        locating = LocatorWriter(
            shape, "parquet", self._persons, rows=part.rows
        )  # canonical texts, as those of parquet
        old = split_rows(archived_texts(self._store, staging.folder, shape, earlier, hint=_HINT))
        new = locating.watch(archived_texts(self._store, staging.folder, shape, part, hint=_HINT))
        fates: Counter[str] = Counter()
        wanted = _expected(old, rows, fates)
        for number, (expected, found) in enumerate(zip_longest(wanted, split_rows(new))):
            if expected != found:
                raise IntegrityError(
                    f"part {part.number} of {part.archive_id} is not {earlier.archive_id} without the person's rows",
                    expected="the same row" if expected is not None else "no further row",
                    found=f"another one in place {number}" if found is not None else f"no row in place {number}",
                    hint=_HINT,
                )
            if number % 100_000 == 0:
                keep_claim()
        locating.require_none_suppressed(f"{part.archive_id} part {part.number}")
        body = locating.locator.to_bytes()
        self._store.put_bytes(part.archive.locator_key(part.number), body, content_type="application/zstd")
        compared = PartSuccession(
            number=part.number,
            earlier_rows=fates.total(),
            kept=fates.total() - fates["removed"],
            removed=fates["removed"],
            blanked=fates["blanked"],
            earlier_sha256=earlier.sha256,
            sha256=part.sha256,
        )
        return compared, hashlib.sha256(body).hexdigest()

    def _manifest(
        self,
        earlier: Manifest,
        new: ArchiveId,
        parts: Iterable[VerifiedPart],
        proved: Iterable[tuple[PartSuccession, str]],
    ) -> Manifest:
        now = self._clock()
        described = tuple(
            manifest_part(part.model_copy(update={"locator_sha256": locator, "verified_at": now}))
            for part, (_, locator) in zip(parts, proved, strict=True)
        )
        compared = [one for one, _ in proved]
        succession = Succession(
            archive_id=earlier.archive_id,
            manifest_sha256=earlier.sha256,
            rank=earlier.rank,
            case_id=self._case_id,
            removed_rows=sum(one.removed for one in compared),
            blanked_rows=sum(one.blanked for one in compared),
        )
        return earlier.model_copy(
            update={
                "format_version": format_version_of(described, succession),
                "archive_id": str(new),
                "record_count": sum(part.record_count for part in described),
                "original_size": sum(part.original_size for part in described),
                "compressed_size": sum(part.compressed_size for part in described),
                "checksum": hashlib.sha256(sha256_sums(described)).hexdigest(),
                "parts": described,
                "created_at": now,
                "storage_class": self._settings.store.storage_class,
                "encryption": self._settings.store.sse,
                "dag_id": self._run.dag_id,
                "run_id": self._run.run_id,
                "triggered_by": self._run.triggered_by,
                "software": software_versions(),
                "supersedes": succession,
            }
        )

    def _require_counts(
        self, manifest: Manifest, earlier: Manifest, proved: Iterable[tuple[PartSuccession, str]]
    ) -> None:
        """Kept and removed rows are all rows, for each part and as the manifest says."""
        compared = [one for one, _ in proved]
        succession = manifest.supersedes
        expected = [
            (part.record_count, part.record_count - one.removed)
            for part, one in zip(earlier.parts, compared, strict=True)
        ]
        found = [(one.earlier_rows, part.record_count) for part, one in zip(manifest.parts, compared, strict=True)]
        removed = sum(one.removed for one in compared), sum(one.blanked for one in compared)
        if (
            expected != found
            or succession is None
            or (succession.removed_rows, succession.blanked_rows) != removed
            or [part.locator_sha256 for part in manifest.parts] != [locator for _, locator in proved]
        ):
            raise IntegrityError(
                f"the manifest of {manifest.archive_id} does not say what was found in its parts",
                expected=f"rows of each part before and after: {expected}",
                found=str(found),
                hint=_HINT,
            )

    def _seal(self, manifest: Manifest, archive: ArchiveId, keep_claim: KeepClaim) -> None:
        new = ArchiveId.parse(manifest.archive_id)
        if not manifest_exists(self._store, new) or read_manifest(self._store, new) is None:
            write_sealed(
                self._store, self._settings, manifest, check=lambda: self._require_free(archive, new, keep_claim)
            )
        if self._settings.store.object_lock != "off":
            lock_archive(self._store, manifest, mode=self._settings.store.object_lock, now=self._clock())

    def _require_free(self, archive: ArchiveId, new: ArchiveId, keep_claim: KeepClaim) -> None:
        """Check that nobody works on the partition, that no hold was placed, and that the new parts were not swept away."""
        keep_claim()
        if holding := covering(holds_in_force(self._store), archive):
            raise _contended(archive, "; ".join(map(str, holding)))
        if self._store.head(new.sweep_key) is not None:
            raise _contended(archive, f"the parts of {new} were swept away")
        require_manifest(self._store, archive)

    def _record(
        self, manifest: Manifest, earlier: Manifest, proved: Iterable[tuple[PartSuccession, str]]
    ) -> SuccessionRecord:
        archive = ArchiveId.parse(manifest.archive_id)
        if (present := read_succession(self._store, archive)) is None:
            proved_at = self._clock()
            present = SuccessionRecord(
                archive_id=manifest.archive_id,
                manifest_sha256=manifest.sha256,
                supersedes=earlier.archive_id,
                superseded_sha256=earlier.sha256,
                case_id=self._case_id,
                parts=tuple(one for one, _ in proved),
                proved_at=proved_at,
                proved_by=self._run,
                remove_after=self._settings.erasure.cooling_off.after(proved_at),
            )
        facts = {
            "supersedes": present.supersedes,
            "case": present.case_id,
            "removed_rows": present.removed_rows,
            "blanked_rows": present.blanked_rows,
        }
        keep(self._store, archive.succession_key, present, of_archive(archive, "superseded", facts=facts))
        return present


def _kept(texts: Iterable[bytes], rows: PersonRows) -> Iterator[bytes]:
    """What stays of canonical texts, without the last newline of each batch."""
    for some in texts:
        if kept := [*_expected(some.removesuffix(b"\n").split(b"\n"), rows, Counter())]:
            yield b"\n".join(kept)


def _expected(rows: Iterable[bytes], person: PersonRows, fates: Counter[str]) -> Iterator[bytes]:
    """The rows that stay, as they stay. Counts what became of each."""
    for row in rows:
        fate = person.fate(row)
        fates[fate] += 1
        if fate != "removed":
            yield person.blanked(row) if fate == "blanked" else row


def _contended(archive: ArchiveId, found: str) -> ContendedError:
    return ContendedError(
        f"{archive} cannot be superseded now",
        found=found,
        hint="Nothing was removed. The task tries again by itself; if it keeps failing, clear it when that has ended.",
    )
