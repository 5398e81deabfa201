"""Writers that change a table at random in the midst of a delete, and an account of every row version that they leave.

The account knows what the table would hold if nobody deleted but the writers. So each version that is missing was taken by the
delete, and must be in an archive, letter by letter. A seed decides all that the writers do.
"""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple

import psycopg
import zstandard
from psycopg import errors

from strongroom.records import SealedArchive
from tests.support.chain import Chain

SCHEMA = """
DROP SCHEMA public CASCADE;
CREATE SCHEMA public;
CREATE TABLE audit (id bigint, branch text COLLATE "C", at timestamptz NOT NULL, who text, PRIMARY KEY (id, branch));
CREATE INDEX ON audit (at);
"""
NOTES = """
CREATE TABLE note (id bigint, branch text COLLATE "C", FOREIGN KEY (id, branch) REFERENCES audit {});
CREATE INDEX ON note (id, branch);
"""
_START = datetime(2026, 5, 2, tzinfo=timezone.utc)
INSTANTS = [_START + number * timedelta(hours=20) for number in range(12)]
"""When the rows are dated: few instants, so that many share one."""

_NEAR = timedelta(microseconds=1)
_OUTSIDE = [datetime(2026, 4, 30, 23, tzinfo=timezone.utc), datetime(2026, 6, 1, tzinfo=timezone.utc)]
_REFUSED = (
    errors.LockNotAvailable,  # the delete has the row
    errors.DeadlockDetected,
    errors.IntegrityError,  # a key that is taken, a row that another refers to
)


class Row(NamedTuple):
    """One version of a row."""

    id: int
    branch: str
    at: datetime
    who: str

    @property
    def key(self) -> tuple[int, str]:
        """The primary key."""
        return self.id, self.branch


@dataclass
class Account:
    """What became of each row version.

    Attributes:
        expected: The rows as the writers last left them, by key. The delete alone may have taken some of them.
        taken: Versions that the delete took before a writer put another row in their place.
        touched: Keys and dates that a writer had to do with after the seal.
        archived: The rows of the archive.
    """

    expected: dict[tuple[int, str], Row] = field(default_factory=dict)
    taken: list[Row] = field(default_factory=list)
    touched: set[tuple[int, str]] = field(default_factory=set)
    dates: set[datetime] = field(default_factory=set)
    archived: list[Row] = field(default_factory=list)

    def went(self, row: Row) -> None:
        """A writer deleted or replaced a version, and committed that."""
        assert self.expected.pop(row.key) == row, f"{row} was not the version that the writers had left"
        self.touch(row)

    def came(self, row: Row) -> None:
        """A writer left a new version. If the key was taken in this account, the delete had taken its row."""
        if row.key in self.expected:
            self.taken.append(self.expected.pop(row.key))
        self.expected[row.key] = row
        self.touch(row)

    def begin(self) -> None:
        """Forget what was touched up to now."""
        self.touched.clear()
        self.dates.clear()

    def touch(self, row: Row) -> None:
        self.touched.add(row.key)
        self.dates.add(row.at)

    def all_taken(self, table: list[Row]) -> list[Row]:
        """Each version that the delete took, by the rows that are in the table now."""
        present = set(table)
        return [*self.taken, *(row for row in self.expected.values() if row not in present)]

    def require_sound(self, table: list[Row]) -> None:
        """Fail if a version is in the table that no writer left, or if one is missing that is in no archive."""
        strange = [row for row in table if self.expected.get(row.key) != row]
        lost = [row for row in self.all_taken(table) if row not in self.archived]
        assert (strange, lost) == ([], []), f"{len(strange)} strange rows, {len(lost)} lost"


class Writers:
    """Sessions beside the delete that change rows at random.

    Args:
        chain: Of the table.
        chance: Decides everything.
    """

    def __init__(self, chain: Chain, chance: random.Random) -> None:
        self._conninfo, self.chance = chain.conninfo, chance
        self._busy = chance.choice([0.02, 0.2, 0.6])
        self.account = Account()
        self.statements = 0
        self._numbers = iter(range(1000, 10_000))
        self._open: tuple[threading.Thread, threading.Event] | None = None
        self._session, self._patient = self._connect(), self._connect()
        self._session.execute(SCHEMA)
        self._session.execute(NOTES.format(chance.choice(["", "", "DEFERRABLE INITIALLY DEFERRED"])))
        for number in range(1, chance.randint(20, 32)):
            self._insert(self._session, Row(number, "a", chance.choice(INSTANTS), f"agent {number}"))()

    def refer_to_some(self) -> list[Row]:
        """Rows that others refer to from the beginning on."""
        rows = self.chance.sample(sorted(self.account.expected.values()), 2)
        for row in rows:
            self._session.execute("INSERT INTO note VALUES (%s, %s)", row.key)
        return rows

    def __enter__(self) -> Writers:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        self._session.close()
        self._patient.close()

    def table(self) -> list[Row]:
        """The rows that are in the table, as another session sees them."""
        return _rows(self._session)

    def work(self, *, may_stay_open: bool = False) -> None:
        """Look whether each row is where it must be, then change some rows, or none.

        Args:
            may_stay_open: Whether the last change may be committed only when somebody waits for it.
        """
        self.end()
        self.account.require_sound(self.table())
        if self.chance.random() > self._busy:
            return
        for _ in range(self.chance.randint(1, 3)):
            if may_stay_open and self.chance.random() < 0.2:
                self._change_and_stay_open()
                return
            self._change()

    def end(self) -> None:
        """Commit the change that is open, if there is one."""
        if self._open is not None:
            thread, over = self._open
            self._open = None
            over.set()
            thread.join(60)

    def _change(self) -> None:
        """One transaction. Nothing is entered in the account if it is refused."""
        try:
            with self._session.transaction():
                entries = [*self._some_change(self._session)]
        except _REFUSED:
            return
        self._enter(entries)

    def _change_and_stay_open(self) -> None:
        session, over = self._patient, threading.Event()
        session.execute("BEGIN")
        try:
            entries = [*self._some_change(session)]
        except _REFUSED:
            session.rollback()
            return

        def commit_when_awaited() -> None:
            query, pid = (
                "SELECT count(*) FROM pg_stat_activity WHERE %s = ANY (pg_blocking_pids(pid))",
                session.info.backend_pid,
            )
            with psycopg.connect(self._conninfo, autocommit=True) as other:
                while not over.wait(0.01) and other.execute(query, (pid,)).fetchone() == (0,):
                    pass
            try:
                session.execute("COMMIT")
            except _REFUSED:  # by a check at the end
                return
            self._enter(entries)

        self._open = (threading.Thread(target=commit_when_awaited), over)
        self._open[0].start()

    def _enter(self, entries: list[Callable[[], None]]) -> None:
        self.statements += len(entries)
        for enter in entries:
            enter()

    def _some_change(self, session: psycopg.Connection[Any]) -> Iterator[Callable[[], None]]:
        rows = _rows(session)
        changes = [self._update, self._move, self._give_back, self._remove, self._renew, self._rename, self._refer]
        if len(rows) > 1:
            changes += [self._swap_contents, self._swap_keys]
        choices: list[Callable[..., Iterator[Callable[[], None]]]] = [self._add, self._revive, self._release]
        choices += changes * bool(rows)
        self.chance.shuffle(rows)
        yield from self.chance.choice(choices)(session, rows)

    def _date(self) -> datetime:
        return self.chance.choice([*INSTANTS, *_OUTSIDE]) + self.chance.choice([-1, 0, 0, 1]) * _NEAR

    # One change each. They yield what to enter in the account once they are committed.

    def _add(self, session: Any, _: list[Row]) -> Iterator[Callable[[], None]]:
        yield self._insert(session, Row(next(self._numbers), "z", self._date(), "late"))

    def _revive(self, session: Any, _: list[Row]) -> Iterator[Callable[[], None]]:
        """Insert a row as it was archived, which may be gone."""
        yield self._insert(session, self.chance.choice(self.account.archived))

    def _update(self, session: Any, rows: list[Row]) -> Iterator[Callable[[], None]]:
        yield self._replace(session, rows[0], rows[0]._replace(who=f"changed {next(self._numbers)}"))

    def _move(self, session: Any, rows: list[Row]) -> Iterator[Callable[[], None]]:
        at = self.chance.choice([rows[0].at + _NEAR, rows[0].at - _NEAR, self._date()])
        yield self._replace(session, rows[0], rows[0]._replace(at=at))

    def _give_back(self, session: Any, rows: list[Row]) -> Iterator[Callable[[], None]]:
        """Change a row and restore its old values."""
        other = rows[0]._replace(who="for a moment", at=self._date())
        yield self._replace(session, rows[0], other)
        yield self._replace(session, other, rows[0])

    def _remove(self, session: Any, rows: list[Row]) -> Iterator[Callable[[], None]]:
        yield self._delete(session, rows[0])

    def _renew(self, session: Any, rows: list[Row]) -> Iterator[Callable[[], None]]:
        yield self._delete(session, rows[0])
        yield self._insert(session, rows[0])

    def _rename(self, session: Any, rows: list[Row]) -> Iterator[Callable[[], None]]:
        yield self._replace(session, rows[0], rows[0]._replace(id=next(self._numbers)))

    def _swap_contents(self, session: Any, rows: list[Row]) -> Iterator[Callable[[], None]]:
        one, other = rows[:2]
        yield self._replace(session, one, one._replace(who=other.who))
        yield self._replace(session, other, other._replace(who=one.who))

    def _swap_keys(self, session: Any, rows: list[Row]) -> Iterator[Callable[[], None]]:
        one, other = rows[:2]
        aside = one._replace(id=next(self._numbers))
        yield self._replace(session, one, aside)
        yield self._replace(session, other, other._replace(id=one.id, branch=one.branch))
        yield self._replace(session, aside, one._replace(id=other.id, branch=other.branch))

    def _refer(self, session: Any, rows: list[Row]) -> Iterator[Callable[[], None]]:
        session.execute("INSERT INTO note VALUES (%s, %s)", rows[0].key)
        yield lambda: self.account.touch(rows[0])

    def _release(self, session: Any, _: list[Row]) -> Iterator[Callable[[], None]]:
        """Nothing refers to some row any more."""
        first = "DELETE FROM note WHERE ctid IN (SELECT ctid FROM note ORDER BY id LIMIT 1) RETURNING id, branch"
        for key in session.execute(first).fetchall():
            yield lambda key=key: self.account.touch(self.account.expected[key])

    def _insert(self, session: Any, row: Row) -> Callable[[], None]:
        session.execute("INSERT INTO audit VALUES (%s, %s, %s, %s)", row)
        return lambda: self.account.came(row)

    def _delete(self, session: Any, row: Row) -> Callable[[], None]:
        gone = session.execute("DELETE FROM audit WHERE (id, branch) = (%s, %s)", row.key).rowcount
        return lambda: self.account.went(row) if gone else None

    def _replace(self, session: Any, old: Row, new: Row) -> Callable[[], None]:
        changed = session.execute(
            "UPDATE audit SET (id, branch, at, who) = (%s, %s, %s, %s) WHERE (id, branch) = (%s, %s)", (*new, *old.key)
        ).rowcount
        assert changed == 1, f"{old} went while it was changed"

        def enter() -> None:
            self.account.went(old)
            self.account.came(new)

        return enter

    def _connect(self) -> psycopg.Connection[Any]:
        """A session that gives way to the delete at once."""
        session = psycopg.connect(self._conninfo, autocommit=True)
        session.execute("SET lock_timeout = '20ms'; SET timezone TO 'UTC'")
        return session


def _rows(session: psycopg.Connection[Any]) -> list[Row]:
    return [Row(*row) for row in session.execute("SELECT * FROM audit ORDER BY id, branch").fetchall()]


def archived_rows(chain: Chain, sealed: SealedArchive) -> list[Row]:
    """The rows of an archive, as an auditor reads them."""
    rows = []
    for part in sealed.parts:
        body = b"".join(chain.store.chunks(part.object_key, part.version_id))
        for line in zstandard.ZstdDecompressor().stream_reader(body).read().splitlines():
            values = json.loads(line)
            rows.append(Row(**values | {"at": datetime.fromisoformat(values["at"])}))
    return rows
