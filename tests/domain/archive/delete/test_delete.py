"""What a DELETE takes out of the table: each condition that a row must meet, one at a time."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest

from strongroom.archive import delete
from strongroom.archive.delete import delete_part
from strongroom.ledger.evidence import DeleteEvidence, KeptRow, keep_annex, parse_evidence
from strongroom.records import DeletedPart
from strongroom.tables import delete_progress
from tests.support.chain import RUN
from tests.support.database import ask, execute
from tests.support.deleting import (
    Moved,
    delete_while,
    evidence_of,
    kept_of,
    left,
    nothing_more,
)
from tests.support.fuzzing import sample_of


def test_the_evidence_dates_the_last_commit_that_deleted_rows_whenever_its_task_began(chain, part):
    """By the server's clock: a task that waited through a pause began hours before."""
    began: list[Any] = []
    chain.keep_claim = lambda: began.append(clock_of(chain))

    deleted = chain.delete(part)

    assert began[-1] < deleted.deleted_at < clock_of(chain)
    assert evidence_of(chain, part).deleted_at == deleted.deleted_at


def test_the_evidence_dates_the_delete_and_not_the_try_that_finds_it_done(chain, part, monkeypatch):
    """The first try dies when all rows are deleted; the second one has nothing left to delete."""

    def die(*_: Any) -> None:
        raise DiedError

    with monkeypatch.context() as patched:
        patched.setattr(delete, "keep_annex", die)
        with pytest.raises(DiedError):
            chain.delete(part)
    died = clock_of(chain)

    assert chain.delete(part).deleted_at < died


def test_rows_that_somebody_else_deleted_are_dated_by_when_they_were_missed(chain, part):
    execute(chain.conninfo, "DELETE FROM audit")
    before = clock_of(chain)

    deleted = chain.delete(part)

    assert (deleted.deleted, deleted.gone) == (0, 10)
    assert before < deleted.deleted_at < clock_of(chain)


class DiedError(Exception):
    """The process was killed."""


def clock_of(chain):
    """The time by the server's clock."""
    [(now,)] = ask(chain.conninfo, "SELECT clock_timestamp()")
    return now


def test_all_rows_that_are_as_archived_go_and_the_evidence_says_so(chain, part):
    deleted = chain.delete(part)

    assert left(chain) == []
    assert (deleted.deleted, deleted.gone, deleted.changed, deleted.referenced, deleted.rows) == (10, 0, 0, 0, 10)
    assert (deleted.batches, deleted.evidence_key) == (3, part.archive.delete_evidence_key(0))
    assert deleted.longest_batch_seconds > 0
    evidence = evidence_of(chain, part)
    assert (kept_of(chain.store, evidence), evidence.warm_table, evidence.dag_id, evidence.run_id) == (
        (),
        None,
        RUN.dag_id,
        RUN.run_id,
    )
    assert (evidence.object_key, evidence.version_id, evidence.sha256) == (
        part.object_key,
        part.version_id,
        part.sha256,
    )
    assert DeletedPart.model_validate(evidence.model_dump(include=set(DeletedPart.model_fields))) == deleted


def test_rows_that_changed_are_gone_or_are_referred_to_stay_and_are_told_apart(chain, part):
    execute(
        chain.conninfo,
        """
        UPDATE audit SET who = who || '!' WHERE id = 2;
        DELETE FROM audit WHERE id = 3 AND branch = 'a';
        CREATE TABLE notes (id bigint, branch text COLLATE "C", FOREIGN KEY (id, branch) REFERENCES audit);
        INSERT INTO notes VALUES (4, 'b');
        CREATE TABLE more (id bigint, branch text COLLATE "POSIX", FOREIGN KEY (id, branch) REFERENCES audit);
        INSERT INTO more VALUES (5, 'a'), (1, NULL);
        """,
    )

    deleted = chain.delete(part)

    assert left(chain) == ["2a", "2b", "4b", "5a"]
    assert (deleted.deleted, deleted.gone, deleted.changed, deleted.referenced) == (5, 1, 2, 2)
    kept = {("".join(row.key), row.reason) for row in kept_of(chain.store, evidence_of(chain, part))}
    assert kept == {("2a", "changed"), ("2b", "changed"), ("4b", "referenced"), ("5a", "referenced")}


def test_evidence_that_is_kept_for_ever_has_no_key_of_a_row(chain, part):
    """The keys are in an object beside the archive's parts, which goes with them. Its salt keeps its sum from being guessed."""
    execute(chain.conninfo, "UPDATE audit SET who = who || '!' WHERE id = 2")
    chain.delete(part)
    evidence = evidence_of(chain, part)
    kept = kept_of(chain.store, evidence)

    body = chain.store.read(part.archive.delete_evidence_key(0))[0]

    assert {row.key for row in kept} == {("2", "a"), ("2", "b")}
    assert b'"key": [' not in body
    assert b'"kept"' not in body
    assert evidence.annex.key == f"{part.archive.archive_prefix}kept-part-00000.json"
    assert len(json.loads(chain.store.read(evidence.annex.key)[0])["salt"]) == 64


def test_a_delete_that_died_before_its_evidence_finds_its_annex(chain, part):
    """A later try about the same rows names the one that is there. One about others writes its own."""
    execute(chain.conninfo, "UPDATE audit SET who = who || '!' WHERE id = 2")
    rows = [KeptRow(reason="changed", key=("2", branch)) for branch in "ab"]

    first, again = (keep_annex(chain.store, part.archive, 0, rows) for _ in range(2))
    other = keep_annex(chain.store, part.archive, 0, rows[:1])
    chain.delete(part)

    assert first == again == evidence_of(chain, part).annex
    assert other.key == f"{part.archive.archive_prefix}kept-part-00000.2.json"
    assert kept_of(chain.store, evidence_of(chain, part)) == tuple(rows)


def test_evidence_from_before_there_were_annexes_is_still_read():
    """It lists the keys itself, and is written again as it was."""
    old = sample_of(DeleteEvidence)

    evidence = parse_evidence("evidence/x.json", old)

    assert [row.key for row in evidence.kept] == [("1",)]
    assert evidence.annex is None
    assert json.loads(evidence.to_bytes())["kept"] == [{"reason": "changed", "key": ["1"]}]


@pytest.mark.parametrize("change", ["who = NULL", "who = ''", "at = at + interval '1 us'", "at = '2030-01-01'"])
def test_a_row_with_any_difference_stays(chain, part, change):
    execute(chain.conninfo, f"UPDATE audit SET {change} WHERE id = 1 AND branch = 'b'")

    assert (chain.delete(part).changed, left(chain)) == (1, ["1b"])


def test_rows_of_no_archive_stay(chain, part):
    """Also those that share a column of their key with an archived row, or all their other columns."""
    execute(chain.conninfo, "INSERT INTO audit SELECT id, 'c', at, who FROM audit WHERE branch = 'a'")

    assert chain.delete(part).deleted == 10
    assert left(chain) == ["1c", "2c", "3c", "4c", "5c"]


def test_a_row_that_changes_while_the_delete_waits_for_it_stays(chain, part):
    [deleted] = delete_while(chain, part, "UPDATE audit SET who = 'new' WHERE id = 1 AND branch = 'a'", nothing_more)

    assert (deleted.deleted, deleted.changed, left(chain)) == (9, 1, ["1a"])


def test_only_so_many_keys_are_listed_and_all_are_counted(chain, part, monkeypatch):
    monkeypatch.setattr(delete_progress, "LISTED_KEYS", 5)
    execute(chain.conninfo, "UPDATE audit SET who = 'new'")

    assert chain.delete(part).changed == 10
    assert len(kept_of(chain.store, evidence_of(chain, part))) == 5


def test_a_second_part_in_the_same_session_finds_an_empty_batch(chain, part):
    """The temporary table is there already."""
    chain.store = Moved(chain.store)
    with chain.source() as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        for _ in range(2):
            deleted = delete_part(connection, part, chain.deleting_step(chain.staging(part.archive_id)))
            chain.staging(part.archive_id).clear()
        assert connection.isolation_level == psycopg.IsolationLevel.READ_COMMITTED
    assert (deleted.deleted, deleted.gone) == (0, 10)
