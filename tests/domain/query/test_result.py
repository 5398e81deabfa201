"""The result of a query: opened by its run alone, for a day, and downloaded without losing or adding anything."""

from __future__ import annotations

import csv
import io
import json
from datetime import timedelta

import pytest

from strongroom.errors import IntegrityError, QueryError
from strongroom.query.records import QueryOutcome, QueryRequest, ResultColumn
from strongroom.query.result import make_query_id, open_result, publish, rows_file, writing_rows
from strongroom.query.row_lines import as_lines
from strongroom.storage.staging import OF_QUERIES, QUERY_RESULTS_KEPT
from strongroom.storage.staging_folder import FolderRoot
from tests.support.chain import NOW

RUN = "manual__2026-11-23T12:00:00+00:00"
ARCHIVE = "public.audit.2026-05.0001"


def keep(root, rows, *, run_id=RUN, names=("id", "note")) -> None:
    with root.of(OF_QUERIES, make_query_id(run_id)) as staging:
        with writing_rows(staging) as handle:
            handle.write(as_lines(ARCHIVE, rows))
        sha256, size_bytes = rows_file(staging)
        publish(
            staging,
            QueryOutcome(
                outcome="complete",
                query_id=make_query_id(run_id),
                run_id=run_id,
                request=QueryRequest(table="public.audit", who="ada", why="a test"),
                columns=tuple(ResultColumn(name=name, type="text") for name in names),
                rows=len(rows),
                searched=(),
                not_searched=(),
                bytes_read=0,
                seconds=0,
                searched_at=NOW,
                expires_at=NOW + QUERY_RESULTS_KEPT,
                record_key="reports/queries/any.json",
                rows_sha256=sha256,
                rows_bytes=size_bytes,
            ),
        )


@pytest.fixture
def root(tmp_path) -> FolderRoot:
    return FolderRoot(tmp_path)


def whole(root, make):
    with open_result(root, RUN, now=NOW) as result:
        return b"".join(make(result)).decode()


NASTY = [("1", None), ("66.40", ""), ("3", 'a "b"\n, c\r'), ("4", "é 漢字 😀 \u2028"), (None, "\\N")]


def test_rows_come_back_as_they_were_kept(root):
    keep(root, NASTY)

    with open_result(root, RUN, now=NOW) as result:
        rows = list(result.rows())

    assert [row.values for row in rows] == NASTY
    assert {row.archive_id for row in rows} == {ARCHIVE}
    assert result.outcome.rows == len(NASTY)


def test_json_lines_have_every_value_as_its_text(root):
    keep(root, NASTY)

    text = whole(root, lambda result: result.json_lines())

    assert [tuple(json.loads(line).values()) for line in text.removesuffix("\n").split("\n")] == NASTY


def test_csv_reads_back_with_a_csv_reader_and_tells_null_from_an_empty_text(root):
    keep(root, NASTY)

    text = whole(root, lambda result: result.csv())

    read = list(csv.reader(io.StringIO(text, newline="")))
    assert read == [["id", "note"], *[[value or "" for value in row] for row in NASTY]]
    assert text.startswith('id,note\r\n1,\r\n66.40,""\r\n')


@pytest.mark.parametrize("formula", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "＝1", "-"])
def test_text_that_a_spreadsheet_would_run_gets_an_apostrophe(root, formula):
    keep(root, [("1", formula)], names=("id", "=HYPERLINK()"))

    names, row = csv.reader(io.StringIO(whole(root, lambda result: result.csv()), newline=""))

    assert row == ["1", f"'{formula}"]
    assert names == ["id", "'=HYPERLINK()"]


@pytest.mark.parametrize("number", ["-5", "+2348012345678", "-66.40", "1e-05", "-1.5E+10", "0"])
def test_a_number_stays_to_the_digit_in_csv(root, number):
    keep(root, [("1", number)])

    assert whole(root, lambda result: result.csv()).endswith(f"1,{number}\r\n")


def test_a_row_of_one_null_is_still_a_row_of_csv(root):
    keep(root, [(None,), ("a",)], names=("note",))

    assert whole(root, lambda result: result.csv()) == 'note\r\n""\r\na\r\n'


def test_a_result_cannot_be_opened_after_its_day(root):
    """Personal data must not stay: even before a sweep removes it, nobody can open it."""
    keep(root, NASTY)

    with pytest.raises(QueryError, match="expired"), open_result(root, RUN, now=NOW + timedelta(days=1)):
        pass


@pytest.mark.parametrize("run_id", ["another", "../../etc", "", RUN.replace("+", "-")])
def test_another_run_does_not_open_it(root, run_id):
    """Two runs never share a result, however alike their names are once they are folders."""
    keep(root, NASTY)

    with pytest.raises(QueryError, match="there is no result"), open_result(root, run_id, now=NOW):
        pass


def test_rows_without_an_outcome_are_not_shown(root):
    """The outcome is written after the store has recorded the query."""
    with root.of(OF_QUERIES, make_query_id(RUN)) as staging, writing_rows(staging) as handle:
        handle.write(as_lines(ARCHIVE, NASTY))

    with pytest.raises(QueryError, match="there is no result"), open_result(root, RUN, now=NOW):
        pass


def test_another_try_replaces_the_rows_of_the_first(root):
    keep(root, NASTY)
    with (
        root.of(OF_QUERIES, make_query_id(RUN)) as staging,
        writing_rows(staging),
        pytest.raises(QueryError),
        open_result(root, RUN, now=NOW),
    ):
        pass

    keep(root, [("9", "new")])

    with open_result(root, RUN, now=NOW) as result:
        assert [row.values for row in result.rows()] == [("9", "new")]


def test_damaged_rows_are_an_error(root, tmp_path):
    keep(root, NASTY)
    [path] = tmp_path.rglob("rows.jsonl.zst")
    path.write_bytes(path.read_bytes()[:-1])

    with pytest.raises(IntegrityError), open_result(root, RUN, now=NOW) as result:
        list(result.rows())
