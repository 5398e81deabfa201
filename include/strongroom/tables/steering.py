"""What running steps are told, and what they tell: orders to go slower or to pause, and how far they have come.

A thread of its own reads the orders and writes the progress, so a step never waits for a store or a staging that does not
answer: it keeps to the orders that it knew last. Orders that are damaged may hold a pause, so they are one until somebody
replaces them. A step looks at them only between two batches, outside any transaction. So a
paused step holds no lock and no snapshot, and what follows a pause is checked as ever.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType

from pydantic import AwareDatetime, Field

from strongroom.errors import IntegrityError, PausedError, StoreError, StrongroomError
from strongroom.ledger.orders import Orders, Pause, Steering, Throttle, pause_until, read_orders
from strongroom.object_keys.archives import part_name
from strongroom.records import Record
from strongroom.settings import TableSettings
from strongroom.storage.staging import Staging
from strongroom.storage.store import Store

LOOK_SECONDS = 2.0
"""How often the orders are read, and how often a claim is looked after in a pause."""

TELL_SECONDS = 5.0
"""How often progress is written at most."""

_SLICE_SECONDS = 0.2
_RATE_SECONDS = 30.0
"""The time that the speed is told of."""

_logger = logging.getLogger(__name__)


class StepProgress(Record):
    """How far a step of one part has come. Holds no row and no secret."""

    step: str
    archive_id: str
    number: int = Field(description="Of the part; 0 for a step of all parts.")
    run: str = Field(description="DAG and run.")
    host: str
    rows: int
    done_rows: int = 0
    rows_per_second: float | None = Field(
        default=None, description="Of the last half a minute; None if nothing was done."
    )
    waits: str = Field(default="", description="Why it waits, or rests after each batch.")
    began_at: AwareDatetime
    told_at: AwareDatetime

    @property
    def seconds_left(self) -> float | None:
        """About how long it still takes; None if it does not move."""
        return (self.rows - self.done_rows) / self.rows_per_second if self.rows_per_second else None


@dataclass(frozen=True)
class _Damaged:
    """That nobody can say what was ordered."""

    what: str
    cure: str
    until: datetime

    def __str__(self) -> str:
        return f"its orders are damaged: {self.what}; {self.cure} replaces it"


def progress_name(step: str, number: int) -> str:
    """The name of a step's progress in staging."""
    return f"{part_name(number)}.{step}.now.json"


class Steered(Steering):
    """Steers one step of one part; a context manager, whose thread ends with it.

    Args:
        store: The archive store, where the orders lie.
        staging: The archive's staging, where the progress goes.
        settings: Of the table.
        progress: As the step begins.
        clock: Returns the current instant, by the store's clock.
    """

    def __init__(
        self,
        store: Store,
        staging: Staging,
        settings: TableSettings,
        progress: StepProgress,
        *,
        clock: Callable[[], datetime],
    ) -> None:
        self._store, self._staging, self._settings, self._clock = store, staging, settings, clock
        self.orders = Orders()
        self._damaged: _Damaged | None = None
        self._pause: Pause | None = None
        self._longest = clock()
        """How long the last pause may last at most, whatever somebody wrote into it."""
        self._progress = progress
        self._seen: deque[tuple[float, int]] = deque()
        self._told: StepProgress | None = None
        self._next_telling = -float("inf")
        self._said: dict[str, str] = {}
        self._last_rows, self._last_began = 0, -float("inf")
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._attend, name="strongroom steering", daemon=True)

    def __enter__(self) -> Steered:
        self._look()  # a step that begins in a pause does nothing before it
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join(timeout=LOOK_SECONDS)  # one that waits for a store that does not answer ends with its process

    def tell(self, *, done_rows: int | None = None, waits: str | None = None) -> None:
        now = time.monotonic()
        if done_rows is not None:
            self._seen.append((now, done_rows))
            while now - self._seen[0][0] > _RATE_SECONDS and len(self._seen) > 2:
                self._seen.popleft()
        self._progress = self._progress.model_copy(
            update={
                "done_rows": self._progress.done_rows if done_rows is None else done_rows,
                "waits": self._progress.waits if waits is None else waits,
                "rows_per_second": self._rate(now),
                "told_at": self._clock(),
            }
        )

    def wait(self, between: Callable[[], None]) -> bool:
        next_look = time.monotonic() + LOOK_SECONDS
        paused = False
        before = self._progress.waits
        while (why := self._why_wait()) is not None:
            paused = paused or not isinstance(why, Throttle)
            self._say("order", f"The step waits: {why}")
            if self._progress.waits != str(why):
                if paused:
                    self._seen.clear()  # it has no speed now, and the time of the pause is none of its own
                self.tell(waits=str(why))
            time.sleep(_SLICE_SECONDS)
            if time.monotonic() >= next_look:
                _look_after(between)
                if isinstance(why, Throttle):
                    self.tell()  # its speed falls while it waits
                next_look = time.monotonic() + LOOK_SECONDS
        if self._progress.waits != before:
            self.tell(waits=before)
        if paused:
            self._say("order", "The step continues after a pause")
        return paused

    def spent(self, rows: int, began: float) -> None:
        self._last_rows, self._last_began = rows, began

    @property
    def most_rows(self) -> int | None:
        throttle = self.orders.throttle
        return None if throttle is None else throttle.rows_per_second

    def _why_wait(self) -> Pause | Throttle | _Damaged | None:
        """The order that asks to wait now, or that this is not known.

        Raises:
            PausedError: It has asked for too long.
        """
        damaged, orders = self._damaged, self.orders  # in this order: orders that replace damaged ones are set first
        if damaged is not None:
            if self._clock() >= damaged.until:
                raise _damaged_too_long(self._settings, damaged)
            return damaged
        if (pause := orders.pause) is not None:
            if pause != self._pause:
                self._pause, self._longest = pause, pause_until(self._settings, self._clock())
            ends = min(pause.until, self._longest)
            if self._clock() >= ends:
                raise _paused_too_long(self._settings, pause, ends)
            return pause
        if orders.throttle is not None:
            until = self._last_began + self._last_rows / orders.throttle.rows_per_second
            if time.monotonic() < until:
                return orders.throttle
        return None

    def _rate(self, now: float) -> float | None:
        if not self._seen or (since := now - self._seen[0][0]) <= 0:
            return None
        return round((self._seen[-1][1] - self._seen[0][1]) / since, 1) or None

    def _attend(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            self._look()
            self._write()

    def _look(self) -> None:
        try:
            self.orders, self._damaged = read_orders(self._store, self._settings), None
        except IntegrityError as error:
            if self._damaged is None:
                until = pause_until(self._settings, self._clock())
                self._damaged = _Damaged(error.what, f"`airflow strongroom resume {self._settings.table}`", until)
        except Exception as error:  # noqa: BLE001 - whatever it is, the step goes on with the orders that it knows
            self._say("orders", f"The orders of the table cannot be read ({_kind(error)}); the last known ones count")

    def _write(self) -> None:
        progress = self._progress
        if progress is self._told or time.monotonic() < self._next_telling:
            return
        self._next_telling = time.monotonic() + TELL_SECONDS
        try:
            self._staging.keep(progress_name(progress.step, progress.number), progress)
            self._told = progress
        except Exception as error:  # noqa: BLE001 - whatever it is, the step goes on untold
            self._say("progress", f"The progress of the step cannot be written ({_kind(error)})")

    def _say(self, about: str, words: str) -> None:
        """Log something once, until something else is said about the same."""
        if self._said.get(about) != words:
            self._said[about] = words
            _logger.info("%s", words)


def _look_after(between: Callable[[], None]) -> None:
    try:
        between()
    except StoreError as error:  # the store is down: the next batch checks the claim again
        _logger.info("The claim was not looked after: %s", error.what)


def _kind(error: Exception) -> str:
    return error.what if isinstance(error, StrongroomError) else type(error).__name__


def _paused_too_long(settings: TableSettings, pause: Pause, until: datetime) -> PausedError:
    return PausedError(
        f"{settings.qualified_name} is {pause}",
        expected=f"`airflow strongroom resume {settings.table}` until {until:%Y-%m-%d %H:%M} UTC (`pause_limit_seconds`)",
        found="no such order",
        hint="Nothing is lost: what was deleted is in a verified archive, everything else is in the table. Resume the table, then clear "
        "this task: it continues after its last batch.",
    )


def _damaged_too_long(settings: TableSettings, damaged: _Damaged) -> PausedError:
    return PausedError(
        f"{settings.qualified_name} waited because {damaged}",
        expected=f"that order until {damaged.until:%Y-%m-%d %H:%M} UTC (`pause_limit_seconds`)",
        found="the same object",
        hint="Nothing is lost: what was deleted is in a verified archive, everything else is in the table. Find out who wrote the object. Replace "
        "it with that command, or with `pause` or `throttle`, then clear this task: it continues after its last batch.",
    )
