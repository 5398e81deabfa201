"""Lines that are not what extract_to_staging wrote end in one kind of error, which quotes no value."""

from __future__ import annotations

import msgspec
import pytest

from strongroom.errors import IntegrityError
from strongroom.formats.line_reader import LineReader, texts_of_content
from strongroom.records import Column, TableShape

SECRET = b"agent-47"


def a_column(name: str = "it", base_type: str = "text", encoding: str = "json") -> Column:
    return Column.model_validate(
        {
            "name": name,
            "type": base_type,
            "base_type": base_type,
            "encoding": encoding,
            "nullable": True,
            "generated": False,
            "identity": False,
        }
    )


@pytest.mark.parametrize(
    ("column", "line"),
    [
        pytest.param(a_column(), b'{"other":"agent-47"}', id="a field that is not there"),
        pytest.param(a_column('a "name"'), b'{"other":"agent-47"}', id="one of an awkward name"),
        pytest.param(a_column(), b'{"it":"agent-47\\u0000"}', id="a NUL"),
        pytest.param(a_column(), b'{"it":"agent-47\\u0000\\t"}', id="a NUL beside what needs an escape"),
        pytest.param(a_column(), b'{"it":"agent-47\\ud800"}', id="half a character"),
        pytest.param(a_column(encoding="jsonb"), b'{"it":"\\ud800agent-47"}', id="half a character in a scalar"),
        pytest.param(a_column(encoding="jsonb"), b'{"it":{"a":"agent-47\xff"}}', id="bytes that are no UTF-8"),
        pytest.param(
            a_column(base_type="text[]", encoding="array"), b'{"it":["agent-47\\u0000"]}', id="a NUL in an array"
        ),
        pytest.param(a_column(base_type="integer"), b'{"it":"agent-47"}', id="a text for a number"),
        pytest.param(a_column(), b'{"it":"agent-47"', id="no JSON"),
        pytest.param(
            a_column(), b'{"it":' + b"[" * 9999 + b'"agent-47"' + b"]" * 9999 + b"}", id="a deep array for a text"
        ),
        pytest.param(
            a_column(base_type="text[]", encoding="array"),
            b'{"it":' + b"[" * 9999 + b'"agent-47"' + b"]" * 9999 + b"}",
            id="an array of too many dimensions",
        ),
        pytest.param(
            a_column(encoding="jsonb"), b'{"it":' + b"[" * 9999 + b'"agent-47"}', id="a deep array without an end"
        ),
    ],
)
def test_a_line_that_holds_something_else_is_refused_without_quoting_it(column, line):
    with pytest.raises(msgspec.MsgspecError) as caught:
        LineReader([column]).columns([line])

    assert SECRET.decode() not in str(caught.value)


def test_values_come_back_as_copy_writes_them():
    columns = [a_column("n", "integer"), a_column('a "t"'), a_column("l", "text[]", "array")]

    read = LineReader(columns).texts(
        [b'{"n":7,"a \\"t\\"":"tab\\there","l":["x",null,"q\\"q"]}', b'{"n":null,"a \\"t\\"":"","l":null}']
    )

    assert [*read] == [b'7\ttab\\there\t{x,NULL,"q\\\\"q"}\n\\N\t\t\\N\n']


def test_large_rows_are_read_a_few_at_a_time():
    rows = [*LineReader([a_column()]).texts([b'{"it":"%b"}' % (b"x" * 600_000)] * 5)]

    assert [len(some) for some in rows] == [1_200_002, 1_200_002, 600_001]


@pytest.mark.parametrize("name", ["it", 'a "name"'])
def test_a_document_that_is_nested_deeper_than_any_decoder_goes_comes_back_as_it_stands(name):
    columns = [a_column("n", "integer"), a_column(name, "jsonb", "jsonb"), a_column("l", "text[]", "array")]
    deep = '{"a": ["]\\"}[", ' * 9999 + "1" + "]}" * 9999
    lines = [f'{{"n":{n},{msgspec.json.encode(name).decode()}:{deep},"l":["x[",null],"gone":[[1]]}}' for n in (1, 2)]

    read = LineReader(columns).columns([line.encode() for line in lines])

    in_copy = deep.replace("\\", "\\\\")
    assert read == [["1", "2"], [in_copy] * 2, ["{x[,NULL}"] * 2]


def test_what_is_in_no_column_is_an_error_with_the_hint_of_whoever_reads():
    """The rows before it are given first, whatever the size of the blocks; the error quotes none."""
    shape = TableShape(
        schema_name="public",
        table_name="calls",
        date_column="it",
        date_type="date",
        primary_key=("it",),
        columns=(a_column(),),
        well_known_types=True,
    )
    content = [b'{"it":"ma', b'y"}\n', *[b'{"it":"x"}\n'] * 499, b'{"other":"agent-47"}\n']

    texts = texts_of_content(shape, content, hint="Nothing was lost.")
    first = next(texts)
    with pytest.raises(IntegrityError, match=r"public\.calls do not read back into their column types") as caught:
        next(texts)

    assert first == b"may\n" + b"x\n" * 499
    assert (caught.value.found, caught.value.hint) == ("ValidationError", "Nothing was lost.")
