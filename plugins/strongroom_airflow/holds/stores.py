"""Which stores a legal hold belongs in, and releasing one wherever it is."""

from __future__ import annotations

from datetime import datetime

from strongroom.calendar import Partition
from strongroom.errors import ConfigurationError
from strongroom.ledger.holds import (
    EVERYTHING,
    Hold,
    HoldError,
    covered,
    holds_in_force,
    on_everything,
    parse_coverage,
    read_holds,
    release_hold,
)
from strongroom.object_keys.archives import manifest_prefix
from strongroom.settings import Settings
from strongroom.storage.store import Store
from strongroom_airflow.connections import connect_store, connect_stores


def find_what_to_hold(settings: Settings, name: str, partition_key: str | None = None) -> tuple[str, list[Store]]:
    """What a hold covers, and the stores that it belongs in.

    Args:
        settings: Of all tables.
        name: A table in archive.yaml, an archive id, the beginning of one, or ``*`` for everything.
        partition_key: Narrows a table in archive.yaml to one partition.

    Raises:
        HoldError: Nothing of that name can be held.
        PartitionError: The key names no partition.
    """
    if name == EVERYTHING:
        return EVERYTHING, connect_stores(settings)
    try:
        table = settings.table(name)
    except ConfigurationError:
        return _find_unconfigured(settings, name, partition_key)
    if partition_key is not None:
        Partition.parse(table.frequency, partition_key)
    return covered(table.schema_name, table.table_name, partition_key), [connect_store(table)]


def _find_unconfigured(settings: Settings, name: str, partition_key: str | None) -> tuple[str, list[Store]]:
    schema_name, table_name, what = parse_coverage(name)
    if partition_key is not None:
        raise HoldError(
            f"{name} is not a table in archive.yaml, so --partition cannot be used with it",
            expected="an archive id or the beginning of one, such as public.audit_events.2026-07",
            hint="No hold was placed. Write the partition after the table.",
        )
    for one in settings.tables.values():
        if (one.schema_name, one.table_name) == (schema_name, table_name):
            return what, [connect_store(one)]
    found = [store for store in connect_stores(settings) if any(store.keys(manifest_prefix(schema_name, table_name)))]
    if not found:
        raise HoldError(
            f"{name} is unknown: it is not a table in archive.yaml, and no store holds an archive of it",
            hint="No hold was placed. `airflow strongroom list` prints the archives that exist.",
        )
    return what, found


def left_out_of_hold(settings: Settings) -> HoldError | None:
    """The error that a hold on everything may be missing in stores that only tables with wrong settings use; None without any."""
    if not settings.left_out:
        return None
    return HoldError(
        f"the hold was not placed in the store of {', '.join(settings.left_out)}, which may have a store of its own",
        hint="The hold is in force in the other stores, and no archive of a table that is left out is purged. Correct the settings, "
        "then place the hold again.",
    )


def release_everywhere(settings: Settings, hold_id: str | None, *, who: str, reason: str, now: datetime) -> list[Hold]:
    """Release a hold in each store that has it. One that was released before stays as it is.

    Args:
        settings: Of all tables.
        hold_id: Of the hold; None releases every hold on everything.
        who: The person who asks for it.
        reason: Why it may be released.
        now: Aware instant.

    Raises:
        HoldError: There is no such hold, or no reason is given.
    """
    released = [
        release_hold(store, hold.hold_id, who=who, reason=reason, now=now)
        for store in connect_stores(settings)
        for hold in (on_everything(holds_in_force(store)) if hold_id is None else read_holds(store))
        if hold_id in (None, hold.hold_id)
    ]
    if not released:
        raise HoldError(
            "no hold on everything is in force" if hold_id is None else f"there is no hold {hold_id}",
            hint="Nothing was released. `airflow strongroom hold list` prints the holds and their ids.",
        )
    return released
