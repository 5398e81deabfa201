"""DuckDB as a query uses it: it sees one file and nothing else, and nobody can change that afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import duckdb

_RELATIONS_STREAM = int(duckdb.__version__.partition(".")[0]) >= 2


def open_sandbox(path: str, *, memory_bytes: int) -> duckdb.DuckDBPyConnection:
    """A connection that can read one file, and no other file, address, variable or extension; it writes nothing.

    Args:
        path: The one file.
        memory_bytes: The most that DuckDB takes. It does not spill to a disk.
    """
    connection = duckdb.connect(
        ":memory:",
        config={
            "threads": 1,
            "memory_limit": f"{memory_bytes}B",
            "temp_directory": "",
            "autoload_known_extensions": False,
            "autoinstall_known_extensions": False,
            "allow_community_extensions": False,
            "allow_persistent_secrets": False,
            "python_enable_replacements": False,
        },
    )
    # Paths must be named before access is switched off, and all before the lock.
    connection.execute("SET allowed_paths = [{}]".format("'{}'".format(path.replace("'", "''"))))
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection


def stream_batches(
    connection: duckdb.DuckDBPyConnection, statement: str, parameters: Sequence[Any], *, rows: int
) -> Iterator[Any]:
    """The result of a query as Arrow's batches, a few rows at a time.

    Each version has one way that holds only these rows in memory, and one that first collects the whole result.
    """
    source: Any = (
        connection.sql(statement, params=list(parameters))
        if _RELATIONS_STREAM
        else connection.execute(statement, list(parameters))
    )
    yield from source.to_arrow_reader(rows)
