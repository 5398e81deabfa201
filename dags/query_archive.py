"""query_archive: looks inside archives without restoring them. It has no schedule; trigger it.

`search`

Name a table and a range of time, or archives, and conditions. Each part that may have such rows is downloaded, its checksum is
compared, and it is searched in a process that sees this part alone. No row goes into the database, and no archive is changed.

| task | does | when it fails |
|---|---|---|
| `search` | finds the archives, searches them one after the other, writes a record of the query into the store, then lets the rows be seen | no row was shown; read the HINT, trigger the DAG again or clear the task |

### Results
`complete`: all that exists in the range was searched. `limited`: there are more rows than the limit. `incomplete`: something could
not be searched; the result names it, and why. Rows that are still in the table are not searched.

### Where the rows are
In staging, for a day: `airflow strongroom query` prints them. Log and XCom have none. Who asked for what, why, and how many rows were
found stays in the store under `reports/queries/`. The run's configuration holds the values that were looked for.
"""

from __future__ import annotations

from airflow.sdk import DAG, Param

from strongroom.settings import load_settings
from strongroom_airflow.defaults import BACKOFF, START_DATE, default_args
from strongroom_airflow.parameters import optional
from strongroom_airflow.query.search import QueryArchiveOperator

tables = load_settings().tables
first = next(iter(tables.values()))

OPERATORS = ["=", "!=", "<", "<=", ">", ">=", "in", "contains", "begins with", "is null", "is not null"]


# `search` refuses an empty `why`.
PARAMS = {
    "why": optional("Why", "**Needed.** The reason, such as a case number, for the record.", minLength=3),
    "table": optional(
        "Table",
        "**Needed**, unless you name archives. The table whose archives are searched.",
        examples=list(tables),
    ),
    "since": optional("Rows since", "Only rows dated at or after this instant.", format="date-time"),
    "before": optional("Rows before", "Only rows dated before this instant.", format="date-time"),
    "conditions": Param(
        [],
        type=["null", "array"],
        items={
            "type": "object",
            "properties": {
                "column": {"type": "string"},
                "operator": {"enum": OPERATORS},
                "value": {"type": ["string", "integer", "array", "null"]},
            },
            "required": ["column", "operator"],
            "additionalProperties": False,
        },
        title="Conditions",
        description_md='All must hold. As JSON: `[{"column": "cost", "operator": ">=", "value": "66.40"}]`; for `in` a list of values.',
    ),
    "columns": Param(
        [],
        type=["null", "array"],
        items={"type": "string"},
        title="Columns",
        description_md="What to show, one column on each line. Empty: all columns.",
    ),
    "limit": Param(
        1000,
        type="integer",
        minimum=1,
        maximum=max(table.query.most_rows for table in tables.values()),
        title="Limit",
        description_md="The most rows to show.",
    ),
    "archives": Param(
        [],
        type=["null", "array"],
        items={"type": "string", "pattern": r"^[^/]+\.[0-9]{4}-[0-9W-]+\.[0-9]{4,}$"},
        title="Archives",
        description_md="Only these archives: ids, one on each line, such as `public.audit_events.2026-05.0001`.",
    ),
    "who": optional("Who", "Empty: the user who triggers the run."),
}

with DAG(
    dag_id="query_archive",
    description="Look inside archives without restoring them",
    schedule=None,
    start_date=START_DATE,
    catchup=False,
    max_active_runs=4,
    tags=["strongroom", "query"],
    params=PARAMS,
    doc_md=__doc__,
    default_args=default_args(first, **BACKOFF),
) as dag:
    QueryArchiveOperator(
        task_id="search",
        doc_md="Searches the archives, records the query, leaves the rows in staging for a day. **Clear it** at any time: it searches "
        "again, and its result replaces the earlier one.",
    )
