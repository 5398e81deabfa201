"""What a run of drills found, in one line, and when the run has failed."""

from __future__ import annotations

import pytest

from strongroom.drill.records import ArchiveDrill, Choice, DrillLane, Skip
from strongroom.drill.report import require_complete, require_restored, sum_up
from strongroom.errors import IntegrityError
from tests.support.chain import NOW


def a_drill(name: str, result: str, **changes) -> ArchiveDrill:
    given = {
        "archive_id": name,
        "result": result,
        "reasons": ("newest",),
        "chosen_in": "a key",
        "rows": 1000,
        "server_version": "18.6",
        "who": "ada",
        "drilled_at": NOW,
    }
    return ArchiveDrill(**{**given, **changes})


def a_lane(*names: str) -> DrillLane:
    return DrillLane(
        store_table="audit",
        chosen_in="a key",
        choices=tuple(Choice(archive_id=name, reasons=("newest",)) for name in names),
    )


def test_a_run_in_which_each_archive_came_back_or_was_skipped_is_complete_and_names_the_skipped():
    drilled = [a_drill("a", "sound", last_row_seconds=1.25), a_drill("b", "skipped", rows=0, reason="it is in Glacier")]
    large = Skip(archive_id="c", reason="it has too many bytes")

    report = sum_up([a_lane("a"), a_lane("b")], [large], drilled, who="ada", now=NOW)

    require_complete(report)
    require_restored(drilled)
    assert report.sentence() == (
        "restored 1,000 rows of 2 archives as a drill: 1 skipped, 1 sound. c was skipped: it has too many bytes; "
        "b was skipped: it is in Glacier"
    )
    assert report.chosen_in == ("a key",)
    assert drilled[0].sentence() == "a came back: 1,000 rows in 1.2 s, each as it was archived"


def test_a_failed_archive_and_one_that_nobody_tried_fail_the_run_by_name():
    drilled = [a_drill("a", "sound"), a_drill("b", "failed", rows=0, reason="part 0: it is gone")]

    report = sum_up([a_lane("a", "b"), a_lane("c")], [], drilled, who="ada", now=NOW)

    assert report.results == {"sound": 1, "failed": 1, "unfinished": 1}
    with pytest.raises(IntegrityError, match=r"2 of 3 archives did not come back(.|\n)*b failed: part 0: it is gone"):
        require_complete(report)
    with pytest.raises(IntegrityError, match="b failed: part 0: it is gone"):
        require_restored(drilled)


def test_a_run_that_nobody_finished_fails():
    with pytest.raises(IntegrityError, match="1 of 1 archives did not come back"):
        require_complete(sum_up([a_lane("a")], [], [], who="ada", now=NOW))


def test_a_run_without_archives_is_complete():
    report = sum_up([], [], [], who="ada", now=NOW)

    require_complete(report)
    assert report.sentence() == "restored 0 rows of 0 archives as a drill: none"
