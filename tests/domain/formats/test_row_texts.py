"""Rows are taken apart as record_out() put them together."""

from __future__ import annotations

import subprocess
import sys

import pytest

from strongroom.errors import IntegrityError
from strongroom.formats.row_texts import read_rows
from strongroom.records import Column


def some_columns(*types: str) -> list[Column]:
    return [
        Column(name=f"c{number}", type=type_, base_type=type_, encoding="json") for number, type_ in enumerate(types)
    ]


def read(columns: list[Column], *rows: str) -> list[tuple]:
    bare = "\n".join(row[1:-1] for row in rows)
    columns_read = read_rows(columns, bare.encode(), len(rows))
    return list(zip(*(column.to_pylist() for column in columns_read), strict=True))


def test_null_and_the_empty_string_stay_apart():
    rows = read(some_columns("text", "text"), '(,"")', '("",)', "(,)", '("","")')

    assert rows == [(None, ""), ("", None), (None, None), ("", "")]


def test_a_table_of_one_column_has_empty_lines():
    assert read(some_columns("text"), "()", '("")', "(x)", "()") == [(None,), ("",), ("x",), (None,)]


@pytest.mark.parametrize("text", ["\ufeff", "a\nb", "\r", "\n\n", '""', "\\", "\\\\n", "(,)", " ", "\x0b"])
def test_text_survives_wherever_it_stands(text):
    written = '"' + text.replace("\\", "\\\\").replace('"', '""') + '"'
    plain = text if text == "\ufeff" else written

    assert read(some_columns("text", "text"), f"({plain},{written})") == [(text, text)]


def test_xml_is_what_the_server_wrote_behind_the_row():
    rows = read(
        some_columns("xml", "integer", "xml"), '(<a/>,1,,"<?xml?><a/>",)', '(,2,"",,"")', '("",3,<b/>,"","\n<b/>")'
    )

    assert rows == [("<?xml?><a/>", "1", None), (None, "2", ""), ("", "3", "\n<b/>")]


@pytest.mark.parametrize("row", ["(1)", "(1,2,3)", "(1,2)\n(3,4)"])
def test_a_text_that_is_no_row_of_the_table_is_refused(row):
    with pytest.raises(IntegrityError, match="does not have the table's columns"):
        read(some_columns("integer", "integer"), row)


@pytest.mark.parametrize(
    ("modules", "imported"),
    [
        ("strongroom.formats.part_writer", "True False"),
        (
            "strongroom.archive.extract_to_staging, strongroom.archive.verify, strongroom.archive.delete, strongroom.restore.load",
            "False False",
        ),
    ],
)
def test_only_who_writes_rows_imports_arrow_and_nobody_pandas(modules, imported):
    """Arrow takes 46 MB."""
    program = f"import sys, {modules}; print('pyarrow' in sys.modules, 'pandas' in sys.modules)"

    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert ended.stdout.strip() == imported


def test_arrow_converts_without_pandas_which_it_would_import_where_that_is_installed():
    """40 MB and 0.4 s of each task."""
    program = "import sys, importlib.util, strongroom.formats.part_writer, pyarrow as pa; pa.array(['x']);"
    program += "print(importlib.util.find_spec('pandas') is not None, 'pandas' in sys.modules)"

    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert ended.stdout.strip() == "True False"
