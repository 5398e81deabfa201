"""The facts behind the pages, as this web server last read them.

Stores and databases are read by threads in the background. A page waits for them a moment and then shows what is known, with its
age and the reason why it is not newer. So a store or database that does not answer costs its own part of a page, never the page.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Generic, TypeVar

from strongroom.errors import StrongroomError
from strongroom.overview.facts import ArchiveFacts, StoreFacts, read_facts, read_kept_facts
from strongroom.overview.source import TableRows, look_at_table
from strongroom.settings import Settings, TableSettings, load_settings, qualify
from strongroom.statistics.figures import Uncounted
from strongroom_airflow.connections import StoreKey, connect_store, store_key, store_tables
from strongroom_airflow.database_connections import connect_database
from strongroom_airflow.pages.rendering import span
from strongroom_airflow.statistics.collect import UNREACHABLE, describe

log = logging.getLogger(__name__)

_READERS = 8
_STORE_SECONDS, _TABLE_SECONDS = 3.0, 15.0
"""How old facts may be before a page asks for new ones."""

_COST = 10
"""Nor are they asked for again before this many times as long as the last reading took."""

_STATEMENT_SECONDS = 5
"""A source database gets no longer than this for a question of a page."""

Fact = TypeVar("Fact")


@dataclass
class Known(Generic[Fact]):
    """What is known of one store or table.

    Attributes:
        value: The last that was read; None before the first reading.
        problem: Why the last reading failed, for the screen.
        read_at: When the value was read.
    """

    value: Fact | None = None
    problem: str | None = None
    read_at: datetime | None = None
    running: Future[None] | None = field(default=None, repr=False)
    next_at: float = 0.0


@dataclass(frozen=True)
class Facts:
    """Everything that a page may show.

    Attributes:
        stores: By store.
        tables: By `schema.table`, the rows of each configured table.
    """

    settings: Settings
    stores: Mapping[StoreKey, Known[StoreFacts]]
    tables: Mapping[str, Known[TableRows]]
    now: datetime

    @property
    def store_facts(self) -> list[StoreFacts]:
        """Of the stores that were read."""
        return [known.value for known in self.stores.values() if known.value is not None]

    @property
    def rows(self) -> dict[str, TableRows | Uncounted]:
        """The rows of each table, or why they are not known."""
        told: dict[str, TableRows | Uncounted] = {}
        for name, known in self.tables.items():
            told[name] = known.value or Uncounted(reason=known.problem or "its database has not answered yet")
        left_out = Uncounted(reason="it is left out, because its settings are wrong")
        return told | dict.fromkeys(map(qualify, self.settings.left_out), left_out)

    def archives_of(self, table: str, partition_key: str) -> list[ArchiveFacts]:
        """The sound archives of one partition, in the order of their ids."""
        found = {
            one.archive_id: one
            for facts in self.store_facts
            for one in facts.archives
            if one.table_name == table and one.partition_key == partition_key
        }
        return list(found.values())

    def store_table(self, table: str) -> TableSettings | None:
        """The settings that open the store of a table (`schema.table`), also of one that is no longer configured."""
        for one in self.settings.tables.values():
            if one.qualified_name == table:
                return one
        openers = {store_key(one): one for one in self.settings.tables.values()}
        for key, known in self.stores.items():
            if known.value and table in known.value.tables:
                return openers[key]
        return next(iter(openers.values()), None)

    def problems(self, tables: Iterable[str]) -> list[str]:
        """What could not be read of some tables (`schema.table`), without repeats."""
        wanted = set(tables)
        shown = [table for table in self.settings.tables.values() if table.qualified_name in wanted]
        known = [self.stores[store_key(table)].problem for table in shown]
        known += [self.tables[table.qualified_name].problem for table in shown]
        return list(dict.fromkeys(filter(None, known)))

    @property
    def age(self) -> str:
        """How old the figures are, in words."""
        stores = [known.read_at for known in self.stores.values()]
        tables = [known.read_at for known in self.tables.values()]
        return f"archives {self._oldest(stores)}, rows {self._oldest(tables)}"

    def _oldest(self, instants: Sequence[datetime | None]) -> str:
        known = [instant for instant in instants if instant is not None]
        if not known:
            return "not read yet"
        seconds = max(0.0, (self.now - min(known)).total_seconds())
        return f"read {span(seconds)} ago" + (", some not yet" if len(known) < len(instants) else "")


class Gathering:
    """Keeps the facts of one web server process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stores: dict[StoreKey, Known[StoreFacts]] = {}
        self._tables: dict[str, Known[TableRows]] = {}
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="strongroom-pages")

    def facts(self, *, seconds: float = 0.7, fresh: bool = False) -> Facts:
        """What is known now.

        Args:
            seconds: How long to wait for readings that have begun.
            fresh: Whether to read everything again first.

        Raises:
            ConfigurationError: The settings of all tables are wrong.
        """
        settings = load_settings()
        with self._lock:
            self._forget_others(settings)
            for key, table in ((store_key(one), one) for one in store_tables(settings)):
                self._begin(self._stores.setdefault(key, Known()), _store_reader(table), _STORE_SECONDS, fresh)
            for table in settings.tables.values():
                known = self._tables.setdefault(table.qualified_name, Known())
                self._begin(known, _table_reader(table), _TABLE_SECONDS, fresh)
            running = [known.running for known in (*self._stores.values(), *self._tables.values()) if known.running]
        wait(running, timeout=seconds)
        return Facts(settings, dict(self._stores), dict(self._tables), datetime.now(timezone.utc))

    def ask(self, question: Callable[[], Fact], *, seconds: float = 5.0) -> tuple[Fact | None, str | None]:
        """Ask a store or database something for one page. Returns the answer, or None and why there is none.

        Args:
            question: What to ask; it may go on in the background after its time.
            seconds: How long the page waits.
        """
        asked = self._readers.submit(question)
        try:
            return asked.result(timeout=seconds), None
        except FutureTimeout:
            return (
                None,
                f"the store did not answer within {seconds:.0f} s\nHINT: Nothing was changed. Open the page again in a while.",
            )
        except UNREACHABLE as error:
            return None, describe(error) if isinstance(error, StrongroomError) else _name(error)

    def _forget_others(self, settings: Settings) -> None:
        stores = {store_key(table) for table in settings.tables.values()}
        tables = {table.qualified_name for table in settings.tables.values()}
        self._stores = {key: known for key, known in self._stores.items() if key in stores}
        self._tables = {name: known for name, known in self._tables.items() if name in tables}

    def _begin(self, known: Known[Any], read: Callable[[Known[Any]], None], seconds: float, fresh: bool) -> None:
        if known.running is not None and not known.running.done():
            return
        if fresh or time.monotonic() >= known.next_at:
            known.running = self._readers.submit(self._read, known, read, seconds)

    def _read(self, known: Known[Any], read: Callable[[Known[Any]], None], seconds: float) -> None:
        started = time.monotonic()
        try:
            read(known)
            known.problem = None
        except UNREACHABLE as error:
            known.problem = describe(error) if isinstance(error, StrongroomError) else _name(error)
        except Exception as error:
            log.exception("could not read the facts of the pages")
            known.problem = _name(error)
        finally:
            known.next_at = time.monotonic() + max(seconds, _COST * (time.monotonic() - started))


def _store_reader(table: TableSettings) -> Callable[[Known[StoreFacts]], None]:
    def read(known: Known[StoreFacts]) -> None:
        store = connect_store(table)
        if known.value is None:
            known.value = read_kept_facts(store)
            known.read_at = known.value.read_at if known.value else None
        known.value = read_facts(store, now=datetime.now(timezone.utc), earlier=known.value)
        known.read_at = known.value.read_at

    return read


def _table_reader(table: TableSettings) -> Callable[[Known[TableRows]], None]:
    def read(known: Known[TableRows]) -> None:
        name = f"strongroom pages {table.table}"
        with connect_database(table, table.source_conn_id, application_name=name) as connection:
            now = datetime.now(timezone.utc)
            known.value = look_at_table(connection, table, now=now, seconds=_STATEMENT_SECONDS)
            known.read_at = now

    return read


def _name(error: Exception) -> str:
    return f"the source database or store did not answer ({type(error).__name__})"


gathering = Gathering()
"""What this process knows; its threads begin with the first page."""
