"""Whole blocks go by the range of their dates; whatever differs from its archived form sends its block, and no other, to the keys."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import psycopg
import pytest

from strongroom.database.session import open_source
from strongroom.errors import IntegrityError, SourceError, UnarchivableError
from strongroom.formats import blocks
from strongroom.records import DeletedPart, VerifiedPart
from strongroom.tables import delete_range
from strongroom.tables.pace import Pace
from tests.support.chain import Chain
from tests.support.database import execute, scalar
from tests.support.deleting import evidence_of, left

TABLE = """
DROP TABLE audit;
CREATE TABLE audit (id bigint, branch text COLLATE "C", at timestamptz NOT NULL, who text, PRIMARY KEY (id, branch));
CREATE INDEX ON audit (at);
INSERT INTO audit SELECT n, 'a', '2026-05-02 00:00+00'::timestamptz + (n / 2) * interval '1.5 seconds', 'agent ' || n FROM generate_series(2, 21) AS n;
"""
"""Twenty rows, two of each instant."""


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch) -> None:
    """Blocks of four rows: two instants each."""
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 4)


@pytest.fixture
def chain(chain) -> Chain:
    execute(chain.conninfo, TABLE)
    chain.settings = chain.settings.model_copy(update={"delete_batch_rows": 8})
    return chain


def sealed(chain: Chain) -> VerifiedPart:
    [part] = chain.seal(chain.plan()).parts
    return part


def counts(deleted: DeletedPart) -> tuple[int, int, int, int]:
    return deleted.deleted, deleted.by_range, deleted.gone, deleted.changed


def test_all_rows_go_by_range_in_batches_of_whole_blocks(chain):
    part = sealed(chain)

    deleted = chain.delete(part)

    assert (counts(deleted), deleted.one_by_one, left(chain)) == ((20, 20, 0, 0), {}, [])
    assert (deleted.batches, evidence_of(chain, part).by_range) == (3, 20)


CHANGES = {
    "a row that changed": ("UPDATE audit SET who = 'new' WHERE id = 9", (19, 16, 0, 1), ["9a"]),
    "a row whose date moved into another block": (
        "UPDATE audit SET at = at + interval '6 seconds' WHERE id = 9",
        (19, 12, 0, 1),
        ["9a"],
    ),
    "a row whose date left the part": ("UPDATE audit SET at = '2026-09-01' WHERE id = 9", (19, 16, 0, 1), ["9a"]),
    "a row that is gone": ("DELETE FROM audit WHERE id = 9", (19, 16, 1, 0), []),
    "a row that came late": (
        "INSERT INTO audit SELECT 99, 'z', at, 'late' FROM audit WHERE id = 9",
        (20, 16, 0, 0),
        ["99z"],
    ),
    "a row that came between two blocks": (
        "INSERT INTO audit SELECT 99, 'z', at - interval '1 microsecond', 'late' FROM audit WHERE id = 6",
        (20, 16, 0, 0),
        ["99z"],
    ),
    "rows of others that are many": (
        "INSERT INTO audit SELECT n, 'z', (SELECT at FROM audit WHERE id = 9), 'late' FROM generate_series(100, 120) AS n",
        (20, 16, 0, 0),
        [f"{number}z" for number in range(100, 121)],
    ),
    "one gone for one that came": (
        "UPDATE audit SET id = 99 WHERE id = 9",
        (19, 16, 1, 0),
        ["99a"],
    ),
    "two rows that changed their contents with each other": (
        "UPDATE audit SET who = 'agent ' || (17 - id) WHERE id IN (8, 9)",
        (18, 16, 0, 2),
        ["8a", "9a"],
    ),
}


@pytest.mark.parametrize(("change", "expected", "stay"), CHANGES.values(), ids=CHANGES)
def test_only_the_block_that_differs_goes_row_by_row(chain, change, expected, stay):
    part = sealed(chain)
    execute(chain.conninfo, change)

    deleted = chain.delete(part)

    assert (counts(deleted), left(chain)) == (expected, sorted(stay))
    assert deleted.one_by_one == {"their block is not what was archived": 20 - expected[1]}


@pytest.mark.parametrize("deferred", ["", "DEFERRABLE INITIALLY DEFERRED"])
@pytest.mark.parametrize("before", [True, False], ids=["before the plan", "after the seal"])
def test_rows_that_others_refer_to_stay_with_none_of_their_neighbours(chain, before, deferred):
    refer = f"""
        CREATE TABLE note (id bigint, branch text COLLATE "C", FOREIGN KEY (id, branch) REFERENCES audit {deferred});
        INSERT INTO note VALUES (9, 'a');
    """
    if before:
        execute(chain.conninfo, refer)
    else:
        execute(chain.conninfo, refer.partition(";")[0])
    part = sealed(chain)
    if not before:
        execute(chain.conninfo, "INSERT INTO note VALUES (9, 'a')")

    deleted = chain.delete(part)

    assert (deleted.deleted, deleted.referenced, left(chain)) == (19, 0 if before else 1, ["9a"])
    assert deleted.by_range == (19 if before else 16)


@pytest.mark.parametrize("deferred", [False, True])
def test_a_reference_that_arrives_after_the_statement_has_looked_keeps_its_row(chain, monkeypatch, deferred):
    """The foreign key itself then refuses the DELETE, or at its latest the commit."""
    rule = "DEFERRABLE INITIALLY DEFERRED" if deferred else ""
    execute(
        chain.conninfo,
        f'CREATE TABLE note (id bigint, branch text COLLATE "C", FOREIGN KEY (id, branch) REFERENCES audit {rule})',
    )
    part = sealed(chain)
    real, referred = delete_range.due_rows, []

    def unaware(table: Any, window: Any) -> Any:
        """As a statement whose snapshot is older than the reference."""
        if not referred:
            referred.append(execute(chain.conninfo, "INSERT INTO note VALUES (9, 'a')"))
        return real(dataclasses.replace(table, references=()), window)

    monkeypatch.setattr(delete_range, "due_rows", unaware)

    deleted = chain.delete(part)

    assert (deleted.deleted, deleted.referenced, left(chain)) == (19, 1, ["9a"])


def test_a_batch_that_its_commit_refuses_may_have_had_a_block_that_differs(chain, monkeypatch):
    """The first block is refused by the commit, because of a reference that came late; the second had been taken back before."""
    execute(
        chain.conninfo,
        'CREATE TABLE note (id bigint, branch text COLLATE "C", '
        "FOREIGN KEY (id, branch) REFERENCES audit DEFERRABLE INITIALLY DEFERRED)",
    )
    part = sealed(chain)
    execute(chain.conninfo, "UPDATE audit SET who = 'new' WHERE id = 9")
    real, referred = delete_range.due_rows, []

    def unaware(table: Any, window: Any) -> Any:
        if not referred:
            referred.append(execute(chain.conninfo, "INSERT INTO note VALUES (3, 'a')"))
        return real(dataclasses.replace(table, references=()), window)

    monkeypatch.setattr(delete_range, "due_rows", unaware)

    deleted = chain.delete(part)

    assert (deleted.deleted, deleted.referenced, deleted.changed, left(chain)) == (18, 1, 1, ["3a", "9a"])


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


def test_a_trigger_that_keeps_a_row_keeps_it_alone(chain):
    execute(
        chain.conninfo,
        """
        CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN IF OLD.id = 9 THEN RETURN NULL; END IF; RETURN OLD; END $$;
        CREATE TRIGGER keeping BEFORE DELETE ON audit FOR EACH ROW EXECUTE FUNCTION keep();
        """,
    )
    chain.settings = chain.settings.model_copy(update={"accepted_delete_triggers": ("keeping",)})
    part = sealed(chain)

    deleted = chain.delete(part)

    assert (deleted.deleted, deleted.by_range, deleted.kept_by_trigger, left(chain)) == (19, 16, 1, ["9a"])


@pytest.mark.parametrize("when", ["BEFORE", "AFTER"])
def test_a_trigger_that_refuses_rows_of_others_refuses_none_of_the_archived(chain, when):
    execute(
        chain.conninfo,
        f"""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN IF OLD.who IN ('new', 'late') THEN RAISE 'not this one'; END IF; RETURN OLD; END $$;
        CREATE TRIGGER refusing {when} DELETE ON audit FOR EACH ROW EXECUTE FUNCTION refuse();
        """,
    )
    chain.settings = chain.settings.model_copy(update={"accepted_delete_triggers": ("refusing",)})
    part = sealed(chain)
    execute(chain.conninfo, "UPDATE audit SET who = 'new' WHERE id = 9")
    execute(chain.conninfo, "INSERT INTO audit SELECT 99, 'z', at, 'late' FROM audit WHERE id = 20")

    deleted = chain.delete(part)

    assert (counts(deleted), left(chain)) == ((19, 12, 0, 1), ["99z", "9a"])


def test_a_late_row_that_somebody_has_locked_for_long_stops_nothing(chain, monkeypatch):
    """Rows that are looked up by their key do not wait for rows of others."""
    part = sealed(chain)
    execute(chain.conninfo, "INSERT INTO audit SELECT 99, 'z', at, 'late' FROM audit WHERE id = 9")
    impatient = partial(open_source, chain.conninfo, application_name="test", lock_timeout_seconds=1)
    monkeypatch.setattr(chain, "source", impatient)
    with psycopg.connect(chain.conninfo) as other:
        other.execute("SELECT FROM audit WHERE id = 99 FOR UPDATE")

        deleted = chain.delete(part)

    assert (counts(deleted), left(chain)) == ((20, 16, 0, 0), ["99z"])
    assert deleted.one_by_one == {"a row of their block was locked for long": 4}


def test_a_batch_that_is_tried_again_comes_to_a_block_that_differs_twice(chain, monkeypatch):
    part = sealed(chain)
    execute(chain.conninfo, "UPDATE audit SET who = 'new' WHERE id = 7")
    real, failures = Pace.before_commit, [psycopg.errors.SerializationFailure("again")]

    def fail_once(*arguments: Any) -> None:
        if failures:
            raise failures.pop()
        real(*arguments)

    monkeypatch.setattr(Pace, "before_commit", fail_once)

    deleted = chain.delete(part)

    assert (counts(deleted), left(chain)) == ((19, 16, 0, 1), ["7a"])


def test_what_a_statement_deleted_that_differs_is_taken_back_before_anything_is_committed(chain, monkeypatch):
    """At no instant does another session see the rows of a block that differs gone, except those that were compared."""
    part = sealed(chain)
    execute(chain.conninfo, "UPDATE audit SET who = 'new' WHERE id = 9")
    seen: list[int] = []
    real = delete_range.digest

    def look(rows: list[bytes]) -> str:
        seen.append(int(scalar(chain.conninfo, "SELECT count(*) FROM audit WHERE id = 9")))
        return real(rows)

    monkeypatch.setattr(delete_range, "digest", look)
    chain.delete(part)

    assert seen
    assert set(seen) == {1}
    assert left(chain) == ["9a"]


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


def test_rows_that_came_late_are_none_of_the_archived_though_these_are_the_last_to_arrive(chain):
    """Two thousand rows are read at once. What is behind them is just what was archived."""
    part = sealed(chain)
    execute(
        chain.conninfo,
        """
        INSERT INTO audit SELECT n, 'z', '2026-05-01 12:00+00', 'late' FROM generate_series(1, 2000) AS n;
        UPDATE audit SET who = who WHERE branch = 'a';
        """,
    )

    deleted = chain.delete(part)

    assert (counts(deleted), len(left(chain))) == ((20, 16, 0, 0), 2000)


def no_index(chain: Chain) -> None:
    execute(chain.conninfo, "DROP INDEX audit_at_idx")


def by_key(chain: Chain) -> None:
    chain.settings = chain.settings.model_copy(update={"delete_by": "key"})


def partial_index(chain: Chain) -> None:
    execute(chain.conninfo, "DROP INDEX audit_at_idx; CREATE INDEX ON audit (at) WHERE id > 0")


@pytest.mark.parametrize("arrange", [no_index, by_key, partial_index], ids=lambda one: one.__name__)
def test_a_table_whose_dates_have_no_index_goes_by_key(chain, arrange: Callable[[Chain], None]):
    arrange(chain)
    plan = chain.plan()
    [part] = chain.seal(plan).parts

    deleted = chain.delete(part)

    assert plan.delete_by.startswith("key, ")
    assert (counts(deleted), left(chain)) == ((20, 0, 0, 0), [])
    assert deleted.one_by_one == {"no range of dates holds just them": 20}


@pytest.mark.parametrize("changes", [{"delete_by": "key"}, {"delete_batch_rows": 3}], ids=["by key", "smaller batches"])
def test_settings_that_change_after_the_seal_count(chain, changes):
    part = sealed(chain)
    chain.settings = chain.settings.model_copy(update=changes)

    assert counts(chain.delete(part)) == (20, 0, 0, 0)


def test_settings_can_ask_for_ranges_without_an_index(chain):
    no_index(chain)
    chain.settings = chain.settings.model_copy(update={"delete_by": "range"})
    plan = chain.plan()
    [part] = chain.seal(plan).parts

    assert plan.delete_by.startswith("range, ")
    assert counts(chain.delete(part)) == (20, 20, 0, 0)


def test_rows_of_one_instant_that_fill_more_than_a_block_go_by_key(chain):
    execute(chain.conninfo, "UPDATE audit SET at = '2026-05-02' WHERE id < 13")
    part = sealed(chain)

    deleted = chain.delete(part)

    assert (counts(deleted), left(chain)) == ((20, 8, 0, 0), [])
    assert deleted.one_by_one == {"no range of dates holds just them": 12}


@pytest.mark.parametrize("type_", ["timestamp", "date", "timestamptz(0)"])
def test_dates_of_each_type_make_ranges(chain, type_):
    execute(
        chain.conninfo,
        f"ALTER TABLE audit ALTER at TYPE {type_} USING (at AT TIME ZONE 'UTC' + id / 2 * interval '1 day')",
    )
    part = sealed(chain)
    execute(chain.conninfo, "UPDATE audit SET who = 'new' WHERE id = 9")

    deleted = chain.delete(part)

    assert (counts(deleted), left(chain)) == ((19, 16, 0, 1), ["9a"])


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


def test_a_column_that_is_added_just_before_a_range_is_deleted_takes_the_batch_back(chain, monkeypatch):
    """The statement names the columns that were archived, so its texts are equal; the look behind it sees the new one."""
    part = sealed(chain)
    real, added = delete_range.due_rows, []

    def add(table: Any, window: Any) -> Any:
        if not added:
            added.append(execute(chain.conninfo, "ALTER TABLE audit ADD COLUMN note text DEFAULT 'in no archive'"))
        return real(table, window)

    monkeypatch.setattr(delete_range, "due_rows", add)
    with pytest.raises(UnarchivableError, match="changed its columns"):
        chain.delete(part)

    assert len(left(chain)) == 20
