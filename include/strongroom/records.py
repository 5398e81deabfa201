"""The small records that travel between the steps of one run.

Each step returns the record of the step before it with its own findings added, so the type of a record says how far a
part has come: only :class:`VerifiedPart` opens the way to a DELETE. All of them go through XCom as JSON and hold no row.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from datetime import date, datetime, time, timezone
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from strongroom.calendar import Window
from strongroom.errors import IntegrityError
from strongroom.object_keys.archives import ArchiveId

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
"""A SHA-256 in lower-case hex, 64 characters."""


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


def _in_utc(value: datetime) -> datetime:
    """The same instant in UTC: the dates of rows have no other zone."""
    try:
        return value.astimezone(timezone.utc)
    except OverflowError:
        raise ValueError("an instant outside the calendar") from None


Instant = Annotated[AwareDatetime, BeforeValidator(_instant), AfterValidator(_in_utc)]
"""An instant that a person gave: a date is its midnight, and what has no zone is UTC."""


class Record(BaseModel):
    """A frozen record that refuses unknown fields. Its errors do not quote the value, which may name rows."""

    # JSON has no infinity: a number beyond all floats would be written as null, and not be read again.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)

    def to_bytes(self, *, exclude: Mapping[str, Any] | None = None) -> bytes:
        """The record as the store keeps it: indented JSON that ends with a newline."""
        return self.model_dump_json(indent=2, exclude=dict(exclude or {})).encode() + b"\n"


Salt = Annotated[str | None, Field(exclude_if=lambda salt: salt is None)]
"""In records with words about people: random, so that nobody can guess the record from its hash in the transparency log. None in
records of the first versions."""


def make_salt() -> str:
    """A new salt, 32 random bytes as hex."""
    return secrets.token_hex(32)


RecordKind = TypeVar("RecordKind", bound=Record)


def parse_record(kind: type[RecordKind], body: bytes, *, where: str, what: str, hint: str) -> RecordKind:
    """Read a record from JSON that somebody may have damaged.

    Args:
        kind: Of the record.
        body: JSON.
        where: The object or file that it lies in.
        what: What it should be: "a sound claim".
        hint: Of the error.

    Raises:
        IntegrityError: It is no such record; says which field is wrong, and not what it holds.
    """
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        problem = error.errors(include_input=False, include_url=False)[0]
        found = f"{'.'.join(map(str, problem['loc'])) or 'the document'}: {problem['msg']}"
    raise IntegrityError(f"{where} is not {what}", expected=f"a record of kind {kind.__name__}", found=found, hint=hint)


class RunIdentity(Record):
    """Which Airflow run does the work; the claim's owner and a field of all evidence."""

    dag_id: str
    run_id: str
    triggered_by: str | None = Field(
        default=None, description="Airflow's name of the user who started the run; None where the schedule did."
    )

    def __str__(self) -> str:
        return f"{self.dag_id} {self.run_id}"


def name_both(who: str, triggered_by: str | None) -> str:
    """Who asked for something, and who started the run if that is another name."""
    return who if triggered_by in (None, who) else f"{who} (started by {triggered_by})"


class Composite(Record):
    """A composite type. Its text does not name the attributes; only their order tells which value belongs to which."""

    type: str = Field(description="Its name as format_type() writes it.")
    attributes: tuple[tuple[str, str], ...] = Field(description="Name and type of each, in order.")


class Column(Record):
    """One column as the archive holds it."""

    name: str
    type: str = Field(description="The type as format_type() writes it, domains included, with its modifier.")
    base_type: str = Field(
        description="The same with domains replaced by what they stand on; the value is read back as this."
    )
    encoding: Literal["json", "jsonb", "array", "text"] = Field(
        description="How a JSON line holds the value: see docs/reference/archive-format.md."
    )
    nullable: bool = True
    generated: bool = False
    identity: bool = False
    composites: tuple[Composite, ...] | None = Field(
        default=None,
        exclude_if=lambda composites: composites is None,
        description="Each composite type in it, at any depth. Not there where there is none, and in older archives.",
    )


class ForeignKey(Record):
    """The foreign key that leads from a row to the row of another table that it belongs to."""

    name: str
    columns: tuple[str, ...]
    parent: str = Field(description="schema.table of that row.")
    parent_columns: tuple[str, ...] = Field(description="In the same order.")


class TableShape(Record):
    """What the archive must know of a table to read its rows back."""

    schema_name: str
    table_name: str
    date_column: str = Field(description="Of the last table of `dated_through`, if there is one.")
    date_type: Literal["date", "timestamp", "timestamptz"]
    primary_key: tuple[str, ...]
    columns: tuple[Column, ...]
    well_known_types: bool = Field(
        description="False when a type from outside PostgreSQL occurs; then each row is proved, not a sample."
    )
    dated_through: tuple[ForeignKey, ...] = Field(
        default=(),
        exclude_if=lambda path: not path,
        description="Where another table's row dates a row: the foreign keys that lead there. Since version 5.",
    )


class SourceIdentity(Record):
    """Which database the rows come from."""

    system_identifier: str | None = Field(
        description="From pg_control_system(); None where the server has none to tell."
    )
    database: str
    database_oid: int
    server_version: str


class Exclusion(Record):
    """Rows of the window that stay where they are, and why."""

    reason: Literal["referenced", "no_date", "no_parent"]
    detail: str
    rows: int


class PlannedPart(Record):
    """One slice ``[start, end)`` of the window, or a share of it, to become one object."""

    archive_id: str
    number: int = Field(ge=0)
    start_at: AwareDatetime
    end_at: AwareDatetime
    share: int = Field(default=0, ge=0, description="Which of the shares of its slice it is.")
    shares: int = Field(
        default=1, ge=1, description="Into how many a slice is cut by its rows' keys that time cuts no further."
    )
    ordered: bool = Field(
        default=False,
        description="Whether its rows are read in the order of their date, to be deleted by ranges of it.",
    )
    expected_rows: int = Field(ge=0)
    shape_sha256: Sha256 = Field(description="Digest of the table's shape at planning time.")

    @property
    def window(self) -> Window:
        """The slice as a window."""
        return Window(self.start_at, self.end_at)

    @property
    def archive(self) -> ArchiveId:
        """The archive it belongs to."""
        return ArchiveId.parse(self.archive_id)


PartFormat = Literal["jsonl", "parquet"]
"""What a part's rows are written as."""

CompressionType = Literal["zstd", "gzip", "none"]
"""What a part is compressed with."""


class Packed(Record):
    """A compressed file, as it was written."""

    compression_type: CompressionType
    compression_level: int | None
    size_bytes: int = Field(ge=0)
    sha256: Sha256


class ExtractedPart(PlannedPart):
    """A part whose rows lie in staging as compressed JSON lines or as parquet, and beside them their blocks."""

    format: PartFormat = "jsonl"
    rows: int = Field(ge=0)
    original_size_bytes: int = Field(
        ge=0,
        description="Of the JSON lines; of parquet, of the canonical texts (in version 2: of its rows as JSON lines).",
    )
    original_sha256: Sha256 = Field(description="Of the same.")
    packed: Packed | None = Field(
        default=None, description="Of the file in staging. None if the record was made of a manifest."
    )
    blocks_sha256: Sha256 | None = Field(
        description="Of the list of its blocks, one line each. None in archives of versions 1 and 2."
    )
    snapshot: str = Field(description="pg_current_snapshot() of the transaction that read the rows.")
    extracted_at: AwareDatetime


class CompressedPart(ExtractedPart):
    """A part whose compressed form lies in staging."""

    compression_type: CompressionType
    compression_level: int | None
    compressed_size_bytes: int = Field(ge=0)
    compressed_sha256: Sha256 = Field(description="Of the compressed file, as it was written.")

    @property
    def ratio(self) -> float:
        """Original over compressed size."""
        return self.original_size_bytes / max(self.compressed_size_bytes, 1)


class ChecksummedPart(CompressedPart):
    """A part whose compressed file in staging was read again, and is as it was written."""

    sha256: Sha256


class UploadedPart(ChecksummedPart):
    """A part that lies in the store, not yet read back."""

    object_key: str
    version_id: str | None
    etag: str


class VerifiedPart(UploadedPart):
    """The verification record: this very version was downloaded, hashed, decompressed, hashed and counted."""

    verified_at: AwareDatetime
    proved_rows: int = Field(description="How many archived rows the server rebuilt and found equal to their digest.")
    locator_sha256: Sha256 | None = Field(
        default=None,
        exclude_if=lambda sha256: sha256 is None,
        description="Of the part's locator; None where the table's settings name no columns of persons.",
    )


PartKind = TypeVar("PartKind", bound=PlannedPart)


def narrow(record: PlannedPart, kind: type[PartKind]) -> PartKind:
    """The record of an earlier step, taken out of that of a later one."""
    return kind.model_validate(record.model_dump(include=set(kind.model_fields)))


def upload_of(part: UploadedPart) -> dict[str, Any]:
    """What tells one uploaded part from any other: neither what was planned, nor what only staging knew."""
    return part.model_dump(include=set(UploadedPart.model_fields) - {"expected_rows", "packed"})


class Claim(Record):
    """Who works on a partition."""

    owner: str
    state: Literal["held", "released"]
    taken_at: AwareDatetime
    expires_at: AwareDatetime


class RestoreRecord(Record):
    """Rows that were brought back and are needed in the table: until then no run archives their partitions again."""

    restore_id: str
    archive_ids: tuple[str, ...]
    table: str = Field(description="schema.table that the rows were brought back to.")
    partition_keys: tuple[str, ...]
    who: str
    triggered_by: str | None = Field(
        default=None, description="Airflow's name of the user who started the run, whoever `who` names."
    )
    why: str
    restored_at: AwareDatetime
    until: AwareDatetime

    def __str__(self) -> str:
        who = name_both(self.who, self.triggered_by)
        return f"{self.restore_id}, until {self.until:%Y-%m-%d %H:%M} UTC, by {who}: {self.why}"


class ArchivePlan(Record):
    """What one run will do."""

    outcome: Literal["planned", "resumed", "nothing_due", "restored"]
    table: str
    partition_key: str
    start_at: AwareDatetime
    end_at: AwareDatetime
    archive_id: str | None
    shape: TableShape
    source: SourceIdentity
    parts: tuple[PlannedPart, ...]
    due_rows: int
    delete_by: str = Field(default="", description="Whether rows are deleted by range or by key, and why.")
    exclusions: tuple[Exclusion, ...] = ()
    earlier_archives: tuple[str, ...] = Field(default=(), description="Sealed archives of the same partition.")
    known_archives: tuple[str, ...] = Field(
        default=(), description="All that there are traces of, sealed or not, when this was planned."
    )
    restores: tuple[RestoreRecord, ...] = Field(default=(), description="Why the rows are left alone for now.")
    planned_at: AwareDatetime
    notes: tuple[str, ...] = Field(default=(), description="What could not be looked at, and why.")
    members: tuple[ArchivePlan, ...] = Field(
        default=(), exclude_if=lambda members: not members, description="Of the tables that are archived with this one."
    )

    @property
    def all_tables(self) -> tuple[ArchivePlan, ...]:
        """The plan of each table of the run, children before their parents; in no order of the settings, which may change."""
        return tuple(sorted((self, *self.members), key=lambda one: (-len(one.shape.dated_through), one.table)))


class SealedArchive(Record):
    """An archive that exists: its manifest lies in the store."""

    archive_id: str
    manifest_key: str
    manifest_sha256: Sha256
    parts: tuple[VerifiedPart, ...]


class DeletedPart(Record):
    """What became of the rows of one part. ``deleted + gone + changed + referenced + kept_by_trigger + detached == rows``."""

    archive_id: str
    number: int
    rows: int
    deleted: int
    gone: int = Field(description="No longer in the table when this try came to them.")
    changed: int = Field(description="Differ from their archived form; they stay.")
    referenced: int = Field(default=0, description="Unchanged, but other rows have come to refer to them; they stay.")
    kept_by_trigger: int = Field(
        default=0, description="Unchanged and referred to by no row, but a trigger of the table kept them; they stay."
    )
    detached: int = Field(default=0, description="In partitions that were detached and wait to be dropped.")
    by_range: int = Field(default=0, description="Of the deleted ones, how many went by ranges of their date.")
    one_by_one: dict[str, int] = Field(
        default={}, description="How many of all were looked up and compared one by one, by the reason."
    )
    batches: int
    longest_batch_seconds: float
    evidence_key: str
    deleted_at: AwareDatetime = Field(
        description="Right before the last commit that deleted rows, by the database's clock; of none, when it was found that none are left."
    )
    deleted_by: str | None = Field(
        default=None, description="DAG and run of an earlier try that did all this; then nothing was deleted now."
    )
    in_table: int | None = Field(
        default=None,
        description="Then also: how many rows of the part are in the table, by their keys; None where that could not be counted.",
    )


def shape_sha256(shape: TableShape) -> str:
    """Digest of a shape; two equal digests mean that rows read then and now have the same columns and types."""
    return hashlib.sha256(shape.model_dump_json().encode()).hexdigest()
