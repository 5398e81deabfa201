"""What Airflow's plugin loader reads: the names of the parts, which live in `strongroom_airflow`."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from strongroom_airflow.timetable import RetentionPartitionTimetable


class StrongroomPlugin(AirflowPlugin):
    """Strongroom's extensions of Airflow."""

    name = "strongroom"
    timetables = [RetentionPartitionTimetable]  # noqa: RUF012  # the attribute that Airflow reads
