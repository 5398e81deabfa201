"""Step 1 of a scrub."""

from __future__ import annotations

from typing import Any

from strongroom.statistics.rereading import cut_lanes
from strongroom_airflow.links import page_of_archives
from strongroom_airflow.verification.base import VerificationOperator
from strongroom_airflow.verification.run import VerificationRun


class SampleLocateOperator(VerificationOperator):
    """Find the archives of all stores whose proof is oldest, as many as the run's `sample` asks for.

    Returns lanes of archives, for Airflow to map over: one archive each, or several where they are more than a thousand.
    """

    def step(self, run: VerificationRun) -> tuple[str, dict[str, Any], Any]:
        archives = run.find_oldest()
        self.page = page_of_archives(archive for _, archive in archives)
        lanes = cut_lanes(archives)
        facts = {"archives": len(archives), "lanes": len(lanes), "sample": run.context["params"]["sample"]}
        return (
            f"{len(archives)} archives have the oldest proofs",
            facts,
            [lane.model_dump(mode="json") for lane in lanes],
        )
