"""subject_erasure: erases one person from tables and archives (GDPR 17, NDPA 34). Started by hand with the id of a case, nothing else.

`find ▶ approve ▶ erase ▶ cool_off ▶ remove ▶ close`

Open the case first, with `airflow strongroom subject open`. Who the person is lies protected in the store: it is in no parameter, log or
XCom. The run lasts until the cooling-off is over; it takes no worker meanwhile.

| task | does | when it fails |
|---|---|---|
| `find` | finds the person's rows everywhere, and says for each place whether they may be erased | nothing was changed; read the HINT, clear it |
| `approve` | asks a second person under Required Actions | clear it to ask again |
| `erase` | removes rows from tables, and gives archives successors without them, proved row by row | nothing is done twice; clear it |
| `cool_off` | waits (`erasure.cooling_off`) | clear it |
| `remove` | destroys the superseded archives, with certificates | a hold or a lock keeps one; clear it when that has ended |
| `close` | looks again, records how the case ended, and forgets who the person is | something is left; clear `find` and the tasks after it |

### What is refused
Rows that a law obliges you to keep (`subjects.obligation`), and what a legal hold touches. The case then ends as `refused` or `partly erased`,
with the reasons and the person's rights on record. `docs/howto/erase-a-person.md` has the whole way.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Param

from strongroom.settings import load_settings
from strongroom_airflow.defaults import BACKOFF, START_DATE, default_args, notifiers_of
from strongroom_airflow.erasure.approve import ErasureApproveOperator
from strongroom_airflow.erasure.close import CloseCaseOperator
from strongroom_airflow.erasure.cool_off import CoolOffOperator
from strongroom_airflow.erasure.erase import EraseOperator
from strongroom_airflow.erasure.find import FindPersonOperator
from strongroom_airflow.erasure.remove import RemoveSupersededOperator

tables = load_settings().tables
first = next(iter(tables.values()))

PARAMS: dict[str, Param] = {
    "case": Param(
        type="string",
        pattern="^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$",
        title="Case",
        description_md="The id of a case that `airflow strongroom subject open` recorded. **Write nothing here that tells who the person is.**",
    ),
}

with DAG(
    dag_id="subject_erasure",
    description="Erase one person from tables and archives, with proof",
    schedule=None,
    start_date=START_DATE,
    catchup=False,
    max_active_runs=4,
    tags=["strongroom", "erasure"],
    params=PARAMS,
    doc_md=__doc__,
    default_args=default_args(first, **BACKOFF, pool=first.pool),
):
    find = FindPersonOperator(
        task_id="find",
        doc_md="Finds the person's rows, and changes nothing. **Clear it** and the tasks after it to look and ask again.",
    )
    approve = ErasureApproveOperator(
        task_id="approve",
        notifiers=notifiers_of(first, "approval_wanted"),
        response_timeout=timedelta(seconds=min(table.erasure.approval_timeout_seconds for table in tables.values())),
        doc_md="Asks a second person. **Clear it** to ask again.",
    )
    erase = EraseOperator(
        task_id="erase", doc_md="Erases what was approved. **Clear it** at any time: it continues where it stopped."
    )
    cool_off = CoolOffOperator(task_id="cool_off", doc_md="Waits, without a worker. **Clear it** at any time.")
    remove = RemoveSupersededOperator(
        task_id="remove", doc_md="Destroys the superseded archives. **Clear it** at any time: nothing is done twice."
    )
    close = CloseCaseOperator(
        task_id="close", doc_md="Looks again and ends the case. **Clear it** at any time: a case ends once."
    )
    find >> approve >> erase >> cool_off >> remove >> close
