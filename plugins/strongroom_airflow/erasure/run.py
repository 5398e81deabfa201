"""What every step of an erasure needs: the case, the stores that have it, the tables with columns of persons, the key."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from strongroom.database.session import Connection
from strongroom.erasure.cases import CaseState, read_case
from strongroom.erasure.find import Place, begun, find_person
from strongroom.erasure.rows import Wanted, read_wanted
from strongroom.erasure.successions import unrecorded_for
from strongroom.errors import ConfigurationError, ErasureError
from strongroom.formats.persons import SubjectKey
from strongroom.ledger.suppressed import tokens_of
from strongroom.settings import Settings, TableSettings
from strongroom.storage.purge_store import PurgeStore
from strongroom.storage.staging import OF_RESTORES, Staging
from strongroom.storage.store import Store
from strongroom_airflow.connections import (
    connect_purge_store,
    connect_staging,
    connect_store,
    store_key,
    subject_key_of,
)
from strongroom_airflow.database_connections import connect_database
from strongroom_airflow.task_run import RunOfAllTables


@dataclass(frozen=True)
class StoreOfPersons:
    """A store, and the tables in it that have columns of persons; at least one."""

    store: Store
    tables: tuple[TableSettings, ...]

    @property
    def key(self) -> SubjectKey:
        """The key for tokens and protected records of this store."""
        return subject_key_of(self.tables[0])

    @property
    def purge_store(self) -> PurgeStore:
        """The same store, with the identity that may remove versions."""
        return connect_purge_store(self.tables[0])

    def wanted(self, case_id: str) -> Wanted:
        """Whose rows a case is about."""
        tokens = [token for table in self.tables for token in tokens_of(self.store, table, case_id)]
        return read_wanted(self.store, self.key, read_case(self.store, case_id).case, tokens)

    def find(self, case_id: str, *, application_name: str) -> tuple[list[Place], dict[str, int]]:
        """What there is of the person in all tables of the store."""
        wanted, places, searched = self.wanted(case_id), list[Place](), dict[str, int]()
        for table in self.tables:
            with session(table, application_name) as connection:
                found, counts = find_person(connection, self.store, table, wanted, folder=working_folder(table))
            places += found
            places += (begun(table, archive) for archive in unrecorded_for(self.store, table, case_id))
            for name, number in counts.items():
                searched[name] = searched.get(name, 0) + number
        return places, searched


def stores_of_persons(settings: Settings) -> list[StoreOfPersons]:
    """Every store that has tables with columns of persons.

    Raises:
        ConfigurationError: No table has any; or the settings of some table are wrong, so it is unknown whether it has.
    """
    if settings.left_out:
        raise settings.tell_left_out(*settings.left_out)
    grouped: dict[object, list[TableSettings]] = {}
    for table in settings.tables.values():
        if table.subjects.columns:
            grouped.setdefault(store_key(table), []).append(table)
    if not grouped:
        raise ConfigurationError(
            "no table names columns that identify persons",
            expected="`subjects.columns` of at least one table in archive.yaml",
            hint="Nothing was read or changed. docs/howto/erase-a-person.md shows the settings.",
        )
    return [StoreOfPersons(connect_store(tables[0]), tuple(tables)) for tables in grouped.values()]


def session(table: TableSettings, application_name: str) -> AbstractContextManager[Connection]:
    """A session that may read and delete rows of persons in a table, its warm table, and copies of it."""
    return connect_database(table, table.erasure_conn_id, application_name=application_name)


def working_folder(table: TableSettings) -> Path:
    """Where files without names are kept meanwhile."""
    folder, _ = table.working_folder
    return folder


class ErasureRun(RunOfAllTables):
    """One run of the DAG, as one of its tasks sees it."""

    @property
    def case_id(self) -> str:
        """The case that the run is about."""
        return str(self.context["params"]["case"])

    @property
    def application_name(self) -> str:
        """What the database shows of the run's sessions."""
        return f"strongroom erasure {self.context['ti'].task_id}"

    @cached_property
    def stores(self) -> list[StoreOfPersons]:
        """Every store that has tables with columns of persons."""
        return stores_of_persons(self.settings)

    def case(self, of: StoreOfPersons) -> CaseState:
        """The case, which must ask for erasure.

        Raises:
            ErasureError: There is none, or it asks for something else.
        """
        state = read_case(of.store, self.case_id)
        if state.case.kind != "erasure":
            raise ErasureError(
                f"case {self.case_id} asks for {state.case.kind}, not for erasure",
                hint=f"Nothing was read or changed. `airflow strongroom subject report {self.case_id}` answers it.",
            )
        return state

    def staging(self, table: TableSettings, archive_id: str) -> Staging:
        """The staging of an archive's successor, which the sweep knows as that of a restore."""
        return connect_staging(table).of(OF_RESTORES, f"erasure-{self.case_id}", archive_id)
