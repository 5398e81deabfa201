"""What a manifest says of its archive, and what makes one sound.

``docs/reference/archive-format.md`` describes each field for a reader without this code.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Field

from strongroom.calendar import FIRST_YEAR, LAST_YEAR, Partition, Window
from strongroom.errors import PartitionError
from strongroom.formats.type_names import is_type_name
from strongroom.object_keys.archives import ArchiveId
from strongroom.records import (
    PartFormat,
    Record,
    Sha256,
    SourceIdentity,
    TableShape,
    VerifiedPart,
    shape_sha256,
)

FORMAT_VERSION, WITH_LOCATORS, OF_A_UNIT = 3, 4, 5
"""What is written: version 5 where the archive belongs to a unit, version 4 where parts have locators or the archive supersedes another
one, else version 3, which differs in nothing else. Versions 1 and 2 are still read."""

_OLDER: Mapping[int, PartFormat] = {1: "jsonl", 2: "parquet"}
"""The one format of each older version."""

_SNAPSHOT = re.compile(r"[0-9]{1,20}:[0-9]{1,20}:([0-9]{1,20}(,[0-9]{1,20})*)?")
"""A snapshot as PostgreSQL writes it: the lowest and the next transaction, and those that ran."""


Count = Annotated[int, Field(ge=0, lt=1 << 63)]
"""A number of rows or bytes. A larger one is nonsense: neither PostgreSQL nor S3 counts that far, and sums would overflow."""


class ManifestPart(Record):
    """One part object, as it was verified before the manifest was written."""

    number: Count
    object_key: str
    version_id: str | None
    etag: str
    start_at: AwareDatetime
    end_at: AwareDatetime
    share: Count = 0
    shares: Count = 1
    record_count: Count
    original_size: Count
    compressed_size: Count
    original_sha256: Sha256
    sha256: Sha256
    keys_sha256: Sha256 | None = Field(
        default=None, description="Of what versions 1 and 2 kept in staging. Nothing reads it any more."
    )
    blocks_sha256: Sha256 | None = Field(default=None, description="Of the list of the part's blocks, since version 3.")
    ordered: bool = Field(
        default=False, description="Whether the rows are in the order of their date, since version 3."
    )
    snapshot: str
    extracted_at: AwareDatetime
    verified_at: AwareDatetime
    proved_rows: Count
    locator_sha256: Sha256 | None = Field(
        default=None,
        exclude_if=lambda sha256: sha256 is None,
        description="Of the part's locator, which tells whose rows may be in it. Since version 4, where the table's settings name persons.",
    )


class Succession(Record):
    """That an archive holds the rows of an earlier one without those of a person who was erased."""

    archive_id: str = Field(description="The archive that it supersedes.")
    manifest_sha256: Sha256 = Field(description="Of that one's manifest.")
    rank: int = Field(
        ge=1, description="The sequence of the first archive of the line, whose place among the others it takes."
    )
    case_id: str
    removed_rows: Count
    blanked_rows: Count


class UnitArchive(Record):
    """One of the archives that were sealed together, each with the rows of one table of the same objects."""

    archive_id: str
    record_count: Count
    checksum: Sha256 = Field(description="Of its SHA256SUMS object.")


class Manifest(Record):
    """What an archive is, where it came from and how long it must be kept. Sizes are in bytes, instants in UTC."""

    format_version: Literal[1, 2, 3, 4, 5]
    format: PartFormat = Field(
        default="jsonl", description="Format of the parts. Absent in version 1, which is always JSON lines."
    )
    archive_id: str
    table_name: str = Field(description="schema.table, as PostgreSQL names it.")
    partition_key: str
    window_start: AwareDatetime
    window_end: AwareDatetime
    table: TableShape
    shape_sha256: Sha256
    source: SourceIdentity
    record_count: Count
    original_size: Count
    compressed_size: Count
    compression_type: Literal["zstd", "gzip", "none"]
    compression_level: int | None
    checksum: Sha256 = Field(description="SHA-256 of the SHA256SUMS object, which holds the SHA-256 of each part.")
    parts: tuple[ManifestPart, ...]
    created_at: AwareDatetime
    retention_until: AwareDatetime
    legal_basis: str
    storage_class: str
    encryption: str
    dag_id: str
    run_id: str
    triggered_by: str | None = Field(
        default=None, description="Who started the run. Absent if the schedule did, and in older manifests."
    )
    software: dict[str, str]
    supersedes: Succession | None = Field(
        default=None, exclude_if=lambda earlier: earlier is None, description="Since version 4."
    )
    unit: tuple[UnitArchive, ...] = Field(
        default=(),
        exclude_if=lambda unit: not unit,
        description="All archives of one unit, itself included, the root's first; each of them says the same. Since version 5.",
    )

    @property
    def rank(self) -> int:
        """Its place among the archives of its partition: of two rows with one key, that of the higher rank is the later one."""
        return ArchiveId.parse(self.archive_id).sequence if self.supersedes is None else self.supersedes.rank

    @property
    def window(self) -> Window:
        """The window of its partition."""
        return Window(self.window_start, self.window_end)

    def to_json(self) -> bytes:
        """The bytes of the object in the store."""
        unknown: dict[str, Any] = {"format": True} if self.format_version == 1 else {}
        if self.triggered_by is None:
            unknown["triggered_by"] = True
        of_others = {"keys_sha256"} if self.format_version >= FORMAT_VERSION else {"blocks_sha256", "ordered"}
        return self.to_bytes(exclude={**unknown, "parts": {"__all__": of_others}})

    @property
    def sha256(self) -> Sha256:
        """SHA-256 of the object in the store."""
        return hashlib.sha256(self.to_json()).hexdigest()

    def verified_part(self, number: int) -> VerifiedPart:
        """The verification record of one part, as it was when the archive was sealed."""
        part = self.parts[number]
        return VerifiedPart(
            archive_id=self.archive_id,
            number=part.number,
            start_at=part.start_at,
            end_at=part.end_at,
            share=part.share,
            shares=part.shares,
            expected_rows=part.record_count,
            shape_sha256=self.shape_sha256,
            format=self.format,
            rows=part.record_count,
            original_size_bytes=part.original_size,
            original_sha256=part.original_sha256,
            compressed_sha256=part.sha256,
            blocks_sha256=part.blocks_sha256,
            ordered=part.ordered,
            snapshot=part.snapshot,
            extracted_at=part.extracted_at,
            compression_type=self.compression_type,
            compression_level=self.compression_level,
            compressed_size_bytes=part.compressed_size,
            sha256=part.sha256,
            object_key=part.object_key,
            version_id=part.version_id,
            etag=part.etag,
            verified_at=part.verified_at,
            proved_rows=part.proved_rows,
            locator_sha256=part.locator_sha256,
        )


def manifest_part(part: VerifiedPart) -> ManifestPart:
    """What a manifest says of a verified part."""
    return ManifestPart(
        number=part.number,
        object_key=part.object_key,
        version_id=part.version_id,
        etag=part.etag,
        start_at=part.start_at,
        end_at=part.end_at,
        share=part.share,
        shares=part.shares,
        record_count=part.rows,
        original_size=part.original_size_bytes,
        compressed_size=part.compressed_size_bytes,
        original_sha256=part.original_sha256,
        sha256=part.sha256,
        blocks_sha256=part.blocks_sha256,
        ordered=part.ordered,
        snapshot=part.snapshot,
        extracted_at=part.extracted_at,
        verified_at=part.verified_at,
        proved_rows=part.proved_rows,
        locator_sha256=part.locator_sha256,
    )


def format_version_of(
    parts: tuple[ManifestPart, ...], supersedes: Succession | None, unit: tuple[UnitArchive, ...] = ()
) -> Literal[3, 4, 5]:
    """The version of a manifest of such parts."""
    if unit:
        return 5
    return 4 if supersedes is not None or any(part.locator_sha256 is not None for part in parts) else 3


def sha256_sums(parts: tuple[ManifestPart, ...]) -> bytes:
    """The content of SHA256SUMS: one line a part, as ``sha256sum -c`` reads it inside the archive's folder."""
    lines = (f"{part.sha256}  {part.object_key.rpartition('/')[2]}\n" for part in parts)
    return "".join(lines).encode()


def faults_of(manifest: Manifest, archive: ArchiveId) -> Iterator[str]:
    """How a manifest contradicts itself, its archive id or the calendar; nothing if it is sound."""
    if manifest.archive_id != str(archive):
        yield f"the manifest of {manifest.archive_id}"
        return
    yield from _faults_of_format(manifest)
    yield from _faults_of_succession(manifest, archive)
    yield from _faults_of_unit(manifest, archive)
    yield from _faults_of_place(manifest, archive)
    yield from _faults_of_table(manifest)
    yield from _faults_of_parts(manifest, archive)


def _faults_of_format(manifest: Manifest) -> Iterator[str]:
    """Version 1 has no field for the format; version 2 was used only for formats that need one."""
    version = manifest.format_version
    if version == 1 and "format" in manifest.model_fields_set:
        yield "a format, which version 1 does not have"
    elif _OLDER.get(version, manifest.format) != manifest.format:
        yield f"parts of format {manifest.format} in version {version}"
    for part in manifest.parts:
        if (part.blocks_sha256 is None) != (part.keys_sha256 is not None) or (part.keys_sha256 is None) != (
            version >= FORMAT_VERSION
        ):
            yield f"part {part.number} without the sum that version {version} has, or with another one"
    if bool(manifest.unit) != (version == OF_A_UNIT):
        yield f"{'a' if manifest.unit else 'no'} unit in version {version}"
    has_more = format_version_of(manifest.parts, manifest.supersedes) == WITH_LOCATORS
    if has_more != (version == WITH_LOCATORS):
        yield f"{'' if has_more else 'no '}locators or succession in version {version}"


def _faults_of_succession(manifest: Manifest, archive: ArchiveId) -> Iterator[str]:
    """An archive supersedes an earlier one of its own partition."""
    if manifest.supersedes is None:
        return
    earlier = ArchiveId.parse_or_none(manifest.supersedes.archive_id)
    if earlier is None or replace(earlier, sequence=archive.sequence) != archive or earlier >= archive:
        yield f"a succession to {manifest.supersedes.archive_id}, which is not an earlier archive of its partition"
    elif manifest.supersedes.rank > earlier.sequence:
        yield "a rank that is higher than the sequence of the archive that it supersedes"


def _faults_of_unit(manifest: Manifest, archive: ArchiveId) -> Iterator[str]:
    """An archive of a unit names itself as it is, and others of the same partition. Without a unit, a row is dated by itself."""
    others = [ArchiveId.parse_or_none(one.archive_id) for one in manifest.unit]
    own = UnitArchive(archive_id=manifest.archive_id, record_count=manifest.record_count, checksum=manifest.checksum)
    if manifest.unit and own not in manifest.unit:
        yield "a unit that does not name the archive as it is"
    elif len(
        {one.table_folder for one in others if one is not None and one.partition_key == archive.partition_key}
    ) != len(others):
        yield "a unit of anything but one archive of its partition for each table"
    if manifest.table.dated_through and not manifest.unit:
        yield "rows that rows of another table date, without a unit"


def _faults_of_place(manifest: Manifest, archive: ArchiveId) -> Iterator[str]:
    """Where the table, partition and window differ from those of the archive id."""
    schema_name, table_name = archive.schema_name, archive.table_name
    if (manifest.table.schema_name, manifest.table.table_name) != (schema_name, table_name):
        yield f"another table in table: {manifest.table.schema_name}.{manifest.table.table_name}"
    if manifest.table_name != f"{schema_name}.{table_name}":
        yield f"another table in table_name: {manifest.table_name}"
    if manifest.partition_key != archive.partition_key:
        yield f"another partition in partition_key: {manifest.partition_key}"
    try:
        window = Partition.named(archive.partition_key).window
    except PartitionError as error:
        yield error.what
        return
    if (manifest.window_start, manifest.window_end) != (window.start, window.end):
        yield f"a window that is not that of {archive.partition_key}"
    for field, last_year in (("created_at", LAST_YEAR), ("retention_until", LAST_YEAR + 1)):
        instant = getattr(manifest, field)
        if instant.utcoffset() or not FIRST_YEAR <= instant.year <= last_year:
            yield f"a {field} that is not in UTC, or that no calendar has"
    if manifest.retention_until <= manifest.window_end:
        yield "a retention_until that is not after its window"


def _faults_of_table(manifest: Manifest) -> Iterator[str]:
    """What could not go into an SQL statement, or does not match the shape's SHA-256."""
    columns = manifest.table.columns
    names = [column.name for column in columns]
    for column in columns:
        for field, text in (("type", column.type), ("base_type", column.base_type)):
            if not is_type_name(text):
                yield f"no name of a type in the {field} of column {column.name!r}"
    if len(set(names)) != len(names) or any(not name or "\0" in name for name in names):
        yield "columns whose names are not names, or not each its own"
    if not manifest.table.primary_key or not {*manifest.table.primary_key, *_own_columns(manifest.table)} <= set(names):
        yield "a primary key or date column that is none of its columns"
    if shape_sha256(manifest.table) != manifest.shape_sha256:
        yield "a table that does not give its shape_sha256"


def _own_columns(table: TableShape) -> tuple[str, ...]:
    """The columns of the table that date its rows, or lead to the row that does."""
    return table.dated_through[0].columns if table.dated_through else (table.date_column,)


def _faults_of_parts(manifest: Manifest, archive: ArchiveId) -> Iterator[str]:
    parts = manifest.parts
    if not parts or [part.number for part in parts] != list(range(len(parts))):
        yield "parts that are not numbered 0, 1, 2, …"
    for part in parts:
        if part.object_key != archive.part_key(part.number, manifest.compression_type, manifest.format):
            yield f"part {part.number} at {part.object_key}, not in the archive's own folder and of its own name"
        if not manifest.window_start <= part.start_at < part.end_at <= manifest.window_end:
            yield f"part {part.number} with a slice outside the window"
        if _SNAPSHOT.fullmatch(part.snapshot) is None:
            yield f"part {part.number} with a snapshot that is none"
        if part.share >= part.shares:
            yield f"part {part.number} that is share {part.share} of {part.shares}"
    for field in ("record_count", "original_size", "compressed_size"):
        if getattr(manifest, field) != sum(getattr(part, field) for part in parts):
            yield f"a {field} that is not the sum of its parts"
    if hashlib.sha256(sha256_sums(parts)).hexdigest() != manifest.checksum:
        yield "sums of parts that do not give its checksum"
