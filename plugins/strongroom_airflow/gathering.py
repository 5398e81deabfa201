"""Everything that statistics and metrics are made of, from the stores and source databases of all configured tables."""

from __future__ import annotations

from datetime import datetime

from strongroom.catalog import each_once, survey_catalog, write_index
from strongroom.errors import StrongroomError
from strongroom.holds import holds_in_force
from strongroom.settings import Settings, TableSettings
from strongroom.statistics import Statistics, Uncounted, make_statistics
from strongroom.verification import read_proofs
from strongroom.waiting import TableCounts, count_waiting
from strongroom_airflow.connections import connect_source, connect_stores

_MUCH = 500
"""So many manifests, read one by one, are worth a new version of the index."""


def gather_statistics(settings: Settings, *, now: datetime, refresh_index: bool = False) -> Statistics:
    """Look at every store and count in every source database.

    A table that cannot be counted is named as such and does not keep the others from being told.

    Args:
        settings: Of all tables.
        now: Aware UTC instant that terms are measured against.
        refresh_index: Leave an index of all manifests behind in any case, not only when much was missing in it.

    Raises:
        StoreError: A store failed; nothing true could be said without it.
    """
    stores = connect_stores(settings)
    surveys = [survey_catalog(store) for store in stores]
    for store, survey in zip(stores, surveys, strict=True):
        if refresh_index or survey.read >= _MUCH:
            write_index(store, survey)
    surveys = each_once(surveys)
    holds = {hold.hold_id: hold for store in stores for hold in holds_in_force(store)}
    proofs = [read_proofs(store) for store in stores]
    return make_statistics(
        settings,
        [manifest for survey in surveys for manifest in survey.manifests],
        damaged=[damaged for survey in surveys for damaged in survey.damaged],
        counts={table.qualified_name: _count(table, now) for table in settings.tables.values()},
        holds=list(holds.values()),
        verified={name: at for proof in proofs for name, at in proof.verified.items()},
        last_restored_at=max((proof.last_restored_at for proof in proofs if proof.last_restored_at), default=None),
        now=now,
    )


def _count(table: TableSettings, now: datetime) -> TableCounts | Uncounted:
    try:
        with connect_source(table, application_name=f"strongroom statistics {table.table}") as connection:
            return count_waiting(connection, table, now=now)
    except StrongroomError as error:
        return Uncounted(reason=str(error).partition("\n")[0])
