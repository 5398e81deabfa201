"""Collect the figures of statistics and metrics from the stores and source databases of all configured tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from airflow.sdk.exceptions import AirflowException
from botocore.exceptions import BotoCoreError, ClientError
from psycopg import Error as PostgresError

from strongroom.errors import SourceError, StrongroomError
from strongroom.ledger.index import survey_manifests, write_index
from strongroom.overview.facts import StoreFacts, merged
from strongroom.overview.reading import keep_facts, read_facts, read_kept_facts
from strongroom.settings import Settings, TableSettings, qualify
from strongroom.statistics.figures import make_statistics
from strongroom.statistics.records import Statistics, Uncounted
from strongroom.statistics.waiting import TableCounts, count_waiting
from strongroom_airflow.connections import connect_stores
from strongroom_airflow.database_connections import connect_database

UNREACHABLE = (StrongroomError, AirflowException, BotoCoreError, ClientError, PostgresError, ValueError)
"""The errors of a store or database that cannot be reached, and of an Airflow connection that cannot be used."""


def collect_statistics(settings: Settings, *, now: datetime) -> Statistics:
    """Read every store and count rows in every source database. Keeps in each store what saves the next reader requests.

    A table that cannot be counted, or whose settings are wrong, is named in the result. The others are not affected.

    Args:
        settings: Of all tables.
        now: Aware UTC instant that terms are measured against.

    Raises:
        StoreError: A store failed; the figures would be wrong without it.
    """
    told = []
    for store in connect_stores(settings):
        write_index(store, survey_manifests(store))
        told.append(read_facts(store, now=now, earlier=read_kept_facts(store)))
        keep_facts(store, told[-1])
    return combine(settings, told, count_tables(settings, now=now), now=now)


def count_tables(settings: Settings, *, now: datetime) -> dict[str, TableCounts | Uncounted]:
    """By qualified name, the rows that each table still holds, or why they were not counted."""
    counts: dict[str, TableCounts | Uncounted] = {}
    unreachable: dict[str, Uncounted] = {}
    for table in settings.tables.values():
        counts[table.qualified_name] = unreachable.get(table.source_conn_id) or _count(table, now, unreachable)
    left_out = Uncounted(reason="it is left out, because its settings are wrong")
    return counts | dict.fromkeys(map(qualify, settings.left_out), left_out)


def combine(
    settings: Settings,
    stores: Iterable[StoreFacts],
    counts: Mapping[str, TableCounts | Uncounted],
    *,
    now: datetime,
) -> Statistics:
    """Make the figures of all tables from what the stores told and the counts of the source databases."""
    stores = list(stores)
    told = merged(stores) or StoreFacts(read_at=now)
    return make_statistics(
        settings,
        told.archives,
        damaged=told.damaged,
        counts=counts,
        holds=told.holds,
        proofs=told.proofs,
        cases=list({facts.store: facts.clocks(now) for facts in stores}.values()),
        now=now,
    )


def _count(table: TableSettings, now: datetime, unreachable: dict[str, Uncounted]) -> TableCounts | Uncounted:
    """Count the rows of one table. A connection that cannot be opened is noted, so that no other table waits for it again."""
    opened = False
    try:
        with connect_database(
            table, table.source_conn_id, application_name=f"strongroom statistics {table.table}"
        ) as connection:
            opened = True
            return count_waiting(connection, table, now=now)
    except UNREACHABLE as error:
        uncounted = Uncounted(reason=describe(error).partition("\n")[0])
        if isinstance(error, SourceError) and not opened:
            unreachable[table.source_conn_id] = uncounted
        return uncounted


def describe(error: Exception) -> str:
    """The message of an error. Messages of other libraries may contain a password, so only their type is named."""
    if isinstance(error, StrongroomError):
        return str(error)
    return f"its Airflow connection cannot be used ({type(error).__name__})"
