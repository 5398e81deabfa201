"""restore_archive: restores archived rows to a table. It has no schedule; trigger it.

`locate ▶ thaw ▶ restore[i] ▶ report`

Name archives, or a table with a range of partitions. Each part is downloaded, all its checksums are compared, and only then is it
loaded: rows that are missing are inserted, rows that exist are compared and never overwritten. Restores are idempotent.

| task | does | when it fails |
|---|---|---|
| `locate` | finds the archives, compares the table's columns with the archived ones, claims the partitions, records the restore | nothing was loaded; read the HINT, trigger the DAG again |
| `thaw` | asks S3 for parts in a Glacier class and waits for them, deferred: `waiting`. Without such parts it ends at once | nothing was loaded; the store's identity needs `s3:RestoreObject`; clear it, it asks for nothing twice |
| `restore` | verifies a part and loads it in short transactions | `corrupted`, `missing`: nothing of that part was loaded, the others continue; repair the object, clear the task. Any other error: fix the cause, clear the task; it continues where it stopped |
| `report` | moves identity sequences past the restored rows, writes a summary under `reports/` | the message names the parts that were not restored |

### Results
A part is `restored` (rows were inserted), `unchanged` (all rows existed), `different` (rows with the same key, or the same unique
value, exist with other contents; they stay, and the report lists them), `corrupted` or `missing`.

### Afterwards
For the number of days that you choose, no archive run archives these partitions again; its outcome is `restored`. After that, the
rows are archived like any other late rows.
"""

from __future__ import annotations

from airflow.sdk import DAG, Param

from strongroom.settings import load_settings
from strongroom_airflow.assets import RESTORES
from strongroom_airflow.defaults import BACKOFF, START_DATE, default_args
from strongroom_airflow.parameters import optional, which_archives
from strongroom_airflow.restore.load import RestorePartOperator
from strongroom_airflow.restore.plan import RestoreLocateOperator
from strongroom_airflow.restore.report import RestoreReportOperator
from strongroom_airflow.restore.thaw import RestoreThawOperator

tables = load_settings().tables
first = next(iter(tables.values()))

# The fields that every restore needs come first. The schema lets `why` be empty, or the form would open with an error; `locate`
# refuses an empty one.
PARAMS = {
    "why": optional("Why", "**Needed.** The reason, such as a case number, for the record.", minLength=3),
    "table": optional(
        "Table",
        "**Needed**, unless you name archives. The table whose archives are restored.",
        examples=list(tables),
    ),
    **which_archives(),
    "target": optional(
        "Into another table",
        "`schema.table`. Empty: the table that the rows came from.",
        pattern=r"^[^.]+\.[^.]+$",
    ),
    "create_target": Param(
        False,
        type="boolean",
        title="Create it",
        description_md="Create that table from the archived columns if it does not exist.",
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
        title="Dropped columns",
        description_md="For columns that the table no longer has: refuse, or keep their values in its jsonb column `strongroom_dropped`.",
    ),
    "glacier_tier": Param(
        "Standard",
        enum=["Expedited", "Standard", "Bulk"],
        title="From Glacier",
        description_md="How fast S3 makes parts in a Glacier class readable: minutes, hours, up to two days.",
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
    "dry_run": Param(False, type="boolean", title="Dry run", description_md="Say what would be done and do nothing."),
}

with DAG(
    dag_id="restore_archive",
    description="Restore archived rows: verify them, compare them, and overwrite nothing",
    schedule=None,
    start_date=START_DATE,
    catchup=False,
    max_active_runs=4,
    tags=["strongroom", "restore"],
    params=PARAMS,
    doc_md=__doc__,
    default_args=default_args(first, **BACKOFF, pool=first.pool),
) as dag:
    locate = RestoreLocateOperator(
        task_id="locate",
        doc_md="Finds the archives, compares columns, records the restore. **Clear it** at any time: it finds its own claims "
        "and record again.",
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
        doc_md="Downloads the version that was archived, compares all checksums, then loads the rows in short "
        "transactions. **Clear it** at any time: no row is loaded twice.",
    ).expand(lane=locate.output)
    report = RestoreReportOperator(
        task_id="report",
        planned_by="locate",
        parts=restore.output,
        outlets=[RESTORES],
        trigger_rule="all_done",
        doc_md="Moves sequences, releases the claims, writes the summary. **Clear it** at any time, such as after granting a right.",
    )
    locate >> thaw >> restore >> report
