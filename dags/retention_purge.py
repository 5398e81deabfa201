"""retention_purge: each day at 03:00 UTC, destroys the archives whose term is over, and removes what interrupted runs left.

`decide ▶ approve ▶ purge[table] ▶ sweep ▶ report`, and beside them `warm ▶ report` and `detached ▶ report`

| task | does | when it fails |
|---|---|---|
| `decide` | judges every archive by its manifest, the legal holds and the time, and lists the decisions in its log; removes nothing | nothing was removed; read the HINT, clear it |
| `approve` | if a table has `purge.require_approval`, asks under **Required Actions**; no answer in time is a refusal | clear it; it asks again |
| `purge` | judges each archive again, removes every version of it, the manifest last, proves that nothing is left, writes a certificate of destruction | clear it; it checks terms, holds and locks again and continues where it stopped |
| `sweep` | removes parts that were never sealed, unfinished uploads, expired records of restores, and claims and staging that no run needs | clear it at any time |
| `warm` | drops partitions of warm tables whose term is over, after each of their rows was found in a sound archive again | nothing was dropped that was not proved; clear it |
| `detached` | drops partitions that `detach` took out of their table, when their cooling-off is over, after each of their rows was found in a sound archive again | nothing was dropped that was not proved; clear it |
| `report` | writes a summary under `reports/retention_purge/`, with warm and detached partitions | clear it at any time |

### What is kept, and why
Only an archive that is past its `retention_until` is destroyed. Any other archive stays, with a reason that does not fail the run:

- `kept`: its term is not over
- `held`: a legal hold covers it
- `locked`: an Object Lock protects it, which is never overridden
- `contended`: a run or a restore needs it
- `refused`: nobody approved
- `self_approved`: only the person who started the run approved, see `purge.four_eyes`
- `left_out`: the settings of its table are wrong
- `unverifiable`: its manifest is damaged, or is not the one that was judged

`airflow strongroom purge --dry-run` prints the same decisions. `airflow strongroom hold add` stops the purge of what it covers, even
one that has begun. The next run finishes a purge that was interrupted. See docs/howto/retention.md.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from strongroom.settings import load_settings
from strongroom_airflow.assets import PURGES
from strongroom_airflow.defaults import BACKOFF, START_DATE, default_args, notifiers_of
from strongroom_airflow.retention.approve import PurgeApproveOperator
from strongroom_airflow.retention.decide import PurgeDecideOperator
from strongroom_airflow.retention.drop_detached import PurgeDetachedOperator
from strongroom_airflow.retention.drop_warm import PurgeWarmOperator
from strongroom_airflow.retention.purge import PurgeArchivesOperator
from strongroom_airflow.retention.report import PurgeReportOperator
from strongroom_airflow.retention.sweep import PurgeSweepOperator

tables = load_settings().tables
first = next(iter(tables.values()))

with DAG(
    dag_id="retention_purge",
    description="Destroy archives whose term is over, with a certificate for each",
    schedule="0 3 * * *",
    start_date=START_DATE,
    catchup=False,
    max_active_runs=1,
    tags=["strongroom", "purge"],
    doc_md=__doc__,
    default_args=default_args(first, **BACKOFF),
):
    decide = PurgeDecideOperator(
        task_id="decide",
        doc_md="Judges every archive and lists the decisions. Removes nothing. **Clear it** at any time.",
    )
    approve = PurgeApproveOperator(
        task_id="approve",
        batches=decide.output,
        notifiers=notifiers_of(first, "approval_wanted"),
        response_timeout=timedelta(seconds=min(table.purge.approval_timeout_seconds for table in tables.values())),
        doc_md="Asks a person if the settings require it. The request has the list. **Clear it** to ask again.",
    )
    purge = PurgeArchivesOperator.partial(
        task_id="purge",
        approval=approve.output,
        outlets=[PURGES],
        map_index_template="{{ task.batch['table'] }}",
        doc_md="Destroys one table's expired archives and certifies it. **Clear it** at any time: nothing is done twice.",
    ).expand(batch=decide.output)
    sweep = PurgeSweepOperator(
        task_id="sweep",
        trigger_rule="none_failed",
        doc_md="Removes old leftovers of interrupted runs, never under a hold. **Clear it** at any time.",
    )
    warm = PurgeWarmOperator(
        task_id="warm",
        doc_md="Drops warm partitions whose term is over and whose rows are proved. **Clear it** at any time.",
    )
    detached = PurgeDetachedOperator(
        task_id="detached",
        doc_md="Drops detached partitions whose cooling-off is over and whose rows are proved. **Clear it** at any time.",
    )
    report = PurgeReportOperator(
        task_id="report",
        judged=decide.output["judged"],
        approval=approve.output,
        results=purge.output,
        swept=sweep.output,
        warm=warm.output,
        detached=detached.output,
        trigger_rule="none_failed",
        doc_md="Writes a summary to each store. **Clear it** at any time: each try writes a report of its own.",
    )
    purge >> sweep >> report
    [warm, detached] >> report
