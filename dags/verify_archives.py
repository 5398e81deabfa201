"""verify_archives: reads archives again from the store and compares all their sums. It has no schedule; trigger it.

`locate ▶ verify[i] ▶ report`

Name archives, or a table with a range of partitions. Each object of each archive is downloaded, hashed, decompressed and hashed again, and
compared with the manifest. No row in the database is touched. What was found is recorded for each archive under
`reports/verifications/`, as `airflow strongroom verify` does.

| task | does | when it fails |
|---|---|---|
| `locate` | finds the archives | nothing was read; read the HINT, trigger the DAG again |
| `verify` | reads an archive again and records what it found | the message names the archive and its damaged objects; the other archives are read all the same; repair the object, clear the task |
| `report` | sums up | the message names the archives that are not sound, or were not read |

### Results
An archive is `sound`, `corrupted` (other bytes), `missing` (an object is gone), `hidden` (a delete marker or another version lies over a sound
one), `unverifiable` (its manifest is damaged or gone) or `frozen` (it lies in a Glacier class and was not read).
"""

from __future__ import annotations

from airflow.sdk import DAG, Param

from strongroom.settings import load_settings
from strongroom_airflow.defaults import BACKOFF, START_DATE, default_args
from strongroom_airflow.parameters import optional, which_archives
from strongroom_airflow.verification.locate import VerificationLocateOperator
from strongroom_airflow.verification.report import VerificationReportOperator
from strongroom_airflow.verification.reread import RereadOperator

tables = load_settings().tables
first = next(iter(tables.values()))

PARAMS: dict[str, Param] = {
    "table": optional(
        "Table", "The table whose archives are read again, unless you name archives.", examples=list(tables)
    ),
    **which_archives(),
    "why": optional("Why", "The reason, such as a case number, for the record."),
}

with DAG(
    dag_id="verify_archives",
    description="Read archives again and compare all their sums",
    schedule=None,
    start_date=START_DATE,
    catchup=False,
    max_active_runs=4,
    tags=["strongroom", "verify"],
    params=PARAMS,
    doc_md=__doc__,
    default_args=default_args(first, **BACKOFF),
) as dag:
    locate = VerificationLocateOperator(
        task_id="locate", doc_md="Finds the archives. **Clear it** at any time: it looks again."
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
