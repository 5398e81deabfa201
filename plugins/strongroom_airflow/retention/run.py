"""What every step of the retention purge needs: the stores, who must approve, and the records that travel between steps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from functools import cached_property
from operator import attrgetter

from airflow.sdk import Context

from strongroom.ledger.claims import shared_clock
from strongroom.object_keys import ArchiveId
from strongroom.records import Record, RunIdentity
from strongroom.retention.decide import Decision, judge
from strongroom.settings import Settings, TableSettings, load_settings
from strongroom.storage.store import Store
from strongroom_airflow.connections import store_users

MOST_A_RUN = 1000
"""How many archives one run purges; the rest follows the next day. It keeps XCom small and a slip small, too."""


_UNKNOWN = "the settings of its table are wrong"


class PurgeBatch(Record):
    """The archives of one table in one store that are to be purged, oldest window first."""

    table: str
    door: str
    """A configured table whose settings open the store."""
    needs_approval: bool
    decisions: tuple[Decision, ...]


class PurgeRun:
    """One run of the retention purge, as one of its tasks sees it.

    :param context: Airflow's, of the task.
    """

    def __init__(self, context: Context) -> None:
        self.context = context
        self._dag_run = context["dag_run"]

    @cached_property
    def settings(self) -> Settings:
        """Of all tables."""
        return load_settings()

    @property
    def doors(self) -> list[TableSettings]:
        """For each store one table that uses it."""
        return store_users(self.settings)

    @property
    def identity(self) -> RunIdentity:
        """What names this run in intents and certificates. Airflow says who started it, and no XCom."""
        return RunIdentity(
            dag_id=self._dag_run.dag_id,
            run_id=self._dag_run.run_id,
            triggered_by=self._dag_run.triggering_user_name,
        )

    def now(self, store: Store) -> datetime:
        """This instant, UTC, by the clock of the store that it is about."""
        return shared_clock(store, datetime.now(timezone.utc))()


def judge_store(settings: Settings, store: Store, *, now: datetime) -> list[Decision]:
    """As :func:`strongroom.retention.decide.judge`, but archives of tables that are left out stay: who must approve is not known."""
    return [
        decision.model_copy(
            update={"purge": False, "reason": "left_out", "detail": f"{decision.detail}, but {_UNKNOWN}"}
        )
        if decision.reason == "expired"
        and settings.leaves_out(decision.archive.schema_name, decision.archive.table_name)
        else decision
        for decision in judge(store, now=now)
    ]


def make_batches(settings: Settings, door: TableSettings, decisions: Iterable[Decision]) -> list[PurgeBatch]:
    """Put what is to be purged of one store together by table."""
    by_table: defaultdict[str, list[Decision]] = defaultdict(list)
    for decision in decisions:
        by_table[decision.archive.table_folder].append(decision)
    return [
        PurgeBatch(
            table=table,
            door=door.table,
            needs_approval=needs_approval(settings, group[0].archive),
            decisions=tuple(group),
        )
        for table, group in sorted(by_table.items())
    ]


def needs_approval(settings: Settings, archive: ArchiveId) -> bool:
    """Whether a person must approve; for a table that is configured no more, if any other one needs it.

    Nobody knows what a table whose settings are wrong would need, so both kinds do while there is one.
    """
    return _asks(settings, archive, lambda table: table.purge.require_approval or table.purge.four_eyes)


def needs_four_eyes(settings: Settings, archive: ArchiveId) -> bool:
    """Whether that person must be another one than whoever started the run; as :func:`needs_approval` for unknown tables."""
    return _asks(settings, archive, lambda table: table.purge.four_eyes)


def _asks(settings: Settings, archive: ArchiveId, asks: Callable[[TableSettings], bool]) -> bool:
    tables = list(settings.tables.values())
    own = [one for one in tables if (one.schema_name, one.table_name) == (archive.schema_name, archive.table_name)]
    return bool(settings.left_out and not own) or any(asks(table) for table in own or tables)


def oldest_first(decisions: Iterable[Decision]) -> list[Decision]:
    """Decisions to purge in the order in which terms ended; what an earlier purge left unfinished comes before."""
    due = [decision for decision in decisions if decision.purge]
    unfinished = [decision for decision in due if decision.retention_until is None]
    dated = [decision for decision in due if decision.retention_until is not None]
    return unfinished + sorted(dated, key=attrgetter("retention_until", "archive_id"))
