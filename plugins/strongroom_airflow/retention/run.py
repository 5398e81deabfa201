"""What every step of the retention purge needs: the stores, who must approve there, and the record that tasks pass on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from operator import attrgetter

from pydantic import AliasChoices, Field

from strongroom.records import Record
from strongroom.retention.decide import Decision, judge
from strongroom.retention.policy import PurgePolicies
from strongroom.settings import Settings, TableSettings
from strongroom.storage.store import Store
from strongroom_airflow.connections import store_tables
from strongroom_airflow.task_run import RunOfAllTables

MOST_A_RUN = 1000
"""How many archives one run purges at most; the rest follow the next day. This limits XCom, and the harm of a mistake."""

_UNKNOWN = "the settings of its table are wrong"


class PurgeBatch(Record):
    """The archives of one table in one store that are to be purged, oldest window first."""

    table: str
    store_table: str = Field(validation_alias=AliasChoices("store_table", "door"))
    """A configured table whose settings open the store; ``door`` in runs that waited for approval since an earlier version."""
    needs_approval: bool
    decisions: tuple[Decision, ...]


class PurgeRun(RunOfAllTables):
    """One run of the retention purge, as one of its tasks sees it."""

    @property
    def store_tables(self) -> list[TableSettings]:
        """One table for each store: its settings open the store."""
        return store_tables(self.settings)

    def policies(self, store: Store) -> PurgePolicies:
        """Who must approve the purges of a store, as of now."""
        return PurgePolicies(self.settings, store, self.now(store))


def judge_store(settings: Settings, store: Store, *, now: datetime) -> list[Decision]:
    """Judge as :func:`strongroom.retention.decide.judge` does, but keep archives of tables that are left out.

    Nobody knows who must approve their purge.
    """
    return [
        decision.model_copy(
            update={"purge": False, "reason": "left_out", "detail": f"{decision.detail}, but {_UNKNOWN}"}
        )
        if decision.reason == "expired"
        and settings.leaves_out(decision.archive.schema_name, decision.archive.table_name)
        else decision
        for decision in judge(store, now=now)
    ]


def make_batches(
    policies: PurgePolicies, store_table: TableSettings, decisions: Iterable[Decision]
) -> list[PurgeBatch]:
    """Group the archives of one store that are to be purged by table."""
    by_table: defaultdict[str, list[Decision]] = defaultdict(list)
    for decision in decisions:
        by_table[decision.archive.table_folder].append(decision)
    return [
        PurgeBatch(
            table=table,
            store_table=store_table.table,
            needs_approval=policies.of(group[0].archive).approval,
            decisions=tuple(group),
        )
        for table, group in sorted(by_table.items())
    ]


def oldest_first(decisions: Iterable[Decision]) -> list[Decision]:
    """The decisions to purge: first what an earlier purge left unfinished, then in the order in which terms ended."""
    due = [decision for decision in decisions if decision.purge]
    unfinished = [decision for decision in due if decision.retention_until is None]
    dated = [decision for decision in due if decision.retention_until is not None]
    return unfinished + sorted(dated, key=attrgetter("retention_until", "archive_id"))
