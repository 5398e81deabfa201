"""Step 2 of a restore."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from strongroom.errors import RestoreError
from strongroom.object_keys.archives import ArchiveId
from strongroom.restore.claims import renew_claims
from strongroom.restore.lane import restore_lane
from strongroom.restore.load import restore_part
from strongroom.restore.records import RestoredPart, RestorePart, RestorePlan
from strongroom_airflow.links import page_of_archives
from strongroom_airflow.replication.counting import count_copies
from strongroom_airflow.restore.base import RestoreOperator
from strongroom_airflow.restore.run import RestoreRun


class RestorePartOperator(RestoreOperator):
    """Download, verify and load the parts of one lane, one after the other.

    Returns one result for each part. A part whose object is missing or damaged fails the task after the other parts of its
    lane were loaded, except those of tables that refer to it. The results are in XCom then as well.

    :param lane: Records of the parts. (templated)
    :param plan: Record of the restore's plan. (templated)
    """

    template_fields: Sequence[str] = ("lane", "plan")

    def __init__(self, *, lane: Any, plan: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.lane = lane
        self.plan = plan

    def step(self, run: RestoreRun) -> tuple[str, dict[str, Any], Any]:
        plan = RestorePlan.model_validate(self.plan)
        parts = [RestorePart.model_validate(part) for part in self.lane]
        self.page = page_of_archives({ArchiveId.parse(part.archive_id) for part in parts})
        results = restore_lane(parts, partial(self._restore, run, plan))
        count_copies(sum(result.from_replica for result in results))
        # Keys of rows stay out of XCom and the log. The report reads them from staging.
        records = [result.model_dump(mode="json", exclude={"listed"}) for result in results]
        failed = [result for result in results if result.failed]
        if failed:
            run.context["ti"].xcom_push(key="return_value", value=records)
            left = len(parts) - len(results)
            tables = f"; {left} parts of tables that refer to it were left out" if left else ""
            raise RestoreError(
                "; ".join(result.sentence() for result in failed) + tables,
                hint="No row of these parts was loaded. `airflow strongroom verify` checks the whole archive. Earlier versions of a "
                "damaged object may still be in the bucket. Repair the object, then clear this task.",
            )
        counts = {
            name: sum(getattr(result, name) for result in results) for name in ("inserted", "unchanged", "different")
        }
        facts = {
            "parts": len(results),
            "from_replica": sum(result.from_replica for result in results) or None,
            **counts,
        }
        return "; ".join(result.sentence() for result in results), facts, records

    def _restore(self, run: RestoreRun, plan: RestorePlan, part: RestorePart) -> RestoredPart:
        keep_claim = renew_claims(run.store, plan, part, owner=run.owner, clock=run.now, ttl=run.settings.claim_ttl)
        with run.target() as connection, run.staging(part.archive_id) as staging:
            return restore_part(connection, run.store, staging, plan, part, keep_claim=keep_claim)
