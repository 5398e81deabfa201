"""What an operator orders running steps of a table to do: to go slower, or to pause.

The orders of a table are one small object in the archive store, which every machine reaches; it is changed only by
compare-and-swap. They are no evidence: the log of Airflow says who gave them. Nothing that is proved depends on them.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from pydantic import AwareDatetime, Field

from strongroom.errors import ContendedError, IntegrityError
from strongroom.object_keys.records import orders_key
from strongroom.records import Record, parse_record
from strongroom.settings import TableSettings
from strongroom.storage.store import Store

_TRIES = 5
_LARGEST = 64 << 10
"""In bytes: no orders are nearly as long, and each step reads them every two seconds."""


class Throttle(Record):
    """How fast each delete of a table may go."""

    rows_per_second: int = Field(ge=1)
    who: str
    why: str
    since: AwareDatetime

    def __str__(self) -> str:
        return f"throttled to {self.rows_per_second:,} rows a second by {self.who}: {self.why}"


class Pause(Record):
    """That steps of a table wait."""

    who: str
    why: str
    since: AwareDatetime
    until: AwareDatetime = Field(description="Steps that still wait then fail. They do not continue by themselves.")

    def __str__(self) -> str:
        return f"paused by {self.who} at {self.since:%Y-%m-%d %H:%M} UTC: {self.why}"


class Orders(Record):
    """All orders of one table."""

    throttle: Throttle | None = None
    pause: Pause | None = None


class Steering:
    """Steers nothing: for a step that nobody watches. ``strongroom.tables.steering`` has the one that does."""

    orders = Orders()

    def tell(self, *, done_rows: int | None = None, waits: str | None = None) -> None:
        """Note how far the step has come, or why it waits. Costs nothing."""

    def wait(self, between: Callable[[], None]) -> bool:  # noqa: ARG002 - others need it
        """Wait as long as the orders ask, outside any transaction. Returns whether there was a pause.

        Args:
            between: Called every two seconds of waiting. It renews the claim, and raises if the step must not go on.

        Raises:
            PausedError: The pause was too long, or the orders stayed damaged for as long.
        """
        return False

    def spent(self, rows: int, began: float) -> None:
        """Note how many rows a batch had, and when it began, as time.monotonic() has it."""

    @property
    def most_rows(self) -> int | None:
        """The most rows that a batch should have; None means no limit."""
        return None


def read_orders(store: Store, settings: TableSettings) -> Orders:
    """The orders of a table; none of them if nobody ever gave one.

    Raises:
        IntegrityError: They are damaged.
    """
    orders = _read(store, settings)[0]
    if isinstance(orders, IntegrityError):
        raise orders
    return orders


def change_orders(store: Store, settings: TableSettings, change: Callable[[Orders], Orders]) -> Orders:
    """Change the orders of a table, and return them as they are now. Damaged ones are replaced, as if there had been none.

    Raises:
        ContendedError: Others changed them again and again at the same moment.
    """
    for _ in range(_TRIES):
        before, etag = _read(store, settings)
        after = change(Orders() if isinstance(before, IntegrityError) else before)
        if after == before:
            return after
        if store.swap(_key(settings), after.to_bytes(), etag=etag) or _read(store, settings)[0] == after:
            return after
    raise ContendedError(
        f"the orders of {settings.qualified_name} were changed by others at the same moment",
        hint="Nothing was ordered. Look at them with `airflow strongroom status`, then try again.",
    )


def pause_until(settings: TableSettings, since: AwareDatetime) -> AwareDatetime:
    """When a pause that begins now is too long."""
    return since + timedelta(seconds=settings.pause_limit_seconds)


def _read(store: Store, settings: TableSettings) -> tuple[Orders | IntegrityError, str | None]:
    """The orders, or what is wrong with them, and the ETag of their object."""
    key = _key(settings)
    try:
        present = store.read(key, most_bytes=_LARGEST)
    except IntegrityError as error:
        large = store.head(key)
        return error, large.etag if large is not None else None
    if present is None:
        return Orders(), None
    body, etag = present
    try:
        orders = parse_record(
            Orders,
            body,
            where=f"{store}{key}",
            what="a sound record of orders",
            hint=f"No row is lost, and steps of the table wait as in a pause. `airflow strongroom resume {settings.table} --reason …` replaces "
            "the object, and they continue; `pause` and `throttle` replace it, too.",
        )
    except IntegrityError as error:
        return error, etag
    return orders, etag


def _key(settings: TableSettings) -> str:
    return orders_key(settings.schema_name, settings.table_name)
