"""Everything that statistics and metrics are made of, from the stores and source databases of all configured tables."""

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
from strongroom_airflow.connections import connect_source, connect_stores

UNREACHABLE = (StrongroomError, AirflowException, BotoCoreError, ClientError, PostgresError, ValueError)
"""What a store or database answers that is not there, and what Airflow raises for a connection that makes no sense."""


@dataclass(frozen=True)
class StoreContents:
    """What lies in one store, as it was at one instant.

    Attributes:
        survey: Its manifests.
        holds: In force.
        proofs: What was proved again.
        read_at: When it was looked at.
    """

    survey: Survey
    holds: tuple[Hold, ...]
    proofs: Proofs
    read_at: datetime


def gather_statistics(settings: Settings, *, now: datetime) -> Statistics:
    """Look at every store and count in every source database; leaves an index of all manifests behind in each store.

    A table that cannot be counted, or whose settings are wrong, is named as such and does not keep the others from
    being told.

    Args:
        settings: Of all tables.
        now: Aware UTC instant that terms are measured against.

    Raises:
        StoreError: A store failed; nothing true could be said without it.
    """
    contents = []
    for store in connect_stores(settings):
        contents.append(read_store(store, now=now))
        write_index(store, contents[-1].survey)
    return put_together(settings, contents, count_tables(settings, now=now), now=now)


def read_store(store: Store, *, now: datetime, earlier: StoreContents | None = None) -> StoreContents:
    """Look at everything in one store that figures are made of; what an earlier look read of it is not read again."""
    survey = survey_manifests(store, earlier=earlier.survey if earlier is not None else None)
    return StoreContents(survey, tuple(holds_in_force(store)), read_proofs(store), read_at=now)


def count_tables(settings: Settings, *, now: datetime) -> dict[str, TableCounts | Uncounted]:
    """By qualified name, what the source database holds of each table of the file, or why that is not known."""
    counts: dict[str, TableCounts | Uncounted] = {}
    closed: dict[str, Uncounted] = {}
    for table in settings.tables.values():
        counts[table.qualified_name] = closed.get(table.source_conn_id) or _count(table, now, closed)
    left_out = Uncounted(reason="it is left out, because its settings are wrong")
    return counts | dict.fromkeys(map(qualify, settings.left_out), left_out)


def put_together(
    settings: Settings,
    contents: Iterable[StoreContents],
    counts: Mapping[str, TableCounts | Uncounted],
    *,
    now: datetime,
) -> Statistics:
    """Make the figures of all tables from what lies in the stores and in the source databases."""
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


def _count(table: TableSettings, now: datetime, closed: dict[str, Uncounted]) -> TableCounts | Uncounted:
    """Count in one table; a connection that leads nowhere is entered, so that its other tables need not wait for it, too."""
    opened = False
    try:
        with connect_source(table, application_name=f"strongroom statistics {table.table}") as connection:
            opened = True
            return count_waiting(connection, table, now=now)
    except UNREACHABLE as error:
        uncounted = Uncounted(reason=describe(error).partition("\n")[0])
        if isinstance(error, SourceError) and not opened:
            closed[table.source_conn_id] = uncounted
        return uncounted


def describe(error: Exception) -> str:
    """What to say of an error. What others than Strongroom say of a connection may hold a password, and is not passed on."""
    if isinstance(error, StrongroomError):
        return str(error)
    return f"its Airflow connection cannot be used ({type(error).__name__})"
