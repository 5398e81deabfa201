"""archive_statistics: each Monday at 08:00 UTC, what the archives hold, what waits to be archived, and what it costs.

One task reads every archive store and counts rows in every source database. It writes `reports/statistics/<date>.json` and `.html`
to the store, logs a table, and links to the page: open the task, then **Details**, then **Statistics**. It changes nothing else, so
you can run it by hand at any time.

A table that cannot be counted (no such table, no connection) is named in the log and on the page; the others are not affected. A
damaged manifest is named too. If a **store** fails, the task fails, because the figures would be wrong without it.
"""

from __future__ import annotations

from airflow.sdk import DAG

from strongroom.settings import load_settings
from strongroom_airflow.defaults import START_DATE, default_args
from strongroom_airflow.statistics.keep import StatisticsOperator

first = next(iter(load_settings().tables.values()))

with DAG(
    dag_id="archive_statistics",
    description="Size, growth, cost and overdue rows of all archived tables",
    schedule="0 8 * * 1",
    start_date=START_DATE,
    catchup=False,
    max_active_runs=1,
    tags=["strongroom", "statistics"],
    doc_md=__doc__,
    default_args=default_args(first, pool=first.pool),
):
    StatisticsOperator(
        task_id="statistics",
        doc_md="Reads manifests and counts rows. **Clear it** at any time: the report of the same day is written again.",
    )
