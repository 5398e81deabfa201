"""How the columns of an archive go into a table whose schema may have changed since the rows were archived.

Columns that were added take their default. If anything cannot be restored exactly, the whole restore is refused before a
row is loaded, and the error names every reason at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from psycopg import sql

from strongroom.database.inspect import is_key
from strongroom.database.session import Connection, fetch_rows
from strongroom.errors import RestoreError
from strongroom.records import Column, Record, TableShape
from strongroom.restore.records import DroppedColumns
from strongroom.restore.target import Target, own_type

SIDE_COLUMN = "strongroom_dropped"
"""The jsonb column for values of columns that the table no longer has, if the caller chose to keep them."""


class Fit(Record):
    """How the columns of an archive go into the target."""

    rebuilt: tuple[Column, ...]
    """Columns to read from the lines, with the types that the target has now: those that are loaded, and the key."""

    loaded: tuple[str, ...]
    """Columns that are inserted."""

    compared: tuple[Column, ...]
    """Columns that are compared after the load, as they were archived."""

    kept_aside: tuple[str, ...]
    """Columns that the table no longer has and whose values go to the side column."""

    added: tuple[str, ...]
    """Columns that the archive does not know; they take their default."""


def fit_columns(
    connection: Connection, shape: TableShape, target: Target, dropped_columns: DroppedColumns = "refuse"
) -> Fit:
    """Decide how archived rows of a shape go into the target.

    Args:
        connection: A session on the target's database.
        shape: From the manifest.
        target: The table as it is now.
        dropped_columns: What to do with values of columns that the target no longer has.

    Raises:
        RestoreError: The rows do not fit. Names every column that was renamed, retyped, dropped or added in a way that
            does not allow them, or the key that has no unique index.
    """
    faults = _find_faults(connection, shape, target, dropped_columns)
    if faults:
        raise RestoreError(
            f"{target} no longer takes the archived rows as they are: " + "; ".join(faults),
            hint="Nothing was loaded. Change the table, or restore into a table of its own (a new target, created from "
            "the archive's columns) and copy the rows from there.",
        )
    there = [column for column in shape.columns if column.name in target.columns]
    loaded = [column.name for column in there if not target.columns[column.name].generated]
    return Fit(
        rebuilt=tuple(
            column.model_copy(update={"base_type": target.columns[column.name].base_type})
            for column in there
            if column.name in loaded or column.name in shape.primary_key
        ),
        loaded=tuple(loaded),
        compared=tuple(there),
        kept_aside=tuple(column.name for column in _gone(shape, target)),
        added=tuple(column.name for column in _unknown(shape, target)),
    )


def _gone(shape: TableShape, target: Target) -> list[Column]:
    """Archived columns that the target no longer has."""
    return [column for column in shape.columns if column.name not in target.columns]


def _unknown(shape: TableShape, target: Target) -> list[Column]:
    """Columns of the target that the archive does not have."""
    archived = {column.name for column in shape.columns} | {SIDE_COLUMN}
    return [column for name, column in target.columns.items() if name not in archived]


def _find_faults(
    connection: Connection, shape: TableShape, target: Target, dropped_columns: DroppedColumns
) -> list[str]:
    archived = {column.name: column for column in shape.columns}
    unknown, gone = _unknown(shape, target), _gone(shape, target)
    faults = list(_rule_faults(connection, target))
    faults += [fault for column in gone if (fault := _gone_fault(column, unknown, shape, dropped_columns))]
    faults += _changed_faults(archived, target)
    faults += [
        f"its column {column.name} ({column.type}) was added, takes no NULL and has no default"
        for column in unknown
        if column.name in target.required
    ]
    if gone and dropped_columns == "keep" and not faults:
        faults += _side_faults(archived, target)
    if not faults and not is_key(connection, target.oid, shape.primary_key):
        faults.append(f"it has no unique index on just {', '.join(shape.primary_key)}, by which its rows were archived")
    return faults


def _gone_fault(
    column: Column, unknown: list[Column], shape: TableShape, dropped_columns: DroppedColumns
) -> str | None:
    likely = [other.name for other in unknown if other.type == column.type]
    what = f"its column {column.name} ({column.type})"
    if likely:
        return f"{what} is gone and looks renamed to {' or '.join(likely)}"
    if column.name in shape.primary_key:
        return f"{what} is gone, and rows are identified by it"
    if dropped_columns == "refuse":
        return f"{what} was dropped (choose to keep dropped columns, and its values go to {SIDE_COLUMN})"
    return None


def _changed_faults(archived: Mapping[str, Column], target: Target) -> list[str]:
    faults = []
    for name, now in target.columns.items():
        before = archived.get(name)
        if before is None:
            continue
        if not _takes(now, before):
            faults.append(
                f"its column {name} was archived as {type_in_words(before, now)} and is {type_in_words(now, before)} now"
            )
        elif now.generated and not before.generated:
            faults.append(f"its column {name} was archived as a plain column and is generated now")
    return faults


def _takes(now: Column, before: Column) -> bool:
    """Whether a column of the target has the archived type, or the type that :func:`own_type` gives it."""
    if now.type == now.base_type == own_type(before) != before.type:
        return True
    if before.composites is not None and before.composites != now.composites:
        return False
    return (now.type, now.base_type, now.encoding) == (before.type, before.base_type, before.encoding)


def type_in_words(column: Column, other: Column) -> str:
    """A column's type in words, in as much detail as tells it from the type of another column."""
    if column.type != other.type:
        return column.type
    if column.base_type != other.base_type:
        return f"{column.type} over {column.base_type}"
    if column.composites != other.composites:
        return "; ".join(
            f"{one.type} of {', '.join(' '.join(attribute) for attribute in one.attributes)}"
            for one in column.composites or ()
            if one not in (other.composites or ())
        )
    return column.type if column.encoding == other.encoding else f"{column.type} written as {column.encoding}"


def _rule_faults(connection: Connection, target: Target) -> Iterator[str]:
    """Rules that would rewrite an INSERT. With a rule on UPDATE the server refuses ON CONFLICT, too."""
    for name, event in fetch_rows(
        connection,
        "SELECT rulename::text, CASE ev_type WHEN '3' THEN 'INSERT' ELSE 'UPDATE' END FROM pg_catalog.pg_rewrite "
        "WHERE ev_class = %s AND (ev_type = '2' OR ev_type = '3' AND ev_enabled IN ('O', 'A')) ORDER BY 1",
        target.oid,
    ):
        yield f"its rule {name} on {event} would rewrite what is loaded"


def _side_faults(archived: Mapping[str, Column], target: Target) -> list[str]:
    side = target.columns.get(SIDE_COLUMN)
    if SIDE_COLUMN in archived:
        return [f"its column {SIDE_COLUMN} was archived itself, and cannot take dropped columns too"]
    if side is None or side.base_type != "jsonb" or side.generated:
        statement = sql.SQL("ALTER TABLE {} ADD COLUMN {} jsonb").format(target.name, sql.Identifier(SIDE_COLUMN))
        return [f"it has no column {SIDE_COLUMN} of type jsonb for dropped columns ({statement.as_string()})"]
    return []


def shape_of_its_own(shapes: Mapping[str, TableShape]) -> TableShape:
    """The shape of a new table that takes the rows of several archives: it has the columns of all of them.

    Args:
        shapes: By the names of their archives, the newest last.

    Raises:
        RestoreError: No single table can take them, and why.
    """
    *_, (name_of_newest, newest) = shapes.items()
    columns = {column.name: column for column in newest.columns}
    faults = []
    for archives, shape in shapes.items():
        for column in shape.columns:
            other = columns.setdefault(column.name, column)
            if own_type(other) != own_type(column):
                faults.append(
                    f"column {column.name} is {column.type} in {archives} and {other.type} in {name_of_newest}"
                )
        if set(shape.primary_key) != set(newest.primary_key):
            faults.append(
                f"the key is {', '.join(shape.primary_key)} in {archives} and {', '.join(newest.primary_key)} in {name_of_newest}"
            )
    if faults:
        raise RestoreError(
            "one table cannot take the rows of these archives: " + "; ".join(faults),
            hint="Nothing was loaded. Start one restore for the archives of each kind, each into a table of its own.",
        )
    everywhere = set.intersection(*({column.name for column in shape.columns} for shape in shapes.values()))
    kept = [
        column.model_copy(update={"identity": column.identity and column.name in everywhere})
        for column in columns.values()
    ]
    return newest.model_copy(update={"columns": tuple(kept)})
