"""Differences that a row's own text does not show: a row that has one is kept, and comes back with it."""

from __future__ import annotations

import psycopg
import pytest

from tests import restoring
from tests.chain import Chain, some_settings


def execute(conninfo, statements):
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(statements)


def ask(conninfo, query):
    with psycopg.connect(conninfo) as connection:
        return connection.execute(query).fetchall()


def has_libxml(conninfo) -> bool:
    try:
        return bool(ask(conninfo, "SELECT '<a/>'::xml::text"))
    except psycopg.errors.FeatureNotSupported:
        return False


@pytest.fixture(params=["jsonl", "parquet"])
def documents(source, object_store, bucket, tmp_path, request) -> Chain:
    """Two columns of XML, in a server that can hold any; text stands in for it in one without libxml."""
    kind = "xml" if has_libxml(source) else "text"
    execute(
        source,
        f"CREATE DOMAIN document AS {kind}; CREATE TABLE odd (one {kind}, k integer PRIMARY KEY, at date, two document);"
        "CREATE TABLE restored (LIKE odd INCLUDING ALL)",
    )
    settings = some_settings(bucket, tmp_path, "public.odd", proof_rows="all", format=request.param)
    return Chain(source, object_store.client("archiver"), settings)


DECLARED = '<?xml version="1.0" encoding="UTF-8"?><a>e</a>'
OTHERWISE = '<?xml version="1.0" encoding="ISO-8859-1"?><a>e</a>'
ROWS = "SELECT k, one::text, two::text FROM {} ORDER BY k"


def test_a_row_whose_xml_declares_something_else_since_is_kept(documents):
    execute(
        documents.conninfo,
        f"INSERT INTO odd SELECT '{DECLARED}', k, '2026-05-01', '{DECLARED}' FROM generate_series(1, 4) AS k",
    )
    [part] = documents.seal(documents.plan()).parts
    execute(
        documents.conninfo,
        f"UPDATE odd SET one = '{OTHERWISE}' WHERE k = 1; UPDATE odd SET two = '<a>e</a>' WHERE k = 2",
    )

    deleted = documents.delete(part)

    assert (deleted.deleted, deleted.changed, deleted.gone) == (2, 2, 0)
    assert ask(documents.conninfo, ROWS.format("odd")) == [(1, OTHERWISE, DECLARED), (2, DECLARED, "<a>e</a>")]


def test_xml_comes_back_with_its_declaration_and_a_restore_sees_another(documents):
    nasty = 'E\'<?xml version="1.0" encoding="ISO-8859-1" standalone="yes" ?>\\n\\n<a>\\\\t \\t ""</a>\''
    execute(
        documents.conninfo,
        f"INSERT INTO odd VALUES ('{DECLARED}', 1, '2026-05-01', NULL), (NULL, 2, '2026-05-01', {nasty}), "
        f"({nasty}, 3, '2026-05-01', ''), ('', 4, '2026-05-01', E'\\n<a/>')",
    )
    before = ask(documents.conninfo, ROWS.format("odd"))
    archive_id = documents.run().archive_id

    first, again = (
        restoring.restore(documents, name, archives=[archive_id], target="public.restored") for name in ("1st", "2nd")
    )
    brought_back = ask(documents.conninfo, ROWS.format("restored"))
    execute(documents.conninfo, f"UPDATE restored SET one = '{OTHERWISE}' WHERE k = 1")
    changed = restoring.restore(documents, "3rd", archives=[archive_id], target="public.restored")

    assert (first.outcome, again.outcome, changed.outcome) == ("restored", "unchanged", "different")
    assert brought_back == before
