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
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="none" stroke="{}" stroke-width="1.8" stroke-linecap="round">'
    '<rect x="3" y="3" width="18" height="18" rx="2"/><circle cx="12" cy="12" r="4"/><path d="M12 8v2M12 14v2M8 12h2M14 12h2"/></svg>'
)
"""The door of a safe."""


def _icon(colour: str) -> str:
    return f"data:image/svg+xml,{quote(_ICON.format(colour))}"


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
            "icon": _icon("#52525b"),
            "icon_dark_mode": _icon("#d4d4d8"),
        }
    ]

    @classmethod
    def on_load(cls, *_args: Any, **_kwargs: Any) -> None:
        """Import before a process forks what each of its forks needs.

        This saves each fork a third of a CPU second, and the 50 MB of Arrow. All forks have one version of the code: after an
        upgrade, restart the process that forks.
        """
        if _FORKING.intersection(sys.argv[1:2]):
            import_module("strongroom_airflow.preload")
        if _FORKING_TASKS.intersection(sys.argv[1:2]):
            for name in _ARROW:
                import_module(name)
