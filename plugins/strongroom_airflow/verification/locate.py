"""Step 1 of a verification run."""

from __future__ import annotations

from typing import Any

from strongroom.statistics.rereading import cut_lanes
from strongroom_airflow.links import page_of_archives
from strongroom_airflow.verification.base import VerificationOperator
from strongroom_airflow.verification.run import VerificationRun


class VerificationLocateOperator(VerificationOperator):
    """Find the archives that are to be read again.

    Returns lanes of archives, for Airflow to map over: one archive each, or several where they are more than a thousand.
    """

    def step(self, run: VerificationRun) -> tuple[str, dict[str, Any], Any]:
        archives = run.find()
        self.page = page_of_archives(archive for _, archive in archives)
        lanes = cut_lanes(archives)
        tables = sorted({f"{archive.schema_name}.{archive.table_name}" for _, archive in archives})
        facts = {"tables": tables, "archives": len(archives), "lanes": len(lanes), "who": run.who, "why": run.why}
        return f"{len(archives)} archives to read again", facts, [lane.model_dump(mode="json") for lane in lanes]
