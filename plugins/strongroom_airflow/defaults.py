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

    :param table: Settings that name the owner, the number of retries, and who is told when a task fails for good.
    :param others: Further arguments, such as :data:`BACKOFF` and a pool.
    """
    return {
        "owner": table.owner,
        "retries": table.retries,
        "retry_delay": timedelta(seconds=30),
        **({"on_failure_callback": told} if (told := notifiers_of(table, "failed")) else {}),
        **others,
    }


def notifiers_of(table: TableSettings, kind: str) -> list[Any]:
    """Who is told of something, as Airflow wants it for a task. Without any, nothing is imported for it.

    :param table: Whose notifications.
    :param kind: `failed` or `approval_wanted`.
    """
    if not table.notifications:
        return []
    from strongroom_airflow.notices import sending

    return list(sending.notifiers_of(table, kind))
