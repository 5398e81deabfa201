"""What Airflow's plugin loader reads. The parts that it names are in `strongroom_airflow`."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any
from urllib.parse import quote

from airflow.plugins_manager import AirflowPlugin

from strongroom_airflow import notes
from strongroom_airflow.pages.addresses import MAP, ROUTE, page
from strongroom_airflow.timetable import RetentionPartitionTimetable

_FORKING_TASKS = frozenset({"scheduler", "standalone", "celery"})
"""Commands of `airflow` whose processes may fork a process for each task."""

_FORKING = _FORKING_TASKS | {"dag-processor"}
"""The same, and the command that forks a process for each DAG file again and again."""

_ARROW = ("pyarrow.compute", "pyarrow.csv", "pyarrow.parquet")
"""What extractions and restores need of Arrow. Nothing is converted here, because each task sets up Arrow's threads itself."""


_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24"><rect x="2.5" y="2.5" width="19" height="19" rx="3" fill="#2f7fd6"/>'
    '<g fill="none" stroke="#fff" stroke-width="1.7" stroke-linecap="round"><circle cx="12" cy="12" r="4.4"/>'
    '<path d="M12 4.9v2.7M12 16.4v2.7M4.9 12h2.7M16.4 12h2.7"/></g></svg>'
)
"""The door of a safe, seen on light and dark ground and on that of the chosen entry."""


class Pages:
    """The ASGI application of Strongroom's pages. It is loaded at the first request, because only the web server needs it."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        from strongroom_airflow.pages.app import app

        await app(scope, receive, send)


class StrongroomPlugin(AirflowPlugin):
    """What Strongroom adds to Airflow."""

    name = "strongroom"
    listeners = [notes]  # noqa: RUF012
    timetables = [RetentionPartitionTimetable]  # noqa: RUF012  # the attribute that Airflow reads
    fastapi_apps = [{"app": Pages(), "url_prefix": "/strongroom", "name": "Strongroom"}]  # noqa: RUF012

    external_views = [  # noqa: RUF012
        {
            "name": "Archive",
            "href": page(MAP),
            "destination": "nav",
            "url_route": ROUTE,
            "nav_top_level": True,
            "icon": f"data:image/svg+xml,{quote(_ICON)}",
        }
    ]

    @classmethod
    def on_load(cls, *_args: Any, **_kwargs: Any) -> None:
        """Import before a process forks what each of its forks needs.

        This saves each fork a third of a CPU second, a task 0.13 s more and the 50 MB of Arrow. All forks have one version of the code: after an
        upgrade, restart the process that forks.
        """
        if _FORKING.intersection(sys.argv[1:2]):
            import_module("strongroom_airflow.preload")
        if _FORKING_TASKS.intersection(sys.argv[1:2]):
            for name in _ARROW:
                import_module(name)
            import_module("strongroom_airflow.connections").read_service_descriptions()
