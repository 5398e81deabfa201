"""Rows that are not in the table are copied into it and read back: by the range of their dates, or by their keys."""

from __future__ import annotations

import pytest

from strongroom.errors import RestoreError
from strongroom.restore import load as restore_part_module
from tests.support.database import ask, digest, execute
from tests.support.restoring import restore
from tests.support.statements import Watched

INDEX = "CREATE INDEX ON audit (at);"
HOURLY = """
CREATE TABLE audit (id bigint PRIMARY KEY, at timestamptz NOT NULL, who text);
INSERT INTO audit SELECT n, '2026-05-02 00:00+00'::timestamptz + n / 3 * interval '1 hour', 'agent ' || n FROM generate_series(1, 300) AS n;
"""


def ways(watched) -> tuple[int, int]:
    """How many batches were read back by range, and how many by their keys."""
    by_range = sum(one.startswith("COPY (") and 'WHERE "t"."at" >= ' in one for one in watched.statements)
    by_key = sum(one.startswith('COPY "pg_temp"."strongroom_keys"') for one in watched.statements)
    return by_range, by_key


def copied(watched) -> bool:
    """Whether no batch had to be compared row by row."""
    return not any(one.startswith('COPY "pg_temp"."strongroom_rows"') for one in watched.statements)


@pytest.fixture
def hourly(make, monkeypatch):
    """Three hundred rows, three of each date, to be restored in batches of about fifty."""
    monkeypatch.setattr(restore_part_module, "BATCH_ROWS", 50)

    def archived(statements=HOURLY + INDEX, **changes):
        chain = make(statements, **changes)
        assert ask(chain.conninfo, "SELECT count(*) FROM audit") == [(0,)]
        return chain

    return archived


@pytest.mark.parametrize("format_", ["jsonl", "parquet"])
def test_batches_end_where_the_date_changes_and_are_read_back_by_an_index_of_it(hourly, format_):
    chain, watched = hourly(format=format_), Watched()

    report = restore(chain, on_session=watched)

    assert (report.inserted, ways(watched), copied(watched)) == (300, (7, 0), True)
    scans = {plan["Plans"][0]["Node Type"] for query, plan in watched.plans if 'WHERE "t"."at" >= ' in query}
    assert scans <= {"Index Scan", "Bitmap Heap Scan"}
    assert digest(chain.conninfo)[0] == 300


def test_without_an_index_of_the_date_they_are_looked_up_by_their_keys(hourly):
    chain, watched = hourly(HOURLY), Watched()

    report = restore(chain, on_session=watched)

    assert (report.inserted, ways(watched), copied(watched)) == (300, (0, 6), True)


def test_from_a_row_of_somebody_else_on_they_are_looked_up_by_their_keys(hourly):
    chain, watched = hourly(), Watched()
    execute(chain.conninfo, "INSERT INTO audit VALUES (0, '2026-05-03 12:30+00', 'another')")

    report = restore(chain, on_session=watched)

    assert (report.inserted, ways(watched), copied(watched)) == (300, (3, 5), True)
    assert digest(chain.conninfo)[0] == 301


def test_rows_of_one_date_that_fill_a_batch_are_looked_up_by_their_keys(hourly):
    chain, watched = hourly(HOURLY + INDEX + "UPDATE audit SET at = '2026-05-04' WHERE id > 200"), Watched()

    report = restore(chain, on_session=watched)

    assert (report.inserted, copied(watched)) == (300, True)
    assert ways(watched)[1] >= 1
    assert digest(chain.conninfo)[0] == 300


@pytest.mark.parametrize("type_", ["date", "timestamp", "timestamp(0)", "timestamptz"])
def test_each_type_of_date_gives_the_bounds_of_a_range(hourly, type_, monkeypatch):
    monkeypatch.setattr(restore_part_module, "BATCH_ROWS", 100)
    chain, watched = hourly(HOURLY + f"ALTER TABLE audit ALTER at TYPE {type_};" + INDEX), Watched()

    report = restore(chain, on_session=watched)

    assert (report.inserted, copied(watched)) == (300, True)
    assert ways(watched) in [(4, 0), (5, 0)]
    assert digest(chain.conninfo)[0] == 300


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("NEW.at := NEW.at + interval '1 year'; RETURN NEW;", id="to-another-date"),
        pytest.param("NEW.who := NEW.who || ' '; RETURN NEW;", id="by-a-blank"),
        pytest.param(
            "NEW.who := CASE NEW.id WHEN 299 THEN 'agent 300' WHEN 300 THEN 'agent 299' ELSE NEW.who END; RETURN NEW;",
            id="by-changing-places",
        ),
    ],
)
@pytest.mark.parametrize("index", [INDEX, ""], ids=["by range", "by key"])
def test_a_row_that_a_trigger_altered_is_found(hourly, body, index):
    chain = hourly(HOURLY + index)
    execute(
        chain.conninfo,
        f"CREATE FUNCTION alter_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$;"
        "CREATE TRIGGER spoiler BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION alter_it();",
    )

    with pytest.raises(RestoreError, match="not what was archived once they are in"):
        restore(chain)

    assert ask(chain.conninfo, "SELECT count(*) FROM audit WHERE who NOT LIKE 'agent ' || id") == [(0,)]


def test_a_row_that_a_trigger_adds_in_the_same_range_is_its_own_affair(hourly):
    chain, watched = hourly(), Watched()
    execute(
        chain.conninfo,
        "CREATE FUNCTION add_one() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF NEW.id > 0 THEN INSERT INTO public.audit VALUES (-NEW.id, NEW.at, 'echo'); END IF; RETURN NEW; END $$;"
        "CREATE TRIGGER echo AFTER INSERT ON audit FOR EACH ROW EXECUTE FUNCTION add_one();",
    )

    report = restore(chain, on_session=watched)

    assert (report.inserted, ways(watched), copied(watched)) == (300, (1, 7), True)
    assert digest(chain.conninfo)[0] == 600
