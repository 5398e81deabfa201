"""`airflow strongroom throttle`, `pause` and `resume`: orders that running steps of a table obey within seconds.

Each order is written into Airflow's audit log before it is given. It replaces orders that are damaged.
"""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from airflow.models.log import Log
from airflow.utils.platform import getuser
from airflow.utils.session import create_session
from rich.markup import escape

from strongroom.errors import ConfigurationError, IntegrityError
from strongroom.ledger.claims import shared_clock
from strongroom.ledger.orders import Orders, Pause, Throttle, change_orders, pause_until, read_orders
from strongroom.settings import TableSettings
from strongroom.storage.store import Store
from strongroom_airflow.commands.terminal import command, print_json, print_out, read_settings, warn
from strongroom_airflow.connections import connect_store


@command
def throttle(args: Namespace) -> int:
    """Limit how fast each delete of a table goes, or lift the limit."""
    if args.off == (args.rows_per_second is not None):
        raise ConfigurationError(
            "the command does not say how fast deletes may go",
            expected="either --rows-per-second N, or --off",
            hint="Nothing was ordered.",
        )
    rate = args.rows_per_second
    words = "no longer throttled" if rate is None else f"throttled to {rate:,} rows a second in each delete"

    def change(orders: Orders, who: str, now: datetime) -> Orders:
        limit = None if rate is None else Throttle(rows_per_second=rate, who=who, why=args.reason, since=now)
        return orders.model_copy(update={"throttle": limit})

    return _order(args, change, lambda table, _: f"{table.qualified_name} is {words}.", {"rows_per_second": rate})


@command
def pause(args: Namespace) -> int:
    """Let running steps of a table wait after their batch, and further steps before they begin."""
    limit = _steered_table(args)

    def change(orders: Orders, who: str, now: datetime) -> Orders:
        until = pause_until(limit, now)
        return orders.model_copy(update={"pause": Pause(who=who, why=args.reason, since=now, until=until)})

    def words(table: TableSettings, orders: Orders) -> str:
        assert orders.pause is not None  # noqa: S101 - it was just ordered
        return (
            f"{table.qualified_name} is paused. A delete stops after its batch; a part that is being read is read to its end. "
            f"Steps that still wait at {orders.pause.until:%Y-%m-%d %H:%M} UTC fail. To continue: "
            f"`airflow strongroom resume {table.table} --reason …`."
        )

    return _order(args, change, words, {})


@command
def resume(args: Namespace) -> int:
    """Let the steps of a paused table continue."""

    def change(orders: Orders, who: str, now: datetime) -> Orders:  # noqa: ARG001 - each change takes them
        return orders.model_copy(update={"pause": None})

    return _order(args, change, lambda table, _: f"{table.qualified_name} is not paused; its steps continue.", {})


def _order(
    args: Namespace,
    change: Callable[[Orders, str, datetime], Orders],
    words: Callable[[TableSettings, Orders], str],
    facts: dict[str, Any],
) -> int:
    """Put an order into the audit log, give it, and print what is in force now."""
    table = _steered_table(args)
    store, who = connect_store(table), args.who or getuser()
    now = shared_clock(store, datetime.now(timezone.utc))()
    damage = _damage(store, table)
    _audit(args.subcommand, table, who, args.reason, facts | ({} if damage is None else {"replaces": damage}))
    orders = change_orders(store, table, lambda before: change(before, who, now))
    if damage is not None:
        warn(f"{damage}. It was replaced: if it held a pause or a throttle, that is over unless you order it again.")
    if args.json:
        print_json(orders.model_dump(mode="json"))
    else:
        print_out(escape(words(table, orders)))
    return 0


def _damage(store: Store, table: TableSettings) -> str | None:
    """What is wrong with the orders that are there now."""
    try:
        read_orders(store, table)
    except IntegrityError as error:
        return error.what
    return None


def _steered_table(args: Namespace) -> TableSettings:
    """The table of the command; the steps of a unit obey the orders of its root alone."""
    table = read_settings().table(args.table)
    if table.is_member and table.unit is not None:
        root = table.unit.tables[0]
        raise ConfigurationError(
            f"{table.table} is archived together with {root}, whose orders its steps obey",
            hint=f"Nothing was ordered. `airflow strongroom {args.subcommand} {root}` orders it for all tables of the unit.",
        )
    return table


def _audit(order: str, table: TableSettings, who: str, why: str, facts: dict[str, Any]) -> None:
    """A line of Airflow's audit log, under the name of the user of this shell."""
    user = getuser()
    extra = {"through": "Strongroom", "table": table.qualified_name, "who": who, "why": why, **facts}
    line = Log(
        event=f"strongroom_{order}",
        owner=user,
        owner_display_name=user,
        extra=json.dumps(extra),
        dag_id=f"archive__{table.slug}",
    )
    with create_session() as session:
        session.add(line)
