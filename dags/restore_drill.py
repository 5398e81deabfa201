"""restore_drill: on the 15th of each month at 03:00 UTC, restores some archives, compares every row, and drops what it restored.

`choose ▶ drill[i] ▶ report`

Of each table it takes the newest, the oldest and the largest archive and some at random, and of each store one of each format and server
version. The seed of the draw is the root of the transparency log, so anybody can recompute the choice. It restores into a schema of its
own, under a role that can do nothing else, and touches no row of a table. It needs the connection `strongroom_drill`.

| task | does | when it fails |
|---|---|---|
| `choose` | chooses archives and records the choice | nothing was restored; read the HINT, clear it |
| `drill` | restores an archive, reads it back, compares every row, drops it, and records what it found | the message says which part did not come back and why; the other archives are drilled all the same |
| `report` | sums up | the message names the archives that did not come back |

### Results
An archive is `sound` (each row came back as it was archived), `failed`, or `skipped` for a reason: it lies in a Glacier class, it is being
purged, or the scratch database lacks one of its types. Archives over `drill.most_bytes` are named as skipped as well.

You can trigger it by hand at any time. `docs/howto/restore-drills.md` says how an auditor recomputes the choice.
"""

from __future__ import annotations

from airflow.sdk import DAG

from strongroom.settings import load_settings
from strongroom_airflow.defaults import BACKOFF, START_DATE, default_args
from strongroom_airflow.drill.choose import ChooseOperator
from strongroom_airflow.drill.report import DrillReportOperator
from strongroom_airflow.drill.restore import DrillArchiveOperator

first = next(iter(load_settings().tables.values()))

with DAG(
    dag_id="restore_drill",
    description="Restore some archives each month, compare every row, and drop them again",
    schedule="0 3 15 * *",
    start_date=START_DATE,
    catchup=False,
    max_active_runs=1,
    tags=["strongroom", "verify"],
    doc_md=__doc__,
    default_args=default_args(first, **BACKOFF, pool=first.pool),
) as dag:
    choose = ChooseOperator(
        task_id="choose",
        doc_md="Chooses archives, and records the choice before anything is restored. **Clear it** and the tasks after it for another choice.",
    )
    drill = DrillArchiveOperator.partial(
        task_id="drill",
        map_index_template="{{ task.lane['choices'] | map(attribute='archive_id') | join(', ') | truncate(120) }}",
        max_active_tis_per_dagrun=1,  # a drill may take its time, and the database has other work
        doc_md="Restores an archive into tables of its own, part by part, compares every row, drops the tables, and records what it found. "
        "**Clear it** at any time: it restores the archive again.",
    ).expand(lane=choose.output)
    report = DrillReportOperator(
        task_id="report",
        chosen_by="choose",
        found=drill.output,
        trigger_rule="all_done",
        doc_md="Sums up, and fails if an archive did not come back. **Clear it** at any time.",
    )
    choose >> drill >> report
