"""Step 1 of a run of drills."""

from __future__ import annotations

from typing import Any

from strongroom.drill.begin import begin_drills, cut_lanes
from strongroom.object_keys.archives import ArchiveId
from strongroom_airflow.drill.base import DrillOperator
from strongroom_airflow.drill.run import DrillRun
from strongroom_airflow.links import page_of_archives

SKIPS_XCOM = "skips"
"""XCom key of the archives that were not chosen, and why."""


class ChooseOperator(DrillOperator):
    """Choose archives in each store, and record the choice before anything is restored.

    Returns lanes of archives, for Airflow to map over: one archive each, or several where they are more than a thousand.
    """

    def step(self, run: DrillRun) -> tuple[str, dict[str, Any], Any]:
        chosen, seen = [], set[str]()
        for table in run.stores:
            store = run.store(table.table)
            key, one = begin_drills(store, run.drills, run_id=run.run_id, who=run.who, now=run.now(store))
            # Two connections may lead to one store: each archive is drilled once.
            again = {choice.archive_id for choice in one.choices if choice.archive_id in seen}
            seen |= {choice.archive_id for choice in one.choices}
            choices = tuple(choice for choice in one.choices if choice.archive_id not in again)
            chosen.append((table.table, key, one.model_copy(update={"choices": choices})))
        self.page = page_of_archives(map(ArchiveId.parse, seen))
        skips = [skip.model_dump(mode="json") for _, _, one in chosen for skip in one.skips]
        run.context["ti"].xcom_push(key=SKIPS_XCOM, value=skips)
        lanes = cut_lanes(chosen)
        candidates = sum(len(one.candidates) for _, _, one in chosen)
        facts = {
            "archives": candidates,
            "chosen": len(seen),
            "skips": len(skips),
            "lanes": len(lanes),
            "who": run.who,
            "record_keys": [key for _, key, _ in chosen],
        }
        sentence = f"chose {len(seen)} of {candidates} archives to restore as a drill"
        return sentence, facts, [lane.model_dump(mode="json") for lane in lanes]
