"""Whatever bytes a reader of records is given, it returns a sound record or raises one named error.

A few hundred examples each; ``make fuzz`` takes twenty thousand.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import zstandard
from hypothesis import example, given
from hypothesis import strategies as st

from strongroom.errors import ConfigurationError, IntegrityError
from strongroom.formats.type_names import is_type_name
from strongroom.ledger.claims import parse_claim
from strongroom.ledger.evidence import DeleteEvidence, parse_evidence
from strongroom.ledger.holds import Hold, read_holds
from strongroom.ledger.index import read_index
from strongroom.ledger.manifest_record import Manifest
from strongroom.ledger.manifests import parse_manifest
from strongroom.ledger.owner import record_owner
from strongroom.ledger.restore_records import parse_restore_record
from strongroom.records import (
    Record,
    SourceIdentity,
    parse_record,
)
from strongroom.restore.records import RestoreRequest
from strongroom.settings import load_settings
from tests.support.fuzzing import (
    ARCHIVE,
    DELETED,
    NOW,
    NOWHERE,
    SAMPLES,
    WHOLE,
    Shelf,
    damaged,
    fuzzed,
    require_named,
    sample_of,
    values,
)


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


@pytest.mark.parametrize("number", [b"1e400", b"NaN", b"-Infinity", b"1" + b"0" * 400])
def test_a_number_that_no_record_can_write_is_named(number):
    body = sample_of(DeleteEvidence)
    seconds = b'"longest_batch_seconds":'
    before, _, rest = body.partition(seconds)
    assert rest
    damaged_body = before + seconds + number + rest[len(rest.partition(b",")[0]) :]

    with pytest.raises(IntegrityError, match="longest_batch_seconds"):
        parse_record(DeleteEvidence, damaged_body, where="here", what="sound", hint="Nothing was changed.")


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
    assert read_index(Shelf(body)) == {}


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
