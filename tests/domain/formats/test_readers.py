"""Whatever bytes a reader is given, it gives a sound record or one named error, and no name leads out of its prefix.

A few hundred examples each; ``make fuzz`` takes twenty thousand.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from strongroom.archive.delete import DeleteProgress
from strongroom.archive.report import RunReport
from strongroom.calendar import EPOCH, Partition, Term
from strongroom.errors import ConfigurationError, IntegrityError, StrongroomError
from strongroom.formats.arrow import pa
from strongroom.formats.codecs import BLOCK_BYTES, decompress
from strongroom.formats.copy_text import copy_rows
from strongroom.formats.line_reader import LineReader, split_lines
from strongroom.formats.line_writer import LineWriter
from strongroom.formats.type_names import is_type_name, type_name
from strongroom.ledger.claims import parse_claim
from strongroom.ledger.evidence import DeleteEvidence, parse_evidence
from strongroom.ledger.holds import Hold, parse_coverage, read_holds
from strongroom.ledger.index import _read_index
from strongroom.ledger.manifest_record import Manifest
from strongroom.ledger.manifests import parse_manifest
from strongroom.ledger.owner import record_owner
from strongroom.ledger.restore_records import parse_restore_record
from strongroom.object_keys import (
    MANIFEST_INDEX,
    ArchiveId,
    encode_name,
    is_restore_report,
    manifest_archive_id,
    parse_verification_key,
    sealed_and_kept,
    stored_archive_id,
    unfinished_purges,
)
from strongroom.records import (
    CompressedPart,
    ExtractedPart,
    Record,
    SourceIdentity,
    TableShape,
    UploadedPart,
    VerifiedPart,
    parse_record,
)
from strongroom.restore.progress import RestoreProgress
from strongroom.restore.records import RestoreRequest
from strongroom.retention.certificate import Certificate, PurgeIntent
from strongroom.retention.condemn import Condemnation
from strongroom.settings import Settings, StoreSettings, load_settings
from strongroom.settings.strict_yaml import YamlError, parse_yaml
from strongroom.statistics.proofs import parse_sample
from strongroom.storage.store import Store
from strongroom.storage.versions import StoredVersion
from tests.support.synthetic import a_manifest

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
fuzzed = settings(
    max_examples=20_000 if LONG else 100,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
ARCHIVE = ArchiveId("public", "audit", "2026-05", 1)
WHOLE = a_manifest().to_json()
NOWHERE = Store(None, StoreSettings(bucket="nowhere"))


class Shelf(Store):
    """A store that holds one body under every key."""

    def __init__(self, body: bytes) -> None:
        super().__init__(None, StoreSettings(bucket="nowhere"))
        self.body = body

    def read(self, *_: str) -> tuple[bytes, str]:
        return self.body, "etag"

    def versions(self, prefix: str) -> Any:
        key = f"{prefix}20260101T000000Z-00000000.json"
        yield StoredVersion(key=key, version_id="1", size_bytes=len(self.body), modified_at=EPOCH, is_latest=True)

    def swap(self, key: str, body: bytes, **_: Any) -> bool:
        if key == MANIFEST_INDEX:
            self.body = body
        return key == MANIFEST_INDEX


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**400), 10**400)
    | st.floats()
    | st.text()
    | st.sampled_from(["2026-05-01T00:00:00Z", "zstd", "0" * 64, str(ARCHIVE), "../..", "bigint; --"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


def paths_of(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where each value of a document stands, the document itself not."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, one in entries for found in ((*path, key), *paths_of(one, (*path, key)))]


@st.composite
def damaged(draw: st.DrawFn, whole: bytes, *, as_json: bool = True) -> bytes:
    """A sound document with something wrong: a value, a field more or less, some bytes, its end; or no document at all."""
    kind = draw(st.sampled_from(["bytes", "cut", "any", *(["json", "value", "gone", "more"] if as_json else [])]))
    if kind == "any":
        return draw(st.binary(max_size=200))
    if kind == "json":
        return json.dumps(draw(values)).encode()
    if kind == "cut":
        return whole[: draw(st.integers(0, len(whole)))]
    if kind == "bytes":
        at = draw(st.integers(0, len(whole) - 1))
        return whole[:at] + draw(st.binary(max_size=4)) + whole[at + draw(st.integers(0, 4)) :]
    document = json.loads(whole)
    *folder, field = draw(st.sampled_from(paths_of(document)))
    place = document
    for key in folder:
        place = place[key]
    if kind == "gone":
        del place[field]
    elif kind == "more" and isinstance(place, dict):
        place[draw(st.text(max_size=8))] = draw(values)
    else:
        place[field] = draw(values)
    return json.dumps(document).encode()


def sample_of(kind: type[BaseModel]) -> bytes:
    """A sound record of a kind, as JSON."""
    return kind.model_validate(dict(SAMPLES[kind])).model_dump_json().encode()


NOW = "2026-11-23T12:00:00Z"
SUM = "0" * 64
PART: dict[str, Any] = {
    "archive_id": str(ARCHIVE),
    "number": 0,
    "start_at": "2026-05-01T00:00:00Z",
    "end_at": "2026-06-01T00:00:00Z",
    "expected_rows": 10,
    "shape_sha256": SUM,
    "rows": 10,
    "original_size_bytes": 100,
    "original_sha256": SUM,
    "keys_sha256": SUM,
    "snapshot": "1:1:",
    "extracted_at": NOW,
}
COMPRESSED = PART | {
    "compression_type": "zstd",
    "compression_level": 3,
    "compressed_size_bytes": 10,
    "compressed_sha256": SUM,
}
UPLOADED = COMPRESSED | {"sha256": SUM, "object_key": "k", "version_id": None, "etag": "e"}
VERIFIED = UPLOADED | {"verified_at": NOW, "proved_rows": 10}
RUN = {"dag_id": "d", "run_id": "r"}
DELETED = {
    "archive_id": str(ARCHIVE), "number": 0, "rows": 10, "deleted": 8, "gone": 1, "changed": 1, "batches": 1,
    "longest_batch_seconds": 0.1, "evidence_key": "k", "deleted_at": NOW, "object_key": "k", "version_id": "v",
    "sha256": SUM, "verified_at": NOW, "kept": [{"reason": "changed", "key": ["1"]}], **RUN,
}  # fmt: skip
INTENT = {
    "manifest": json.loads(WHOLE), "manifest_sha256": SUM, "approval": {"approved": True, "by": "ada", "at": NOW},
    "versions": [{"key": "k", "version_id": "v", "size_bytes": 1, "modified_at": NOW, "is_latest": True}],
    "begun_at": NOW, "begun_by": RUN,
}  # fmt: skip
CERTIFICATE = {
    name: json.loads(WHOLE)[name] for name in Manifest.model_fields.keys() & Certificate.model_fields.keys()
} | {
    "manifest_sha256": SUM, "sealed_at": NOW, "approved_by": "ada", "approved_at": NOW, "begun_at": NOW, "begun_by": RUN,
    "destroyed_at": NOW, "destroyed_by": RUN, "removed": [], "intent_key": "k",
    "proof": {"proved_at": NOW, "listed": ["a"], "looked_at": [["k", "v"]]},
}  # fmt: skip
SAMPLES: dict[type[BaseModel], dict[str, Any]] = {
    ExtractedPart: PART,
    CompressedPart: COMPRESSED,
    UploadedPart: UPLOADED,
    VerifiedPart: VERIFIED,
    DeleteProgress: VERIFIED,
    RestoreProgress: VERIFIED,
    Certificate: CERTIFICATE,
    PurgeIntent: INTENT,
    DeleteEvidence: DELETED,
    RunReport: {
        "outcome": "archived", "table": "public.audit", "partition_key": "2026-05", "archive_id": None, "planned_at": NOW,
        "finished_at": NOW,
    },
    SourceIdentity: {"system_identifier": "1", "database": "d", "database_oid": 1, "server_version": "18"},
    Condemnation: {
        "archive_id": str(ARCHIVE), "why": "w", "who": "a", "condemned_at": NOW, "lost_rows": 1,
        "verdict": {"archive_id": str(ARCHIVE), "record_count": 1, "objects": []},
    },
    Hold: {
        "hold_id": "20260101T000000Z-00000000", "what": "public.audit", "why": "w", "who": "a", "reference": "7",
        "placed_at": NOW,
    },
}  # fmt: skip


def require_named(read: Callable[[], object]) -> object | None:
    """What a reader gives, or None after an error of ours that says what is wrong and what is safe."""
    try:
        return read()
    except StrongroomError as error:
        told = error
    assert told.what
    assert told.hint
    str(told).encode()
    return None


@given(body=damaged(WHOLE))
@example(b"\xff\xfe")
@example(b"[" * 100_000)
@example(b'{"archive_id":' + b'"' + b"x" * 1_000_000 + b'"}')
@fuzzed
def test_a_manifest_is_sound_or_named(body):
    manifest = require_named(lambda: parse_manifest(NOWHERE, ARCHIVE, body))

    if isinstance(manifest, Manifest):
        assert all(part.object_key.startswith(ARCHIVE.archive_prefix) for part in manifest.parts)
        assert all(is_type_name(column.base_type) for column in manifest.table.columns)
        assert parse_manifest(NOWHERE, ARCHIVE, manifest.to_json()) == manifest


@pytest.mark.parametrize("kind", SAMPLES, ids=lambda kind: kind.__name__)
@given(data=st.data())
@fuzzed
def test_a_record_is_sound_or_named(kind: type[Record], data):
    body = data.draw(damaged(sample_of(kind)))

    record = require_named(lambda: parse_record(kind, body, where="here", what="sound", hint="Nothing was changed."))

    assert record is None or kind.model_validate_json(record.model_dump_json()) == record


CLAIM = json.dumps({"owner": "a", "state": "held", "taken_at": NOW, "expires_at": NOW}).encode()
RESTORE = json.dumps(
    {
        "restore_id": "r", "archive_ids": [str(ARCHIVE)], "table": "public.audit", "partition_keys": ["2026-05"],
        "who": "a", "why": "w", "restored_at": NOW, "until": NOW,
    }
).encode()  # fmt: skip


@given(claim=damaged(CLAIM), restore=damaged(RESTORE), evidence=damaged(json.dumps(DELETED).encode()))
@fuzzed
def test_claims_restores_and_evidence_are_sound_or_named(claim, restore, evidence):
    """A claim's instants can be compared with now, or it is none."""
    found = require_named(lambda: parse_claim("claims/x.json", claim))
    if found is not None:
        assert found.expires_at.utcoffset() is not None
    require_named(lambda: parse_restore_record("restores/x.json", restore))
    require_named(lambda: parse_evidence("evidence/x.json", evidence))


@given(body=damaged(sample_of(Hold)))
@fuzzed
def test_a_hold_is_sound_and_of_its_own_name_or_stops_everything(body):
    held = require_named(lambda: read_holds(Shelf(body)))

    assert held is None or held[0].hold_id == "20260101T000000Z-00000000"


@given(body=damaged(sample_of(SourceIdentity)))
@fuzzed
def test_the_owner_of_a_store_is_known_or_nothing_is_done(body):
    require_named(lambda: record_owner(Shelf(body), SourceIdentity.model_validate(SAMPLES[SourceIdentity])))


@given(
    body=st.binary(max_size=300)
    | damaged(WHOLE).map(zstandard.compress)
    | damaged(zstandard.compress(b"{}\n" * 9), as_json=False)
)
@fuzzed
def test_an_index_of_manifests_is_read_or_passed_over(body):
    assert _read_index(Shelf(body)) == {}


@given(text=st.text() | st.text("[]{}:,-&*!|>'\"%@`#\n \t<=~?0123456789.eExX_").map(str))
@example("a: &x [*x]")
@example("- " * 1000)
@example("? " * 1000)
@example("{" * 10_000)
@example("0x" + "f" * 10_000)
@example("a: 9999-99-99")
@example("a: !!python/object/apply:os.system ['true']")
@example("\ud800")
@fuzzed
def test_yaml_is_read_or_refused_with_a_line(text):
    with suppress(YamlError):
        parse_yaml(text)


WORDS = st.sampled_from(
    [
        "tables",
        "store",
        "purge",
        "bucket",
        "prefix",
        "hot_retention",
        "cold_retention",
        "date_column",
        "legal_basis",
        "compression",
        "type",
        "level",
        "P90D",
        "P7Y",
        "-1",
        "true",
        "null",
        "part_rows",
        "[]",
        "{}",
        "endpoint_url",
        "http://example.com",
        "1e999",
        ".nan",
        "&",
        "*",
        "!",
        "|",
        ">",
        "2026-05-01",
        "'x'",
        '"y',
    ]
)


@given(
    body=st.binary(max_size=300)
    | st.lists(st.tuples(st.integers(0, 3), WORDS, WORDS), max_size=12).map(
        lambda lines: "\n".join(f"{'  ' * depth}{key}: {value}" for depth, key, value in lines).encode()
    )
    | damaged(json.dumps({"legal_basis": "a", "tables": {"t": {"date_column": "at", "part_rows": 5}}}).encode())
)
@fuzzed
def test_a_configuration_is_read_or_refused_as_a_whole(body, tmp_path_factory):
    path: Path = tmp_path_factory.getbasetemp() / "archive.yaml"
    path.write_bytes(body)

    found = require_named(lambda: load_settings(path, {}))

    assert found is None or isinstance(found, Settings)


@given(
    environ=st.dictionaries(
        st.sampled_from(
            ["STRONGROOM__HOT_RETENTION", "STRONGROOM__STORE__BUCKET", "STRONGROOM__TABLES__T__PART_ROWS", "STRONGROOM__",
             "STRONGROOM__STORE", "STRONGROOM____", "STRONGROOM__TABLES__T__STORE__PREFIX", "STRONGROOM__COMPRESSION__LEVEL"]
        ),
        st.text(max_size=20) | st.sampled_from(["\udcff", "a\udc80b"]) | values.map(json.dumps),
    )
)  # fmt: skip
@fuzzed
def test_settings_of_the_environment_are_read_or_refused(environ, tmp_path_factory):
    path: Path = tmp_path_factory.getbasetemp() / "sound.yaml"
    path.write_text(json.dumps({"legal_basis": "a", "tables": {"t": {"date_column": "at"}}}))

    require_named(lambda: load_settings(path, environ))


NAMES = st.text() | st.text("abc._-%/.\\\0\n\"' ٣é", max_size=12)
KEYS = NAMES | st.builds(
    "{}.{}.{}.{}".format,
    NAMES,
    NAMES,
    st.sampled_from(["2026-05", "2026-W31", "2026-99", "٢٠٢٦-05", "2026-/.."]),
    NAMES,
)


@given(text=KEYS | st.integers(0, 10**30).map(lambda number: f"public.audit.2026-05.{number:04d}"))
@example("public.audit.2026-05.0001\n")
@example("public.a%2Fb.2026-05.0001")
@example("public.a%2fb.2026-05.0001")
@example("public.%ff.2026-05.0001")
@example("public.audit.2026-05." + "1" * 5000)
@fuzzed
def test_an_archive_id_is_written_in_one_way_and_stays_below_its_prefixes(text):
    archive = require_named(lambda: ArchiveId.parse(text))

    if isinstance(archive, ArchiveId):
        assert str(archive) == text
        for key in (archive.manifest_key, archive.sums_key, archive.part_key(0, "zstd"), archive.destruction_key):
            assert re.fullmatch(
                r"(metadata|archives|evidence)/[A-Za-z0-9_%-]+\.[A-Za-z0-9_%-]+/[A-Za-z0-9_%.=/-]+", key
            )
            assert ".." not in key.split("/")


@given(schema=st.text(min_size=1), table=NAMES.filter(bool), number=st.integers(1, 99_999))
@fuzzed
def test_any_name_makes_an_archive_id_that_reads_back(schema, table, number):
    archive = ArchiveId(schema, table, "2026-05", number)

    assert ArchiveId.parse(str(archive)) == archive
    assert manifest_archive_id(archive.manifest_key) == archive
    assert stored_archive_id(archive.part_key(0, "none")) == archive
    assert not {"/", ".", "%2F"} & set(encode_name(schema.replace("/", "")))


@given(
    key=st.lists(KEYS | st.sampled_from(["metadata", "archives", "evidence", "reports", "verifications"])).map("/".join)
)
@example("metadata/public.audit/2026-05/public.audit.2026-05.0001.json")
@example("metadata/public.other/2026-05/public.audit.2026-05.0001.json")
@example("evidence/x/public.audit.2026-05.0001/purge-intent.json")
@example("reports/verifications/a/b/public.audit.2026-05.0001/20260231T000000Z-sound.json")
@example("reports/verifications/a/b/public.audit.2026-05.0001/٢٠٢٦٠٢٠١T000000Z-sound.json")
@fuzzed
def test_a_key_that_somebody_else_wrote_is_passed_over(key):
    for read in (manifest_archive_id, stored_archive_id, parse_verification_key, is_restore_report):
        read(key)
    for archive in (*unfinished_purges([key]), *sealed_and_kept([key])):
        assert key.startswith(archive.evidence_prefix)
    archive = manifest_archive_id(key)
    assert archive is None or archive.manifest_key == key


@given(text=KEYS)
@fuzzed
def test_what_is_to_be_held_partitions_terms_and_samples_are_read_or_named(text):
    require_named(lambda: parse_coverage(text))
    require_named(lambda: Partition.named(text))
    require_named(lambda: Term.parse(text))
    require_named(lambda: parse_sample(text))


@given(text=st.text() | st.text("abz_09\"\\'()[],.; -/*$%\0\nwithoutme", max_size=30))
@example('"a""b"')
@example("numeric(1--2)")
@fuzzed
def test_a_type_name_holds_nothing_that_ends_or_goes_on_a_statement(text):
    if not is_type_name(text):
        with pytest.raises(IntegrityError, match="is not the name of a type"):
            type_name(text)
    else:
        assert type_name(text).as_string() == text
        bare = re.sub(r'"(?:[^"]|"")+"', "q", text)
        assert re.fullmatch(r"[a-zA-Z0-9_. ,()\[\]-]+", bare)
        assert "--" not in bare
        assert bare.count("(") == bare.count(")") <= 2
        assert "\0" not in text


@pytest.mark.parametrize("kind", ["zstd", "gzip", "none"])
@given(body=st.binary(max_size=400) | damaged(zstandard.compress(b"x" * 100), as_json=False))
@fuzzed
def test_bytes_are_unpacked_in_blocks_or_named(kind, body):
    def unpack() -> bytes:
        return b"".join(blocks(kind, body))

    require_named(unpack)


def blocks(kind: Any, body: bytes) -> Any:
    for block in decompress(kind, iter([body]), on_chunk=len):
        assert len(block) <= BLOCK_BYTES
        yield block


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0")) | st.text(
    'nN\\"\t\n\r\b/,{}[]\x1f\x7fé ', max_size=6
)
NUMBERS = st.integers(-(10**40), 10**40).map(str) | st.sampled_from(["66.40", "-0.00", "1e-16383", "NaN", "-Infinity"])
ARRAYS = st.recursive(
    st.none() | TEXTS,
    lambda inner: st.lists(inner, min_size=1, max_size=3),
    max_leaves=6,
).filter(lambda value: isinstance(value, list)) | st.just([])  # fmt: skip


def literal(value: Any) -> str:
    """Of an array, with quotes around each element."""
    if isinstance(value, list):
        return "{" + ",".join(map(literal, value)) + "}"
    return "null" if value is None else '"' + re.sub(r'(["\\])', r"\\\1", value) + '"'


SHAPES: list[tuple[str, str, st.SearchStrategy[str]]] = [
    ("bigint", "json", st.integers(-(2**63), 2**63 - 1).map(str)),
    ("numeric", "json", NUMBERS),
    ("boolean", "json", st.sampled_from("tf")),
    ("text", "json", TEXTS),
    ("public.mood", "text", TEXTS),
    (
        "jsonb",
        "jsonb",
        values.map(lambda value: json.dumps(value, ensure_ascii=False)).filter(
            lambda text: re.search("NaN|Infinity", text) is None
        ),
    ),
    ("text[]", "array", ARRAYS.map(literal)),
]
READ = re.compile(r"\\(.)", re.DOTALL)


def as_copy_reads(field: str) -> str | None:
    """A field of COPY's text format."""
    named = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
    return None if field == "\\N" else READ.sub(lambda found: named.get(found[1], found[1]), field)


@st.composite
def some_rows(draw: st.DrawFn) -> tuple[TableShape, list[tuple[str | None, ...]]]:
    """Rows of the texts of values, in a table of some of the kinds of columns that there are."""
    kinds = draw(st.lists(st.sampled_from(SHAPES), min_size=1, max_size=8))
    awkward = draw(st.sampled_from(["", '"', "\\"]))
    columns = [
        {"name": f"c{place}{awkward}", "type": base, "base_type": base, "encoding": encoding}
        | {"nullable": True, "generated": False, "identity": False}
        for place, (base, encoding, _) in enumerate(kinds)
    ]
    shape = TableShape.model_validate(a_manifest().table.model_dump() | {"columns": columns})
    rows = draw(st.lists(st.tuples(*(st.none() | texts for *_, texts in kinds)), min_size=1, max_size=9))
    return shape, rows


@given(written=some_rows())
@fuzzed
def test_texts_that_became_lines_come_back_as_they_were(written):
    """Letter for letter: whatever escapes a column needs, or has no need of."""
    shape, rows = written
    lines = LineWriter(shape).lines([pa.array(values, pa.string()) for values in zip(*rows, strict=True)])

    read = copy_rows(LineReader(shape.columns).columns(lines.split(b"\n")[:-1]))

    fields = [row.split("\t") for row in read.decode().split("\n")[:-1]]
    assert [tuple(map(as_copy_reads, row)) for row in fields] == rows


@given(stream=st.lists(st.binary(max_size=9) | st.sampled_from([b"\n", b"a\nb", b"\n\n"])))
@fuzzed
def test_lines_are_the_same_however_their_stream_is_cut(stream):
    whole = b"".join(stream).split(b"\n")

    assert list(split_lines(stream)) == (whole if whole[-1] else whole[:-1])


@given(document=values | st.dictionaries(st.sampled_from(sorted(RestoreRequest.model_fields)), values))
@fuzzed
def test_a_request_to_restore_is_read_or_refused(document):
    body = json.dumps(document).encode()

    require_named(
        lambda: parse_record(RestoreRequest, body, where="the run", what="a request", hint="Nothing was read.")
    )


def test_the_readers_say_what_they_expect():
    """One of them, to see what a person would."""
    with pytest.raises(IntegrityError) as caught:
        parse_claim("claims/public.audit/2026-05.json", b'{"owner": "marked-secret"}')
    assert "marked-secret" not in str(caught.value)
    assert str(caught.value).startswith(
        "claims/public.audit/2026-05.json is not a sound claim: expected a record of kind Claim"
    )
    with pytest.raises(ConfigurationError):
        load_settings(Path("/nowhere/archive.yaml"), {})
