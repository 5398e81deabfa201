"""The metric of what was read from a replica, because the first copy was not sound."""

from __future__ import annotations

from airflow.sdk.observability.stats import Stats


def count_copies(parts: int) -> None:
    """Count parts that were read from a replica."""
    if parts:
        Stats.incr("strongroom.read_from_replica", parts)
