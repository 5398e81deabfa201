"""Where things lie in the archive store: the one place that writes and reads object keys.

Names of schemas and tables may hold any character in PostgreSQL. In a key each byte outside ``A-Z a-z 0-9 _ -`` is
percent-encoded, so that a dot or slash in a name can neither leave its prefix nor be taken for a separator.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timezone
from urllib.parse import unquote

from strongroom.calendar import Partition
from strongroom.errors import PartitionError, StrongroomError

_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")
_PURGE_INTENT, _DESTRUCTION = "purge-intent.json", "destruction.json"
_ASKED = "-asked.json"
_SEAL, _CONDEMNATION, _SWEEP, _SUCCESSION = "sealed.json", "condemned.json", "swept.json", "succession.json"
_VERIFICATION = re.compile(
    r"reports/verifications/.*/(?P<archive>[^/]+)/(?P<at>[0-9]{8}T[0-9]{6}Z)-(?P<result>[a-z]+)\.json"
)
_DRILL = re.compile(
    r"reports/drills/[^/]+\.[^/]+/(?P<archive>[^/]+)/(?P<at>[0-9]{8}T[0-9]{6}\.[0-9]{6}Z)-(?P<result>[a-z]+)\.json"
)
_COPY = re.compile(
    r"reports/replicas/[^/]+\.[^/]+/(?P<archive>[^/]+)/(?P<place>[^/]+)/(?P<at>[0-9]{8}T[0-9]{6}\.[0-9]{6}Z)-(?P<result>[a-z]+)\.json"
)
_NAME = "[A-Za-z0-9_%-]+"
_ARCHIVE_ID = re.compile(
    rf"(?P<schema>{_NAME})\.(?P<table>{_NAME})\.(?P<key>[0-9]{{4}}-[0-9W-]{{2,5}})\.(?P<sequence>[0-9]{{4,9}})"
)

SOURCE_IDENTITY = "metadata/source.json"
"""Which database the store belongs to."""

HOLDS = "holds/"
"""Key prefix of the legal holds."""

EVIDENCE, ARCHIVES, CLAIMS, RESTORES = "evidence/", "archives/", "claims/", "restores/"
"""Key prefixes of all evidence, of all parts, of all claims, and of all records of what was restored."""

ORDERS = f"{CLAIMS}orders/"
"""Key prefix of the orders to running steps. No table has claims there: its folder has a dot."""

PROBES = f"{CLAIMS}strongroom-check/"
"""Key prefix of the objects that `airflow strongroom check` writes and removes. No table's claims lie there: its folder has a dot."""

CASES = f"{EVIDENCE}cases/"
"""Key prefix of the records of cases of persons."""

SUPPRESSED = f"{EVIDENCE}suppressed/"
"""Key prefix of what tells whose rows must not come back."""

SUBJECTS = "subjects/"
"""Key prefix of the protected records of who these persons are."""

REPORTS = "reports/"
"""Key prefix of all reports."""

VERIFICATIONS, QUERIES, DRILLS = f"{REPORTS}verifications/", f"{REPORTS}queries/", f"{REPORTS}drills/"
"""Key prefixes of the records of archives that were read again, of who looked inside, and of restore drills."""

REPLICAS = f"{REPORTS}replicas/"
"""Key prefix of the records of what was compared with the second copies of the store."""

RECORDS = (EVIDENCE, HOLDS, RESTORES, VERIFICATIONS, QUERIES, DRILLS, REPLICAS)
"""Key prefixes of all records that entries of the log name."""

SETTINGS_FOLDER = "/settings/"
"""In the evidence of a table: the settings that entries of the log name by their digest."""

MANIFEST_INDEX = "index/manifests.jsonl.zst"
"""The index of manifests in one object. It saves requests, proves nothing, and can be rebuilt."""

LOG = "log/"
"""Key prefix of the transparency log."""

OVERVIEW = "index/overview.json.zst"
"""What the map of all archives needs, in one object. It saves requests, proves nothing, and can be rebuilt."""

_EXACT = "%Y%m%dT%H%M%S.%fZ"
_CASE_ID = re.compile("[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_SUPPRESSED = re.compile(
    rf"evidence/suppressed/[^/]+/(?P<key_id>[0-9a-f]{{16}})/(?P<token>[0-9a-f]{{64}})/"
    rf"(?P<before>[0-9]{{8}}T[0-9]{{6}}\.[0-9]{{6}}Z)-(?P<case>{_CASE_ID.pattern})\.json"
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
        return f"{self.drop_evidence_prefix}{oid}-{at:%Y%m%dT%H%M%S.%fZ}.json"

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


def encode_name(name: str) -> str:
    """Percent-encode a PostgreSQL name for a key."""
    return "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in name.encode())


def table_folder(schema_name: str, table_name: str) -> str:
    """``schema.table`` for a key."""
    return f"{encode_name(schema_name)}.{encode_name(table_name)}"


def decode_table(text: str) -> str:
    """``schema.table`` in the database's own spelling, from :func:`table_folder` or from what begins with it, such as an archive id."""
    schema_name, _, rest = text.partition(".")
    return f"{unquote(schema_name)}.{unquote(rest.partition('.')[0])}"


def partition_prefix(schema_name: str, table_name: str, partition_key: str) -> str:
    """Key prefix of all archives of one partition, sealed or not."""
    return f"{ARCHIVES}{table_folder(schema_name, table_name)}/partition={partition_key}/"


def evidence_prefix(
    schema_name: str | None = None, table_name: str | None = None, partition_key: str | None = None
) -> str:
    """Key prefix of the evidence of all archives that ever existed: of all tables, one table, or one partition."""
    return _narrowed(EVIDENCE, schema_name, table_name, partition_key)


def manifest_prefix(
    schema_name: str | None = None, table_name: str | None = None, partition_key: str | None = None
) -> str:
    """Key prefix of manifests: of all, of one table, or of one partition."""
    return _narrowed("metadata/", schema_name, table_name, partition_key)


def _narrowed(prefix: str, schema_name: str | None, table_name: str | None, partition_key: str | None) -> str:
    if schema_name is not None and table_name is not None:
        prefix += f"{table_folder(schema_name, table_name)}/"
        if partition_key is not None:
            prefix += f"{partition_key}/"
    return prefix


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


def proof_key(key: str) -> str:
    """Key of the proof that the transparency log has a record, or for a copy of a manifest that it has the manifest."""
    return f"{key.removesuffix('.json')}.tlog-proof"


def settings_key(schema_name: str, table_name: str, sha256: str) -> str:
    """Key of the settings of a table whose digest entries of the log name."""
    return f"{settings_prefix(schema_name, table_name)}{sha256}.json"


def settings_prefix(schema_name: str, table_name: str) -> str:
    """Key prefix of the settings of a table, and of the records that they changed."""
    return f"{EVIDENCE}{table_folder(schema_name, table_name)}{SETTINGS_FOLDER}"


def settings_change_key(schema_name: str, table_name: str, number: int, sha256: str) -> str:
    """Key of one of these records: its number, from 1, and the digest of the settings that are in force from then on."""
    return f"{settings_prefix(schema_name, table_name)}changes/{number:05d}-{sha256}.json"


def empty_key(schema_name: str, table_name: str, partition_key: str) -> str:
    """Key of the record that a calendar partition had no row to archive when its hot retention was over."""
    return f"{evidence_prefix(schema_name, table_name, partition_key)}empty.json"


def warm_evidence_key(schema_name: str, table_name: str, month: str, at: datetime) -> str:
    """Key of the record that a month's partition of a warm table was dropped."""
    return f"{EVIDENCE}{table_folder(schema_name, table_name)}/warm/{month}/{at:%Y%m%dT%H%M%SZ}.json"


def case_prefix(case_id: str) -> str:
    """Key prefix of all records of the case of one person."""
    return f"{CASES}{case_id}/"


def case_key(case_id: str, name: str, at: datetime | None = None) -> str:
    """Key of one record of a case; what may be written several times has an instant."""
    instant = "" if at is None else f"-{at.astimezone(timezone.utc):{_EXACT}}"
    return f"{case_prefix(case_id)}{name}{instant}.json"


def subject_key(case_id: str) -> str:
    """Key of the protected record of who the person is. It is removed when the case ends."""
    return f"{SUBJECTS}{case_id}.bin"


def suppressed_prefix(schema_name: str, table_name: str) -> str:
    """Key prefix of the tokens of erased persons whose rows must not come back into a table or its archives."""
    return f"{SUPPRESSED}{table_folder(schema_name, table_name)}/"


def suppressed_key(schema_name: str, table_name: str, key_id: str, token: str, case_id: str, before: datetime) -> str:
    """Key of one of these: all that there is to know is in the key, so that a listing reads the whole list."""
    instant = f"{before.astimezone(timezone.utc):{_EXACT}}"
    return f"{suppressed_prefix(schema_name, table_name)}{key_id}/{token}/{instant}-{case_id}.json"


def parse_suppressed_key(key: str) -> tuple[str, str, datetime, str] | None:
    """Key id, token, instant and case of a key as :func:`suppressed_key` writes it; None for any other."""
    found = _SUPPRESSED.fullmatch(key)
    if found is None:
        return None
    before = datetime.strptime(found["before"], _EXACT).replace(tzinfo=timezone.utc)
    return found["key_id"], found["token"], before, found["case"]


def is_case_id(text: str) -> bool:
    """Whether a text may name a case."""
    return _CASE_ID.fullmatch(text) is not None


def hold_key(hold_id: str) -> str:
    """Key of one legal hold."""
    return f"{HOLDS}{hold_id}.json"


def audit_key(begin: date, end: date, at: datetime, suffix: str) -> str:
    """Key of an audit report of a period, as ``json``, ``html`` or ``oscal.json``."""
    instant = f"{at.astimezone(timezone.utc):%Y%m%dT%H%M%S.%fZ}"
    return f"{REPORTS}audits/{begin.isoformat()}_{end.isoformat()}/{instant}.{suffix}"


def adoption_key(at: datetime) -> str:
    """Key of the record of what was brought into the log at one time."""
    return f"{REPORTS}log/{at.astimezone(timezone.utc):%Y%m%dT%H%M%S.%fZ}-adopted.json"


def rotation_key(size: int) -> str:
    """Key of the checkpoint that two keys of the log signed when one replaced the other."""
    return f"{LOG}rotations/{size}"


def witness_prefix(key_id: str) -> str:
    """Key prefix of the cosignatures of a witness, one for each size that it saw."""
    return f"{LOG}witness/{key_id}/"


def release_proof_key(hold_id: str, sha256: str) -> str:
    """Key of the proof that the transparency log has the release of a hold. Each try to release it has its own digest."""
    return f"{EVIDENCE}holds/{hold_id}-released-{sha256}.tlog-proof"


def purge_report_key(run_id: str, at: datetime) -> str:
    """Key of the report of one run of the retention purge."""
    return f"reports/retention_purge/{encode_name(run_id)}/{at:%Y%m%dT%H%M%SZ}.json"


def questions_prefix(run_id: str) -> str:
    """Key prefix of what one run of the retention purge asked, and of the answers."""
    return f"{EVIDENCE}purges/{encode_name(run_id)}/"


def question_key(run_id: str, number: int) -> str:
    """Key of the record of what a run asked a person to approve; each question has a number."""
    return f"{questions_prefix(run_id)}{number:04d}{_ASKED}"


def is_question(key: str) -> bool:
    """Whether a key below :func:`questions_prefix` is one of :func:`question_key`."""
    return key.endswith(_ASKED)


def answer_key(question: str) -> str:
    """Key of the answer to a question, from its key."""
    return f"{question.removesuffix(_ASKED)}-answered.json"


def restores_prefix(schema_name: str, table_name: str) -> str:
    """Key prefix of the records of what was restored into one table."""
    return f"{RESTORES}{table_folder(schema_name, table_name)}/"


def restored_table(key: str) -> str:
    """The table (``schema.table``) into which a restore came, from the key of its record or of its report."""
    return decode_table(key.split("/")[1])


def restore_report_key(schema_name: str, table_name: str, restore_id: str) -> str:
    """Key of the summary of one restore into a table."""
    return f"reports/{table_folder(schema_name, table_name)}/restores/{restore_id}.json"


@dataclass(frozen=True)
class VerificationKey:
    """The facts in the key of the record of a verification, or of a drill."""

    archive: ArchiveId
    at: datetime
    result: str


def verifications_prefix(
    schema_name: str | None = None, table_name: str | None = None, partition_key: str | None = None
) -> str:
    """Key prefix of the records that archives were read again: of all, of one table, or of one partition."""
    return _narrowed(VERIFICATIONS, schema_name, table_name, partition_key)


def verification_key(archive: ArchiveId, at: datetime, result: str) -> str:
    """Key of the record that an archive was read again at an aware instant, and with what result."""
    folder = f"{verifications_prefix(archive.schema_name, archive.table_name, archive.partition_key)}{archive}"
    return f"{folder}/{at.astimezone(timezone.utc):%Y%m%dT%H%M%SZ}-{result}.json"


def parse_verification_key(key: str) -> VerificationKey | None:
    """Read a key as :func:`verification_key` writes it; None for any other."""
    return _parsed_key(_VERIFICATION.fullmatch(key), "%Y%m%dT%H%M%SZ")


def _parsed_key(found: re.Match[str] | None, instant: str) -> VerificationKey | None:
    archive = None if found is None else ArchiveId.parse_or_none(found["archive"])
    if found is None or archive is None:
        return None
    try:
        at = datetime.strptime(found["at"], instant).replace(tzinfo=timezone.utc)
    except ValueError:  # such as the 31st of February
        return None
    return VerificationKey(archive, at, found["result"])


def drill_key(archive: ArchiveId, at: datetime, result: str) -> str:
    """Key of the record that an archive was restored as a drill, when, and with what result."""
    instant = f"{at.astimezone(timezone.utc):{_EXACT}}"
    return f"{DRILLS}{archive.table_folder}/{archive}/{instant}-{result}.json"


def parse_drill_key(key: str) -> VerificationKey | None:
    """Read a key as :func:`drill_key` writes it; None for any other."""
    return _parsed_key(_DRILL.fullmatch(key), _EXACT)


def drill_run_key(run_id: str, at: datetime) -> str:
    """Key of the record of what a run of drills chose; each try of the run has its own."""
    return f"{DRILLS}runs/{encode_name(run_id)}/{at.astimezone(timezone.utc):{_EXACT}}.json"


def copy_key(place: str, archive: ArchiveId, at: datetime, result: str) -> str:
    """Key of the record that an archive was compared with its copy in a replica, when, and with what result."""
    instant = f"{at.astimezone(timezone.utc):{_EXACT}}"
    return f"{copies_prefix(archive)}{place}/{instant}-{result}.json"


def copies_prefix(archive: ArchiveId) -> str:
    """Key prefix of these records of one archive."""
    return f"{REPLICAS}{archive.table_folder}/{archive}/"


def parse_copy_key(key: str) -> tuple[str, VerificationKey] | None:
    """Read a key as :func:`copy_key` writes it: the replica, and the rest; None for any other."""
    found = _COPY.fullmatch(key)
    parsed = _parsed_key(found, _EXACT)
    return None if found is None or parsed is None else (found["place"], parsed)


def recovery_key(at: datetime) -> str:
    """Key of the record that an empty bucket was filled from the replica."""
    return f"{REPORTS}recoveries/{at.astimezone(timezone.utc):{_EXACT}}.json"


def copied_records_prefix(place: str) -> str:
    """Key prefix of the records of how a store's evidence and log were compared with those in a replica."""
    return f"{REPLICAS}records/{place}/"


def copied_records_key(place: str, at: datetime, result: str) -> str:
    """Key of one of these records."""
    return f"{copied_records_prefix(place)}{at.astimezone(timezone.utc):{_EXACT}}-{result}.json"


def statistics_key(day: date, suffix: str) -> str:
    """Key of the statistics of one day, as ``json`` or ``html``."""
    return f"{REPORTS}statistics/{day.isoformat()}.{suffix}"


def is_restore_report(key: str) -> bool:
    """Whether a key below ``reports/`` is one of :func:`restore_report_key`."""
    return re.fullmatch(r"reports/[^/]+\.[^/]+/restores/[^/]+\.json", key) is not None


def claims_prefix(schema_name: str, table_name: str) -> str:
    """Key prefix of the claims on the partitions of one table."""
    return f"{CLAIMS}{table_folder(schema_name, table_name)}/"


def claim_key(schema_name: str, table_name: str, partition_key: str) -> str:
    """Key of the claim on one partition."""
    return f"{claims_prefix(schema_name, table_name)}{partition_key}.json"


def orders_key(schema_name: str, table_name: str) -> str:
    """Key of the orders to running steps of one table."""
    return f"{ORDERS}{table_folder(schema_name, table_name)}.json"


def queries_prefix(schema_name: str, table_name: str) -> str:
    """Key prefix of the records of who looked into a table's archives."""
    return f"{QUERIES}{table_folder(schema_name, table_name)}/"


def query_record_key(schema_name: str, table_name: str, run_id: str, at: datetime) -> str:
    """Key of the record that a run looked into a table's archives; each try of the run has its own."""
    instant = f"{at.astimezone(timezone.utc):%Y%m%dT%H%M%S.%fZ}"
    return f"{queries_prefix(schema_name, table_name)}{encode_name(run_id)}/{instant}.json"
