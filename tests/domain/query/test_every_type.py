"""Each value of every type is shown as PostgreSQL writes it, and compared as PostgreSQL compares it: the server is the judge."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from psycopg import sql

from strongroom.database.session import open_source
from strongroom.errors import QueryError
from strongroom.ledger.manifests import require_manifest
from strongroom.object_keys.archives import ArchiveId
from strongroom.query.records import Condition, PartJob
from strongroom.query.search import search_part
from strongroom.query.values import operators_of
from tests.support.chain import Chain, some_settings
from tests.support.database import a_database, execute
from tests.support.every_type import DATE, SCHEMA, TABLE
from tests.support.lossless import FORMATS, Bench, every_type
from tests.support.querying import ask, rows

OTHER_CAST = {"boolean", "character(8)", "bpchar", "inet"}
"""Types whose cast to text is not how the server writes them; psql shows them as the query does."""


@pytest.fixture(scope="module", params=FORMATS)
def bench(postgres, object_store, coming_buckets, tmp_path_factory, request) -> Iterator[Bench]:
    """A row for each of the literals of the longest list, and one of NULLs; their month is archived, and still in the table."""
    folder, name = tmp_path_factory.mktemp("every_type"), f"{SCHEMA}.{TABLE}"
    with a_database(postgres) as source:
        execute(source, every_type(source))
        settings = some_settings(next(coming_buckets).result(), folder, name, date_column=DATE, format=request.param)
        bench = Bench(Chain(source, object_store.client("archiver"), settings))
        longest = max(map(len, bench.literals.values()))
        bench.insert(
            [{name: some[number % len(some)] for name, some in bench.literals.items()} for number in range(longest)]
            + [dict.fromkeys(bench.columns)]
        )
        bench.chain.seal(bench.chain.plan())
        yield bench


def written(column: str, type_: str) -> sql.Composed:
    """How the server writes a value: its own output function; of xml with the encoding that the document declares."""
    name = sql.Identifier(column)
    if type_ in OTHER_CAST:
        return sql.SQL("CASE WHEN {n} IS DISTINCT FROM NULL THEN format('%s', {n}) END").format(n=name)
    return sql.SQL("{}::text").format(name)


def types(bench: Bench) -> dict[str, str]:
    return {"I D": "bigint", DATE: "timestamptz", **bench.columns, "g_stored": "text", "g_number": "numeric"}


def number_of(row: tuple[str | None, ...]) -> int:
    return int(str(row[0]))


def test_each_value_of_every_type_is_shown_as_the_server_writes_it(bench):
    columns = types(bench)
    texts = sql.SQL(", ").join(written(name, type_) for name, type_ in columns.items())

    outcome = ask(bench.chain, columns=list(columns))

    expected = sorted(bench.ask(sql.SQL("SELECT {} FROM {}").format(texts, bench.name())), key=number_of)
    shown = sorted(rows(bench.chain), key=number_of)
    by_column = zip(columns, zip(*shown, strict=True), zip(*expected, strict=True), strict=True)
    assert {name: (mine, its) for name, mine, its in by_column if mine != its} == {}
    assert (outcome.outcome, outcome.rows) == ("complete", len(expected))


@pytest.mark.parametrize("each", [pytest.param(4, marks=pytest.mark.exhaustive), 23])
def test_each_condition_on_every_type_holds_where_the_server_says(bench, tmp_path, subtests, each):
    """For each operator that a column takes, and each of its nasty values; in `make test` for some of them."""
    chain = bench.chain
    manifest = require_manifest(chain.store, ArchiveId.parse(chain.plan().earlier_archives[0]))
    [part] = manifest.parts
    path = tmp_path / "part"
    path.write_bytes(b"".join(chain.store.chunks(part.object_key, part.version_id)))
    columns = {column.name: column for column in manifest.table.columns}
    written = [(name, literal) for name, literals in bench.literals.items() for literal in literals]
    asked = [
        condition
        for name, literal in written
        for operator in operators_of(columns[name])
        if (condition := condition_of(name, operator, literal)) is not None
    ]
    refused = set()

    with open_source(chain.conninfo, application_name="test") as connection:
        for condition in asked[::each]:
            job = PartJob(
                archive_id="any",
                format=manifest.format,
                compression_type=manifest.compression_type,
                columns=manifest.table.columns,
                conditions=(condition,),
                selected=("I D",),
                limit=1000,
                memory_bytes=1 << 28,
            )
            try:
                found = sorted(str(row[0]) for row in search_part(str(path), job))
            except QueryError:
                refused.add((condition.column, condition.values))
                continue
            column = columns[condition.column]
            holding = sql.SQL('SELECT "I D"::text FROM {} WHERE {}').format(
                bench.name(), as_sql(condition, column.base_type)
            )
            with subtests.test(condition=str(condition), value=str(condition.value)[:50]):
                assert found == sorted(row[0] for row in connection.execute(holding))

    assert {column for column, _ in refused} <= WRITTEN_OTHERWISE
    assert len(asked) > 2000


TEXTUAL = ("contains", "begins with")
UNBOUNDED = {"character": "bpchar", "bit": "bit varying"}
"""Types that have a length of one if they name none, and what has no length."""
WRITTEN_OTHERWISE: set[str] = set()
"""Columns some of whose literals a condition does not take."""


def condition_of(column: str, operator: str, literal: str) -> Condition | None:
    value = [literal, literal] if operator == "in" else literal[:3] if operator in TEXTUAL else literal
    if operator in TEXTUAL and not value:
        return None
    return Condition.model_validate(
        {"column": column, "operator": operator, "value": None if operator.endswith("null") else value}
    )


def as_sql(condition: Condition, type_: str) -> sql.Composed:
    """The condition as somebody would write it for the server."""
    column = sql.SQL("{}::{}").format(sql.Identifier(condition.column), sql.SQL(type_))
    text = sql.SQL("{}::text" if type_ == "xml" else "concat({})").format(column)
    unbounded = UNBOUNDED.get(type_.partition("(")[0]) or re.sub(r"\([0-9,]+\)", "", type_)
    values = [sql.SQL("{}::{}").format(value, sql.SQL(unbounded)) for value in condition.values]
    if condition.operator == "contains":
        return sql.SQL("position({} IN {}) > 0").format(sql.Literal(condition.value), text)
    if condition.operator == "begins with":
        return sql.SQL("starts_with({}, {})").format(text, sql.Literal(condition.value))
    if condition.operator == "in":
        return sql.SQL("{} IN ({})").format(column, sql.SQL(", ").join(values))
    if condition.operator.endswith("null"):
        # of a composite whose fields are all NULL the server says that it IS NULL, though it is a value
        return sql.SQL("{} IS{} DISTINCT FROM NULL").format(
            column, sql.SQL(" NOT" if condition.operator == "is null" else "")
        )
    return sql.SQL("{} {} {}").format(column, sql.SQL(condition.operator), values[0])
