"""How a run's outcome reads in one line."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from strongroom.archive.report import RunReport

NOW = datetime(2026, 11, 23, 12, tzinfo=timezone.utc)
ARCHIVE = "public.audit_events.2026-05.0001"


@pytest.mark.parametrize(
    ("facts", "line"),
    [
        (
            {"archived_rows": 49_210, "deleted_rows": 49_208, "changed_rows": 2},
            f"2026-05: archived 49,210 rows as {ARCHIVE}, deleted 49,208; 2 changed and stay.",
        ),
        (
            {"archived_rows": 9, "deleted_rows": 5, "referenced_rows": 1, "kept_by_trigger_rows": 2, "gone_rows": 1},
            f"2026-05: archived 9 rows as {ARCHIVE}, deleted 5; 1 are referred to and stay; 2 were kept by a trigger; 1 were gone before.",
        ),
        (
            {"archived_rows": 9, "detached_rows": 9, "excluded_rows": 3},
            f"2026-05: archived 9 rows as {ARCHIVE}, deleted 0; 9 wait in detached partitions; 3 were excluded and stay.",
        ),
        ({"archive_id": None, "outcome": "nothing_due"}, "2026-05: nothing to archive."),
        (
            {"archive_id": None, "outcome": "nothing_due", "excluded_rows": 4},
            "2026-05: nothing to archive; 4 were excluded and stay.",
        ),
        (
            {"archive_id": None, "outcome": "restored"},
            "2026-05: left alone, because its rows were restored.",
        ),
    ],
)
def test_a_run_says_what_it_did_and_which_rows_stay(facts, line):
    given = {"outcome": "archived", "archive_id": ARCHIVE, "planned_at": NOW, "finished_at": NOW} | facts

    assert RunReport(table="public.audit_events", partition_key="2026-05", **given).headline() == line


@pytest.mark.parametrize(("parts", "words"), [(1, "3 rows archived in 1 part, "), (2, "3 rows archived in 2 parts, ")])
def test_the_line_in_the_log_counts_parts_as_people_do(parts, words):
    given = {"outcome": "archived", "archive_id": ARCHIVE, "planned_at": NOW, "finished_at": NOW, "archived_rows": 3}

    assert words in RunReport(table="public.audit_events", partition_key="2026-05", parts=parts, **given).sentence()
