"""Move the sequences of a target past the rows that were restored, so that new rows get new numbers."""

from __future__ import annotations

from collections.abc import Mapping

from psycopg import sql

from strongroom.database.rights import Rights
from strongroom.database.session import Connection, fetch_rows
from strongroom.errors import RestoreError, SourceAccessError
from strongroom.restore.target import Target


def move_sequences(connection: Connection, target: Target, highest: Mapping[str, int]) -> tuple[str, ...]:
    """Move each sequence that is behind the highest value loaded into its column; returns the names of those moved.

    Raises:
        RestoreError: A sequence ends before that value.
        SourceAccessError: A sequence must be moved and the role may not.
    """
    moved = []
    for column, value in highest.items():
        sequence = target.sequences.get(column)
        if sequence is None or not _is_behind(connection, sequence, value):
            continue
        _require_movable(connection, target, sequence, value)
        name = sql.Identifier(*sequence)
        connection.execute(
            sql.SQL("SELECT setval({}::regclass, greatest({}, last_value)) FROM {}").format(
                sql.Literal(name.as_string()), sql.Literal(value), name
            )
        )
        moved.append(".".join(sequence))
    return tuple(moved)


def _is_behind(connection: Connection, sequence: tuple[str, str], value: int) -> bool:
    query = sql.SQL("SELECT last_value < {value} OR (last_value = {value} AND NOT is_called) FROM {name}")
    [(behind,)] = connection.execute(query.format(value=sql.Literal(value), name=sql.Identifier(*sequence))).fetchall()
    return bool(behind)


def _require_movable(connection: Connection, target: Target, sequence: tuple[str, str], value: int) -> None:
    name = sql.Identifier(*sequence)
    [(end, may_update)] = fetch_rows(
        connection,
        "SELECT seqmax, has_sequence_privilege(seqrelid, 'UPDATE') FROM pg_catalog.pg_sequence WHERE seqrelid = %s::regclass",
        name.as_string(),
    )
    if value > end:
        raise RestoreError(
            f"the sequence {'.'.join(sequence)} of {target} cannot be moved past the restored rows",
            expected=f"a maximum of at least {value}",
            found=f"{end}",
            hint="The rows are restored, but new rows would get numbers that are taken. Raise the maximum "
            f"({sql.SQL('ALTER SEQUENCE {} MAXVALUE …').format(name).as_string()}), then clear this task.",
        )
    if not may_update:
        role = Rights(connection).role
        raise SourceAccessError(
            f"the role {role} may not move the sequence {'.'.join(sequence)} past {value}",
            hint=f"The rows are restored, but new rows of {target} would get numbers that are taken. As the owner of "
            f"the table, or a superuser, run in psql:\n  GRANT UPDATE ON SEQUENCE {name.as_string()} TO {role};\n"
            "Then clear this task.",
        )
