"""Step 2 of a run: copy some archives, read the copies back, and compare them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from strongroom.object_keys.archives import ArchiveId
from strongroom.replication.archive import replicate_archive
from strongroom.replication.records import ReplicaLane
from strongroom_airflow.links import page_of_archives
from strongroom_airflow.replication.run import ReplicaOperator, ReplicaRun


class ReplicaCopyOperator(ReplicaOperator):
    """Copy the archives of a lane where they are missing, compare them byte for byte, and record what was found.

    What differs does not fail this task: `conclude` names it, so that the other archives are copied all the same.

    :param lane: Record of the archives. (templated)
    """

    template_fields: Sequence[str] = ("lane",)

    def __init__(self, *, lane: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.lane = lane

    def step(self, run: ReplicaRun) -> tuple[str, dict[str, Any], Any]:
        lane = ReplicaLane.model_validate(self.lane)
        archives = [ArchiveId.parse(one) for one in lane.archives]
        self.page = page_of_archives(archives)
        table = run.settings.table(lane.store_table)
        store, replica = run.pair(table)
        found = [
            replicate_archive(
                store,
                replica,
                archive,
                filled_by="strongroom" if table.replica.filled_by == "strongroom" else "store",
                owner=str(run.identity),
                who=run.who,
                now=run.now(store),
                claim_ttl=table.claim_ttl,
            )
            for archive in archives
        ]
        facts = {
            "archives": list(lane.archives),
            "objects": sum(len(one.objects) for one in found),
            "copied": sum(one.copied for one in found),
            "compared_bytes": sum(each.size_bytes for one in found for each in one.objects),
            **Counter(one.result for one in found),
        }
        # The objects and their digests are in the record in the store; here only what is wrong with one.
        records = [
            one.model_copy(update={"objects": tuple(each for each in one.objects if each.result != "same")}).model_dump(
                mode="json"
            )
            for one in found
        ]
        return "; ".join(one.sentence() for one in found), facts, records
