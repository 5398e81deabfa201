"""What one task of an archive run knows of its run."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from types import SimpleNamespace

import pytest

from strongroom_airflow.run import ArchiveRun
from tests.chain import some_settings

BEGAN = datetime(2026, 11, 23, 22, tzinfo=timezone.utc)
NOW = BEGAN + timedelta(hours=3)


class Run(ArchiveRun):
    """Of a store whose clock says one at night."""

    def now(self) -> datetime:
        return NOW


@pytest.mark.parametrize(
    ("stop_after", "began", "hours"),
    [
        (None, BEGAN, None),
        ("PT4H", BEGAN, 1),
        ("PT2H", BEGAN, -1),
        ("PT4H", None, 4),
        ("22:00-06:00", BEGAN, 5),
        ("22:00-01:00", BEGAN, 0),
    ],
)
def test_a_run_knows_when_it_must_leave_the_database_alone(tmp_path, stop_after, began, hours):
    """Counted from the start of the run, by Airflow's word, or by the hours of the store's clock."""
    context = {"dag_run": SimpleNamespace(dag_id="archive__audit", run_id="r", start_date=began)}

    stop_at = Run(some_settings("bucket", tmp_path, stop_after=stop_after), context).stop_at

    assert stop_at == (None if hours is None else NOW + timedelta(hours=hours))
