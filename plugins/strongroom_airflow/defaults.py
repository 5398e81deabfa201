"""What all DAGs have in common: their first date, and the default arguments of their tasks."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from strongroom.settings import TableSettings

START_DATE = datetime(2020, 1, 1, tzinfo=timezone.utc)

BACKOFF = {"retry_exponential_backoff": 2, "max_retry_delay": timedelta(minutes=10)}
"""For tasks whose retries wait longer and longer."""


def default_args(table: TableSettings, **others: Any) -> dict[str, Any]:
    """The default arguments of a DAG's tasks.

    :param table: Settings that name the owner and the number of retries.
    :param others: Further arguments, such as :data:`BACKOFF` and a pool.
    """
    return {"owner": table.owner, "retries": table.retries, "retry_delay": timedelta(seconds=30), **others}
