"""Rows that move to the warm tier with the statement that deletes them."""

from __future__ import annotations

import psycopg
import pytest

from strongroom.calendar import Frequency, Partition
from strongroom.errors import IntegrityError
from strongroom.records import VerifiedPart
from strongroom.tables.warm_script import warm_script
from tests.support.chain import NOW, Chain
from tests.support.database import execute, scalar
from tests.support.deleting import evidence_of, left, require_refused, sealed


@pytest.fixture(params=["by key", "by range"])
def part(chain, request) -> VerifiedPart:
    """The one part of a sealed archive of all ten rows; by range they are one block."""
    if request.param == "by range":
        let_go_by_range(chain)
    return sealed(chain)


@pytest.fixture
def warm(chain, part) -> Chain:
    """The same, with a warm table that the rows move to."""
    return with_warm_table(chain)


def let_go_by_range(chain: Chain) -> None:
    execute(chain.conninfo, "CREATE INDEX ON audit (at)")
    chain.settings = chain.settings.model_copy(update={"delete_batch_rows": 10})


def with_warm_table(chain: Chain) -> Chain:
    chain.settings = chain.settings.model_copy(update={"warm": True})
    with chain.source() as connection:
        script = warm_script(connection, chain.settings, now=NOW, until=Partition.parse(Frequency.MONTHLY, "2027-01"))
    with psycopg.connect(chain.conninfo) as connection:
        for statement in script:
            connection.execute(statement)
    return chain


def test_rows_that_are_as_archived_move_to_the_warm_table_and_others_do_not(warm, part):
    execute(warm.conninfo, "UPDATE audit SET who = 'new' WHERE id = 5")
    before = scalar(warm.conninfo, "SELECT array_agg(t::text ORDER BY id, branch) FROM audit AS t WHERE id < 5")

    deleted = warm.delete(part)

    assert (deleted.deleted, deleted.changed, left(warm)) == (8, 2, ["5a", "5b"])
    assert scalar(warm.conninfo, "SELECT array_agg(t::text ORDER BY id, branch) FROM warm.audit AS t") == before
    assert evidence_of(warm, part).warm_table == "warm.audit"


def test_all_rows_of_a_block_move_by_range(warm, part):
    deleted = warm.delete(part)

    assert (deleted.deleted, deleted.by_range) == (10, 10 if part.ordered else 0)
    assert scalar(warm.conninfo, "SELECT count(*) FROM warm.audit") == 10


def test_a_block_of_a_single_row_moves_by_range(chain):
    let_go_by_range(chain)
    execute(chain.conninfo, "DELETE FROM audit WHERE id > 1 OR branch > 'a'")
    part = sealed(chain)

    deleted = with_warm_table(chain).delete(part)

    assert (deleted.deleted, deleted.by_range, scalar(chain.conninfo, "SELECT count(*) FROM warm.audit")) == (1, 1, 1)


@pytest.mark.parametrize("late", [1, 1993, 1997])
def test_rows_that_came_late_stay_however_many_they_are(warm, part, late):
    """Two thousand rows are read at once; none of the last of them may be taken for all that were moved."""
    execute(
        warm.conninfo,
        f"INSERT INTO audit SELECT n, 'z', '2026-05-02 00:00+00', 'late' FROM generate_series(1, {late}) AS n",
    )

    deleted = warm.delete(part)

    assert (deleted.deleted, deleted.by_range, len(left(warm))) == (10, 0, late)
    assert scalar(warm.conninfo, "SELECT count(*) FROM warm.audit") == 10


def test_rows_that_are_all_gone_move_nowhere(warm, part):
    execute(warm.conninfo, "DELETE FROM audit")

    deleted = warm.delete(part)

    assert (deleted.deleted, deleted.gone, scalar(warm.conninfo, "SELECT count(*) FROM warm.audit")) == (0, 10, 0)


def test_a_row_that_was_warm_before_is_replaced_as_a_whole(warm, part):
    execute(warm.conninfo, "INSERT INTO warm.audit SELECT id, branch, at, 'older' FROM audit WHERE id = 1")

    warm.delete(part)

    assert scalar(warm.conninfo, "SELECT count(*) FROM warm.audit WHERE who = 'older'") == 0
    assert scalar(warm.conninfo, "SELECT count(*) FROM warm.audit") == 10


def test_a_trigger_that_swallows_rows_on_their_way_to_the_warm_table_takes_the_batch_back(warm, part):
    execute(
        warm.conninfo,
        "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
        "CREATE TRIGGER swallow BEFORE INSERT ON warm.audit FOR EACH ROW WHEN (NEW.branch = 'a') EXECUTE FUNCTION swallow()",
    )

    error = require_refused(
        warm, part, IntegrityError, r"rows did not arrive in warm.audit: expected (4|10) rows, found [0-5] rows"
    )

    assert error.hint.startswith("The batch was rolled back")
