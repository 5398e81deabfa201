"""The map: what each state means, and that the worst wins. NOW is 23 November 2026, 12:00 UTC."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from strongroom.ledger.holds import Hold
from strongroom.ledger.index import DamagedManifest
from strongroom.overview.chart import Cell, Chart, make_chart
from strongroom.overview.facts import LatestReading, Left, StoreFacts
from strongroom.overview.states import State
from strongroom.records import RestoreRecord
from strongroom.settings import Settings
from strongroom.settings.units import UnitSettings
from strongroom.statistics.records import Uncounted
from tests.support.chain import NOW
from tests.support.overview import a_table, an_archive, chart_of, rows_of, store_facts

JULY = "2026-07"
"""The newest month that is due."""


def cells_of(chart: Chart) -> dict[str, Cell]:
    return {cell.partition.key: cell for cell in chart.cells}


def states_of(key: str, *facts: StoreFacts, **given) -> tuple[State, ...]:
    return cells_of(chart_of(*facts, **given))[key].states


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc)


def a_hold(what: str) -> Hold:
    return Hold(hold_id="h", what=what, why="w", who="ada", reference="r", placed_at=NOW)


def a_restore(key: str) -> RestoreRecord:
    return RestoreRecord(
        restore_id="r",
        archive_ids=(f"public.audit.{key}.0001",),
        table="public.audit",
        partition_keys=(key,),
        who="ada",
        why="w",
        restored_at=NOW,
        until=NOW + timedelta(days=1),
    )


# ------------------------------------------------------------------------------------------------ what each state means


def test_an_archive_whose_rows_are_gone_is_archived_and_nothing_else():
    assert states_of("2026-05", store_facts(an_archive())) == (State.ARCHIVED,)


def test_a_damaged_manifest_is_unverifiable():
    damaged = DamagedManifest(archive_id="public.audit.2026-05.0001", problem="p")

    cell = cells_of(chart_of(store_facts(damaged=(damaged,))))["2026-05"]

    assert (cell.states, cell.archives, cell.rows) == ((State.UNVERIFIABLE,), ("public.audit.2026-05.0001",), 0)


@pytest.mark.parametrize(
    ("result", "at", "worst"),
    [
        ("corrupted", NOW, State.UNVERIFIABLE),
        ("sound", NOW, State.ARCHIVED),
        ("corrupted", NOW - timedelta(days=400), State.ARCHIVED),
    ],
)
def test_an_unsound_last_verification_is_unverifiable_unless_it_is_older_than_the_archive(result, at, worst):
    """An archive id can come again after a sweep; a reading from before its seal was of another one."""
    reading = LatestReading(at=at, result=result, sound_at=None)

    states = states_of("2026-05", store_facts(an_archive(), readings={"public.audit.2026-05.0001": reading}))

    assert states[0] is worst


def test_evidence_that_cannot_be_read_is_unverifiable():
    assert states_of("2026-05", store_facts(an_archive(problem="p"))) == (State.UNVERIFIABLE, State.ARCHIVED)


@pytest.mark.parametrize(
    ("run", "state"), [("failed", State.FAILED), ("running", State.RUNNING), ("queued", State.RUNNING)]
)
def test_the_latest_run_tells_failed_or_running(run, state):
    assert states_of("2026-05", rows=rows_of({"2026-05": 7}), runs={"2026-05": run})[0] is state


def test_a_run_that_succeeded_adds_nothing():
    assert states_of("2026-05", store_facts(an_archive()), runs={"2026-05": "success"}) == (State.ARCHIVED,)


def test_a_member_without_an_archive_is_not_called_empty():
    """Nobody counts its rows by month: they are dated by the rows that they refer to."""
    member = a_table().in_unit(UnitSettings(("cases", "audit")))

    cells = cells_of(chart_of(store_facts(an_archive()), table=member))

    assert cells["2026-05"].states == (State.ARCHIVED,)
    assert {cell.states for key, cell in cells.items() if key > "2026-05"} == {(State.WITH_ROOT,)}


def test_rows_that_wait_beside_an_archive_are_left():
    assert states_of("2026-05", store_facts(an_archive()), rows=rows_of({"2026-05": 3})) == (State.LEFT, State.ARCHIVED)


def test_while_a_run_works_on_it_nothing_is_left_or_overdue():
    rows = rows_of({"2026-04": 3, "2026-05": 3})

    chart = chart_of(store_facts(an_archive()), rows=rows, runs={"2026-04": "running", "2026-05": "running"})

    cells = cells_of(chart)
    assert cells["2026-04"].states == (State.RUNNING,)
    assert cells["2026-05"].states == (State.RUNNING, State.ARCHIVED)


@pytest.mark.parametrize(
    "left",
    [
        None,
        Left(rows=1000, deleted=1000),
        Left(rows=2000, deleted=1999, changed=1),
        Left(rows=2000, deleted=1999, referenced=1),
        Left(rows=2000, deleted=1999, kept_by_trigger=1),
    ],
)
def test_where_the_database_is_silent_the_evidence_says_whether_rows_are_left(left):
    silent = Uncounted(reason="no answer")

    assert states_of("2026-05", store_facts(an_archive(left=left)), rows=silent) == (State.LEFT, State.ARCHIVED)
    assert states_of("2026-05", store_facts(an_archive()), rows=silent) == (State.ARCHIVED,)


def test_restored_rows_are_not_left_over():
    facts = store_facts(an_archive(), restores=(a_restore("2026-05"),))

    assert states_of("2026-05", facts, rows=rows_of({"2026-05": 3})) == (State.RESTORED, State.ARCHIVED)


def test_while_a_restore_is_under_way_it_runs_and_its_rows_are_not_restored_yet():
    """Wherever its rows are by then; a restore into the table that has ended counts as ever."""
    facts = store_facts(an_archive(), restores=(a_restore("2026-05"),))

    for rows in (rows_of(), rows_of({"2026-05": 3}), Uncounted(reason="no answer")):
        states = states_of("2026-05", facts, rows=rows, restoring={"r"})
        assert states == (State.RUNNING, State.ARCHIVED), rows
    assert State.RESTORED in states_of("2026-05", facts, rows=rows_of({"2026-05": 3}), restoring={"another"})


@pytest.mark.parametrize(("days", "expiring"), [(91, False), (90, True), (0, True), (-10, True)])
def test_an_archive_expires_ninety_days_before_the_end_of_its_term_and_after_it(days, expiring):
    archive = an_archive(retention_until=NOW + timedelta(days=days))

    assert (State.EXPIRING in states_of("2026-05", store_facts(archive))) is expiring


@pytest.mark.parametrize(
    ("what", "held"),
    [
        ("*", True),
        ("public.audit", True),
        ("public.audit.2026-05", True),
        ("public.audit.2026-05.0001", True),
        ("public.audit.2026-04", False),
        ("public.aud", False),
    ],
)
def test_a_hold_is_on_what_it_covers(what, held):
    assert (State.HELD in states_of("2026-05", store_facts(an_archive(), holds=(a_hold(what),)))) is held


def test_rows_in_a_detached_partition_wait_to_be_dropped():
    assert states_of("2026-05", store_facts(an_archive(detached_waiting=3))) == (State.DETACHED, State.ARCHIVED)


@pytest.mark.parametrize(("key", "warm"), [("2025-10", False), ("2025-11", True), ("2026-05", True)])
def test_warm_rows_are_warm_until_the_end_of_the_warm_term(key, warm):
    """365 days after the end of October 2025 is 1 November 2026."""
    archive = an_archive(key=key, left=Left(rows=2000, deleted=2000, warm=True))

    assert (State.WARM in states_of(key, store_facts(archive), table=a_table(warm=True))) is warm


def test_a_partition_whose_archives_were_all_destroyed_is_purged():
    destroyed = store_facts(destroyed=("public.audit.2019-05.0001", "public.audit.2019-06.0001"))

    cells = cells_of(chart_of(store_facts(an_archive(key="2019-06", sequence=2)), destroyed))

    assert cells["2019-05"].states == (State.PURGED,)
    assert State.PURGED not in cells["2019-06"].states


def test_hot_partitions_are_those_with_rows_and_all_where_the_database_is_silent():
    told = chart_of(rows=rows_of(hot=("2026-08", "2026-11")))
    silent = chart_of(store_facts(an_archive(key=JULY)), rows=Uncounted(reason="no answer"))

    assert [cell.states for cell in told.cells] == [(State.HOT,), (State.EMPTY,), (State.EMPTY,), (State.HOT,)]
    assert [cell.states for cell in silent.cells] == [(State.ARCHIVED,), *[(State.HOT,)] * 4]


def test_a_due_partition_of_which_the_database_says_nothing_is_unknown():
    facts = store_facts(an_archive(key="2026-05"), an_archive(key=JULY))

    assert states_of("2026-06", facts, rows=Uncounted(reason="no answer")) == (State.UNKNOWN,)


@pytest.mark.parametrize(
    ("now", "state"),
    [
        ("2026-10-29T23:59", State.HOT),
        ("2026-10-30T00:00", State.DUE),
        ("2026-11-01T01:59", State.DUE),
        ("2026-11-01T03:00", State.DUE),
        ("2026-11-01T03:01", State.OVERDUE),
    ],
)
def test_july_is_due_when_its_hot_retention_ends_and_overdue_an_hour_after_the_tick(now, state):
    """Ninety days after July is 30 October; the next tick is 1 November at 02:00."""
    before = instant(now) < instant("2026-10-30")
    rows = rows_of(hot=(JULY,)) if before else rows_of({JULY: 5})

    assert states_of(JULY, rows=rows, now=instant(now)) == (state,)


# --------------------------------------------------------------------------------------------------------- the worst wins


def test_the_worst_state_comes_first_and_none_is_lost():
    archive = an_archive(retention_until=NOW, detached_waiting=1)
    facts = store_facts(
        archive,
        holds=(a_hold("*"),),
        damaged=(DamagedManifest(archive_id="public.audit.2026-05.0002", problem="p"),),
    )

    cell = cells_of(chart_of(facts, rows=rows_of({"2026-05": 3}), runs={"2026-05": "failed"}))["2026-05"]

    assert cell.states == (
        State.UNVERIFIABLE,
        State.FAILED,
        State.LEFT,
        State.EXPIRING,
        State.HELD,
        State.DETACHED,
        State.ARCHIVED,
    )
    assert cell.archives == ("public.audit.2026-05.0001", "public.audit.2026-05.0002")
    assert (cell.rows, cell.waiting) == (2000, 3)


# -------------------------------------------------------------------------------------------------- which partitions there are


def test_months_between_are_empty_and_those_before_the_first_row_are_no_cells():
    chart = chart_of(store_facts(an_archive(key="2026-03"), an_archive(key="2026-05")))

    assert [(cell.partition.key, cell.states[0]) for cell in chart.cells][:3] == [
        ("2026-03", State.ARCHIVED),
        ("2026-04", State.EMPTY),
        ("2026-05", State.ARCHIVED),
    ]
    assert list(cells_of(chart))[-1] == "2026-11"


def test_a_waiting_row_older_than_all_archives_is_where_the_table_begins():
    chart = chart_of(store_facts(an_archive()), rows=rows_of({"2025-12": 1}))

    assert next(iter(chart.cells)).partition.key == "2025-12"
    assert next(iter(chart.cells)).states == (State.OVERDUE,)


def test_a_table_without_rows_or_archives_has_no_cells():
    [table] = chart_of().tables

    assert (table.table, table.cells, table.next_run_at) == ("public.audit", (), instant("2026-12-01T02:00"))


@pytest.mark.parametrize(
    ("frequency", "waiting", "states"),
    [
        ("weekly", "2026-W33", {"2026-W33": State.OVERDUE, "2026-W34": State.EMPTY}),
        ("daily", "2026-08-23", {"2026-08-23": State.OVERDUE, "2026-08-24": State.EMPTY}),
    ],
)
def test_weeks_and_days_are_partitions_too(frequency, waiting, states):
    """With a tick each night: an hour after it, what was due is overdue."""
    table = a_table(frequency=frequency, cron="0 2 * * *")

    cells = cells_of(chart_of(rows=rows_of({waiting: 1}), table=table))

    assert {key: cells[key].states[0] for key in states} == states


def test_archives_of_an_earlier_frequency_stay_beside_the_new_partitions():
    """A table went from months to weeks in June: May has its month, and its weeks are empty."""
    chart = chart_of(store_facts(an_archive()), rows=rows_of({"2026-W24": 2}), table=a_table(frequency="weekly"))

    cells = cells_of(chart)
    assert cells["2026-05"].states == (State.ARCHIVED,)
    assert cells["2026-W20"].states == (State.EMPTY,)
    assert cells["2026-W24"].states == (State.OVERDUE,)
    starts = [cell.partition.window.start for cell in chart.cells]
    assert starts == sorted(starts)


def test_a_table_without_settings_shows_its_archives_and_ends_with_them():
    chart = make_chart(
        Settings(tables={"calls": a_table("calls")}),
        [store_facts(an_archive("gone", "2021-01"), an_archive("gone", "2021-03"))],
        {},
        {},
        now=NOW,
    )

    calls, gone = chart.tables
    assert (calls.table, gone.table, gone.configured, gone.next_run_at) == ("public.calls", "public.gone", False, None)
    assert [cell.states for cell in gone.cells] == [(State.ARCHIVED,), (State.EMPTY,), (State.ARCHIVED,)]


def test_a_table_that_is_left_out_is_there_with_the_reason():
    reason = Uncounted(reason="it is left out, because its settings are wrong")

    chart = make_chart(
        Settings(tables={}, left_out={"audit": "1 fault"}),
        [store_facts(an_archive())],
        {"public.audit": reason},
        {},
        now=NOW,
    )

    [audit] = chart.tables
    assert (audit.configured, audit.problem, audit.next_run_at) == (False, reason.reason, None)
    assert [cell.states for cell in audit.cells] == [(State.ARCHIVED,)]


def test_tables_that_one_may_not_see_are_not_there():
    settings = Settings(tables={"audit": a_table(), "calls": a_table("calls")})
    facts = store_facts(an_archive("audit"), an_archive("calls"), an_archive("gone"))

    chart = make_chart(settings, [facts], {}, {}, now=NOW, sees=lambda table: table == "public.calls")

    assert [one.table for one in chart.tables] == ["public.calls"]
    assert {cell.table for cell in chart.cells} == {"public.calls"}


def test_an_archive_to_which_two_stores_lead_counts_once():
    facts = store_facts(an_archive())

    assert cells_of(chart_of(facts, facts))["2026-05"].rows == 2000


# ------------------------------------------------------------------------------------------------------- words and counts


def test_the_headline_counts_what_somebody_should_act_on():
    chart = chart_of(
        store_facts(
            an_archive(key="2026-04"),
            damaged=(DamagedManifest(archive_id="public.audit.2026-03.0001", problem="p"),),
        ),
        rows=rows_of({"2026-01": 2, "2026-02": 1, "2026-04": 3}, first_at=instant("2026-01-22")),
        runs={"2026-05": "failed"},
    )

    assert chart.headline() == (
        "2 partitions overdue, 1 partition with an unverifiable archive, 1 failed run, 1 partition with rows left, "
        "next run 1 December 02:00 UTC, oldest overdue row 305 days"
    )


def test_the_headline_of_a_healthy_table_says_so_and_when_the_next_run_is():
    assert chart_of(store_facts(an_archive())).headline() == "no partitions overdue, next run 1 December 02:00 UTC"


def test_the_oldest_overdue_row_is_no_older_than_the_oldest_overdue_partition():
    """The oldest row of all belongs to a partition that has an archive."""
    [audit] = chart_of(
        store_facts(an_archive(key="2026-01")),
        rows=rows_of({"2026-01": 1, "2026-02": 1}, first_at=instant("2026-01-22")),
    ).tables

    assert audit.oldest_overdue_at == instant("2026-02-01")


def test_a_partition_in_two_states_counts_in_both():
    counts = chart_of(store_facts(an_archive(), holds=(a_hold("*"),))).counts()

    assert (counts[State.ARCHIVED], counts[State.HELD]) == (1, 1)
    assert set(counts) == {State.HELD, State.ARCHIVED, State.EMPTY}
