"""The facts behind the pages, as this web server last read them.

Stores and databases are read by threads in the background. A page waits for them a moment and then shows what is known, with its
age and the reason why it is not newer. So a store or database that does not answer costs its own part of a page, never the page.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from operator import attrgetter
from typing import Any, Generic, TypeVar

from strongroom.errors import StrongroomError
from strongroom.overview.facts import ArchiveFacts, StoreFacts
from strongroom.overview.reading import read_facts, read_kept_facts
from strongroom.overview.source import TableRows, look_at_table
from strongroom.settings import Settings, TableSettings, load_settings, qualify
from strongroom.statistics.records import Uncounted
from strongroom_airflow.connections import StoreKey, connect_store, store_key, store_tables
from strongroom_airflow.database_connections import connect_database
from strongroom_airflow.pages.rendering import span
from strongroom_airflow.statistics.collect import UNREACHABLE

log = logging.getLogger(__name__)

_READERS = 8
_STORE_SECONDS, _TABLE_SECONDS = 3.0, 60.0
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
        next_at: From when on a page has it read again, by the monotonic clock.
    """

    value: Fact | None = None
    problem: str | None = None
    read_at: datetime | None = None
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

    def successor_of(self, archive_id: str) -> ArchiveFacts | None:
        """The archive that supersedes another one, which is still there or not; None if none does."""
        every = (one for facts in self.store_facts for one in (*facts.archives, *facts.superseded))
        return next((one for one in every if one.supersedes == archive_id), None)

    def superseded_in(self, table: str, partition_key: str) -> list[ArchiveFacts]:
        """The archives of one partition that are superseded and not removed yet, in the order of their ids."""
        found = {
            one.archive_id: one
            for facts in self.store_facts
            for one in facts.superseded
            if (one.table_name, one.partition_key) == (table, partition_key)
        }
        return sorted(found.values(), key=lambda one: one.archive)

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

    def knows_archives_of(self, table: str) -> bool:
        """Whether the store of a table (`schema.table`) was read; if not, nobody can say what is archived."""
        opener = self.store_table(table)
        return opener is not None and self.stores[store_key(opener)].value is not None

    def reading(self, tables: Iterable[str]) -> bool:
        """Whether the first reading of a store or of rows of some tables (`schema.table`) is still under way."""
        wanted = set(tables)
        shown = [table for table in self.settings.tables.values() if table.qualified_name in wanted]
        known = [self.stores[store_key(table)] for table in shown] + [self.tables[one.qualified_name] for one in shown]
        return any(one.value is None and one.problem is None for one in known)

    def problems(self, tables: Iterable[str]) -> list[str]:
        """What could not be read of some tables (`schema.table`), without repeats."""
        wanted = set(tables)
        shown = [table for table in self.settings.tables.values() if table.qualified_name in wanted]
        known = [self.stores[store_key(table)].problem for table in shown]
        known += [one.problem for facts in self.store_facts for one in facts.unreadable if one.table in wanted]
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
    """Keeps the facts of one web server process.

    Stores are read side by side. The tables of one source are looked at one after another in one session, so a page never
    asks a source database two questions at once.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stores: dict[StoreKey, Known[StoreFacts]] = {}
        self._tables: dict[str, Known[TableRows]] = {}
        self._reading: dict[StoreKey | str, Future[None]] = {}
        """The last reading of each store, and of each source by its connection."""
        self._wanted: dict[StoreKey | str, Callable[[], None]] = {}
        """What is to be read of each, and has not begun."""
        self._busy: set[StoreKey | str] = set()
        """Of which a reading is under way, or is about to begin."""
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="strongroom-facts")
        self._askers = ThreadPoolExecutor(_READERS, thread_name_prefix="strongroom-pages")

    def facts(self, *, seconds: float = 0.7, fresh: bool = False) -> Facts:
        """What is known now.

        Args:
            seconds: How long to wait for readings that have begun.
            fresh: Whether to read everything again first, by readings that begin after this call.

        Raises:
            ConfigurationError: The settings of all tables are wrong.
        """
        settings = load_settings()
        now = time.monotonic()
        with self._lock:
            self._forget_others(settings)
            for key, table in ((store_key(one), one) for one in store_tables(settings)):
                known = self._stores.setdefault(key, Known())
                if fresh or now >= known.next_at:
                    self._begin(key, partial(self._read_store, table, known), fresh=fresh)
            due: dict[str, list[tuple[TableSettings, Known[TableRows]]]] = defaultdict(list)
            for table in settings.tables.values():
                rows = self._tables.setdefault(table.qualified_name, Known())
                if fresh or now >= rows.next_at:
                    due[table.source_conn_id].append((table, rows))
            for conn_id, tables in due.items():
                self._begin(conn_id, partial(self._look_at_tables, conn_id, tables), fresh=fresh)
            stores, known_tables = dict(self._stores), dict(self._tables)
            running = [future for future in self._reading.values() if not future.done()]
        wait(running, timeout=seconds)
        return Facts(settings, stores, known_tables, datetime.now(timezone.utc))

    def ask(self, question: Callable[[], Fact], *, seconds: float = 5.0) -> tuple[Fact | None, str | None]:
        """Ask a store something for one page. Returns the answer, or None and why there is none.

        Args:
            question: What to ask; it may go on in the background after its time.
            seconds: How long the page waits.
        """
        asked = self._askers.submit(question)
        try:
            return asked.result(timeout=seconds), None
        except FutureTimeout:
            asked.cancel()
            return None, (
                f"the store did not answer within {seconds:.0f} s\n"
                "HINT: Nothing was changed. Open the page again in a while."
            )
        except UNREACHABLE as error:
            return None, tell(error)

    def _forget_others(self, settings: Settings) -> None:
        stores = {store_key(table) for table in settings.tables.values()}
        tables = {table.qualified_name for table in settings.tables.values()}
        self._stores = {key: known for key, known in self._stores.items() if key in stores}
        self._tables = {name: known for name, known in self._tables.items() if name in tables}

    def _begin(self, what: StoreKey | str, read: Callable[[], None], *, fresh: bool) -> None:
        """Begin a reading. While one of the same store or source is under way, begin none, or a fresh one right after it."""
        if fresh or what not in self._busy:
            self._wanted[what] = read
        if what not in self._busy:
            self._busy.add(what)
            self._reading[what] = self._readers.submit(self._read, what)

    def _read(self, what: StoreKey | str) -> None:
        """Read what is wanted of one store or source, until nothing more is."""
        while (read := self._next(what)) is not None:
            try:
                read()
            except Exception:  # a thread's error would be seen by nobody
                log.exception("could not read the facts of the pages")

    def _next(self, what: StoreKey | str) -> Callable[[], None] | None:
        with self._lock:
            if what not in self._wanted:
                self._busy.discard(what)
            return self._wanted.pop(what, None)

    def _read_store(self, table: TableSettings, known: Known[StoreFacts]) -> None:
        with _reading(known, _STORE_SECONDS):
            store = connect_store(table)
            if known.value is None:
                known.value = read_kept_facts(store)
                known.read_at = known.value.read_at if known.value else None
            earlier, known.value = known.value, read_facts(store, now=datetime.now(timezone.utc), earlier=known.value)
            known.read_at = known.value.read_at
            self._expire(_changed(earlier, known.value))

    def _expire(self, tables: Iterable[str]) -> None:
        """Have the rows of tables counted again by the next page, because their archives have changed."""
        with self._lock:
            for name in tables:
                if name in self._tables:
                    self._tables[name].next_at = 0.0

    def _look_at_tables(self, conn_id: str, tables: Sequence[tuple[TableSettings, Known[TableRows]]]) -> None:
        """Look at some tables of one source, in one session."""
        left = list(tables)
        opener = max((table for table, _ in tables), key=attrgetter("tls_required"))
        try:
            with connect_database(opener, conn_id, application_name="strongroom pages") as connection:
                while left:
                    table, known = left[0]
                    with _reading(known, _TABLE_SECONDS):
                        now = datetime.now(timezone.utc)
                        known.value = look_at_table(connection, table, now=now, seconds=_STATEMENT_SECONDS)
                        known.read_at = now
                    left.pop(0)
        except UNREACHABLE:
            for _, known in left:
                with _reading(known, _TABLE_SECONDS):
                    raise


@contextmanager
def _reading(known: Known[Any], seconds: float) -> Iterator[None]:
    """One reading: its error becomes the problem of what is known, and the next one has its time."""
    started = time.monotonic()
    try:
        yield
        known.problem = None
    except UNREACHABLE as error:
        known.problem = tell(error)
    except Exception as error:  # a thread's error would be seen by nobody
        log.exception("could not read the facts of the pages")
        known.problem = tell(error)
    finally:
        known.next_at = time.monotonic() + max(seconds, _COST * (time.monotonic() - started))


def _changed(earlier: StoreFacts | None, later: StoreFacts) -> set[str]:
    """The tables (`schema.table`) of which archives, evidence or restores came or went."""
    if earlier is None:
        return set()
    before, after = (
        {(one.table_name, one.archive_id, one.etags) for one in (*facts.archives, *facts.superseded)}
        | {(one.table, one.restore_id, ()) for one in facts.restores}
        for facts in (earlier, later)
    )
    return {table for table, *_ in before ^ after}


def tell(error: Exception) -> str:
    """An error for the screen. Messages of other libraries may contain a password, so only their type is named."""
    if isinstance(error, StrongroomError):
        return str(error)
    return f"the source database or store did not answer ({type(error).__name__})"


gathering = Gathering()
"""What this process knows; its threads begin with the first page."""
