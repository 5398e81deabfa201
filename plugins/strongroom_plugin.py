"""What Airflow's plugin loader reads: the names of the parts, which live in `strongroom_airflow`."""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin

from strongroom_airflow.timetable import RetentionPartitionTimetable


class Pages:
    """The ASGI application of Strongroom's pages, loaded at the first request: only the web server ever needs it."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        from strongroom_airflow.pages import app

        await app(scope, receive, send)


class StrongroomPlugin(AirflowPlugin):
    """Strongroom's extensions of Airflow."""

    name = "strongroom"
    timetables = [RetentionPartitionTimetable]  # noqa: RUF012  # the attribute that Airflow reads
    fastapi_apps = [{"app": Pages(), "url_prefix": "/strongroom", "name": "Strongroom"}]  # noqa: RUF012
