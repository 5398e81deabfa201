"""archive_statistics: each Monday at 08:00 UTC, what lies in the archives, what waits for one, and what it costs.

One task looks at every archive store and counts in every source database. It writes
`reports/statistics/<date>.json` and `.html` into the store, logs a table, and links the page: open the task, **Details**, and
follow **Statistics**. It changes nothing else, so run it by hand whenever you like.

A table that cannot be counted (no such table, no connection) is named in log and page and does not stop the others. A
damaged manifest is named too. When a **store** fails, the task fails: figures without it would be wrong.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from airflow.sdk import DAG

from strongroom.settings import load_settings
from strongroom_airflow.statistics.keep import StatisticsOperator

first = next(iter(load_settings().tables.values()))

with DAG(
    dag_id="archive_statistics",
    description="Sizes, growth, cost and what is overdue, of all archived tables",
    schedule="0 8 * * 1",
    start_date=datetime(2020, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    max_active_runs=1,
    tags=["strongroom", "statistics"],
    doc_md=__doc__,
    default_args={
        "owner": first.owner,
        "retries": first.retries,
        "retry_delay": timedelta(seconds=30),
        "pool": first.pool,
    },
):
    StatisticsOperator(
        task_id="statistics",
        doc_md="Reads manifests and counts rows. Clear it at any time: the report of the same day is written anew.",
    )
