"""The only step of the statistics DAG."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any
from urllib.parse import quote

from airflow.sdk import BaseOperator, BaseOperatorLink, Context
from airflow.sdk.configuration import conf

from strongroom.settings import load_settings
from strongroom.statistics.keep import keep_statistics, log_lines
from strongroom.statistics.page import make_page
from strongroom_airflow.connections import connect_stores
from strongroom_airflow.statistics.collect import collect_statistics
from strongroom_airflow.step import StepOperator

PAGE_XCOM = "page"
"""The HTML page is in XCom as well, because the web server has no access to the store."""


class StatisticsPageLink(BaseOperatorLink):
    """A link from the task to its page in Airflow's web server."""

    name = "Statistics"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:  # noqa: ARG002 - Airflow passes both
        base = str(conf.get("api", "base_url", fallback="") or "").rstrip("/")
        return f"{base}/strongroom/{quote(ti_key.dag_id)}/statistics?run_id={quote(ti_key.run_id, safe='')}"


class StatisticsOperator(StepOperator):
    """Collect the figures, write them as JSON and as a page under ``reports/statistics/``, and log them."""

    operator_extra_links = (StatisticsPageLink(),)

    def step(self, run: Context) -> tuple[str, dict[str, Any], Any]:
        settings = load_settings()
        statistics = collect_statistics(settings, now=datetime.now(timezone.utc))
        page = make_page(statistics)
        kept = [(store, keep_statistics(store, statistics, page)) for store in connect_stores(settings)]
        for line in log_lines(statistics):
            self.log.info(line)
        for damaged in statistics.damaged:
            self.log.warning("A manifest is damaged: %s", damaged.archive_id, problem=damaged.problem)
        for table in statistics.tables:
            if table.uncounted:
                self.log.warning("The rows of %s were not counted", table.table, reason=table.uncounted)
        run["ti"].xcom_push(key=PAGE_XCOM, value=page)
        written = [f"{store}{key}" for store, keys in kept for key in keys]
        facts = statistics.total.model_dump(mode="json", exclude={"growth", "costs"}) | {"written": written}
        return "Wrote the statistics", facts, facts
