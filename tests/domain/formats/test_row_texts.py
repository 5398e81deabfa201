"""Rows of COPY's text format are split into columns and joined again."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.errors import IntegrityError
from strongroom.formats.arrow import pa
from strongroom.formats.row_texts import copy_rows, read_copy
from tests.support.fuzzing import fuzzed


def read(width: int, *rows: str) -> list[tuple]:
    columns = read_copy(width, "\n".join(rows).encode(), len(rows))
    return list(zip(*(column.to_pylist() for column in columns), strict=True))


def test_null_and_the_empty_string_stay_apart():
    assert read(2, "\\N\t", "\t\\N", "\\N\t\\N", "\t") == [(None, ""), ("", None), (None, None), ("", "")]


def test_a_table_of_one_column_has_empty_lines():
    assert read(1, "\\N", "", "x", "\\N") == [(None,), ("",), ("x",), (None,)]


def test_the_letters_of_null_as_a_text_are_no_null():
    assert read(2, "\\\\N\tN") == [("\\N", "N")]


TEXTS = st.text('nbtN"\\,()\n\r\t\b\v\f\x01\x1f\ufeff😀 ', max_size=6)


@given(rows=st.lists(st.tuples(st.none() | TEXTS, st.none() | TEXTS, TEXTS), min_size=1, max_size=6))
@fuzzed
def test_columns_become_rows_and_rows_the_same_columns(rows):
    columns = [pa.array(values, pa.string()) for values in zip(*rows, strict=True)]

    written = copy_rows(columns)
    found = read_copy(3, written[:-1], len(rows))

    assert written.count(b"\n") == len(rows)
    assert [column.to_pylist() for column in found] == [column.to_pylist() for column in columns]


@pytest.mark.parametrize("rows", [("1",), ("1\t2\t3",), ("1\t2\n3\t4",)])
def test_a_text_that_is_no_row_of_the_table_is_refused(rows):
    with pytest.raises(IntegrityError, match="does not have the table's columns"):
        read(2, *rows)


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
