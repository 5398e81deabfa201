"""Whole blocks go by the range of their dates; whatever differs from its archived form sends its block, and no other, to the keys."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import psycopg
import pytest

from strongroom.database.session import open_source
from strongroom.errors import UnarchivableError
from strongroom.tables import delete_range
from tests.support.chain import Chain
from tests.support.database import execute, scalar
from tests.support.deleting import counts, evidence_of, left, sealed


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


def let_notes_refer(chain: Chain, rule: str = "") -> None:
    execute(
        chain.conninfo,
        f'CREATE TABLE note (id bigint, branch text COLLATE "C", FOREIGN KEY (id, branch) REFERENCES audit {rule})',
    )


def refer_behind_the_look(chain: Chain, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """A note arrives that the first DELETE does not see, as if the statement's snapshot were older than the note."""
    real, referred = delete_range.due_rows, []

    def unaware(table: Any, window: Any) -> Any:
        if not referred:
            referred.append(execute(chain.conninfo, f"INSERT INTO note VALUES ({number}, 'a')"))
        return real(dataclasses.replace(table, references=()), window)

    monkeypatch.setattr(delete_range, "due_rows", unaware)


@pytest.mark.parametrize("rule", ["", "DEFERRABLE INITIALLY DEFERRED"])
@pytest.mark.parametrize("before", [True, False], ids=["before the plan", "after the seal"])
def test_rows_that_others_refer_to_stay_with_none_of_their_neighbours(chain, before, rule):
    let_notes_refer(chain, rule)
    if before:
        execute(chain.conninfo, "INSERT INTO note VALUES (9, 'a')")
    part = sealed(chain)
    if not before:
        execute(chain.conninfo, "INSERT INTO note VALUES (9, 'a')")

    deleted = chain.delete(part)

    assert (deleted.deleted, deleted.referenced, left(chain)) == (19, 0 if before else 1, ["9a"])
    assert deleted.by_range == (19 if before else 16)


@pytest.mark.parametrize("rule", ["", "DEFERRABLE INITIALLY DEFERRED"])
def test_a_reference_that_arrives_after_the_statement_has_looked_keeps_its_row(chain, monkeypatch, rule):
    """The foreign key itself then refuses the DELETE, or at its latest the commit."""
    let_notes_refer(chain, rule)
    part = sealed(chain)
    refer_behind_the_look(chain, monkeypatch, 9)

    deleted = chain.delete(part)

    assert (deleted.deleted, deleted.referenced, left(chain)) == (19, 1, ["9a"])


def test_a_batch_that_its_commit_refuses_may_have_had_a_block_that_differs(chain, monkeypatch):
    """The first block is refused by the commit, because of a reference that came late; the second had been rolled back before."""
    let_notes_refer(chain, "DEFERRABLE INITIALLY DEFERRED")
    part = sealed(chain)
    execute(chain.conninfo, "UPDATE audit SET who = 'new' WHERE id = 9")
    refer_behind_the_look(chain, monkeypatch, 3)

    deleted = chain.delete(part)

    assert (deleted.deleted, deleted.referenced, deleted.changed, left(chain)) == (18, 1, 1, ["3a", "9a"])


def test_neighbouring_rows_that_go_one_by_one_for_two_reasons_say_both(chain):
    """The first twelve rows are of one instant, which no range holds; the block behind them has a row that changed."""
    execute(chain.conninfo, "UPDATE audit SET at = '2026-05-02' WHERE id < 14")
    part = sealed(chain)
    execute(chain.conninfo, "UPDATE audit SET who = 'new' WHERE id = 15")

    deleted = chain.delete(part)

    assert (counts(deleted), left(chain)) == ((19, 4, 0, 1), ["15a"])
    assert deleted.one_by_one == {"no range of dates holds just them": 12, "their block is not what was archived": 4}


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


def test_what_a_statement_deleted_that_differs_is_rolled_back_before_anything_is_committed(chain, monkeypatch):
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


def test_a_column_that_is_added_just_before_a_range_is_deleted_rolls_the_batch_back(chain, monkeypatch):
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
