"""Collect the figures of statistics and metrics from the stores and source databases of all configured tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from airflow.sdk.exceptions import AirflowException
from botocore.exceptions import BotoCoreError, ClientError
from psycopg import Error as PostgresError

from strongroom.errors import SourceError, StrongroomError
from strongroom.ledger.holds import Hold, holds_in_force
from strongroom.ledger.index import Survey, each_once, survey_manifests, write_index
from strongroom.settings import Settings, TableSettings, qualify
from strongroom.statistics.figures import Statistics, Uncounted, make_statistics
from strongroom.statistics.proofs import Proofs, read_proofs
from strongroom.statistics.waiting import TableCounts, count_waiting
from strongroom.storage.store import Store
from strongroom_airflow.connections import connect_stores
from strongroom_airflow.database_connections import connect_database

UNREACHABLE = (StrongroomError, AirflowException, BotoCoreError, ClientError, PostgresError, ValueError)
"""The errors of a store or database that cannot be reached, and of an Airflow connection that cannot be used."""


@dataclass(frozen=True)
class StoreContents:
    """The contents of one store at one instant.

    Attributes:
        survey: Its manifests.
        holds: The holds in force.
        proofs: When archives were last verified and restored.
        read_at: When the store was read.
    """

    survey: Survey
    holds: tuple[Hold, ...]
    proofs: Proofs
    read_at: datetime


def collect_statistics(settings: Settings, *, now: datetime) -> Statistics:
    """Read every store and count rows in every source database. Writes an index of all manifests to each store.

    A table that cannot be counted, or whose settings are wrong, is named in the result. The others are not affected.

    Args:
        settings: Of all tables.
        now: Aware UTC instant that terms are measured against.

    Raises:
        StoreError: A store failed; the figures would be wrong without it.
    """
    contents = []
    for store in connect_stores(settings):
        contents.append(read_store(store, now=now))
        write_index(store, contents[-1].survey)
    return combine(settings, contents, count_tables(settings, now=now), now=now)


def read_store(store: Store, *, now: datetime, earlier: StoreContents | None = None) -> StoreContents:
    """Read everything in one store that the figures need. Manifests that ``earlier`` holds are not read again."""
    survey = survey_manifests(store, earlier=earlier.survey if earlier is not None else None)
    return StoreContents(survey, tuple(holds_in_force(store)), read_proofs(store), read_at=now)


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
    contents: Iterable[StoreContents],
    counts: Mapping[str, TableCounts | Uncounted],
    *,
    now: datetime,
) -> Statistics:
    """Make the figures of all tables from the contents of the stores and the counts of the source databases."""
    contents = list(contents)
    surveys = each_once(one.survey for one in contents)
    holds = {hold.hold_id: hold for one in contents for hold in one.holds}
    restored = [one.proofs.last_restored_at for one in contents if one.proofs.last_restored_at]
    verified = {name: at for one in contents for name, at in one.proofs.verified.items()}
    return make_statistics(
        settings,
        [manifest for survey in surveys for manifest in survey.manifests],
        damaged=[damaged for survey in surveys for damaged in survey.damaged],
        counts=counts,
        holds=list(holds.values()),
        proofs=Proofs(verified, max(restored, default=None)),
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
