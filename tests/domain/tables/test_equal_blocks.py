"""Which archived blocks a table holds exactly, read in one COPY."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

import psycopg
import pytest

from strongroom.calendar import Window
from strongroom.database.copy_out import copied_rows
from strongroom.database.session import Connection, open_source, qualified
from strongroom.formats.blocks import Block, digest
from strongroom.records import Column, TableShape
from strongroom.tables import equal_blocks as equal
from strongroom.tables.block_ranges import BlockRange
from strongroom.tables.equal_blocks import equal_blocks
from tests.support.database import execute
from tests.support.statements import Watched
from tests.support.synthetic import a_manifest

START = a_manifest("audit", "2026-05").window.start
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
TABLE = """
CREATE TABLE audit (id bigint PRIMARY KEY, at timestamptz NOT NULL, who text, share float8);
INSERT INTO audit SELECT n, '2026-05-01 00:00+00'::timestamptz + n * interval '1 minute', E'agent\t' || n, n / 7.0 FROM generate_series(0, 19) AS n;
"""
"""Twenty rows, one each minute: four blocks of five."""

COLUMNS = (
    ("id", "bigint", "json"),
    ("at", "timestamp with time zone", "json"),
    ("who", "text", "json"),
    ("share", "double precision", "json"),
)
SHAPE = TableShape(
    schema_name="public",
    table_name="audit",
    date_column="at",
    date_type="timestamptz",
    primary_key=("id",),
    columns=tuple(
        Column(name=name, type=type_, base_type=type_, encoding=encoding) for name, type_, encoding in COLUMNS
    ),
    well_known_types=True,
)


@pytest.fixture
def session(source) -> Iterator[Connection]:
    execute(source, TABLE)
    with open_source(source, application_name="test") as connection:
        yield connection


def block(session: Connection, first: int, behind: int, unit: timedelta = MINUTE, **changes: object) -> BlockRange:
    """A block of the rows that the table has of some minutes now."""
    window = Window(START + first * unit, START + behind * unit)
    query = f"COPY (SELECT id, at, who, share FROM public.audit WHERE at >= '{window.start}' AND at < '{window.end}') TO STDOUT"
    with session.cursor() as cursor, cursor.copy(query.encode()) as copy:
        rows = [row for batch in copied_rows(copy) for row in batch.split(b"\n")]
    return BlockRange(first, Block(len(rows), digest(rows), "unused")._replace(**changes), window)


def four(session: Connection, unit: timedelta = MINUTE) -> list[BlockRange]:
    return [block(session, first, first + 5, unit) for first in range(0, 20, 5)]


def found(
    session: Connection,
    ranges: list[BlockRange],
    shape: TableShape = SHAPE,
    before_batch: Callable[[], None] = lambda: None,
) -> list[int]:
    """The minutes that the equal ones begin at."""
    with session.transaction():
        equals = equal_blocks(session, qualified("public", "audit"), shape, ranges, before_batch=before_batch)
    return [one.first for one in equals]


CHANGES = {
    "nothing": ("", [0, 5, 10, 15]),
    "a row that changed": ("UPDATE public.audit SET who = 'new' WHERE id = 7", [0, 10, 15]),
    "a row that is gone": ("DELETE FROM public.audit WHERE id = 7", [0, 10, 15]),
    "a row whose date moved into another block": (
        "UPDATE public.audit SET at = at + interval '6 minutes' WHERE id = 7",
        [0, 15],
    ),
    "a row that came behind the last of a block": (
        "INSERT INTO public.audit VALUES (99, '2026-05-01 00:04:30+00')",
        [5, 10, 15],
    ),
    "a row of the first instant of a block": (
        "INSERT INTO public.audit VALUES (99, '2026-05-01 00:05+00')",
        [0, 10, 15],
    ),
    "rows before all and behind all": (
        "INSERT INTO public.audit VALUES (98, '2026-04-30 23:59:59.999999+00'), (99, '2026-05-01 00:20+00'), (100, 'infinity'), (101, '-infinity')",
        [0, 5, 10, 15],
    ),
    "two rows that changed their contents with each other": (
        "UPDATE public.audit SET who = E'agent\\t' || (15 - id) WHERE id IN (7, 8)",
        [0, 10, 15],
    ),
    "one gone for one that came": ("UPDATE public.audit SET id = 99 WHERE id = 7", [0, 10, 15]),
    "a whole block that is gone": ("DELETE FROM public.audit WHERE id BETWEEN 5 AND 9", [0, 10, 15]),
    "the last block that is gone": ("DELETE FROM public.audit WHERE id > 14", [0, 5, 10]),
    "all rows gone": ("DELETE FROM public.audit", []),
    "a float that changed in its last bit": (
        "UPDATE public.audit SET share = 1.0000000000000002 WHERE id = 7",
        [0, 10, 15],
    ),
    "rows that another order of storage has": (
        "UPDATE public.audit SET who = who WHERE id IN (3, 17, 5)",
        [0, 5, 10, 15],
    ),
}


@pytest.mark.parametrize("index", ["", "CREATE INDEX ON public.audit (at)"], ids=["no index", "an index"])
@pytest.mark.parametrize(("change", "expected"), CHANGES.values(), ids=CHANGES)
def test_a_block_is_equal_if_the_table_has_just_its_rows_of_its_dates(session, change, expected, index):
    ranges = four(session)
    session.execute(f"{index}; {change}".encode())

    assert found(session, ranges) == expected


def test_rows_between_two_ranges_are_of_neither(session):
    """Rows of one instant that fill more than a block have no range, and lie between two that have."""
    ranges = four(session)
    session.execute("UPDATE public.audit SET who = 'whatever' WHERE id BETWEEN 5 AND 9")

    assert found(session, [ranges[0], ranges[2], ranges[3]]) == [0, 10, 15]


def test_all_blocks_are_read_in_one_statement_and_none_without_blocks(session):
    ranges = four(session)
    watched = Watched()
    watched(session)

    assert found(session, []) == []
    assert watched.plans == []
    assert found(session, ranges) == [0, 5, 10, 15]
    assert [text.startswith("COPY (") for text in watched.statements].count(True) == 1


def test_rows_that_came_late_are_none_of_the_archived_though_these_are_the_last_to_arrive(session):
    """Two thousand rows are read at once. What is behind them is just what was archived."""
    ranges = four(session)
    session.execute("INSERT INTO public.audit SELECT n, '2026-05-01 00:05+00' FROM generate_series(100, 2094) AS n")
    session.execute("CREATE INDEX ON public.audit (at, (-id))")

    assert found(session, ranges) == [0, 10, 15]


def test_a_block_of_more_rows_than_are_read_at_once_is_one_block(session):
    session.execute(
        "INSERT INTO public.audit SELECT n, '2026-05-01 00:05:01+00'::timestamptz + n * interval '1 ms', 'x' FROM generate_series(100, 4600) AS n"
    )
    ranges = four(session)

    assert ranges[1].block.rows == 4506
    assert found(session, ranges) == [0, 5, 10, 15]


@pytest.mark.parametrize("rows", [4, 6])
def test_a_block_of_another_number_of_rows_is_not_equal_whatever_its_digest(session, rows):
    """So the number of rows that are counted as proved is that of the table's rows."""
    assert found(session, [block(session, 0, 5), block(session, 5, 10, rows=rows)]) == [0]


def test_settings_that_somebody_changed_in_the_session_change_no_text(session):
    ranges = four(session)
    for setting in (
        "datestyle = 'SQL, DMY'",
        "timezone = 'Asia/Tokyo'",
        "extra_float_digits = -5",
        "client_encoding = 'LATIN1'",
    ):
        session.execute(f"SET {setting}".encode())

    assert found(session, ranges) == [0, 5, 10, 15]


@pytest.mark.parametrize(("ask_bytes", "asked"), [(1, 2), (1 << 22, 1)])
def test_the_caller_is_asked_before_the_first_rows_and_again_as_often_as_text_comes(
    session, monkeypatch, ask_bytes, asked
):
    monkeypatch.setattr(equal, "ASK_BYTES", ask_bytes)
    session.execute("INSERT INTO public.audit SELECT n, '2026-05-01 00:05+00' FROM generate_series(100, 2100) AS n")
    asks: list[bool] = []

    found(session, four(session), before_batch=lambda: asks.append(True))

    assert len(asks) == asked


def test_a_caller_that_says_no_ends_the_statement(session):
    def no() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        found(session, four(session), before_batch=no)

    assert session.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    assert found(session, four(session)) == [0, 5, 10, 15]


@pytest.mark.parametrize("type_", ["date", "timestamp"])
def test_dates_of_each_type_have_their_borders(session, type_):
    session.execute(f"ALTER TABLE public.audit ALTER at TYPE {type_} USING '2026-05-01'::date + id::int".encode())
    ranges = four(session, DAY)
    session.execute("UPDATE public.audit SET who = 'new' WHERE id = 7")

    assert found(session, ranges, SHAPE.model_copy(update={"date_type": type_})) == [0, 10, 15]
