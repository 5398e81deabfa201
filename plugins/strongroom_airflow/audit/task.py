"""The only step of the audit DAG."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from airflow.sdk import Context

from strongroom.audit.keep import keep_files
from strongroom.settings import load_settings
from strongroom_airflow.audit.reporting import parse_period, report_period
from strongroom_airflow.step import StepOperator, conclude


class AuditOperator(StepOperator):
    """Report a period, keep the report, and log how the requirements stand."""

    def step(self, run: Context) -> tuple[str, dict[str, Any], Any]:
        params, now = run["params"], datetime.now(timezone.utc)
        begin = params["begin"] or f"{now.year - 1}-01-01"
        end = params["end"] or f"{now.year}-01-01"
        stores, files = report_period(load_settings(), parse_period(begin, end), table=params["table"] or None, now=now)
        for finding in files.findings:
            log = self.log.info if finding.satisfied else self.log.warning
            state = "satisfied" if finding.satisfied else "not satisfied"
            log("%s (%s): %s", finding.title, finding.citation, state, why=finding.why)
        for table in files.report.tables:
            if table.gaps:
                self.log.warning("Partitions of %s are neither archived nor empty", table.table, gaps=table.gaps[:20])
        kept = keep_files(stores, files)
        unmet = sum(not one.satisfied for one in files.findings)
        gaps = sum(len(table.gaps) for table in files.report.tables)
        outcome = f"{begin} to {end}: {unmet} of {len(files.findings)} requirements not satisfied, {gaps} gaps"
        conclude(run, f"{outcome}.")
        facts = {
            "begin": begin,
            "end": end,
            "requirements": len(files.findings),
            "not_satisfied": unmet,
            "gaps": gaps,
            "entries": sum(store.size for store in files.report.stores),
            "written": kept,
        }
        return f"Reported {outcome}", facts, facts
