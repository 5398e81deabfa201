"""retention_purge: each day at 03:00 UTC, destroys the archives whose term is over, and sweeps what broken runs left.

`decide ▶ approve ▶ purge[table] ▶ sweep ▶ report`, and `warm ▶ report` and `detached ▶ report` beside them

| task | does | when it fails |
|---|---|---|
| `decide` | judges every archive by its manifest, the legal holds and the time, and shows the list in its log; removes nothing | nothing was removed; read the HINT, clear it |
| `approve` | where a table has `purge.require_approval`, asks under **Required Actions**; no answer in time is a no | clear it: it asks again |
| `purge` | looks at each archive again, removes every version of it, the manifest last, proves that nothing is left, writes a certificate of destruction | clear it: it goes on where it stopped, after looking at terms, holds and locks anew |
| `sweep` | removes parts that were never sealed, unfinished uploads, records of restores past their date, claims and staging that nobody needs | clear it at any time |
| `warm` | beside the others: takes down partitions of warm tables whose term is over, each of whose rows was found in a sound archive again | nothing was dropped that was not proved; clear it |
| `detached` | beside the others: drops partitions that `detach` took out of their table, when their cooling-off is over and each of their rows was found in a sound archive again | nothing was dropped that was not proved; clear it |
| `report` | sums up under `reports/retention_purge/`, warm and detached partitions too | clear it at any time |

### What is kept, and why
Only an archive that is past its `retention_until` goes. Anything else is a result with its reason: `kept` (its term runs), `held` (a
legal hold covers it), `locked` (an Object Lock protects it; never forced), `contended` (a run or a restore needs it), `refused`
(nobody approved), `self_approved` (only whoever started the run did, see `purge.four_eyes`), `left_out` (the settings of its table are wrong), `unverifiable` (its manifest is damaged, or not the one that was
judged). None of them fails the run.

`airflow strongroom purge --dry-run` prints the same decisions. `airflow strongroom hold add` stops the purge of whatever it covers,
even in its middle. A purge that broke off is finished by the next run. See docs/howto/retention.md.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from airflow.sdk import DAG

from strongroom.settings import load_settings
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
    description="Destroy archives whose term is over, with a certificate of each",
    schedule="0 3 * * *",
    start_date=datetime(2020, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    max_active_runs=1,
    tags=["strongroom", "purge"],
    doc_md=__doc__,
    default_args={
        "owner": first.owner,
        "retries": first.retries,
        "retry_delay": timedelta(seconds=30),
        "retry_exponential_backoff": 2,
        "max_retry_delay": timedelta(minutes=10),
    },
):
    decide = PurgeDecideOperator(
        task_id="decide", doc_md="Judges and shows; removes nothing. **Clear it** at any time."
    )
    approve = PurgeApproveOperator(
        task_id="approve",
        batches=decide.output,
        response_timeout=timedelta(seconds=min(table.purge.approval_timeout_seconds for table in tables.values())),
        doc_md="Asks a person where the settings want that. The list is in the request. **Clear it** to ask again.",
    )
    purge = PurgeArchivesOperator.partial(
        task_id="purge",
        approval=approve.output,
        map_index_template="{{ task.batch['table'] }}",
        doc_md="Destroys one table's expired archives and certifies it. **Clear it** at any time: what is done is found done.",
    ).expand(batch=decide.output)
    sweep = PurgeSweepOperator(
        task_id="sweep",
        trigger_rule="none_failed",
        doc_md="Removes leftovers of broken runs that are old enough, never under a hold. **Clear it** at any time.",
    )
    warm = PurgeWarmOperator(
        task_id="warm",
        doc_md="Takes warm partitions down whose term is over and whose rows are proved. **Clear it** at any time.",
    )
    detached = PurgeDetachedOperator(
        task_id="detached",
        doc_md="Drops detached partitions that have waited long enough and whose rows are proved. **Clear it** at any time.",
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
        doc_md="One summary in each store. **Clear it** at any time: each time it writes a report of its own.",
    )
    purge >> sweep >> report
    [warm, detached] >> report
