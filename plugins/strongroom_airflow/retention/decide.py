"""Step 1 of the retention purge."""

from __future__ import annotations

from typing import Any

from strongroom.ledger.configuration import notice_change
from strongroom.retention.decide import Decision, sum_up
from strongroom_airflow.connections import connect_store
from strongroom_airflow.links import PageLink
from strongroom_airflow.pages.addresses import map_page
from strongroom_airflow.retention.base import PurgeStepOperator
from strongroom_airflow.retention.run import MOST_A_RUN, PurgeBatch, PurgeRun, judge_store, make_batches, oldest_first


class PurgeDecideOperator(PurgeStepOperator):
    """Judge every archive in every store, and list the decisions in the log. Removes nothing.

    Returns the batches to purge, one for each table, for Airflow to map over. The summary is in XCom under ``judged``.
    """

    operator_extra_links = (PageLink(),)

    def step(self, run: PurgeRun) -> tuple[str, dict[str, Any], Any]:
        for table, fault in run.settings.left_out.items():
            self.log.warning("Left out: %s; none of its archives is purged", table, fault=fault)
        self.page = map_page()
        judged: list[Decision] = []
        due: list[Decision] = []
        seen: set[tuple[str, Decision]] = set()
        batches: list[PurgeBatch] = []
        for store_table in run.store_tables:
            store = connect_store(store_table)
            for table in run.settings.tables.values():
                notice_change(store, table)
            # Two connections or addresses may lead to the same bucket.
            decisions = [
                one for one in judge_store(run.settings, store, now=run.now(store)) if (str(store), one) not in seen
            ]
            seen.update((str(store), one) for one in decisions)
            judged += decisions
            room = MOST_A_RUN - len(due)
            chosen = oldest_first(decisions)[:room]
            due += chosen
            batches += make_batches(run.policies(store), store_table, chosen)
        summary = sum_up(judged, postponed=sum(one.purge for one in judged) - len(due))
        run.context["ti"].xcom_push(key="judged", value=summary.model_dump(mode="json"))
        self._show([*due, *summary.stay])
        kept = summary.counts.get("kept", 0)
        sentence = (
            f"{len(due)} archives to purge, {kept} within their term, {len(summary.stay)} stay for another reason"
        )
        facts = {**summary.counts, "postponed": summary.postponed, "next_expiry_at": str(summary.next_expiry_at)}
        return sentence, facts, [batch.model_dump(mode="json") for batch in batches]

    def _show(self, decisions: list[Decision]) -> None:
        width = max((len(decision.archive_id) for decision in decisions), default=0)
        for decision in decisions:
            rows = f"{decision.record_count:,}" if decision.record_count is not None else "?"
            verdict = "purge" if decision.purge else "stays"
            self.log.info(
                f"{verdict}  {decision.archive_id:<{width}}  {rows:>13} rows  {decision.reason}: {decision.detail}"
            )
