"""Rows that other rows refer to stay, and so do rows that change while they are looked at."""

from __future__ import annotations

import threading
import time

import psycopg
import pytest

from tests.support.database import ask, execute
from tests.support.odd_tables import BY_RANGE, REFERRING, exclusions, keys_left

MANY = "CREATE TABLE odd (k integer PRIMARY KEY, at date); INSERT INTO odd SELECT n, '2026-05-01' FROM generate_series(1, 9) AS n;"


@pytest.mark.parametrize("action", ["NO ACTION", "RESTRICT", "NO ACTION DEFERRABLE INITIALLY DEFERRED"])
def test_rows_that_others_refer_to_stay_and_are_counted_once(case, action):
    chain = case(
        MANY
        + f"""
        CREATE TABLE first (odd_k integer CONSTRAINT from_first REFERENCES odd ON DELETE {action});
        CREATE TABLE second (odd_k bigint CONSTRAINT from_second REFERENCES odd ON DELETE {action});
        INSERT INTO first VALUES (1), (2), (2), (NULL);
        INSERT INTO second VALUES (2), (3);
    """
    )
    schema = chain.settings.schema_name

    assert exclusions(chain) == [
        (f"{schema}.first refers to them (from_first)", 2),
        (f"{schema}.second refers to them (from_second)", 1),
    ]
    report = chain.run()
    assert (report.deleted_rows, report.excluded_rows) == (6, 3)
    assert keys_left(chain) == [1, 2, 3]


def test_a_composite_reference_holds_only_the_row_it_points_at(case):
    """NULL in a part of it points at nothing; each pair is compared as the constraint does, collations and all."""
    chain = case("""
        CREATE TABLE odd (k integer PRIMARY KEY, a text COLLATE "C", b numeric, at date, UNIQUE (b, a));
        INSERT INTO odd VALUES (1, 'x', 1.0, '2026-05-01'), (2, 'x', 2, '2026-05-01'), (3, 'y', 1, '2026-05-01');
        CREATE TABLE referring (b2 integer, a2 text COLLATE "POSIX", FOREIGN KEY (a2, b2) REFERENCES odd (a, b));
        INSERT INTO referring VALUES (1, 'x'), (2, NULL);
    """)

    assert [rows for _, rows in exclusions(chain)] == [1]
    assert chain.run().deleted_rows == 2
    assert keys_left(chain) == [1]


def test_a_reference_by_an_extensions_equality_holds_its_row(case):
    """The foreign key says that 'ABC' is 'abc', whatever our session would say."""
    chain = case("""
        CREATE EXTENSION IF NOT EXISTS citext SCHEMA public;
        CREATE TABLE odd (k integer PRIMARY KEY, word citext UNIQUE, at date);
        INSERT INTO odd VALUES (1, 'ABC', '2026-05-01'), (2, 'DEF', '2026-05-01');
        CREATE TABLE referring (word citext REFERENCES odd (word));
        INSERT INTO referring VALUES ('abc');
    """)

    assert chain.run().deleted_rows == 1
    assert keys_left(chain) == [1]


def test_a_tree_is_archived_from_its_leaves(case):
    """A row that another row of the same table refers to waits for the run after the one that takes its children."""
    chain = case(
        MANY + "ALTER TABLE odd ADD parent integer REFERENCES odd; UPDATE odd SET parent = k / 3 WHERE k >= 3;"
    )

    first = chain.run()
    second = chain.run()

    assert (first.deleted_rows, first.excluded_rows) == (6, 3)
    assert (second.deleted_rows, second.excluded_rows) == (2, 1)
    assert keys_left(chain) == [1]


def test_a_reference_to_one_partition_holds_the_row(case):
    chain = case(
        BY_RANGE
        + """
        ALTER TABLE whole RENAME TO odd;
        INSERT INTO odd VALUES (2, '2026-05-02');
        ALTER TABLE part ADD UNIQUE (k);
        CREATE TABLE referring (k integer REFERENCES part (k));
        INSERT INTO referring VALUES (2);
    """
    )

    assert chain.run().deleted_rows == 1
    assert keys_left(chain) == [2]


def test_a_row_that_is_referred_to_after_it_was_archived_stays(case):
    chain = case(MANY + REFERRING + ");")
    sealed = chain.seal(chain.plan())
    execute(chain.conninfo, f"INSERT INTO {chain.settings.schema_name}.referring VALUES (1, 4)")

    [deleted] = [chain.delete(part) for part in sealed.parts]

    assert (deleted.deleted, deleted.referenced, deleted.changed) == (8, 1, 0)
    assert keys_left(chain) == [4]


@pytest.mark.parametrize(("ending", "left"), [("commit", [4]), ("rollback", [])])
def test_a_row_that_an_open_transaction_refers_to_is_waited_for(case, ending, left):
    """The delete cannot see the reference, waits for its transaction to end, and then looks again."""
    chain = case(MANY + REFERRING + ");")
    [part] = chain.seal(chain.plan()).parts
    with psycopg.connect(chain.conninfo) as other:
        other.execute(f"INSERT INTO {chain.settings.schema_name}.referring VALUES (1, 4)")
        outcomes = []
        deleting = threading.Thread(target=lambda: outcomes.append(chain.delete(part)))
        deleting.start()
        wait_until_blocked(chain.conninfo, by=other.info.backend_pid)
        getattr(other, ending)()
        deleting.join(timeout=30)

    [deleted] = outcomes
    assert (deleted.deleted, deleted.referenced) == (9 - len(left), len(left))
    assert keys_left(chain) == left


def test_a_row_that_an_open_transaction_changes_is_waited_for_and_stays(case):
    chain = case(MANY + "ALTER TABLE odd ADD what text;")
    [part] = chain.seal(chain.plan()).parts
    with psycopg.connect(chain.conninfo) as other:
        other.execute(f"UPDATE {chain.settings.schema_name}.odd SET what = 'changed' WHERE k = 4")
        outcomes = []
        deleting = threading.Thread(target=lambda: outcomes.append(chain.delete(part)))
        deleting.start()
        wait_until_blocked(chain.conninfo, by=other.info.backend_pid)
        other.commit()
        deleting.join(timeout=30)

    [deleted] = outcomes
    assert (deleted.deleted, deleted.changed) == (8, 1)
    assert keys_left(chain) == [4]


def wait_until_blocked(conninfo: str, by: int) -> None:
    for _ in range(300):
        if ask(conninfo, "SELECT FROM pg_stat_activity WHERE %s = ANY (pg_blocking_pids(pid))", by):
            return
        time.sleep(0.05)
    raise AssertionError(f"nobody waits for {by}")
