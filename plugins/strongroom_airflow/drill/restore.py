"""Step 2 of a run of drills."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from strongroom.drill.drill import Drill
from strongroom.drill.records import ArchiveDrill, Choice, DrillLane
from strongroom.drill.report import require_restored
from strongroom.object_keys.archives import ArchiveId
from strongroom_airflow.drill.base import DrillOperator
from strongroom_airflow.drill.run import DrillRun
from strongroom_airflow.links import page_of_archives


class DrillArchiveOperator(DrillOperator):
    """Restore archives into tables of their own, compare every row, drop the tables, and record what was found.

    Fails after the last archive of its lane if one of them did not come back. What was found is in XCom then as well.

    :param lane: Record of the archives. (templated)
    """

    template_fields: Sequence[str] = ("lane",)

    def __init__(self, *, lane: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.lane = lane

    def step(self, run: DrillRun) -> tuple[str, dict[str, Any], Any]:
        lane = DrillLane.model_validate(self.lane)
        self.page = page_of_archives(ArchiveId.parse(choice.archive_id) for choice in lane.choices)
        drilled = [self._drill(run, lane, choice) for choice in lane.choices]
        # The parts and their digests are in the record in the store.
        records = [one.model_dump(mode="json", exclude={"parts"}) for one in drilled]
        run.context["ti"].xcom_push(key="return_value", value=records)
        require_restored(drilled)
        facts = {
            "archives": [one.archive_id for one in drilled],
            "rows": sum(one.rows for one in drilled),
            "reasons": sorted({reason for one in drilled for reason in one.reasons}),
            "rows_per_second": drilled[0].rows_per_second,
            "first_row_seconds": drilled[0].first_row_seconds,
            "last_row_seconds": drilled[0].last_row_seconds,
            **Counter(one.result for one in drilled),
        }
        return "; ".join(one.sentence() for one in drilled), facts, records

    def _drill(self, run: DrillRun, lane: DrillLane, choice: Choice) -> ArchiveDrill:
        store, table = run.store(lane.store_table), run.table_of(choice.archive_id, lane.store_table)
        with run.scratch(table) as connection, run.staging(table) as staging:
            try:
                drill = Drill(
                    connection,
                    store,
                    staging,
                    schema_name=table.drill.scratch_schema,
                    chosen_in=lane.chosen_in,
                    who=run.who,
                )
                return drill.restore_and_record(choice, now=run.now(store))
            finally:
                staging.clear()
