"""What is known of archive runs that are under way: from Airflow, from staging, from the store and from the source database.

Each of them may fail to answer. Then a remark says so, and the rest is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from airflow.models.dagrun import DagRun
from airflow.models.pool import Pool
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState
from sqlalchemy import select

from strongroom.database.waits import waits_for_locks
from strongroom.errors import IntegrityError, StrongroomError
from strongroom.ledger.claims import parse_claim
from strongroom.ledger.orders import Orders, read_orders
from strongroom.object_keys.archives import ArchiveId
from strongroom.object_keys.records import claim_key
from strongroom.records import ArchivePlan, PlannedPart
from strongroom.settings import TableSettings
from strongroom.storage.store import Store
from strongroom.tables.steering import StepProgress, progress_name
from strongroom_airflow.commands.runs import Task, error_of, page_of, read_snapshot, results, scheduler_is_alive
from strongroom_airflow.connections import connect_staging, connect_store
from strongroom_airflow.database_connections import connect_database
from strongroom_airflow.steps import step_of
from strongroom_airflow.trigger import FINISHED, is_paused

_ENDED = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class StepUnderWay:
    """A step that works or waits.

    Attributes:
        step: Its id without its group.
        part: Number of the part; None for a step of the whole run.
        table: ``schema.table`` of the part, where a run archives several tables; else None.
        state: Airflow's state of the task.
        rows: How many it has to do; None if that is not known, as all figures that are None.
        why: Why it waits, each reason in words.
        told_at: When the step said how far it has come.
        host: The machine that it works on.
    """

    step: str
    part: int | None
    state: str
    rows: int | None = None
    done_rows: int | None = None
    rows_per_second: float | None = None
    seconds_left: float | None = None
    why: tuple[str, ...] = ()
    told_at: datetime | None = None
    host: str | None = None
    table: str | None = None


@dataclass(frozen=True)
class RunUnderWay:
    """A run that has not ended, with its tasks that have not."""

    run_id: str
    partition_key: str
    state: str
    page: str
    since: datetime | None
    archive_id: str | None
    parts: int | None
    rows: int | None
    done: dict[str, int]
    steps: tuple[StepUnderWay, ...]
    why: tuple[str, ...]


@dataclass(frozen=True)
class TableUnderWay:
    """The runs of one table, what was ordered, and what could not be found out."""

    table: str
    dag_id: str
    orders: Orders
    runs: tuple[RunUnderWay, ...]
    unknown: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self) | {"orders": self.orders.model_dump(mode="json")}


def look_under_way(settings: TableSettings, members: Sequence[TableSettings], now: datetime) -> TableUnderWay:
    """Everything about the runs of one table that have not ended.

    Args:
        settings: Of the table.
        members: Settings of the tables that its runs archive with it.
        now: Aware UTC instant.
    """
    return _Looking(settings, members, now).look()


class _Looking:
    def __init__(self, settings: TableSettings, members: Sequence[TableSettings], now: datetime) -> None:
        self._settings, self._members, self._now = settings, members, now
        self._dag_id = f"archive__{settings.slug}"
        self._unknown: dict[str, str] = {}

    def look(self) -> TableUnderWay:
        found = self._runs()
        store = connect_store(self._settings)
        orders = self._try("orders", lambda: self._orders(store)) or Orders()
        locks = (self._try("locks", self._locks) if found else None) or []
        runs = tuple(self._run(*one, orders=orders, locks=locks) for one in found)
        return TableUnderWay(self._settings.qualified_name, self._dag_id, orders, runs, tuple(self._unknown.values()))

    def _orders(self, store: Store) -> Orders | None:
        try:
            return read_orders(store, self._settings)
        except IntegrityError as error:
            cure = f"`airflow strongroom resume {self._settings.table} --reason …`"
            self._unknown["orders"] = f"orders unknown: {error.what}; steps wait as in a pause until {cure} replaces it"
            return None

    def _runs(self) -> list[tuple[str, str, str, datetime | None]]:
        with create_session() as session:
            rows = session.execute(
                select(DagRun.run_id, DagRun.partition_key, DagRun.state, DagRun.start_date)
                .where(DagRun.dag_id == self._dag_id, DagRun.state.not_in(FINISHED))
                .order_by(DagRun.id)
            ).all()
        return [(run_id, key or "", str(state), since) for run_id, key, state, since in map(tuple, rows)]

    def _run(
        self,
        run_id: str,
        key: str,
        state: str,
        since: datetime | None,
        *,
        orders: Orders,
        locks: list[tuple[str, str]],
    ) -> RunUnderWay:
        tasks = read_snapshot(self._dag_id, [run_id]).tasks
        planned = results(self._dag_id, run_id, "plan", key="plan")
        plan = ArchivePlan.model_validate(planned[0]) if planned else None
        archive_id = None if plan is None else plan.archive_id
        done: dict[str, int] = {}
        for task in tasks:
            if task.state == "success":
                done[step_of(task.task_id)] = done.get(step_of(task.task_id), 0) + 1
        parts: list[PlannedPart] = [] if plan is None else [part for one in plan.all_tables for part in one.parts]
        part_of = {task: _part_of(task, parts) for task in tasks}
        told = self._try("progress", lambda: self._progress(part_of)) or {}
        steps = tuple(
            self._step_under_way(task, part_of[task], told.get(task), locks)
            for task in tasks
            if task.state and task.state not in _ENDED
        )
        return RunUnderWay(
            run_id=run_id,
            partition_key=key,
            state=state,
            page=page_of(self._dag_id, run_id),
            since=since,
            archive_id=archive_id,
            parts=None if plan is None else len(parts),
            rows=None if plan is None else sum(one.due_rows for one in plan.all_tables),
            done=done,
            steps=steps,
            why=tuple(self._why_run_waits(run_id, key, state, steps, orders)),
        )

    def _progress(self, part_of: Mapping[Task, PlannedPart | None]) -> dict[Task, StepProgress]:
        """What the tasks at work have told.

        Args:
            part_of: The part that each task works on, or the first one for a step of the whole run; None if there is none.
        """
        found: dict[Task, StepProgress] = {}
        for task, part in part_of.items():
            step = step_of(task.task_id)
            if task.state == "running" and part is not None:
                with connect_staging(self._settings).of(part.archive_id) as staging:
                    progress = staging.kept(progress_name(step, part.number), StepProgress)
                if progress is not None:
                    found[task] = progress
        return found

    def _step_under_way(
        self, task: Task, part: PlannedPart | None, progress: StepProgress | None, locks: list[tuple[str, str]]
    ) -> StepUnderWay:
        facts: dict[str, Any] = {}
        if progress is not None:
            facts = {
                "rows": progress.rows,
                "done_rows": progress.done_rows,
                "rows_per_second": progress.rows_per_second,
                "seconds_left": progress.seconds_left,
                "told_at": progress.told_at,
                "host": progress.host,
            }
        archive = ArchiveId.parse(part.archive_id) if part is not None and self._members else None
        settings = self._settings_of(archive)
        mapped = task.map_index if task.map_index >= 0 else None
        return StepUnderWay(
            step=step_of(task.task_id),
            part=mapped if archive is None or part is None or mapped is None else part.number,
            table=None if archive is None or mapped is None else settings.qualified_name,
            state=task.state,
            why=tuple(self._why(task, settings, progress, locks)),
            **facts,
        )

    def _settings_of(self, archive: ArchiveId | None) -> TableSettings:
        """Of the table that a task works on."""
        place = None if archive is None else (archive.schema_name, archive.table_name)
        return next((one for one in self._members if (one.schema_name, one.table_name) == place), self._settings)

    def _why(
        self, task: Task, settings: TableSettings, progress: StepProgress | None, locks: list[tuple[str, str]]
    ) -> Iterable[str]:
        if progress is not None and progress.waits:
            yield progress.waits
        if task.state == "running":
            name = f"strongroom {settings.table} {task.task_id}"[:63]
            yield from dict.fromkeys(words for session, words in locks if session == name)
        elif task.state in ("scheduled", "queued"):
            yield self._pool()
        elif task.state == "up_for_reschedule":
            of_children = " or for rows of tables that refer to its own" if self._members else ""
            most = f"at most {self._settings.max_parallel_parts} at a time (`max_parallel_parts`)"
            yield f"waits for earlier parts: {most}{of_children}"
        elif task.state == "up_for_retry":
            error = (error_of(self._dag_id, task) or "it failed").partition("\n")[0]
            yield f"is tried again (try {task.try_number} of {task.max_tries + 1}): {error}"
        elif task.state in ("awaiting_input", "deferred"):
            yield "waits for an answer"

    def _pool(self) -> str:
        with create_session() as session:
            pool = Pool.get_pool(self._settings.pool, session=session)
            if pool is None:
                return f"there is no pool {self._settings.pool}"
            if pool.open_slots(session=session) > 0:
                return "waits for the scheduler or a worker"
            return f"waits for a slot of the pool {pool.pool}: all {pool.slots} are taken"

    def _why_run_waits(
        self, run_id: str, key: str, state: str, steps: tuple[StepUnderWay, ...], orders: Orders
    ) -> Iterable[str]:
        if orders.pause is not None:
            yield f"{orders.pause}; until {orders.pause.until:%Y-%m-%d %H:%M} UTC at the latest"
        if orders.throttle is not None:
            yield str(orders.throttle)
        for one in (self._settings, *self._members):
            holder = self._try("claim", partial(self._claim_of_another, one, run_id, key))
            if holder:
                yield f"the claim{f' on {one.qualified_name}' if self._members else ''} is held by {holder}"
        if state == DagRunState.QUEUED and is_paused(self._dag_id):
            yield f"the DAG {self._dag_id} is paused"
        if not any(step.state == "running" for step in steps) and not scheduler_is_alive():
            yield "no scheduler is alive"

    def _claim_of_another(self, settings: TableSettings, run_id: str, key: str) -> str | None:
        where = claim_key(settings.schema_name, settings.table_name, key)
        present = connect_store(self._settings).read(where)
        claim = None if present is None else parse_claim(where, present[0])
        if claim is None or claim.state != "held" or claim.expires_at <= self._now:
            return None
        return claim.owner if claim.owner != f"{self._dag_id} {run_id}" else None

    def _locks(self) -> list[tuple[str, str]]:
        name = f"strongroom status {self._settings.table}"
        with connect_database(self._settings, self._settings.source_conn_id, application_name=name) as connection:
            names = [one.table for one in (self._settings, *self._members)]  # each session has its own table's
            return [one for table in names for one in waits_for_locks(connection, f"strongroom {table} ")]

    def _try(self, what: str, ask: Callable[[], _Answer]) -> _Answer | None:
        try:
            return ask()
        except StrongroomError as error:
            self._unknown[what] = f"{what} unknown: {error.what}"
            return None


def _part_of(task: Task, parts: Sequence[PlannedPart]) -> PlannedPart | None:
    index = max(task.map_index, 0)
    return parts[index] if index < len(parts) else None
