"""replicate_archives: each day at 04:30 UTC, fills the second copy of each store, reads it back, and compares it byte for byte.

`choose ▶ copy[i] ▶ conclude`

This DAG is there as soon as a table's settings name a replica (`replica.filled_by`). If Strongroom fills it, what is missing is copied:
archives, evidence, holds, reports and the transparency log, whose checkpoint comes last. If the store fills it by itself, nothing is written,
and what the store says of its own copy counts for nothing: the bytes are read.

| task | does | when it fails |
|---|---|---|
| `choose` | finds the archives without a sound second copy, and those that were not compared for `replica.compare_days` | nothing was copied; read the HINT, clear it |
| `copy` | copies an archive under the claim of its partition, the manifest last, reads the copy back, and records what was found | clear it at any time: nothing is copied twice |
| `conclude` | copies and compares evidence and log, and sums up | the message names what is not the same; nothing there was overwritten |

### Results
A second copy is `same`, `hidden` (a delete marker or another version lies over it), `missing` or `differs`. An archive may also be
`unverifiable` (its first copy is not sound, so it was not copied), `contended` or `leaving` (its purge has begun). A copy that a store fills
by itself may be `missing` for a while; the metric `strongroom_uncopied_archives` tells how many are.

You can trigger it by hand at any time. `docs/howto/second-copy.md` says how to set a replica up and what to do when it differs.
"""

from __future__ import annotations

from airflow.sdk import DAG

from strongroom.settings import load_settings
from strongroom_airflow.defaults import BACKOFF, START_DATE, default_args
from strongroom_airflow.replication.choose import ReplicaChooseOperator
from strongroom_airflow.replication.conclude import ReplicaConcludeOperator
from strongroom_airflow.replication.copy import ReplicaCopyOperator

replicated = [table for table in load_settings().tables.values() if table.replica_store is not None]

if replicated:
    with DAG(
        dag_id="replicate_archives",
        description="Fill the second copy of each archive store, and compare it byte for byte",
        schedule="30 4 * * *",
        start_date=START_DATE,
        catchup=False,
        max_active_runs=1,
        tags=["strongroom", "verify"],
        doc_md=__doc__,
        default_args=default_args(replicated[0], **BACKOFF, pool=replicated[0].pool),
    ) as dag:
        choose = ReplicaChooseOperator(
            task_id="choose",
            doc_md="Finds the archives that are to be copied, or compared again. **Clear it** at any time.",
        )
        copy = ReplicaCopyOperator.partial(
            task_id="copy",
            map_index_template="{{ task.lane['archives'] | join(', ') | truncate(120) }}",
            max_active_tis_per_dagrun=2,
            doc_md="Copies archives, reads the copies back, compares them, and records what was found. **Clear it** at any time.",
        ).expand(lane=choose.output)
        conclude = ReplicaConcludeOperator(
            task_id="conclude",
            chosen_by="choose",
            found=copy.output,
            trigger_rule="all_done",
            doc_md="Copies and compares evidence and log, and fails if anything is not the same. **Clear it** at any time.",
        )
        choose >> copy >> conclude
