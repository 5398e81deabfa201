"""What every step of a verification run needs: the request, the stores, who asked."""

from __future__ import annotations

from strongroom.ledger.index import each_once, survey_manifests
from strongroom.object_keys.archives import ArchiveId
from strongroom.statistics.proofs import parse_sample
from strongroom.statistics.rereading import VerificationError, find_archives, find_sample
from strongroom.storage.store import Store
from strongroom_airflow.connections import connect_store, find_archive, store_tables
from strongroom_airflow.task_run import RunOfAllTables


class VerificationRun(RunOfAllTables):
    """One run of the DAG, as one of its tasks sees it."""

    @property
    def who(self) -> str:
        """The user who triggered the run; otherwise the run itself."""
        return self.identity.triggered_by or str(self.identity)

    @property
    def why(self) -> str | None:
        """The reason that was given."""
        return self.context["params"]["why"] or None

    def find(self) -> list[tuple[str, ArchiveId]]:
        """The archives that the run's parameters name, each with the configured table whose settings open its store."""
        params = self.context["params"]
        archives, table = params["archives"] or (), params["table"]
        if bool(archives) == bool(table):
            raise VerificationError(
                "a verification needs either archives or a table with a range of partitions",
                found="both" if archives else "neither",
                hint="Nothing was read. Trigger the DAG again and fill in one of the two.",
            )
        if archives:
            found = [find_archive(self.settings, text) for text in dict.fromkeys(archives)]
            return [(settings.table, archive) for settings, _, archive in found]
        settings = self.settings.table(table)
        named = find_archives(
            connect_store(settings),
            settings.schema_name,
            settings.table_name,
            params["first_partition"],
            params["last_partition"],
        )
        return [(settings.table, archive) for archive in named]

    def find_oldest(self) -> list[tuple[str, ArchiveId]]:
        """The archives of all stores whose proofs are oldest, as many as the run's parameter ``sample`` asks for, once each."""
        share = parse_sample(self.context["params"]["sample"])
        tables = store_tables(self.settings)
        stores = [connect_store(table) for table in tables]
        surveys = each_once(survey_manifests(store) for store in stores)
        found: dict[ArchiveId, str] = {}
        for table, store, survey in zip(tables, stores, surveys, strict=True):
            for archive in find_sample(store, survey, share):
                found.setdefault(archive, table.table)
        return [(table, archive) for archive, table in found.items()]

    def store(self, store_table: str) -> Store:
        """The store that a configured table's settings open."""
        return connect_store(self.settings.table(store_table))
