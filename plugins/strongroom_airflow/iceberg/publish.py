"""The one step of a run of publish_iceberg: each Iceberg table holds the archives that belong to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any

from airflow.sdk import Context

from strongroom.errors import StoreAccessError, StoreError, StrongroomError
from strongroom.ledger.claims import shared_clock
from strongroom_airflow.iceberg.lakes import iceberg_tables, opened_lake, published_tables
from strongroom_airflow.step import StepOperator, conclude
from strongroom_airflow.task_run import RunOfAllTables


class PublishIcebergOperator(StepOperator):
    """Reconcile the Iceberg table of each table whose settings ask for one. A table that fails does not keep the others from it.

    Returns the state of each table.
    """

    ui_color = "#e0f0ea"

    @contextmanager
    def opened(self, context: Context) -> Iterator[RunOfAllTables]:
        yield RunOfAllTables(context)

    def step(self, run: RunOfAllTables) -> tuple[str, dict[str, Any], Any]:
        states, failed, retired = [], [], set()
        kept = published_tables(run.settings)
        for table in iceberg_tables(run.settings):
            try:
                with opened_lake(table) as lake:
                    from strongroom.lake.reconcile import (
                        reconcile_table,
                    )  # what they need is known to be installed only now
                    from strongroom.lake.retire import retire_tables

                    now = shared_clock(lake.archives, datetime.now(timezone.utc))()
                    states.append(reconcile_table(lake, now=now))
                    retired |= {*retire_tables(lake.catalog, lake.archives, lake.own, kept=kept)}
                self.log.info("%s", states[-1].sentence())
            except StrongroomError as error:
                self.log.error("%s: %s", table.table, error)
                failed.append((table.table, error))
        rows, archives = (sum(getattr(one, name) for one in states) for name in ("rows", "archives"))
        sentence = f"{len(states)} Iceberg tables hold {archives} archives with {rows} rows"
        if failed:
            sentence += f"; {', '.join(name for name, _ in failed)} failed"
        conclude(run.context, f"{sentence}.")
        if failed:
            raise _of(failed)
        facts = {
            "added": [one for state in states for one in state.added],
            "removed": [one for state in states for one in state.removed],
            "left_out": sum(len(state.left_out) for state in states),
            "stale": sum(state.stale for state in states),
            "retired": sorted(retired),
            "rows": rows,
        }
        return sentence, facts, [state.model_dump(mode="json") for state in states]


def _of(failed: list[tuple[str, StrongroomError]]) -> StrongroomError:
    """The one error; or one that names the tables, and is worth a retry if any of them is."""
    if len(failed) == 1:
        return failed[0][1]
    retry = any(error.retryable for _, error in failed)
    return (StoreError if retry else StoreAccessError)(
        f"{len(failed)} Iceberg tables failed",
        found="; ".join(f"{name}: {error.what}" for name, error in failed),
        hint="No archive was touched, and each table is as it was or as it should be. The log above says what to do for each one.",
    )
