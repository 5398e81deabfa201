"""What a session sends to the server, and how the server plans it."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql


class Watched:
    """Records the statements of the sessions that it watches.

    Attributes:
        statements: Each statement, in order.
        plans: The server's plans of each query inside a COPY, by the query's text.
    """

    def __init__(self) -> None:
        self.statements: list[str] = []
        self.plans: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, connection: psycopg.Connection) -> None:
        """Watch a session from now on."""
        watched = self

        class Cursor(psycopg.Cursor):
            def execute(self, query: Any, *arguments: Any, **options: Any) -> Any:
                watched.statements.append(_text(query, connection))
                return super().execute(query, *arguments, **options)

            def copy(self, statement: Any, *arguments: Any, **options: Any) -> Any:
                text = _text(statement, connection)
                watched.statements.append(text)
                if text.startswith("COPY (") and text.endswith(") TO STDOUT"):
                    query = text.removeprefix("COPY (").removesuffix(") TO STDOUT")
                    watched.plans.extend((query, plan) for plan in _plans(connection, query))
                return super().copy(statement, *arguments, **options)

        connection.cursor_factory = Cursor


def _plans(connection: psycopg.Connection, query: str) -> list[dict[str, Any]]:
    with psycopg.Cursor(connection) as cursor:
        row: Any = cursor.execute(f"EXPLAIN (FORMAT JSON) {query}".encode()).fetchone()
    return [one["Plan"] for one in row[0]]


def _text(query: Any, connection: psycopg.Connection) -> str:
    if isinstance(query, sql.Composable):
        return query.as_string(connection)
    return query.decode() if isinstance(query, bytes) else str(query)
