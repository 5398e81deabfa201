"""scrub_archives: each Monday at 05:00 UTC, reads those archives again whose proof is oldest, so that each is read once a year.

`locate ▶ verify[i] ▶ report`

It takes 1 of every 52 archives of each store, those that were not read for longest, and does with them what `verify_archives` does: each
object is downloaded, hashed, decompressed and hashed again, and compared with the manifest. No row in the database is touched. What was
found is recorded for each archive under `reports/verifications/`. You can trigger it by hand at any time, with another share.

| task | does | when it fails |
|---|---|---|
| `locate` | finds the archives whose proof is oldest | nothing was read; read the HINT, clear it |
| `verify` | reads an archive again and records what it found | the message names the archive and its damaged objects; the other archives are read all the same; repair the object, clear the task |
| `report` | sums up | the message names the archives that are not sound, or were not read |

An archive in a Glacier class is `frozen` and fails its task: it cannot be read until S3 has restored its objects.
"""

from __future__ import annotations

from airflow.sdk import DAG, Param

from strongroom.settings import load_settings
from strongroom_airflow.defaults import BACKOFF, START_DATE, default_args
from strongroom_airflow.verification.report import VerificationReportOperator
from strongroom_airflow.verification.reread import RereadOperator
from strongroom_airflow.verification.sample import SampleLocateOperator

first = next(iter(load_settings().tables.values()))

PARAMS: dict[str, Param] = {
    "sample": Param(
        "1/52",
        type="string",
        pattern=r"^[0-9]+/[0-9]+$",
        title="Share",
        description_md="n/t: n of every t archives, those whose proof is oldest. With 1/52 a week each archive is read once a year.",
    ),
    "why": Param(
        "the yearly scrub", type=["null", "string"], title="Why", description_md="The reason, for the record."
    ),
}

with DAG(
    dag_id="scrub_archives",
    description="Read each archive again once a year, and compare all its sums",
    schedule="0 5 * * 1",
    start_date=START_DATE,
    catchup=False,
    max_active_runs=1,
    tags=["strongroom", "verify"],
    params=PARAMS,
    doc_md=__doc__,
    default_args=default_args(first, **BACKOFF, pool=first.pool),
) as dag:
    locate = SampleLocateOperator(
        task_id="locate", doc_md="Finds the archives whose proof is oldest. **Clear it** at any time: it looks again."
    )
    verify = RereadOperator.partial(
        task_id="verify",
        map_index_template="{{ task.lane['archives'] | join(', ') | truncate(120) }}",
        max_active_tis_per_dagrun=first.max_parallel_parts,
        doc_md="Reads every object of an archive again, compares all sums with the manifest, and records what it found. "
        "**Clear it** at any time: it reads the archive again.",
    ).expand(lane=locate.output)
    report = VerificationReportOperator(
        task_id="report",
        located_by="locate",
        found=verify.output,
        trigger_rule="all_done",
        doc_md="Sums up, and fails if an archive is not sound. **Clear it** at any time.",
    )
    locate >> verify >> report
