"""Rows of a person in tables: the live table, its warm table, and copies that restores left.

They are found by the values themselves, so an index on a column of persons makes it fast. A table that is not in the database any more
has no rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import psycopg
from psycopg import errors, sql

from strongroom.database.session import Connection, qualified
from strongroom.erasure.rows import BLANKED, Wanted
from strongroom.errors import ErasureError
from strongroom.formats.persons import canonical
from strongroom.ledger.restore_records import read_restore_record, split_table
from strongroom.object_keys.archives import ArchiveId
from strongroom.object_keys.layout import RESTORES
from strongroom.settings import TableSettings
from strongroom.storage.store import Store
from strongroom.tables.warm import WARM_SCHEMA, warm_name

_COLUMNS = """
SELECT a.attname, format_type(a.atttypid, NULL), a.attnotnull,
       EXISTS (SELECT FROM pg_index i WHERE i.indrelid = a.attrelid AND i.indisprimary AND a.attnum = ANY (i.indkey))
FROM pg_attribute a WHERE a.attrelid = %s::regclass AND a.attnum > 0 AND NOT a.attisdropped AND a.attname = ANY (%s)
ORDER BY a.attnum
"""

_NEVER_NULL = "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0 AND attnotnull"
"""A warm table and a copy take NULL in columns where the live table does not. A blanked value must be the same in all of them and in
archives, or a warm partition would no longer equal its archive."""


@dataclass(frozen=True)
class Target:
    """A table that may have rows of persons."""

    kind: Literal["live", "warm", "copy"]
    schema_name: str
    table_name: str

    @property
    def identifier(self) -> sql.Identifier:
        """The quoted name."""
        return qualified(self.schema_name, self.table_name)

    def __str__(self) -> str:
        return f"{self.schema_name}.{self.table_name}"


@dataclass(frozen=True)
class _Column:
    name: str
    type: str
    kind: str
    required: bool
    of_key: bool

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier("t", self.name)


def targets_of(connection: Connection, store: Store, settings: TableSettings) -> list[Target]:
    """The tables of a configured table that exist: itself, its warm table, and every table that its archives were restored into."""
    own = (settings.schema_name, settings.table_name)
    wanted = {Target("live", *own): None}
    if settings.warm:
        wanted[Target("warm", WARM_SCHEMA, warm_name(settings))] = None
    wanted |= {Target("copy", *name): None for name in sorted(_restored_into(store, settings)) if name != own}
    return [target for target in wanted if _exists(connection, target)]


def _restored_into(store: Store, settings: TableSettings) -> set[tuple[str, str]]:
    found = set()
    for key in store.keys(RESTORES):
        record = read_restore_record(store, key)
        ids = map(ArchiveId.parse, record.archive_ids if record is not None else ())
        if record is not None and any(
            (one.schema_name, one.table_name) == (settings.schema_name, settings.table_name) for one in ids
        ):
            found.add(split_table(record.table))
    return found


def _exists(connection: Connection, target: Target) -> bool:
    query = "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s)"
    row = connection.execute(query, [target.schema_name, target.table_name]).fetchone()
    return row is not None and bool(row[0])


def count_rows(connection: Connection, target: Target, settings: TableSettings, wanted: Wanted) -> tuple[int, int]:
    """How many rows of a table are about the person and go, and how many are about two persons and stay, whole or blanked."""
    asked = _Asked(connection, target, settings, wanted)
    if not asked.columns:
        return 0, 0
    query = sql.SQL(
        "SELECT count(*) FILTER (WHERE NOT {two}), count(*) FILTER (WHERE {two}) FROM {table} AS t WHERE {theirs}"
    ).format(two=asked.stay, table=target.identifier, theirs=asked.theirs)
    with connection.transaction():
        connection.execute("SET TRANSACTION READ ONLY")
        asked.bind(connection)
        row: Any = connection.execute(query).fetchone()
    return int(row[0]), int(row[1])


def rows_in_table(connection: Connection, target: Target, settings: TableSettings, wanted: Wanted) -> Iterator[str]:
    """The rows of a table that are about the person, as JSON."""
    asked = _Asked(connection, target, settings, wanted)
    if not asked.columns:
        return
    query = sql.SQL("SELECT to_jsonb(t)::text FROM {} AS t WHERE {}").format(target.identifier, asked.theirs)
    with connection.transaction():
        connection.execute("SET TRANSACTION READ ONLY")
        asked.bind(connection)
        with connection.cursor("strongroom_subject") as cursor:
            for row in cursor.execute(query):
                yield str(row[0])


def erase_rows(connection: Connection, target: Target, settings: TableSettings, wanted: Wanted) -> tuple[int, int]:
    """Delete the rows of a person, and blank those about two where the settings say so, in one transaction.

    Returns:
        How many rows were deleted, and how many blanked.

    Raises:
        ErasureError: Other rows refer to one of them, or a value cannot be blanked.
    """
    asked = _Asked(connection, target, settings, wanted)
    if not asked.columns:
        return 0, 0
    try:
        with connection.transaction():
            asked.bind(connection)
            deleted = connection.execute(
                sql.SQL("DELETE FROM {} AS t WHERE {} AND NOT {}").format(target.identifier, asked.theirs, asked.stay)
            ).rowcount
            blanked = 0
            if settings.subjects.about_two == "blank":
                blanked = connection.execute(
                    sql.SQL("UPDATE {} AS t SET {} WHERE {} AND {}").format(
                        target.identifier, asked.blanks(), asked.theirs, asked.stay
                    )
                ).rowcount
    except errors.ForeignKeyViolation as error:
        raise _referred_to(target, error) from None
    return deleted, blanked


class _Asked:
    """Conditions on the rows of one table.

    Their texts hold no value of the person, which ``pg_stat_activity`` and the server's log would show. The values are in settings of the
    transaction: call :meth:`bind` in it first.
    """

    def __init__(self, connection: Connection, target: Target, settings: TableSettings, wanted: Wanted) -> None:
        subjects = settings.subjects
        self._target, self._subjects = target, subjects
        names = [*subjects.columns, *subjects.also_blank]
        live = qualified(settings.schema_name, settings.table_name).as_string()
        never_null = {name for (name,) in connection.execute(_NEVER_NULL, [live])}
        found: Any = connection.execute(_COLUMNS, [target.identifier.as_string(), names]).fetchall()
        described = [
            _Column(name, type_, subjects.columns.get(name, ""), required or name in never_null, key)
            for name, type_, required, key in found
        ]
        self.columns = [column for column in described if column.kind]
        self._also = [column for column in described if not column.kind]
        self._values: dict[str, list[str]] = {}
        self._hits = {column.name: self._hit(connection, column, wanted) for column in self.columns}

    def _hit(self, connection: Connection, column: _Column, wanted: Wanted) -> sql.Composable:
        canonical(column.type, "")
        values = wanted.narrowed(column.kind, column.type)
        if values is None:
            query = sql.SQL("SELECT DISTINCT {}::text FROM {} AS t").format(column.identifier, self._target.identifier)
            every: Any = connection.execute(query).fetchall()
            values = [text for (text,) in every if text is not None and wanted.holds(column.kind, text)]
        if not values:
            return sql.SQL("false")
        setting = f"strongroom.person_{len(self._values)}"
        self._values[setting] = values
        return sql.SQL("coalesce({} = ANY (current_setting({})::{}[]), false)").format(
            column.identifier, setting, sql.SQL(column.type)
        )

    def bind(self, connection: Connection) -> None:
        """Give the values to the transaction."""
        for setting, values in self._values.items():
            connection.execute("SELECT set_config(%s, (%s::text[])::text, true)", [setting, values])

    @property
    def theirs(self) -> sql.Composable:
        """A value is the person's."""
        return sql.SQL("({})").format(sql.SQL(" OR ").join(self._hits.values()))

    @property
    def stay(self) -> sql.Composable:
        """The row is about two persons, and the settings do not remove it."""
        if self._subjects.about_two == "remove":
            return sql.SQL("false")
        return sql.SQL("({})").format(
            sql.SQL(" OR ").join(
                sql.SQL("{} IS NOT NULL AND NOT {} AND ({})").format(
                    column.identifier,
                    self._hits[column.name],
                    sql.SQL(" OR ").join(self._hits[one.name] for one in self.columns if one.kind == column.kind),
                )
                for column in self.columns
            )
        )

    def blanks(self) -> sql.Composable:
        """What an UPDATE sets."""
        sets = [
            sql.SQL("{} = CASE WHEN {} THEN {} ELSE {} END").format(
                sql.Identifier(column.name), self._hits[column.name], self._blank(column), column.identifier
            )
            for column in self.columns
            if not column.of_key
        ]
        sets += [sql.SQL("{} = {}").format(sql.Identifier(column.name), self._blank(column)) for column in self._also]
        if not sets or any(column.of_key for column in (*self.columns, *self._also)):
            raise self._unblankable("its primary key has columns of persons")
        return sql.SQL(", ").join(sets)

    def _blank(self, column: _Column) -> sql.Composable:
        if not column.required:
            return sql.SQL("NULL")
        if column.type not in ("text", "character varying"):
            raise self._unblankable(f"{column.name} is NOT NULL and of type {column.type}")
        return sql.Literal(BLANKED)

    def _unblankable(self, why: str) -> ErasureError:
        return ErasureError(
            f"rows of {self._target} cannot be blanked: {why}",
            expected="columns that may be NULL, or texts, and no part of the key",
            hint="Nothing of this table was changed. Set `subjects.about_two` to remove or keep, and run the case again.",
        )


def _referred_to(target: Target, error: psycopg.Error) -> ErasureError:
    return ErasureError(
        f"rows of {target} cannot be deleted: other rows refer to them",
        found=error.diag.constraint_name or "a foreign key",
        hint="Nothing of this table was changed. Name the other table's columns of persons as well, or erase its rows by hand, and run "
        "the case again.",
    )
