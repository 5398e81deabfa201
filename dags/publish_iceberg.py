"""publish_iceberg: each day at 05:30 UTC, makes each Iceberg table hold the parquet archives that belong to it.

`reconcile`

This DAG is there as soon as a table's settings name a bucket for Iceberg tables (`iceberg.bucket`). The tables let Trino, Athena, Spark and DuckDB read all
years of a table as one. Only metadata is written, to a bucket of its own; its identity can change no archive.

| task | does | when it fails |
|---|---|---|
| `reconcile` | adds sealed archives, takes out what leaves, and removes the metadata of earlier states | no archive was touched; clear it at any time |

### Results
An archive is left out of the table, with a reason, if it is `json_lines`, `superseded`, `condemned`, `purging`, `expiring` (its term ends within two days),
`frozen` (in a Glacier class), `unreadable` (a part is missing or hidden), `unverifiable` (its manifest is not sound) or `other_columns` (a column has another type).

You can trigger it by hand at any time, such as after an erasure. `docs/howto/iceberg.md` says how to set it up and how to query.
"""

from __future__ import annotations

from airflow.sdk import DAG

from strongroom.settings import load_settings
from strongroom_airflow.defaults import BACKOFF, START_DATE, default_args
from strongroom_airflow.iceberg.lakes import iceberg_tables
from strongroom_airflow.iceberg.publish import PublishIcebergOperator

published = iceberg_tables(load_settings())

if published:
    with DAG(
        dag_id="publish_iceberg",
        description="Make the Iceberg tables hold the parquet archives that belong to them",
        schedule="30 5 * * *",
        start_date=START_DATE,
        catchup=False,
        max_active_runs=1,
        tags=["strongroom", "query"],
        doc_md=__doc__,
        default_args=default_args(published[0], **BACKOFF, pool=published[0].pool),
    ) as dag:
        PublishIcebergOperator(
            task_id="reconcile",
            doc_md="Makes each Iceberg table hold the archives that belong to it. **Clear it** at any time.",
        )
