"""Small unusual tables, and what plan says about them."""

from __future__ import annotations

import pytest
from psycopg import sql

from strongroom.errors import UnarchivableError
from strongroom.object_keys.layout import SOURCE_IDENTITY
from tests.support.chain import Chain
from tests.support.database import ask


def rows_of(chain: Chain) -> list:
    table = sql.Identifier(chain.settings.schema_name, chain.settings.table_name)
    return ask(chain.conninfo, sql.SQL("SELECT t::text FROM {} AS t ORDER BY 1").format(table))


def refusal(chain: Chain, error=UnarchivableError) -> str:
    """The message with which plan refuses the table, without having changed anything."""
    keys = {*chain.store.keys(""), SOURCE_IDENTITY}

    with pytest.raises(error) as caught:
        chain.plan()

    assert {*chain.store.keys(""), SOURCE_IDENTITY} == keys
    assert chain.settings.qualified_name in caught.value.what
    assert caught.value.hint.startswith("Nothing was read and no row was deleted.")
    return str(caught.value)


ODD = "CREATE TABLE odd (k integer PRIMARY KEY, at date NOT NULL, what text); INSERT INTO odd VALUES (1, '2026-05-01');"


NO_KEY = "it has no primary key, nor a unique index on NOT NULL columns"


REFERRING = (
    "CREATE TABLE referring (k integer PRIMARY KEY, odd_k integer DEFAULT 1 CONSTRAINT to_odd REFERENCES odd (k)"
)


TRIGGERED = "CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END';"


BY_RANGE = """
CREATE TABLE whole (k integer, at date, PRIMARY KEY (k, at)) PARTITION BY RANGE (at);
CREATE TABLE part PARTITION OF whole FOR VALUES FROM ('2026-05-01') TO ('2026-06-01');
INSERT INTO whole VALUES (1, '2026-05-01');
"""


def exclusions(chain: Chain) -> list[tuple[str, int]]:
    return [(one.detail, one.rows) for one in chain.plan().exclusions if one.reason == "referenced"]


def keys_left(chain: Chain) -> list[int]:
    return [k for (k,) in ask(chain.conninfo, f"SELECT k FROM {chain.settings.schema_name}.odd ORDER BY k")]
