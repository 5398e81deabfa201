"""legal_hold: places or releases a legal hold. It has no schedule; trigger it.

What a hold covers is neither purged nor swept, however old it is, until the hold is released. A hold on everything also stops every
delete of archived rows from the database, within seconds. `airflow strongroom hold add` and `hold release` do the same.

| to | fill in |
|---|---|
| place a hold | `action` place, `what`, `why`, `reference` |
| release one | `action` release, `hold_id`, `why` |

The task returns the id of the hold. The same run places one hold, however often it is cleared. A hold stays on record when it is released.

Whoever may trigger this DAG may release a hold, and then the next purge destroys what it covered and whose term is over.
See docs/howto/retention.md.
"""

from __future__ import annotations

from airflow.sdk import DAG, Param

from strongroom.settings import load_settings
from strongroom_airflow.defaults import BACKOFF, START_DATE, default_args
from strongroom_airflow.holds.hold import HoldOperator
from strongroom_airflow.parameters import optional

tables = load_settings().tables
first = next(iter(tables.values()))

PARAMS: dict[str, Param] = {
    "action": Param("place", enum=["place", "release"], title="Action", description_md="Place a hold, or release one."),
    "what": optional(
        "What",
        "**Needed** to place one. A table, an archive id, the beginning of one (`public.audit_events.2026-07`), or `*`: everything.",
        examples=[*tables, "*"],
    ),
    "why": optional("Why", "**Needed.** The reason, for the record.", minLength=3),
    "reference": optional("Reference", "**Needed** to place one. Case number, letter or ticket that requires it."),
    "hold_id": optional("Hold", "**Needed** to release one. Its id.", pattern=r"^[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}$"),
    "who": optional("Who", "The person who asked for it. Empty: the user who triggers the run."),
}

with DAG(
    dag_id="legal_hold",
    description="Place or release a legal hold",
    schedule=None,
    start_date=START_DATE,
    catchup=False,
    max_active_runs=4,
    tags=["strongroom", "hold"],
    params=PARAMS,
    doc_md=__doc__,
    default_args=default_args(first, **BACKOFF),
):
    HoldOperator(
        task_id="hold",
        doc_md="Places or releases the hold. **Clear it** at any time: it finds its own hold again and places no second one.",
    )
