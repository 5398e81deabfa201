"""Step 1 of an archive run."""

from __future__ import annotations

from typing import Any

from strongroom.archive.plan import plan_archive
from strongroom.records import ArchivePlan
from strongroom.tables.unit_graph import unit_graph
from strongroom_airflow.archive.base import StrongroomOperator
from strongroom_airflow.archive.run import ArchiveRun


class PlanOperator(StrongroomOperator):
    """Decide what is due and divide it into parts; refuse what cannot be archived.

    Returns the parts, for Airflow to map over. The plan itself is in XCom under the key ``plan``.
    """

    def step(self, run: ArchiveRun) -> tuple[str, dict[str, Any], Any]:
        with run.source() as connection:
            plan = plan_archive(
                connection,
                run.store,
                run.settings,
                run.partition,
                members=run.members,
                now=run.now(),
                stop_at=run.stop_at,
            )
        for one in plan.all_tables:
            if one.outcome == "planned":
                with run.staging(str(one.archive_id)) as staging:
                    staging.clear()  # a run that stopped before it uploaded anything may have left files
        for one in plan.all_tables if run.members else [plan]:
            table = {"table": one.table} if run.members else {}
            for exclusion in one.exclusions:
                facts = exclusion.model_dump(exclude={"detail"}) | table
                self.log.warning("Rows stay in the table: %s", exclusion.detail, **facts)
        for line in unit_graph(plan) if run.members else ():
            self.log.info(line)
        for note in plan.notes:
            self.log.warning(note)
        run.context["ti"].xcom_push(key="plan", value=plan.model_dump(mode="json"))
        facts = {
            "archive_id": plan.archive_id,
            "outcome": plan.outcome,
            "table": plan.table,
            "partition_key": plan.partition_key,
            "start_at": plan.start_at.isoformat(),
            "end_at": plan.end_at.isoformat(),
            "due_rows": plan.due_rows,
            "delete_by": plan.delete_by,
            "parts": len(plan.parts),
            "excluded_rows": sum(exclusion.rows for exclusion in plan.exclusions),
            "earlier_archives": list(plan.earlier_archives),
            "restores": [restore.restore_id for restore in plan.restores],
            "database": plan.source.database,
            "system_identifier": plan.source.system_identifier,
        }
        # A plan without members is in the same order: its one table's parts.
        parts = [part for one in plan.all_tables for part in one.parts]
        return _sentence(plan), facts, [part.model_dump(mode="json") for part in parts]


def _sentence(plan: ArchivePlan) -> str:
    where = f"{plan.table} {plan.partition_key}"
    if plan.outcome == "nothing_due":
        return f"Nothing due in {where}"
    if plan.outcome == "restored":
        return f"Left {where} alone, because its rows were restored: {'; '.join(map(str, plan.restores))}"
    if plan.outcome == "resumed":
        return f"Resumed {plan.archive_id}: it is sealed, and not all of its rows are deleted"
    return f"Planned {plan.archive_id}: {plan.due_rows} rows in {len(plan.parts)} parts"
