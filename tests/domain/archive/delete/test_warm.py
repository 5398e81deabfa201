"""Rows that move to the warm tier with the statement that deletes them."""

from __future__ import annotations

import psycopg
import pytest

from strongroom.calendar import Frequency, Partition
from strongroom.errors import (
    IntegrityError,
)
from strongroom.tables.warm_script import warm_script
from tests.support.chain import NOW, Chain
from tests.support.database import execute, scalar
from tests.support.deleting import (
    evidence_of,
    left,
    require_refused,
)


@pytest.fixture
def warm(chain, part) -> Chain:
    """The same, with a warm table that the rows move to."""
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
        warm, part, IntegrityError, r"rows did not arrive in warm.audit: expected 4 rows, found [0-3] rows"
    )

    assert error.hint.startswith("The batch was rolled back")
