"""What Airflow's plugin loader reads: the names of the parts, which live in `strongroom_airflow`."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from airflow.plugins_manager import AirflowPlugin

from strongroom_airflow import notes
from strongroom_airflow.timetable import RetentionPartitionTimetable

_FORKING_TASKS = frozenset({"scheduler", "standalone", "celery"})
"""Commands of `airflow` whose processes may fork one for each task."""

_FORKING = _FORKING_TASKS | {"dag-processor"}
"""The same, and what forks one for each DAG file again and again."""

_ARROW = ("pyarrow.compute", "pyarrow.csv", "pyarrow.parquet")
"""What extractions and restores need of Arrow. Nothing is converted here: how Arrow does that is for each task to settle."""


class Pages:
    """The ASGI application of Strongroom's pages, loaded at the first request: only the web server ever needs it."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        from strongroom_airflow.pages import app

        await app(scope, receive, send)


class StrongroomPlugin(AirflowPlugin):
    """Strongroom's extensions of Airflow."""

    name = "strongroom"
    listeners = [notes]  # noqa: RUF012
    timetables = [RetentionPartitionTimetable]  # noqa: RUF012  # the attribute that Airflow reads
    fastapi_apps = [{"app": Pages(), "url_prefix": "/strongroom", "name": "Strongroom"}]  # noqa: RUF012

    @classmethod
    def on_load(cls, *_args: Any, **_kwargs: Any) -> None:
        """Import once, before processes are forked, what each of them would else import for itself in a third of a CPU second,
        and in 50 MB of its own for Arrow.

        It also keeps them to one version: after an upgrade they take the new one when whoever forks them is restarted.
        """
        if _FORKING.intersection(sys.argv[1:2]):
            import_module("strongroom_airflow.preload")
        if _FORKING_TASKS.intersection(sys.argv[1:2]):
            for name in _ARROW:
                import_module(name)
