"""Step 2 of a verification run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from strongroom.object_keys.archives import ArchiveId
from strongroom.statistics.rereading import Lane, require_sound, reread
from strongroom_airflow.links import page_of_archives
from strongroom_airflow.verification.base import VerificationOperator
from strongroom_airflow.verification.run import VerificationRun


class RereadOperator(VerificationOperator):
    """Read archives again, compare all their sums, and record what was found.

    Fails after the last archive of its lane if one of them is not sound. What was found is in XCom then as well.

    :param lane: Record of the archives. (templated)
    """

    template_fields: Sequence[str] = ("lane",)

    def __init__(self, *, lane: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.lane = lane

    def step(self, run: VerificationRun) -> tuple[str, dict[str, Any], Any]:
        lane = Lane.model_validate(self.lane)
        self.page = page_of_archives(map(ArchiveId.parse, lane.archives))
        store = run.store(lane.store_table)
        found = reread(store, lane, who=run.who, why=run.why, now=lambda: run.now(store))
        records = [one.model_dump(mode="json") for one in found]
        run.context["ti"].xcom_push(key="return_value", value=records)
        require_sound(found)
        facts = {
            "archives": list(lane.archives),
            "rows": sum(one.rows for one in found),
            "objects": sum(one.objects for one in found),
            **Counter(one.result for one in found),
        }
        return "; ".join(one.sentence() for one in found), facts, records
