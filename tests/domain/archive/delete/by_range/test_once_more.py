"""A delete by range that is tried again, or goes on where an earlier one broke off, or has lost its blocks."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from strongroom.errors import IntegrityError, SourceError
from strongroom.formats import blocks
from strongroom.tables import delete_range
from strongroom.tables.pace import Pace
from tests.support.database import execute
from tests.support.deleting import counts, left, sealed


def test_a_block_that_differs_does_so_again_when_its_batch_is_tried_again(chain, monkeypatch):
    part = sealed(chain)
    execute(chain.conninfo, "UPDATE audit SET who = 'new' WHERE id = 9")
    real, calls = Pace.before_commit, []

    def fail_once(*given: Any) -> None:
        calls.append(given)
        if len(calls) == 1:
            raise psycopg.errors.DeadlockDetected
        real(*given)

    monkeypatch.setattr(Pace, "before_commit", fail_once)

    deleted = chain.delete(part)

    assert (counts(deleted), left(chain)) == ((19, 16, 0, 1), ["9a"])


@pytest.mark.parametrize("format_", ["jsonl", "parquet"])
@pytest.mark.parametrize("ordered", [True, False], ids=["in the order of dates", "in none"])
def test_blocks_that_were_lost_or_forged_in_staging_are_made_anew_from_the_archive(chain, ordered, format_):
    changes = {"format": format_, "delete_by": "range" if ordered else "key"}
    chain.settings = chain.settings.model_copy(update=changes)
    part = sealed(chain)
    path = chain.staging(part.archive_id).blocks(0)
    written = path.read_bytes()
    for content in (b"", written.replace(b"4", b"5", 1), None):
        path.write_bytes(content) if content is not None else path.unlink()

        found = chain.restored_blocks(part)

        assert (path.read_bytes(), len(found), found[-1].until is not None) == (written, 5, ordered)
    assert counts(chain.delete(part)) == (20, 20 if ordered else 0, 0, 0)


def test_blocks_that_the_archive_does_not_give_back_are_not_deleted_by(chain):
    part = sealed(chain)

    with pytest.raises(IntegrityError, match="does not give its blocks back"):
        chain.restored_blocks(part.model_copy(update={"blocks_sha256": "0" * 64}))


def test_a_delete_that_broke_off_between_two_batches_goes_on_behind_its_last_block(chain, monkeypatch):
    part = sealed(chain)
    real = delete_range.digest
    calls: list[int] = []

    def break_off(rows: list[bytes]) -> str:
        calls.append(len(rows))
        if len(calls) == 4:
            raise psycopg.OperationalError("broke off")
        return real(rows)

    monkeypatch.setattr(delete_range, "digest", break_off)
    with pytest.raises(SourceError):
        chain.delete(part)
    assert len(left(chain)) == 12
    monkeypatch.undo()
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 4)

    deleted = chain.delete(part)

    assert (counts(deleted), deleted.batches, left(chain)) == ((20, 20, 0, 0), 3, [])
