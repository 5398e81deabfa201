"""Which rows go by range and which by key, as table and settings have it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.chain import Chain
from tests.support.database import execute
from tests.support.deleting import counts, left, sealed


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
