"""What every step of an archive run needs: the table's settings, the partition, the store, staging, the claim."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timezone
from functools import cached_property, partial
from socket import gethostname

from airflow.sdk import Context

from strongroom.calendar import Partition
from strongroom.database.replica import read_source
from strongroom.database.session import Connection
from strongroom.ledger.claims import KeepClaim, claim_keeper, release_claim, shared_clock, take_claim
from strongroom.ledger.deletable import DeletingStep
from strongroom.ledger.orders import Steering
from strongroom.object_keys.archives import ArchiveId
from strongroom.object_keys.records import claim_key
from strongroom.settings import TableSettings
from strongroom.storage.staging import Staging
from strongroom.storage.store import Store
from strongroom.tables.steering import Steered, StepProgress
from strongroom_airflow.connections import connect_staging, connect_store
from strongroom_airflow.database_connections import connect_database
from strongroom_airflow.steps import step_of
from strongroom_airflow.task_run import TaskRun

_UNFINISHED = ["scheduled", "queued", "running", "restarting", "up_for_retry", "up_for_reschedule", "deferred"]
_ENDED = frozenset({"success", "failed", "upstream_failed", "skipped", "removed"})


class ArchiveRun(TaskRun):
    """One run of a table's archive DAG, as one of its tasks sees it.

    :param settings: Settings of the table.
    :param context: Airflow's context of the task.
    :param members: Settings of the tables that the run archives together with that one.
    """

    def __init__(self, settings: TableSettings, context: Context, members: Sequence[TableSettings] = ()) -> None:
        super().__init__(context)
        self.settings = settings
        self.members = members
        self._claimed = (settings, *members)

    def of(self, archive: ArchiveId) -> ArchiveRun:
        """The same run, as a step of one of its archives sees it: with the settings of the archive's table."""
        place = (archive.schema_name, archive.table_name)
        for member in self.members:
            if (member.schema_name, member.table_name) == place:
                run = ArchiveRun(member, self.context)
                run._claimed = self._claimed
                return run
        return self

    @cached_property
    def partition(self) -> Partition:
        """The partition of the run. A run without a key, or with a malformed one, is refused."""
        return Partition.parse(self.settings.frequency, self._dag_run.partition_key)

    @cached_property
    def store(self) -> Store:
        """The archive store."""
        return connect_store(self.settings)

    def source(self) -> AbstractContextManager[Connection]:
        """A session on the source database, named after table and step."""
        return self._connect(self.settings.source_conn_id)

    def reading(self) -> AbstractContextManager[Connection]:
        """A session to extract in: on the replica if the settings name one and it can be used, else on the source."""
        conn_id = self.settings.replica_conn_id
        if conn_id is None:
            return self.source()
        return read_source(self.source, partial(self._connect, conn_id))

    def owner(self) -> AbstractContextManager[Connection]:
        """A session on the source database whose role owns the table."""
        return self._connect(self.settings.partition_delete.conn_id)

    def _connect(self, conn_id: str) -> AbstractContextManager[Connection]:
        name = f"strongroom {self.settings.table} {self.context['ti'].task_id}"
        return connect_database(self.settings, conn_id, application_name=name)

    def staging(self, archive_id: str) -> Staging:
        """The staging of one archive, to be closed when the step ends."""
        return connect_staging(self.settings).of(archive_id)

    def now(self) -> datetime:
        """The time now, in UTC, by the store's clock."""
        return self._clock()

    @cached_property
    def _clock(self) -> Callable[[], datetime]:
        return shared_clock(self.store, datetime.now(timezone.utc))

    @property
    def stop_at(self) -> datetime | None:
        """When ``stop_after`` ends this run's work in the source database; None means no limit."""
        budget = self.settings.stop_after
        now = self.now()
        return None if budget is None else budget.ends_at(self._dag_run.start_date or now, now)

    def claim(self) -> None:
        """Take the partition's claim, or renew it; of a unit that of each table, always in the same order."""
        for key in self._claim_keys:
            take_claim(self.store, key, owner=str(self.identity), now=self.now(), ttl=self.settings.claim_ttl)

    @property
    def keep_claim(self) -> KeepClaim:
        """Renews the claim while a step works in batches."""
        owner = str(self.identity)
        return claim_keeper(self.store, self._claim_keys, owner=owner, clock=self.now, ttl=self.settings.claim_ttl)

    def steered(self, staging: Staging, archive_id: str, *, number: int = 0, rows: int) -> Steered:
        """Obeys the orders of the table while a step works, and tells how far it has come.

        :param staging: The archive's.
        :param archive_id: What it works on.
        :param number: Of the part.
        :param rows: How many rows it has to do.
        """
        now = self.now()
        progress = StepProgress(
            step=step_of(self.context["ti"].task_id),
            archive_id=archive_id,
            number=number,
            run=str(self.identity),
            host=gethostname(),
            rows=rows,
            began_at=now,
            told_at=now,
        )
        return Steered(self.store, staging, self._claimed[0], progress, clock=self.now)  # of a unit the root's

    def deleting_step(self, staging: Staging, steering: Steering) -> DeletingStep:
        """What delete and detach work with."""
        return DeletingStep(
            self.store,
            staging,
            self.settings,
            self.partition,
            run=self.identity,
            keep_claim=self.keep_claim,
            now=self.now(),
            stop_at=self.stop_at,
            steering=steering,
        )

    def release(self) -> None:
        """Release the partition's claim, if this run has it."""
        for key in reversed(self._claim_keys):
            release_claim(self.store, key, owner=str(self.identity), now=self.now())

    def others_work(self) -> bool:
        """Whether other tasks of this run are running, or will run without anybody's help."""
        ti = self.context["ti"]
        return bool(ti.get_ti_count(dag_id=ti.dag_id, run_ids=[ti.run_id], states=_UNFINISHED) > 1)

    def earlier_unfinished_parts(self, number: int, last_step: str) -> list[int]:
        """The parts with a lower number that are under way, or will be without anybody's help.

        :param number: Number of a part, which is also the map index of its tasks.
        :param last_step: Id of the last task of a part.
        """
        return self.earlier_unfinished(number, last_step) if number >= self.settings.max_parallel_parts else []

    def earlier_unfinished(self, number: int, last_step: str) -> list[int]:
        """The map indexes below one whose tasks are under way, or will be without anybody's help."""
        ti = self.context["ti"]
        states = ti.get_task_states(dag_id=ti.dag_id, task_ids=[last_step], run_ids=[ti.run_id]).get(ti.run_id, {})
        return [other for other in range(number) if states.get(f"{last_step}_{other}") not in _ENDED]

    @property
    def _claim_keys(self) -> list[str]:
        return [claim_key(one.schema_name, one.table_name, self.partition.key) for one in self._claimed]
