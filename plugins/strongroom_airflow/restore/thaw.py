"""Between steps 1 and 2 of a restore, for parts in a Glacier class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from airflow.sdk import Context

from strongroom.object_keys.archives import ArchiveId
from strongroom.restore.records import RestorePlan
from strongroom.restore.thaw import ask_back, parts_of
from strongroom_airflow.connections import connect_glacier
from strongroom_airflow.links import page_of_archives
from strongroom_airflow.restore.base import RestoreOperator
from strongroom_airflow.restore.run import RestoreRun
from strongroom_airflow.triggers import PartsReturnedTrigger


class RestoreThawOperator(RestoreOperator):
    """Ask S3 to make parts in a Glacier class readable, and wait for them without occupying a worker.

    While it waits, the task is deferred, and its XCom ``waiting`` says for how many parts. If no part is in such a class, the task
    ends at once.

    :param plan: Record of the restore's plan. (templated)
    :param poll_seconds: The longest time between two checks.
    :param longest: How long to wait before the task fails. It can be cleared.
    """

    template_fields: Sequence[str] = ("plan",)

    def __init__(
        self,
        *,
        plan: Any,
        poll_seconds: float = 300,
        longest: timedelta = timedelta(days=4),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.plan = plan
        self.poll_seconds = poll_seconds
        self.longest = longest

    def step(self, run: RestoreRun) -> tuple[str, dict[str, Any], Any]:
        plan = RestorePlan.model_validate(self.plan)
        self.page = page_of_archives(map(ArchiveId.parse, plan.every_archive))
        if plan.request.dry_run:
            return "Dry run: asked for nothing", {}, {"result": "readable", "parts": len(plan.parts)}
        store = connect_glacier(run.settings)
        request = plan.request
        states = ask_back(store, parts_of(store, plan.parts), days=request.glacier_days, tier=request.glacier_tier)
        counts = Counter(found.state for found in states)
        missing = [part for part, found in zip(plan.parts, states, strict=True) if found.state != "readable"]
        if missing:
            waiting = {"result": "waiting", "parts": len(missing), "asked": counts["asked"]}
            run.context["ti"].xcom_push(key="waiting", value=waiting)
            self.log.info("waiting: %d of %d parts are not back from Glacier yet", len(missing), len(states))
            trigger = PartsReturnedTrigger(
                run.settings.table, [part.model_dump() for part in missing], self.poll_seconds
            )
            self.defer(trigger=trigger, method_name="resume", timeout=self.longest)
        return "Every part can be read", {"parts": len(states)}, {"result": "readable", "parts": len(states)}

    def resume(self, context: Context, event: Any) -> Any:  # noqa: ARG002 - what Airflow hands over
        """Continue after the trigger fired: check every part again."""
        return self.execute(context)
