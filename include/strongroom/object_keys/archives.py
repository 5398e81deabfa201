"""Keys of an archive: its parts, its manifest, its evidence; and what the keys of evidence alone tell of archives."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import unquote

from strongroom.calendar import Partition
from strongroom.errors import PartitionError, StrongroomError
from strongroom.object_keys.layout import ARCHIVES, exact_instant, narrowed, table_folder
from strongroom.object_keys.records import claim_key, evidence_prefix

_PURGE_INTENT, _DESTRUCTION = "purge-intent.json", "destruction.json"

_SEAL, _CONDEMNATION, _SWEEP, _SUCCESSION = "sealed.json", "condemned.json", "swept.json", "succession.json"

_NAME = "[A-Za-z0-9_%-]+"

_ARCHIVE_ID = re.compile(
    rf"(?P<schema>{_NAME})\.(?P<table>{_NAME})\.(?P<key>[0-9]{{4}}-[0-9W-]{{2,5}})\.(?P<sequence>[0-9]{{4,9}})"
)

_SUFFIXES = {"zstd": ".jsonl.zst", "gzip": ".jsonl.gz", "none": ".jsonl"}
"""File name endings of a part of JSON lines by compression type."""


class ArchiveIdError(StrongroomError):
    """The text is not an archive id."""

    code = "SR-103"


@dataclass(frozen=True, order=True)
class ArchiveId:
    """Names one archive: ``public.audit_events.2026-07.0001``.

    ``str()`` writes it and :meth:`parse` reads it back; the names inside are encoded as the module says.
    """

    schema_name: str
    table_name: str
    partition_key: str
    sequence: int

    def __str__(self) -> str:
        return f"{table_folder(self.schema_name, self.table_name)}.{self.partition_key}.{self.sequence:04d}"

    @classmethod
    def parse(cls, text: str) -> ArchiveId:
        """Read an archive id as :meth:`__str__` writes it.

        Raises:
            ArchiveIdError: The text has another form.
        """
        archive = cls.parse_or_none(text)
        if archive is None:
            raise ArchiveIdError(
                f"{text[:300]!r} is not an archive id",
                expected="<schema>.<table>.<partition key>.<sequence>, such as public.audit_events.2026-07.0001",
                hint="Nothing was read. `airflow strongroom list` prints the ids that exist.",
            )
        return archive

    @classmethod
    def parse_or_none(cls, text: str) -> ArchiveId | None:
        """:meth:`parse` for a text that may not be an archive id. Each id has only one spelling."""
        found = _ARCHIVE_ID.fullmatch(text)
        if found is None:
            return None
        archive = cls(unquote(found["schema"]), unquote(found["table"]), found["key"], int(found["sequence"]))
        return archive if str(archive) == text else None

    @property
    def claim_key(self) -> str:
        """Key of the claim on its partition."""
        return claim_key(self.schema_name, self.table_name, self.partition_key)

    @property
    def table_folder(self) -> str:
        """``public.audit_events``, encoded."""
        return table_folder(self.schema_name, self.table_name)

    @property
    def archive_prefix(self) -> str:
        """Key prefix of the archive's parts and SHA256SUMS, with its final slash."""
        return f"{partition_prefix(self.schema_name, self.table_name, self.partition_key)}{self}/"

    @property
    def manifest_key(self) -> str:
        """Key of the manifest."""
        return f"{manifest_prefix(self.schema_name, self.table_name, self.partition_key)}{self}.json"

    @property
    def sums_key(self) -> str:
        """Key of the file that ``sha256sum -c`` reads."""
        return f"{self.archive_prefix}SHA256SUMS"

    @property
    def report_key(self) -> str:
        """Key of the run's report."""
        return f"reports/{self.table_folder}/{self.partition_key}/{self}.json"

    def part_key(self, number: int, compression_type: str, format: str = "jsonl") -> str:
        """Key of one part."""
        return f"{self.archive_prefix}{part_file(number, compression_type, format)}"

    def locator_key(self, number: int) -> str:
        """Key of the filter that tells whose rows may be in one part."""
        return f"{self.archive_prefix}locator-{number:05d}.zst"

    @property
    def evidence_prefix(self) -> str:
        """Key prefix of all evidence of the archive, with its final slash."""
        return f"{evidence_prefix(self.schema_name, self.table_name, self.partition_key)}{self}/"

    def delete_evidence_key(self, number: int) -> str:
        """Key of the record that one part's rows were deleted."""
        return f"{self.evidence_prefix}delete-{part_name(number)}.json"

    @property
    def kept_rows_prefix(self) -> str:
        """Key prefix of all annexes of :meth:`kept_rows_key`."""
        return f"{self.archive_prefix}kept-"

    def kept_rows_key(self, number: int, attempt: int = 1) -> str:
        """Key of the annex that lists the rows of one part that a delete left in the table. It lies among the parts, so a purge takes it along."""
        return f"{self.kept_rows_prefix}{part_name(number)}{f'.{attempt}' if attempt > 1 else ''}.json"

    @property
    def detach_evidence_key(self) -> str:
        """Key of the record of the table partitions that were detached with the archive's rows in them."""
        return f"{self.evidence_prefix}detach.json"

    def drop_evidence_key(self, oid: int, at: datetime) -> str:
        """Key of the record that one of these partitions was dropped."""
        return f"{self.drop_evidence_prefix}{oid}-{exact_instant(at)}.json"

    @property
    def drop_evidence_prefix(self) -> str:
        """Key prefix of all of these records."""
        return f"{self.evidence_prefix}dropped-"

    @property
    def seal_key(self) -> str:
        """Key of the copy of the manifest that is written just before it."""
        return f"{self.evidence_prefix}{_SEAL}"

    @property
    def sweep_key(self) -> str:
        """Key of the record that the unsealed parts were swept away."""
        return f"{self.evidence_prefix}{_SWEEP}"

    @property
    def condemnation_key(self) -> str:
        """Key of the record that the archive was condemned."""
        return f"{self.evidence_prefix}{_CONDEMNATION}"

    @property
    def succession_key(self) -> str:
        """Key of the record that the archive holds the rows of an earlier one without those of a person."""
        return f"{self.evidence_prefix}{_SUCCESSION}"

    @property
    def purge_intent_key(self) -> str:
        """Key of the record that a purge of the archive has begun."""
        return f"{self.evidence_prefix}{_PURGE_INTENT}"

    @property
    def destruction_key(self) -> str:
        """Key of the certificate that the archive was destroyed."""
        return f"{self.evidence_prefix}{_DESTRUCTION}"


def part_file(number: int, compression_type: str, format: str) -> str:
    """Name of one part's file, in the store and in staging. Parquet is compressed inside, so its name does not say how."""
    return f"{part_name(number)}{'.parquet' if format == 'parquet' else _SUFFIXES[compression_type]}"


def part_name(number: int) -> str:
    """File name of a part without its ending: ``part-00000``."""
    return f"part-{number:05d}"


def partition_prefix(schema_name: str, table_name: str, partition_key: str) -> str:
    """Key prefix of all archives of one partition, sealed or not."""
    return f"{ARCHIVES}{table_folder(schema_name, table_name)}/partition={partition_key}/"


def manifest_prefix(
    schema_name: str | None = None, table_name: str | None = None, partition_key: str | None = None
) -> str:
    """Key prefix of manifests: of all, of one table, or of one partition."""
    return narrowed("metadata/", schema_name, table_name, partition_key)


def manifest_archive_id(key: str) -> ArchiveId | None:
    """The archive whose manifest has this key below ``metadata/``; None for any other object there."""
    folder, _, name = key.rpartition("/")
    archive = ArchiveId.parse_or_none(name.removesuffix(".json"))
    if not folder or archive is None or archive.manifest_key != key or not _has_partition(archive):
        return None
    return archive


def _has_partition(archive: ArchiveId) -> bool:
    """Whether a run can have written it: there is no month 2026-99."""
    try:
        Partition.named(archive.partition_key)
    except PartitionError:
        return False
    return True


def stored_archive_id(key: str) -> ArchiveId | None:
    """The archive whose part or SHA256SUMS has this key below ``archives/``; None for any other object there."""
    folder, _, _ = key.rpartition("/")
    archive = ArchiveId.parse_or_none(folder.rpartition("/")[2])
    return archive if archive is not None and key.startswith(archive.archive_prefix) else None


def unfinished_purges(evidence_keys: Iterable[str]) -> list[ArchiveId]:
    """Archives whose evidence says that a purge began, and not that it ended; sorted."""
    return _with_evidence(evidence_keys, _PURGE_INTENT, ended=(_DESTRUCTION,))


def sealed_and_kept(evidence_keys: Iterable[str]) -> list[ArchiveId]:
    """Archives whose evidence says that they were sealed, and not that they were destroyed; sorted."""
    return _with_evidence(evidence_keys, _SEAL, ended=(_DESTRUCTION,))


def emptied_and_kept(evidence_keys: Iterable[str]) -> list[ArchiveId]:
    """Archives whose evidence says that rows left the database, and not that a purge began; sorted.

    The rows of an archive that supersedes another one left it because of that one.
    """
    return _with_evidence(evidence_keys, "delete-", "detach.json", _SUCCESSION, ended=(_PURGE_INTENT, _DESTRUCTION))


def certified(evidence_keys: Iterable[str]) -> list[ArchiveId]:
    """Archives whose evidence has a certificate of destruction; sorted."""
    return _with_evidence(evidence_keys, _DESTRUCTION, ended=())


def _with_evidence(evidence_keys: Iterable[str], *wanted: str, ended: tuple[str, ...]) -> list[ArchiveId]:
    """Archives with a record whose name begins with one text, and none that begins with another; sorted."""
    found: set[ArchiveId] = set()
    over: set[ArchiveId] = set()
    for key in evidence_keys:
        folder, _, name = key.rpartition("/")
        if name.startswith((*wanted, *ended)):
            archive = ArchiveId.parse_or_none(folder.rpartition("/")[2])
            if archive is not None and f"{folder}/" == archive.evidence_prefix and _has_partition(archive):
                (found if name.startswith(wanted) else over).add(archive)
    return sorted(found - over)
