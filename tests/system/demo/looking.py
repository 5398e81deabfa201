"""What the tests of the demo see in tables and archives, by SQL and S3."""

from __future__ import annotations

from typing import Any

from strongroom_local.servers.stack import Stack
from tests.system.helpers import Books, query
from tests.system.sample_rows import DATED, Keys, keys_archived, keys_of_month


def count_rows(stack: Stack, table: str, month: str | None = None) -> int:
    """The number of rows of a table, or of those dated in a month."""
    dated = f"to_char({DATED[table][0]} AT TIME ZONE 'UTC', 'YYYY-MM')"
    statement = f"SELECT count(*) FROM public.{table} WHERE coalesce({dated}, '') LIKE %s"
    [[rows]] = query(stack.source_conninfo(), statement, month or "%")
    return int(rows)


def keys_left(stack: Stack, result: dict[str, Any], table: str, month: str) -> Keys:
    """Primary keys, as JSON writes them, of the rows that archiving left in the table, without those that the demo restored."""
    keys = keys_of_month(stack.source_conninfo(), table, month)
    if (table, month) != (result["restore"]["table"], result["restore"]["month"]):
        return keys
    return keys - set(keys_archived(stack, table, month))


def read_archives(stack: Stack, table: str, month: str) -> dict[str, bytes]:
    """The parts of a month's sealed archives, by key."""
    books = Books(stack)
    manifests = books.manifests(f"public.{table}", month)
    return {part["object_key"]: books.read(part["object_key"]) for manifest in manifests for part in manifest["parts"]}
