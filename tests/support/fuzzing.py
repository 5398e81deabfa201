"""Documents and names with random faults, for tests that feed them to readers.

Each test uses a few hundred examples; ``make fuzz`` uses twenty thousand.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from strongroom.archive.delete import DeleteProgress
from strongroom.archive.report import RunReport
from strongroom.calendar import EPOCH
from strongroom.errors import StrongroomError
from strongroom.ledger.evidence import DeleteEvidence
from strongroom.ledger.holds import Hold
from strongroom.ledger.manifest_record import Manifest
from strongroom.object_keys.archives import ArchiveId
from strongroom.object_keys.layout import MANIFEST_INDEX
from strongroom.records import (
    CompressedPart,
    ExtractedPart,
    SourceIdentity,
    UploadedPart,
    VerifiedPart,
)
from strongroom.restore.progress import RestoreProgress
from strongroom.retention.certificate import Certificate, PurgeIntent
from strongroom.retention.condemn import Condemnation
from strongroom.settings import StoreSettings
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

    def read(self, *_: Any, **__: Any) -> tuple[bytes, str]:
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
    """The path of each value in a document, except the document itself."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, one in entries for found in ((*path, key), *paths_of(one, (*path, key)))]


@st.composite
def damaged(draw: st.DrawFn, whole: bytes, *, as_json: bool = True) -> bytes:
    """A sound document with one fault: a changed value, an extra or missing field, changed bytes, a lost end. Or no document."""
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
    "blocks_sha256": SUM,
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
    """What a reader returns, or None if it raises one of our errors, which says what is wrong and what is safe."""
    try:
        return read()
    except StrongroomError as error:
        told = error
    assert told.what
    assert told.hint
    str(told).encode()
    return None


NAMES = st.text() | st.text("abc._-%/.\\\0\n\"' ٣é", max_size=12)
KEYS = NAMES | st.builds(
    "{}.{}.{}.{}".format,
    NAMES,
    NAMES,
    st.sampled_from(["2026-05", "2026-W31", "2026-99", "٢٠٢٦-05", "2026-/.."]),
    NAMES,
)
