"""Step 1 of a restore."""

from __future__ import annotations

from typing import Any

from strongroom.object_keys.archives import ArchiveId
from strongroom.restore.plan import plan_restore
from strongroom.restore.records import RestorePlan
from strongroom_airflow.connections import persons_for
from strongroom_airflow.links import page_of_archives
from strongroom_airflow.restore.base import RestoreOperator
from strongroom_airflow.restore.run import RestoreRun


class RestoreLocateOperator(RestoreOperator):
    """Find the archives, check that the target can take their rows, and record the restore.

    Returns lanes of parts, for Airflow to map over; none for a dry run. The plan is in XCom under the key ``plan``.
    """

    def step(self, run: RestoreRun) -> tuple[str, dict[str, Any], Any]:
        with run.target() as connection:
            plan = plan_restore(
                connection,
                run.store,
                run.request,
                restore_id=run.restore_id,
                owner=run.owner,
                claim_ttl=run.settings.claim_ttl,
                now=run.now(),
                persons=persons_for(run.settings, run.store),
                folder=run.settings.working_folder[0],
            )
        self.page = page_of_archives(map(ArchiveId.parse, plan.every_archive))
        run.context["ti"].xcom_push(key="plan", value=plan.model_dump(mode="json"))
        facts = {
            "restore_id": plan.restore_id,
            "table": plan.table,
            "target": plan.target,
            "archives": list(plan.every_archive),
            "partitions": list(plan.partition_keys),
            "parts": len(plan.parts),
            "rows": plan.rows,
            "added_columns": list(plan.added),
            "columns_kept_aside": list(plan.kept_aside),
            "strays": list(plan.strays),
            "creates_target": plan.creates_target,
            "until": plan.until.isoformat(),
            "who": plan.request.who,
            "triggered_by": plan.request.triggered_by,
            "why": plan.request.why,
            "dry_run": plan.request.dry_run,
        }
        lanes = [] if plan.request.dry_run else [[part.model_dump() for part in lane] for lane in plan.lanes]
        return _sentence(plan), facts, lanes


def _sentence(plan: RestorePlan) -> str:
    what = f"{plan.rows} rows in {len(plan.parts)} parts of {', '.join(plan.every_archive[:5])}"
    more = f" and {len(plan.every_archive) - 5} more archives" if len(plan.every_archive) > 5 else ""
    strays = f"; ignored {', '.join(plan.strays)}, which is not the key of a manifest" if plan.strays else ""
    verb = "Dry run: would restore" if plan.request.dry_run else "Restoring"
    return f"{verb} {what}{more} into {plan.target}{strays}"
