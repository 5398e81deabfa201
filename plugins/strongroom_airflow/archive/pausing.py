"""How long a task that waits for others gives its slot up."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk.configuration import conf

_SHORTEST_SECONDS = 5
_SECONDS_PER_PART = 2
"""Less than a part takes, so that a part with many before it checks seldom and still starts in time."""


def pause(too_many: int = 1) -> timedelta:
    """How long to wait before checking again.

    The supervisor of the task that just gave up may sleep ``[workers] min_heartbeat_interval`` seconds before it ends. A scheduler
    that hears of this end when the task is queued again takes the task for killed, and a try is lost (apache/airflow#71172).
    So the pause is twice that time, and then some.

    :param too_many: How many parts must finish before the task may go on.
    """
    lingering = conf.getint("workers", "min_heartbeat_interval", fallback=5)
    return timedelta(seconds=max(_SHORTEST_SECONDS, 2 * lingering + 3, _SECONDS_PER_PART * too_many))
