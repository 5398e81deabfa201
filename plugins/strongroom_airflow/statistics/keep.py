"""The only step of the statistics DAG."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from airflow.sdk import Context

from strongroom.settings import load_settings
from strongroom.statistics.keep import keep_statistics, log_lines
from strongroom.statistics.page import make_page
from strongroom_airflow.connections import connect_stores
from strongroom_airflow.links import PageLink
from strongroom_airflow.notices.sending import tell_of_tables
from strongroom_airflow.notices.texts import tell_overdue
from strongroom_airflow.pages.addresses import totals_page
from strongroom_airflow.statistics.collect import collect_statistics
from strongroom_airflow.step import StepOperator


class StatisticsOperator(StepOperator):
    """Collect the figures, write them as JSON and as a page under ``reports/statistics/``, and log them."""

    operator_extra_links = (PageLink(),)

    def step(self, run: Context) -> tuple[str, dict[str, Any], Any]:
        self.page = totals_page()
        settings = load_settings()
        statistics = collect_statistics(settings, now=datetime.now(timezone.utc))
        report = make_page(statistics)
        kept = [(store, keep_statistics(store, statistics, report)) for store in connect_stores(settings)]
        for line in log_lines(statistics):
            self.log.info(line)
        for damaged in statistics.damaged:
            self.log.warning("A manifest is damaged: %s", damaged.archive_id, problem=damaged.problem)
        for table in statistics.tables:
            if table.uncounted:
                self.log.warning("The rows of %s were not counted", table.table, reason=table.uncounted)
        overdue = {table.table: table.overdue_rows for table in statistics.tables if table.overdue_rows}
        tell_of_tables(settings, "overdue", overdue, tell_overdue, run)
        written = [f"{store}{key}" for store, keys in kept for key in keys]
        facts = statistics.total.model_dump(mode="json", exclude={"growth", "costs"}) | {"written": written}
        return "Wrote the statistics", facts, facts
