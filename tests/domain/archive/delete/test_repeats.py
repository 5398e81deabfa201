"""A delete that is repeated, or goes on where an earlier try broke off."""

from __future__ import annotations

import itertools
import threading
import time
from functools import partial
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from strongroom.database.session import open_source, read_life
from strongroom.errors import (
    IntegrityError,
    SourceError,
)
from strongroom.records import VerifiedPart
from strongroom.tables import delete_batch, delete_progress
from strongroom.tables.delete_progress import DeleteProgress, PendingBatch
from tests.support.chain import RUN, Chain
from tests.support.database import execute
from tests.support.deleting import (
    keys_of,
    left,
    require_refused,
)


def begun(chain: Chain, part: VerifiedPart, **counts: Any) -> DeleteProgress:
    """The progress of an earlier try on this database."""
    with chain.source() as connection:
        return DeleteProgress(**part.model_dump(), life=read_life(connection), **counts)


def test_a_repeat_after_success_deletes_nothing_and_says_who_did_and_what_is_there_again(chain, part):
    first = chain.delete(part)
    evidence = chain.store.read(first.evidence_key)
    execute(
        chain.conninfo,
        "INSERT INTO audit VALUES (1, 'a', '2026-05-02 00:00+00', 'agent 1a'), (2, 'b', '2026-05-02', 'new'), (9, 'z', '2026-05-02', 'late')",
    )

    again = chain.delete(part)

    assert again == first.model_copy(update={"deleted_by": f"{RUN.dag_id} {RUN.run_id}", "in_table": 2})
    assert left(chain) == ["1a", "2b", "9z"]
    assert chain.store.read(first.evidence_key) == evidence
    assert b"in_table" not in evidence[0]


@pytest.mark.parametrize(
    ("change", "in_table"),
    [("SELECT 1", 1), ("DELETE FROM audit", 0), ("UPDATE audit SET at = '2027-01-01'", 1), ("DROP TABLE audit", None)],
)
def test_a_repeat_counts_rows_by_their_keys_where_it_can(chain, part, change, in_table):
    execute(chain.conninfo, "UPDATE audit SET who = 'new' WHERE id = 1 AND branch = 'a'")
    assert chain.delete(part).in_table is None
    execute(chain.conninfo, change)

    again = chain.delete(part)

    assert (again.deleted, again.changed, again.in_table) == (9, 1, in_table)


def test_a_repeat_succeeds_where_its_rows_cannot_be_counted_in_time(chain, part, monkeypatch):
    """What was deleted is proved; the count only informs."""
    chain.delete(part)
    impatient = partial(open_source, chain.conninfo, application_name="test", lock_timeout_seconds=1)
    monkeypatch.setattr(chain, "source", impatient)

    with psycopg.connect(chain.conninfo) as other:
        other.execute("LOCK TABLE audit")
        again = chain.delete(part)

    assert (again.deleted, again.in_table) == (10, None)


def test_a_try_that_broke_off_is_gone_on_with_behind_its_last_batch(chain, part, monkeypatch):
    """Rows of the batches before are not looked for again, and their counts are kept."""
    execute(chain.conninfo, "UPDATE audit SET who = 'new' WHERE id = 1 AND branch = 'a'")
    keys = keys_of(chain, part)
    assert len(keys) == 10
    real, calls = delete_batch.fill_batch, itertools.count(1)

    def break_off(*arguments: Any) -> Any:
        if next(calls) == 3:
            raise psycopg.OperationalError("broke off")
        return real(*arguments)

    monkeypatch.setattr(delete_batch, "fill_batch", break_off)
    with pytest.raises(SourceError):
        chain.delete(part)
    progress = chain.staging(part.archive_id).load(DeleteProgress, 0)
    monkeypatch.undo()

    deleted = chain.delete(part)

    assert progress is not None
    assert progress.pending is not None
    assert (progress.done_rows, progress.batches, progress.pending.rows) == (4, 1, 4)
    assert (deleted.deleted, deleted.changed, deleted.gone, deleted.batches) == (9, 1, 0, 3)
    assert deleted.longest_batch_seconds >= progress.longest_batch_seconds


def keep_pending(chain: Chain, part: VerifiedPart, transaction: str) -> None:
    """Let an earlier try have been about to commit its first batch, all of it deleted, when it died."""
    pending = PendingBatch(transaction=transaction, rows=4, deleted=4, gone=0, kept=(), seconds=0.1)
    chain.staging(part.archive_id).save(begun(chain, part, pending=pending))


def current_transaction(connection: Any) -> str:
    return str(connection.execute("SELECT pg_current_xact_id()::text").fetchone()[0])


def test_a_batch_that_an_earlier_try_did_not_commit_is_done_again(chain, part):
    with psycopg.connect(chain.conninfo) as other:
        keep_pending(chain, part, current_transaction(other))
        other.rollback()

    assert (chain.delete(part).deleted, left(chain)) == (10, [])


def test_a_batch_of_which_the_server_knows_nothing_is_looked_at_again(chain, part):
    """A transaction of the future, as after a restore of the whole database."""
    keep_pending(chain, part, "999999999")

    assert (chain.delete(part).deleted, left(chain)) == (10, [])


STAND_IN = (
    "CREATE FUNCTION pg_catalog.pg_xact_status(xid8) RETURNS text LANGUAGE plpgsql AS "
    "'BEGIN RAISE ''not here'' USING ERRCODE = ''feature_not_supported''; END'"
)


@pytest.mark.parametrize("instead", ["", STAND_IN], ids=["no such function", "one that says no"])
def test_a_batch_of_which_the_server_cannot_tell_is_looked_at_again(chain, part, instead):
    """As servers that only speak PostgreSQL's protocol; here it is hidden under another name for a while."""
    keep_pending(chain, part, "3")
    hidden = "pg_catalog.pg_xact_status_hidden"
    with psycopg.connect(chain.conninfo, autocommit=True) as owner:
        owner.execute("SET allow_system_table_mods = on")
        owner.execute("ALTER FUNCTION pg_catalog.pg_xact_status(xid8) RENAME TO pg_xact_status_hidden")
        owner.execute(instead)
        try:
            deleted = chain.delete(part)
        finally:
            owner.execute("DROP FUNCTION IF EXISTS pg_catalog.pg_xact_status(xid8)")
            owner.execute(f"ALTER FUNCTION {hidden}(xid8) RENAME TO pg_xact_status")

    assert (deleted.deleted, left(chain)) == (10, [])


def test_a_batch_that_an_earlier_try_has_yet_to_commit_is_waited_for(chain, part):
    keys = keys_of(chain, part)
    with psycopg.connect(chain.conninfo) as other:
        keep_pending(chain, part, current_transaction(other))
        for number, branch in keys[:4]:
            other.execute("DELETE FROM audit WHERE id = %s AND branch = %s", (number, branch))
        threading.Timer(0.5, other.commit).start()

        deleted = chain.delete(part)

    assert (deleted.deleted, deleted.gone, deleted.batches) == (10, 0, 3)


def test_a_batch_that_an_earlier_try_never_commits_stops_the_delete(chain, part, monkeypatch):
    """After five looks, with longer and longer breaks between them."""
    breaks: list[float] = []
    monkeypatch.setattr(delete_progress, "time", SimpleNamespace(monotonic=time.monotonic, sleep=breaks.append))
    with psycopg.connect(chain.conninfo) as other:
        keep_pending(chain, part, current_transaction(other))

        require_refused(chain, part, SourceError, "has not ended in the database")

    assert breaks == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "other",
    [
        {"blocks_sha256": "0" * 64},
        {"life": "system 1, database 2, timeline 00000001"},
        {"life": ""},
        {"version_id": "other"},
        {"sha256": "0" * 64},
        {"snapshot": "1:1:"},
    ],
    ids=str,
)
def test_progress_of_other_keys_another_database_or_another_archive_is_not_gone_on_with(chain, part, other):
    """Staging may have outlived them, and an equal part of an earlier database has the same keys and digests."""
    progress = begun(chain, part, done_rows=10, deleted=10).model_copy(update=other)
    chain.staging(part.archive_id).save(progress)

    assert (chain.delete(part).deleted, left(chain)) == (10, [])


@pytest.mark.parametrize(
    "wrong",
    [
        {"done_rows": 4},
        {"done_rows": 4, "deleted": 3},
        {"done_rows": 4, "gone": 5},
        {"done_rows": 4, "changed": 3},
        {"done_rows": 4, "referenced": 5},
        {"done_rows": 4, "kept_by_trigger": 3},
        {"done_rows": 11, "deleted": 10},
        {"deleted": 1},
    ],
    ids=str,
)
def test_progress_that_does_not_add_up_is_named(chain, part, wrong):
    """The rows that it has not counted go, and they were compared; but no evidence is written."""
    chain.staging(part.archive_id).save(begun(chain, part, **wrong))

    with pytest.raises(IntegrityError, match="does not add up: expected 10 rows") as caught:
        chain.delete(part)

    assert caught.value.hint.startswith("Every deleted row was compared with its archived form")
    assert chain.store.read(part.archive.delete_evidence_key(0)) is None


@pytest.mark.parametrize("counted", ["deleted", "gone", "changed", "referenced", "kept_by_trigger"])
def test_progress_of_each_kind_counts(chain, part, counted):
    keys = keys_of(chain, part)
    progress = begun(chain, part, done_rows=4, longest_batch_seconds=1234.5, batches=1, **{counted: 4})
    chain.staging(part.archive_id).save(progress)

    deleted = chain.delete(part)

    assert getattr(deleted, counted) == (10 if counted == "deleted" else 4)
    assert (deleted.batches, deleted.longest_batch_seconds) == (3, 1234.5)
    assert left(chain) == sorted(map("".join, keys[:4]))
