"""The SQL of a load: its temporary tables, and the statements on them and on the target.

The target's row is ``t`` in each statement, the archived row ``r``, as in :class:`strongroom.database.rebuild.RebuiltRows`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property

from psycopg import sql

from strongroom.database.rebuild import RebuiltRows
from strongroom.database.rows import dated
from strongroom.database.triggers import SOMEBODYS_TRIGGER
from strongroom.records import TableShape
from strongroom.restore.fit import SIDE_COLUMN, Fit
from strongroom.restore.records import RestoreRequest
from strongroom.restore.target import Target

ADDED = sql.Identifier("pg_temp", "strongroom_added")
"""Keys of the rows that a transaction inserted."""

KEYS = sql.Identifier("pg_temp", "strongroom_keys")
"""Keys of the rows that a transaction copied."""

WANTED = sql.Identifier("pg_temp", "strongroom_wanted")
"""Keys that the request asks for."""

_TREE = """(
    SELECT %s::oid UNION SELECT relid::oid FROM pg_catalog.pg_partition_tree(%s::oid::regclass)
)"""

TRIGGERS = f"""
    SELECT DISTINCT g.tgname::text, f.proname::text, g.tgtype & 3 = 3
    FROM pg_catalog.pg_trigger AS g JOIN pg_catalog.pg_proc AS f ON f.oid = g.tgfoid
    WHERE g.tgrelid IN {_TREE} AND {SOMEBODYS_TRIGGER} AND g.tgtype & 4 <> 0 AND g.tgenabled <> 'D' ORDER BY 1, 2
"""  # noqa: S608 - constants
"""User-defined triggers on INSERT of a table and its partitions: name, function, and whether it is BEFORE … FOR EACH ROW."""

HAS_DEFERRABLE = f"""
    SELECT EXISTS (
        SELECT FROM pg_catalog.pg_index AS i
        WHERE i.indrelid IN {_TREE} AND NOT i.indimmediate AND (i.indisunique OR i.indisexclusion)
    )
"""  # noqa: S608 - a constant
"""Whether a table or one of its partitions has a deferrable unique or exclusion constraint."""

REFERRED_TABLE = """
    SELECT n.nspname || '.' || c.relname
    FROM pg_catalog.pg_constraint f JOIN pg_catalog.pg_class c ON c.oid = f.confrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE f.contype = 'f' AND f.conname = %s AND f.conrelid = %s
"""
"""The table that a foreign key, by its name and its own table, refers to."""


class LoadStatements:
    """The statements that load one archive into one target.

    Args:
        names: How :class:`RebuiltRows` calls each column.
        values: What a query selects of the target's row, from :meth:`TargetReader.values`.
        has_deferrable: Whether the target has a deferrable constraint: see :data:`HAS_DEFERRABLE`.
    """

    def __init__(
        self,
        target: Target,
        fit: Fit,
        shape: TableShape,
        names: Mapping[str, sql.Identifier],
        values: sql.Composable,
        *,
        has_deferrable: bool,
    ) -> None:
        self._target, self._fit, self._shape = target, fit, shape
        self._names, self._values = names, values
        # The server refuses deferrable constraints as arbiters of ON CONFLICT; without an arbiter it would take them all.
        key = _listed(map(sql.Identifier, shape.primary_key))
        self._arbiter = sql.SQL("({})").format(key) if has_deferrable else sql.SQL("")

    def temporary_tables(self, key: Sequence[sql.Composable]) -> Iterator[sql.Composed]:
        """Create :data:`ADDED` and :data:`KEYS`, which each transaction leaves empty.

        Args:
            key: The key's columns with their types.
        """
        ending = sql.SQL(" ON COMMIT DELETE ROWS")
        yield from temporary_table(ADDED, [*key, sql.SQL("added boolean NOT NULL DEFAULT true")], ending)
        # Without an index, each row of a batch would be compared with each row that was added.
        yield sql.SQL("CREATE INDEX ON {} ({})").format(ADDED, self._key_names())
        yield from temporary_table(KEYS, key, ending)

    @cached_property
    def copy(self) -> sql.Composed:
        """Copy rows straight into the table."""
        return sql.SQL("COPY {} ({}) FROM STDIN").format(
            self._target.name, _listed(map(sql.Identifier, self._fit.loaded))
        )

    @cached_property
    def insert(self) -> sql.Composed:
        """Insert the missing rows in the order of the archive, and note their keys in :data:`ADDED`."""
        key = self._shape.primary_key
        return sql.SQL(
            "WITH loaded AS ({} ORDER BY n ON CONFLICT {} DO NOTHING RETURNING {}) INSERT INTO {} ({}) SELECT * FROM loaded"
        ).format(
            self._insert_all(),
            self._arbiter,
            _listed(sql.Identifier("t", name) for name in key),
            ADDED,
            self._key_names(),
        )

    def insert_one(self, number: int) -> sql.Composed:
        """Insert one row of the batch, whatever happens."""
        return sql.SQL("{} WHERE n = {}").format(self._insert_all(), sql.Literal(number))

    def _insert_all(self) -> sql.Composed:
        columns = [sql.Identifier(name) for name in self._fit.loaded]
        values: list[sql.Composable] = [self._names[name] for name in self._fit.loaded]
        if self._fit.kept_aside:
            columns.append(sql.Identifier(SIDE_COLUMN))
            values.append(sql.SQL("dropped"))
        return sql.SQL("INSERT INTO {} AS t ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {}").format(
            self._target.name, _listed(columns), _listed(values), RebuiltRows.table
        )

    def delete_unwanted(self, request: RestoreRequest) -> sql.Composed | None:
        """Remove the rebuilt rows that the request does not ask for; None if it asks for all."""
        conditions = list(self._in_range(request))
        if request.keys:
            same = _all_of(
                sql.SQL("w.{name} = r.{name}").format(name=self._names[name]) for name in self._shape.primary_key
            )
            conditions.append(sql.SQL("EXISTS (SELECT FROM {} AS w WHERE {})").format(WANTED, same))
        if not conditions:
            return None
        return sql.SQL("DELETE FROM {} AS r WHERE ({}) IS NOT TRUE").format(RebuiltRows.table, _all_of(conditions))

    def _in_range(self, request: RestoreRequest) -> Iterator[sql.Composable]:
        column, date_type = self._names.get(self._shape.date_column), self._shape.date_type
        for bound, operator in ((request.since, ">="), (request.before, "<")):
            if bound is not None:
                yield sql.SQL("r.{} {} {}").format(column, sql.SQL(operator), dated(bound, date_type))

    @cached_property
    def look_at_rebuilt(self) -> sql.Composed:
        """What the table holds under the keys of the rebuilt rows; the transaction must join by index."""
        aside: sql.Composable = sql.SQL("true")
        if self._fit.kept_aside:
            aside = sql.SQL("concat(t.{}) = concat(r.dropped)").format(sql.Identifier(SIDE_COLUMN))
        on_added = _all_of(
            sql.SQL("a.{name} = r.{name}").format(name=self._names[name]) for name in self._shape.primary_key
        )
        joined = sql.SQL("{} AS r LEFT JOIN {} AS t ON {} LEFT JOIN {} AS a ON {}").format(
            RebuiltRows.table, self._target.name, self._on_key(), ADDED, on_added
        )
        there = sql.SQL("t.{} IS DISTINCT FROM NULL").format(sql.Identifier(self._shape.primary_key[0]))
        return sql.SQL("SELECT r.n, a.added IS NOT NULL, {}, {}, {} FROM {} ORDER BY r.n").format(
            there, aside, self._values, joined
        )

    @cached_property
    def look_at_copied(self) -> sql.Composed:
        """The rows of the table that have the keys of the copied rows; the transaction must join by index."""
        return sql.SQL("SELECT {} FROM {} AS r JOIN {} AS t ON {}").format(
            self._values, KEYS, self._target.name, self._on_key()
        )

    def look_at_range(self, start: str, end: str, *, most_rows: int) -> sql.Composed:
        """The rows of the table that are dated in a range without its end; the bounds are texts of dates."""
        date, type_ = sql.Identifier("t", self._shape.date_column), sql.SQL(self._shape.date_type)
        return sql.SQL("SELECT {} FROM {} AS t WHERE {date} >= {}::{type_} AND {date} < {}::{type_} LIMIT {}").format(
            self._values,
            self._target.name,
            sql.Literal(start),
            sql.Literal(end),
            sql.Literal(most_rows),
            date=date,
            type_=type_,
        )

    def _on_key(self) -> sql.Composed:
        return _all_of(
            sql.SQL("t.{} = r.{}").format(sql.Identifier(name), self._names[name]) for name in self._shape.primary_key
        )

    def highest_values(self, columns: Iterable[str]) -> sql.Composed:
        """Select the highest value of some columns of the rebuilt rows."""
        highest = _listed(sql.SQL("max(r.{})").format(self._names[name]) for name in columns)
        return sql.SQL("SELECT {} FROM {} AS r").format(highest, RebuiltRows.table)

    def keys_of(self, numbers: Sequence[int]) -> sql.Composed:
        """Select the number and the key's texts of some rebuilt rows, in the order of the archive."""
        key = _listed(sql.SQL("concat(r.{})").format(self._names[name]) for name in self._shape.primary_key)
        return sql.SQL("SELECT n, ARRAY[{}] FROM {} AS r WHERE n = ANY ({}) ORDER BY n").format(
            key, RebuiltRows.table, sql.Literal([*numbers])
        )

    def _key_names(self) -> sql.Composed:
        return _listed(self._names[name] for name in self._shape.primary_key)


def temporary_table(
    table: sql.Identifier, columns: Iterable[sql.Composable], ending: sql.Composable
) -> Iterator[sql.Composed]:
    """Create a temporary table, in place of one that an earlier part left in the session."""
    yield sql.SQL("DROP TABLE IF EXISTS {}").format(table)
    yield sql.SQL("CREATE TEMPORARY TABLE {} ({}){}").format(table, _listed(columns), ending)


def _listed(pieces: Iterable[sql.Composable]) -> sql.Composed:
    return sql.SQL(", ").join(pieces)


def _all_of(conditions: Iterable[sql.Composable]) -> sql.Composed:
    return sql.SQL(" AND ").join(conditions)
