"""Brings archived rows back into a table, by hand.

`locate ▶ thaw ▶ restore[i] ▶ report`

Name archives, or a table with a range of partitions. Each part is downloaded, every sum of it compared, and only then loaded:
rows that are not there are inserted, rows that are there are compared and never overwritten. Running it again adds nothing.

| task | does | when it fails |
|---|---|---|
| `locate` | finds the archives, compares the table's columns with the archived ones, claims the partitions, puts the restore on record | nothing was loaded; read the HINT, trigger the run again |
| `thaw` | asks for parts in a Glacier class and waits for them, deferred: `waiting`. Without such parts it is done at once | nothing was loaded; the store's identity needs `s3:RestoreObject`; clear it, it asks for nothing twice |
| `restore` | proves and loads a part, in short transactions | `corrupted`, `missing`: nothing of that part was loaded, the others go on; fix the object, clear the task. Anything else: fix the cause, clear the task; it continues where it stopped |
| `report` | moves identity sequences past the restored rows, sums up under `reports/` | the message names the parts that did not come back |

### Results
A part is `restored` (rows were inserted), `unchanged` (all were there), `different` (rows of the same key, or with the same unique
value, are there with other contents: they stay, and the report lists them), `corrupted` or `missing`.

### Afterwards
Until the days are over that you choose, no archive run takes these partitions again, however it is started: its outcome is `restored`.
After that they are late rows like any others.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from airflow.sdk import DAG, Param

from strongroom.settings import load_settings
from strongroom_airflow.restore.load import RestorePartOperator
from strongroom_airflow.restore.plan import RestoreLocateOperator
from strongroom_airflow.restore.report import RestoreReportOperator
from strongroom_airflow.restore.thaw import RestoreThawOperator

tables = load_settings().tables
first = next(iter(tables.values()))

KEY = r"^[0-9]{4}-([0-9]{2}|[0-9]{2}-[0-9]{2}|W[0-9]{2})$"
KEY_WORDS = "A month 2026-05, an ISO week 2026-W21 or a day 2026-05-31."


def optional(title: str, description: str, **schema: object) -> Param:
    """A parameter that may be left empty."""
    return Param(None, type=["null", "string"], title=title, description_md=description, **schema)


# What every restore needs stands first. `why` may be empty for the form's sake, which else opens in red: `locate` refuses that.
PARAMS = {
    "why": optional(
        "Why", "**Needed.** The reason, such as a case number; kept on record with the restore.", minLength=3
    ),
    "table": optional(
        "Table",
        "**Needed**, unless you name archives. Whose archives come back.",
        examples=list(tables),
    ),
    "first_partition": optional("First partition", f"{KEY_WORDS} Empty: from the oldest archive on.", pattern=KEY),
    "last_partition": optional("Last partition", f"{KEY_WORDS} It is included. Empty: to the newest.", pattern=KEY),
    "archives": Param(
        [],
        type=["null", "array"],
        items={"type": "string", "pattern": r"^[^/]+\.[0-9]{4}-[0-9W-]+\.[0-9]{4,}$"},
        title="Archives",
        description_md="Instead of a table: archive ids, one a line, such as `public.audit_events.2026-05.0001`.",
    ),
    "target": optional(
        "Into another table",
        "`schema.table`. Empty: the table that the rows came from.",
        pattern=r"^[^.]+\.[^.]+$",
    ),
    "create_target": Param(
        False,
        type="boolean",
        title="Create it",
        description_md="Create that table from the archived columns if it is not there.",
    ),
    "since": optional("Rows since", "Only rows dated at or after this instant.", format="date-time"),
    "before": optional("Rows before", "Only rows dated before this instant.", format="date-time"),
    "keys": Param(
        [],
        type=["null", "array"],
        items={"type": ["string", "number", "array"]},
        title="Keys",
        description_md='Only rows with these primary keys, as JSON: `[17, 18]`, or `[["10.0.0.1", 5]]` for several columns.',
    ),
    "dropped_columns": Param(
        "refuse",
        enum=["refuse", "keep"],
        title="Columns that were dropped since",
        description_md="Refuse, or keep their values in the table's jsonb column `strongroom_dropped`.",
    ),
    "glacier_tier": Param(
        "Standard",
        enum=["Expedited", "Standard", "Bulk"],
        title="From Glacier",
        description_md="How quickly S3 brings back parts in a Glacier class: minutes, hours, up to two days.",
    ),
    "glacier_days": Param(
        7,
        type="integer",
        minimum=1,
        maximum=365,
        title="Days out of Glacier",
        description_md="How long S3 keeps the readable copies of such parts.",
    ),
    "keep_days": Param(
        30,
        type="integer",
        minimum=1,
        maximum=3650,
        title="Days",
        description_md="How long these partitions are not archived again.",
    ),
    "who": optional("Who", "Empty: the user who triggers the run."),
    "dry_run": Param(False, type="boolean", title="Dry run", description_md="Say what would be done, and do nothing."),
}

with DAG(
    dag_id="restore_archive",
    description="Bring archived rows back, proved, compared and never overwriting",
    schedule=None,
    start_date=datetime(2020, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    max_active_runs=4,
    tags=["strongroom", "restore"],
    params=PARAMS,
    doc_md=__doc__,
    default_args={
        "owner": first.owner,
        "retries": first.retries,
        "retry_delay": timedelta(seconds=30),
        "retry_exponential_backoff": 2,
        "max_retry_delay": timedelta(minutes=10),
        "pool": first.pool,
    },
) as dag:
    locate = RestoreLocateOperator(
        task_id="locate",
        doc_md="Finds the archives, compares columns, puts the restore on record. **Clear it** at any time: claims and "
        "record that are there are found again.",
    )
    thaw = RestoreThawOperator(
        task_id="thaw",
        plan=locate.output["plan"],
        doc_md="Asks S3 for parts in a Glacier class and waits, deferred, until they can be read. **Clear it** at any time.",
    )
    restore = RestorePartOperator.partial(
        task_id="restore",
        plan=locate.output["plan"],
        map_index_template="{{ task.lane[0]['archive_id'] }} part {{ task.lane[0]['number'] }}",
        max_active_tis_per_dagrun=first.max_parallel_parts,
        doc_md="Downloads the very version that was archived, compares every sum, then loads the rows in short "
        "transactions. **Clear it** at any time: rows that are there are not loaded twice.",
    ).expand(lane=locate.output)
    report = RestoreReportOperator(
        task_id="report",
        planned_by="locate",
        parts=restore.output,
        trigger_rule="all_done",
        doc_md="Moves sequences, gives the claims back, writes the summary. **Clear it** after granting what it lacked.",
    )
    locate >> thaw >> restore >> report
