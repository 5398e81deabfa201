"""Which squares the map has, and what each of them says. NOW is 23 November 2026, 12:00 UTC."""

from __future__ import annotations

import pytest

from strongroom.calendar import Frequency
from strongroom.overview.chart import TableRow, make_chart
from strongroom.overview.columns import columns_of, squares
from strongroom.overview.facts import StoreFacts
from strongroom.overview.states import State
from strongroom.settings import Settings
from tests.support.chain import NOW
from tests.support.overview import a_table, an_archive, an_archive_of, chart_of, rows_of, store_facts


def row_of(*facts: StoreFacts, **given) -> TableRow:
    [table] = chart_of(*facts, **given).tables
    return table


def test_columns_are_the_months_of_all_tables_without_a_gap():
    settings = Settings(tables={"audit": a_table(), "calls": a_table("calls")})
    facts = store_facts(an_archive("audit", "2026-03"), an_archive("calls", "2025-12"))

    chart = make_chart(settings, [facts], {}, {}, now=NOW)

    columns = columns_of(chart.tables)
    assert [one.key for one in columns][:3] == ["2025-12", "2026-01", "2026-02"]
    assert next((one.label, one.group) for one in columns) == ("12", "2025")
    assert len(columns) == 12


def test_a_square_before_the_first_row_says_so_and_one_between_is_empty():
    row = row_of(store_facts(an_archive(key="2026-03"), an_archive(key="2026-05")))
    earlier = row_of(store_facts(an_archive(key="2026-02")))

    shown = squares(row, columns_of([earlier, row]))

    assert [square.states[0] for square in shown[:4]] == [State.BEFORE, State.ARCHIVED, State.EMPTY, State.ARCHIVED]
    assert [square.words for square in shown[:3]] == [
        "2026-02: before the first row",
        "public.audit 2026-03: archived; 2,000 rows archived",
        "public.audit 2026-04: empty",
    ]


def test_a_square_of_one_partition_tells_all_its_states_and_numbers():
    row = row_of(store_facts(an_archive()), rows=rows_of({"2026-05": 1234}))

    [square] = [one for one in squares(row, columns_of([row])) if one.column.key == "2026-05"]

    assert (
        square.words == "public.audit 2026-05: rows left, archived; 2,000 rows archived; 1,234 rows wait in the table"
    )


def test_a_month_of_days_is_one_square_with_the_worst_of_them_and_the_numbers_of_each():
    row = row_of(rows=rows_of({"2026-05-01": 1, "2026-05-03": 1}), table=a_table(frequency="daily", cron="0 2 * * *"))
    months = columns_of([row, row_of(store_facts(an_archive(key="2026-05")))])

    first = squares(row, months)[0]

    assert (first.column.key, len(first.cells), first.states) == ("2026-05", 31, (State.OVERDUE,))
    assert first.words == "public.audit 2026-05: 2 of 31 overdue"


def test_a_single_table_of_weeks_has_a_column_for_each_week():
    row = row_of(rows=rows_of({"2026-W01": 1, "2026-W02": 1}), table=a_table(frequency="weekly"))

    columns = columns_of([row])

    assert [(one.key, one.month, one.label, one.group) for one in columns][:2] == [
        ("2026-W01", "2025-12", "W01", "2026"),
        ("2026-W02", "2026-01", "W02", "2026"),
    ]
    assert [len(square.cells) for square in squares(row, columns)] == [1] * len(columns)


def test_a_table_without_cells_is_shown_as_empty_squares():
    full, bare = row_of(store_facts(an_archive())), TableRow("public.bare", True, Frequency.MONTHLY, ())

    shown = squares(bare, columns_of([full, bare]))

    assert {square.states for square in shown} == {(State.BEFORE,)}


@pytest.mark.parametrize(
    ("frequency", "earlier", "later"), [("weekly", "2026-05", "2026-W21"), ("monthly", "2026-W21", "2026-06")]
)
def test_a_table_whose_frequency_changed_has_a_column_for_each_partition_of_both(frequency, earlier, later):
    """Else a partition that lies in a month with others has no square that leads to it."""
    facts = store_facts(an_archive_of(earlier))
    row = row_of(facts, rows=rows_of({later: 1}), table=a_table(frequency=frequency))

    shown = {square.column.key: square for square in squares(row, columns_of([row]))}

    assert {earlier, later} <= set(shown)
    assert {len(square.cells) for square in shown.values()} == {1}
    assert shown[earlier].states == (State.ARCHIVED,)
