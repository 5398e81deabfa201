"""Names with signs in them: of schema, table and columns, which are percent-encoded in keys, and of the prefixes in both buckets, which are not."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from psycopg import sql

from strongroom.settings import StoreSettings
from tests.support.chain import Chain, some_settings
from tests.support.database import execute
from tests.support.lakes import a_lakeside, archive

FIRST = datetime(2026, 5, 1, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("schema", "table", "date_column"),
    [
        ("my schema", "Anrufe über 100% 'sofort'", "am/um ü%41 'x'"),
        ("A+b&=", 'x"y/z%41#?', 'Beginn "Ortszeit"'),
    ],
)
def test_names_and_prefixes_with_signs_are_found_by_an_outsider(
    source, object_store, bucket, tmp_path, schema, table, date_column
):
    """Spaces, umlauts, quotes, percent signs, also such as an encoding would have."""
    names = {name: sql.Identifier(text) for name, text in (("schema", schema), ("table", table), ("at", date_column))}
    for statement in (
        "CREATE SCHEMA {schema}",
        'CREATE TABLE {schema}.{table} (id bigint PRIMARY KEY, {at} timestamptz NOT NULL, "Größe in %" integer)',
        "INSERT INTO {schema}.{table} SELECT n, '2026-05-01Z'::timestamptz + n * interval '6 hours', n FROM generate_series(0, 119) n",
    ):
        execute(source, sql.SQL(statement).format(**names).as_string())
    settings = some_settings(
        bucket,
        tmp_path / "staging",
        table=f"{schema}.{table}",
        date_column=date_column,
        format="parquet",
        part_rows=50,
        store=StoreSettings(bucket=bucket, prefix="Archiv für 100% 'x'/%41+b"),
    )
    archive(Chain(source, object_store.client("archiver"), settings), "2026-05")
    lakeside = a_lakeside(object_store, settings, tmp_path)
    lakeside.prefix = 'Tische für 50% "y"/%42+c'

    state = lakeside.reconcile()

    rows = lakeside.rows()
    assert (state.rows, state.left_out) == (120, ())
    assert [row["Größe in %"] for row in rows] == [*range(120)]
    assert [row[date_column] for row in rows] == [FIRST + n * timedelta(hours=6) for n in range(120)]
    assert lakeside.look().is_current
    assert sorted(lakeside.keys()) == lakeside.needed()
    assert [key for key in lakeside.needed() if key.endswith(f"/{lakeside.hint()}.metadata.json")]
