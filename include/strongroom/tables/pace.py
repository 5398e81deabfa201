"""How a delete gives way to other sessions: short batches, and pauses while the database is under pressure.

Part of each batch's time does not depend on its rows: the claim, the look at the catalogue, the note in staging, the commit. Where that
is slow, on a busy machine say, smaller batches would only make it happen more often. So no batch is made smaller than what makes up
for it; where that is not enough, the delete rests longer between two batches.

Pauses happen between two batches, outside any transaction: a paused delete holds no lock, and its work so far is committed.
Only two checks are made at the end of a batch, before its commit: how many sessions wait for it, since none do afterwards, and,
if the batch took long, whether a hold has stopped all deletion meanwhile.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from psycopg import errors

from strongroom.database.session import Connection, qualified
from strongroom.errors import BusyError
from strongroom.ledger.claims import KeepClaim
from strongroom.ledger.holds import HoldWatch
from strongroom.ledger.orders import Steering
from strongroom.settings import TableSettings
from strongroom.settings.time_budget import require_time
from strongroom.storage.store import Store
from strongroom.tables.vacuum import DEAD_ROWS_PERCENT

LOOK_SECONDS = 2.0
"""How often a delete checks whether it may continue, also while it pauses."""

_AIM_SECONDS, _MOST_SECONDS = 0.5, 1.0
"""The time that a batch should take: half of the second that no transaction should exceed."""

_WORTH = 10
"""How many times as long a batch should take as it would without rows, within that second."""

_LEAST_WORTH = 2
"""The same without that limit: what does not depend on the rows never takes longer than they do."""

_FIRST_ROWS, _FEWEST_ROWS = 1000, 100
_SHORTEST_REST_SECONDS, _LONGEST_REST_SECONDS = 0.2, 5.0

_logger = logging.getLogger(__name__)

_UNREADABLE = (
    errors.InsufficientPrivilege,
    errors.UndefinedFunction,
    errors.UndefinedTable,
    errors.UndefinedColumn,
    errors.FeatureNotSupported,
)

_LAG = """
SELECT (max(extract(epoch FROM replay_lag)) FILTER (WHERE replay_lsn < pg_current_wal_lsn()))::float8,
       max(pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn))::float8,
       count(*) FILTER (WHERE state IS NULL)
FROM pg_stat_replication
"""

_WAITING = """
SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid))
"""


class Neighbours:
    """The effect of a delete on other sessions, as far as its role and the server show it.

    Figures that cannot be read are left out, and the log says so once.

    Args:
        connection: A session in autocommit mode.
        settings: The table and the limits.
    """

    def __init__(self, connection: Connection, settings: TableSettings) -> None:
        self._connection = connection
        self._limits = settings.delete_limits
        self._table = qualified(settings.schema_name, settings.table_name).as_string(connection)
        self._unreadable: set[str] = set()
        self.waiting()  # tried here, where a failure breaks no transaction

    def worries(self) -> list[str]:
        """The figures that are above their limits, in words."""
        limits = self._limits
        found = [*self._lag(), (self._dead_rows(), limits.dead_rows_percent, "dead rows are {:.0f} % of the table")]
        return [
            f"{words.format(figure)} (limit {limit:,g})"
            for figure, limit, words in found
            if figure is not None and limit is not None and figure > limit
        ]

    def waiting(self) -> int:
        """How many other sessions wait for locks of this one."""
        if self._limits.waiting_sessions is None:
            return 0
        row = self._read("who waits for the delete", _WAITING)
        return 0 if row is None else int(row[0])

    def _lag(self) -> list[tuple[float | None, float | None, str]]:
        limits = self._limits
        if limits.replication_lag_seconds is None and limits.replication_lag_bytes is None:
            return []
        row = self._read("replication lag", _LAG)
        if row is None:
            return []
        seconds, size_bytes, hidden = row
        if hidden:
            self._leave_out("replication lag", f"of {hidden} standbys: the role has no pg_read_all_stats")
        return [
            (seconds, limits.replication_lag_seconds, "a standby is {:.1f} seconds behind"),
            (size_bytes, limits.replication_lag_bytes, "a standby is {:,.0f} bytes behind"),
        ]

    def _dead_rows(self) -> float | None:
        if self._limits.dead_rows_percent is None:
            return None
        row = self._read("dead rows", DEAD_ROWS_PERCENT, {"table": self._table})
        return None if row is None else row[0]

    def _read(self, what: str, query: str, parameters: dict[str, str] | None = None) -> tuple[Any, ...] | None:
        if what in self._unreadable:
            return None
        try:
            return self._connection.execute(query, parameters).fetchone()
        except _UNREADABLE as error:
            self._leave_out(what, f"({type(error).__name__})")
            return None

    def _leave_out(self, what: str, why: str) -> None:
        if what not in self._unreadable:
            _logger.warning("The delete cannot watch %s %s", what, why)
            self._unreadable.add(what)


class Pace:
    """Cuts a delete into batches, and decides when the next one may start.

    Args:
        connection: The session that deletes.
        store: Its holds stop the delete.
        settings: Of the table.
        keep_claim: Renews the partition's claim, also in a long pause.
        clock: Returns the current instant.
        stop_at: When the delete must stop. None means no limit.
        steering: What an operator ordered, and who is told why the delete waits.
    """

    def __init__(
        self,
        connection: Connection,
        store: Store,
        settings: TableSettings,
        *,
        keep_claim: KeepClaim,
        clock: Callable[[], datetime],
        stop_at: datetime | None,
        steering: Steering | None = None,
    ) -> None:
        self._settings = settings
        self._steering = steering or Steering()
        self._neighbours = Neighbours(connection, settings)
        self._holds = HoldWatch(store)
        self._keep_claim, self._clock, self._stop_at = keep_claim, clock, stop_at
        self._most = settings.delete_batch_rows
        self._fewest = min(_FEWEST_ROWS, self._most)
        self._rows = min(_FIRST_ROWS, self._most)
        self._next_look = -float("inf")
        self._trouble = ""
        self._rest_seconds = _SHORTEST_REST_SECONDS
        self._waiting = 0
        self._last_rows = 0
        self._began = self._rows_seconds = self._committing = 0.0

    @contextmanager
    def turn(self) -> Iterator[int]:
        """Wait until the next batch may start; gives the most rows that it should have. The caller commits it in the block.

        Raises:
            HeldError: A hold on everything stops all deletion.
            OutOfTimeError: The time is over.
            ContendedError: The claim was lost in a pause.
            BusyError: A pause was too long.
            PausedError: An operator's pause was too long.
        """
        if self._steering.wait(self._look_after):
            self._next_look = -float("inf")  # a hold may have come meanwhile
        self._wait_for_turn()
        most = self._steering.most_rows
        yield self._rows if most is None else min(self._rows, most)
        self._steering.spent(self._last_rows, self._began)
        self._learn(time.monotonic())

    def before_commit(self, began: float, rows: int, rows_seconds: float) -> None:
        """Call this last in each batch's transaction: it counts the sessions that wait, and notes when the commit begins.

        Args:
            began: When this try of the batch began, as time.monotonic() has it.
            rows: How many rows it has.
            rows_seconds: How long its statements on rows took.

        Raises:
            HeldError: A hold on everything was placed while the batch waited for a lock; roll the batch back.
        """
        if time.monotonic() >= self._next_look:
            self._holds.look()
        self._began, self._last_rows, self._rows_seconds = began, rows, rows_seconds
        self._waiting = self._neighbours.waiting()
        self._committing = time.monotonic()

    def _learn(self, ended: float) -> None:
        """Make the next batch smaller or larger, and rest a little after one that was a burden on others."""
        limits = self._settings.delete_limits
        committed, taken = ended - self._committing, ended - self._began
        rows_seconds = max(self._rows_seconds, 0.001)
        aim, shortest = _batch_seconds(taken - self._rows_seconds)
        factor = min(2.0, aim / rows_seconds)
        trouble = ""
        if limits.waiting_sessions is not None and self._waiting > limits.waiting_sessions:
            trouble = f"{self._waiting} sessions waited for its locks (limit {limits.waiting_sessions})"
            factor = min(factor, max(0.5, shortest / rows_seconds), 1.0)
        elif limits.commit_seconds is not None and committed > limits.commit_seconds:
            trouble = f"a commit took {committed:.1f} seconds (limit {limits.commit_seconds:g})"
            factor = min(factor, 1.0)
        self._rows = max(self._fewest, min(self._most, round(self._last_rows * factor)))
        self._tell(trouble)
        if trouble:
            time.sleep(self._rest_seconds)
            self._rest_seconds = min(_LONGEST_REST_SECONDS, 2 * self._rest_seconds)
        else:
            self._rest_seconds = _SHORTEST_REST_SECONDS

    def _tell(self, trouble: str) -> None:
        if trouble and not self._trouble:
            _logger.info("The delete rests after each batch: %s", trouble)
        elif self._trouble and not trouble:
            _logger.info("The delete no longer rests")
        if trouble != self._trouble:
            self._steering.tell(waits=f"rests after each batch: {trouble}" if trouble else "")
        self._trouble = trouble

    def _wait_for_turn(self) -> None:
        if time.monotonic() < self._next_look:
            return
        self._require_go()
        began = time.monotonic()
        told = False
        while worries := self._neighbours.worries():
            paused_seconds = time.monotonic() - began
            if paused_seconds >= self._settings.delete_limits.longest_pause_seconds:
                raise _too_busy(paused_seconds, worries)
            if not told:
                _logger.info("The delete pauses: %s", "; ".join(worries))
                told = True
            self._steering.tell(waits="; ".join(worries))
            time.sleep(LOOK_SECONDS)
            self._keep_claim()
            self._require_go()
        if told:
            _logger.info("The delete continues after a pause of %.0f seconds", time.monotonic() - began)
            self._steering.tell(waits="")
        self._next_look = time.monotonic() + LOOK_SECONDS

    def _look_after(self) -> None:
        self._keep_claim()
        require_time("the delete", self._stop_at, self._clock())

    def _require_go(self) -> None:
        require_time("the delete", self._stop_at, self._clock())
        self._holds.look()


def _batch_seconds(fixed_seconds: float) -> tuple[float, float]:
    """How long the rows of a batch should take, and the shortest that they may be made to take.

    Args:
        fixed_seconds: How long the rest of a batch takes, whatever its rows.
    """
    shortest = max(min(_WORTH * fixed_seconds, _MOST_SECONDS), _LEAST_WORTH * fixed_seconds)
    return max(_AIM_SECONDS, shortest) - fixed_seconds, shortest - fixed_seconds


def _too_busy(paused_seconds: float, worries: list[str]) -> BusyError:
    return BusyError(
        f"the delete paused for {paused_seconds:,.0f} seconds, and the database is still above its limits",
        found="; ".join(worries),
        hint="All deleted rows are in a verified archive. Find out what keeps the database busy, or raise the "
        "limit under delete_limits; the task tries again by itself and continues after its last batch.",
    )
