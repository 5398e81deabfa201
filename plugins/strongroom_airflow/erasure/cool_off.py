"""Step 4 of an erasure."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from airflow.providers.standard.triggers.temporal import DateTimeTrigger
from airflow.sdk import BaseOperator, Context

from strongroom.erasure.remove import left_to_remove
from strongroom_airflow.erasure.run import ErasureRun
from strongroom_airflow.step import translated_errors


class CoolOffOperator(BaseOperator):
    """Wait until the cooling-off of the superseded archives is over. Waiting takes no worker: the triggerer does it."""

    ui_color = "#f0e6f3"

    def execute(self, context: Context) -> Any:
        run = ErasureRun(context)
        with translated_errors(context):
            ends = [
                succession.cooled_off_at(table)
                for of in run.stores
                for succession in left_to_remove(of.store, run.case_id)
                for table in of.tables
                if succession.supersedes.startswith(f"{table.qualified_name}.")
            ]
        until = max(ends, default=None)
        if until is None or until <= datetime.now(timezone.utc):
            self.log.info("No archive is left in its cooling-off")
            return
        self.log.info(
            f"Until {until:%Y-%m-%d %H:%M} UTC the superseded archives could still be used again; then they are destroyed"
        )
        self.defer(trigger=DateTimeTrigger(moment=until), method_name="execute_complete")

    def execute_complete(self, context: Context, event: Any = None) -> None:
        """The trigger has fired."""
