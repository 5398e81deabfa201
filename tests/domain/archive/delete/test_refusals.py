"""What makes delete refuse a whole part."""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from strongroom.errors import (
    IdentityError,
    IntegrityError,
    NeededError,
    PartitionError,
    UnarchivableError,
)
from strongroom.ledger.restore_records import keep_record
from strongroom.records import RestoreRecord
from tests.support.chain import NOW
from tests.support.database import execute
from tests.support.deleting import (
    TABLE,
    Moved,
    left,
    require_refused,
)


def test_nothing_inside_hot_retention_is_deleted(chain, part):
    chain.now = datetime(2026, 6, 20, tzinfo=timezone.utc)

    require_refused(chain, part, PartitionError, "inside hot retention")


def test_nothing_is_deleted_without_a_manifest(chain):
    plan = chain.plan()
    [unsealed] = [chain.verified(plan, one) for one in plan.parts]

    require_refused(chain, unsealed, IntegrityError, "there is no archive")


@pytest.mark.parametrize(
    "change",
    [
        {"sha256": "0" * 64},
        {"original_sha256": "0" * 64},
        {"blocks_sha256": "0" * 64},
        {"version_id": "other"},
        {"object_key": "other"},
        {"rows": 11},
        {"etag": "other"},
        {"number": 1},
        {"start_at": datetime(2026, 5, 3, tzinfo=timezone.utc)},
    ],
    ids=str,
)
def test_nothing_is_deleted_by_a_record_that_its_manifest_does_not_bear_out(chain, part, change):
    error = require_refused(chain, part.model_copy(update=change), IntegrityError, "does not agree with its manifest")

    assert error.hint.startswith("No row was deleted.")


def test_a_verification_made_again_later_is_the_same_part(chain, part):
    again = part.model_copy(update={"verified_at": datetime(2030, 1, 1, tzinfo=timezone.utc), "proved_rows": 1})

    assert chain.delete(again).deleted == 10


@pytest.mark.parametrize("what", ["gone", "other bytes", "other size"])
def test_nothing_is_deleted_when_the_object_is_no_longer_the_one_that_was_verified(chain, part, what):
    class Changed(Moved):
        def head(self, key: str, version_id: str | None = None) -> Any:
            found = self._store.head(key, version_id)
            if found is None or what == "gone" or not key.endswith(".zst"):
                return None if key.endswith(".zst") else found
            change = {"etag": "other"} if what == "other bytes" else {"size_bytes": found.size_bytes + 1}
            return type(found)(**found.__dict__ | change)

    chain.store = Changed(chain.store)

    with pytest.raises(IntegrityError, match="is no longer the object that was verified"):
        chain.delete(part)
    assert len(left(chain)) == 10


def test_nothing_is_deleted_by_an_archive_that_was_condemned(chain, part):
    chain.store.put_bytes(part.archive.condemnation_key, b"{}")

    require_refused(chain, part, IntegrityError, "was condemned")


def test_nothing_is_deleted_of_rows_that_were_restored_and_are_needed(chain, part):
    record = RestoreRecord(
        restore_id="r", archive_ids=(part.archive_id,), table="public.audit", partition_keys=("2026-05",), who="ada",
        why="a case", restored_at=NOW, until=NOW + timedelta(days=1),
    )  # fmt: skip
    keep_record(chain.store, record, now=NOW)

    require_refused(chain, part, NeededError, "its rows are needed in the table")


def test_nothing_is_deleted_from_another_database(chain, part, postgres):
    other = f"other_{os.getpid()}"
    execute(postgres.conninfo(), f"CREATE DATABASE {other}")
    execute(postgres.conninfo(other), TABLE)
    chain.conninfo = postgres.conninfo(other)
    try:
        require_refused(chain, part, IdentityError, "belongs to another database")
    finally:
        execute(postgres.conninfo(), f"DROP DATABASE {other} WITH (FORCE)")


def test_nothing_is_deleted_from_a_table_with_other_columns(chain, part):
    execute(chain.conninfo, "ALTER TABLE audit ADD note text")

    error = require_refused(chain, part, UnarchivableError, "changed its columns")

    assert error.hint.startswith("No row was deleted that is not in a verified archive")


def test_evidence_that_cannot_be_read_is_named(chain, part):
    chain.store.put_bytes(part.archive.delete_evidence_key(0), b"{}")

    with pytest.raises(IntegrityError, match="is not sound evidence of a delete"):
        chain.delete(part)
    assert len(left(chain)) == 10
