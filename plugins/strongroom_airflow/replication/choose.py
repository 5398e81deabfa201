"""Step 1 of a run: which archives are to be copied, or compared again."""

from __future__ import annotations

from typing import Any

from strongroom.ledger.index import survey_manifests
from strongroom.object_keys.archives import ArchiveId
from strongroom.replication.due import cut_lanes, due_in
from strongroom_airflow.replication.run import ReplicaOperator, ReplicaRun


class ReplicaChooseOperator(ReplicaOperator):
    """Find the archives without a sound second copy, and those that were not compared for longest.

    Returns lanes of archives, for Airflow to map over.
    """

    def step(self, run: ReplicaRun) -> tuple[str, dict[str, Any], Any]:
        due, sealed = [], 0
        for table in run.stores:
            store, _ = run.pair(table)
            archives = [ArchiveId.parse(one.archive_id) for one in survey_manifests(store).manifests]
            sealed += len(archives)
            wanted = due_in(store, archives, now=run.now(store), compare_days=table.replica.compare_days)
            due += [(table.table, archive) for archive in wanted]
        lanes = cut_lanes(due)
        facts = {"archives": sealed, "due": len(due), "lanes": len(lanes), "who": run.who}
        sentence = f"{len(due)} of {sealed} archives are to be copied or compared"
        return sentence, facts, [lane.model_dump(mode="json") for lane in lanes]
