"""Parts as parquet files: written from the texts of values, and read back as the same texts.

A column whose type Arrow has becomes a column of that type; all others hold PostgreSQL's text. A value that a typed column
would not return letter for letter (infinity, NaN in a numeric, a year BC) is also stored as text, in one further column:
see :func:`exact_name`. So each value is restored exactly, and the file's schema depends on the table alone.

The file's metadata holds the table's shape and the compression. It is written front to back in row groups of limited size,
and read in batches. Its footer is at the end, so reading it needs a file, not a stream.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

import msgspec
from pyarrow import parquet as pq

from strongroom.errors import IntegrityError
from strongroom.formats.arrow import pa, pc
from strongroom.formats.codecs import Codec, Summed
from strongroom.formats.line_writer import LineWriter
from strongroom.formats.row_texts import Texts, copy_rows
from strongroom.records import Column, TableShape, shape_sha256

ROW_GROUP_ROWS = 100_000
ROW_GROUP_BYTES = 8 << 20
"""The most rows, and about the most bytes in memory, of one row group."""

_PAGE_BYTES, _DICTIONARY_BYTES = 256 << 10, 64 << 10
"""Of one page, and of a column's dictionary. Only columns of few values gain by one: with a mebibyte, files were a quarter larger."""

READ_ROWS, READ_BYTES = 4000, 2 << 20
"""The most rows, and about the most bytes in memory, that are read at a time."""

_TABLE, _COMPRESSION = b"strongroom.table", b"strongroom.compression"
"""Keys of the file's own metadata: the table's shape, and what the pages were compressed with."""

_NUMERIC = re.compile(r"numeric\((\d+),(\d+)\)")
_TIMESTAMP = re.compile(r"timestamp(?:\(\d\))? (with|without) time zone")

_EXACT = msgspec.json.Decoder(dict[str, str])

_PLAIN_FLOAT = r"^-?(?:[1-9][0-9]{0,5}|0)(?:\.[0-9]+)?$"
_SMALL_FLOAT = r"^-?0\.0000"
_UNSOUND = (pa.ArrowException, msgspec.MsgspecError, OSError, ValueError, KeyError, TypeError)
"""Errors that Arrow and others raise when they read something that is not one of our parts."""

_UNREADABLE = ("infinity", "-infinity", "NaN")
"""Texts that may fill whole columns, and that no date, timestamp or decimal of Arrow's can be."""


@dataclass(frozen=True)
class _Kind:
    """How the texts of a column become a column of Arrow's, and back again.

    Attributes:
        type: Of Arrow.
        read: Makes texts of values.
        write: Makes values of texts where a cast does not.
    """

    type: Any
    read: Callable[[Any], Any]
    write: Callable[[Any], Any] | None = None


class PartWriter:
    """Writes one part, in a ``with`` block. If the block ends with an error, the file is not valid parquet.

    Args:
        shape: Of the table.
        handle: The file to write; it need not be seekable.
        codec: What its pages are compressed with.
    """

    def __init__(self, shape: TableShape, handle: IO[bytes], codec: Codec) -> None:
        self._columns = shape.columns
        self._kinds = [_kind(column) for column in shape.columns]
        self._target = _Target(handle)
        self._schema = part_schema(shape)
        self._batches: list[Any] = []
        self._rows = self._size_bytes = 0
        self._writer = pq.ParquetWriter(
            pa.PythonFile(self._target, mode="w"),
            self._schema,
            compression=codec.type,
            compression_level=codec.level,
            data_page_size=_PAGE_BYTES,
            dictionary_pagesize_limit=_DICTIONARY_BYTES,
            write_page_checksum=True,
        )
        self._writer.add_key_value_metadata(
            {
                _TABLE: shape.model_dump_json().encode(),
                _COMPRESSION: json.dumps({"type": codec.type, "level": codec.level}).encode(),
            }
        )

    def __enter__(self) -> PartWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._target.ended = kind is not None
        if self._batches and kind is None:
            self._flush()
        self._writer.close()

    def add(self, texts: Texts) -> None:
        """Add a batch of rows."""
        arrays, inexact = [], []
        for kind, column, values in zip(self._kinds, self._columns, texts, strict=True):
            array, differs = (values, None) if kind is None else _typed(kind, values)
            arrays.append(array)
            if differs is not None:
                inexact.append((column.name, values, differs))
        batch = pa.RecordBatch.from_arrays([*arrays, _exact(len(texts[0]), inexact)], schema=self._schema)
        self._batches.append(batch)
        self._rows += batch.num_rows
        self._size_bytes += batch.nbytes
        if self._rows >= ROW_GROUP_ROWS or self._size_bytes >= ROW_GROUP_BYTES:
            self._flush()

    @property
    def written(self) -> Summed:
        """Sum and size of the whole file, once the block has ended."""
        return self._target

    def _flush(self) -> None:
        self._writer.write_table(pa.Table.from_batches(self._batches), row_group_size=self._rows)
        self._batches, self._rows, self._size_bytes = [], 0, 0


def parquet_lines(handle: IO[bytes], shape_sum: str) -> Iterator[bytes]:
    """The JSON lines of a part, some whole lines at a time; else as :func:`parquet_texts`."""
    writer: LineWriter | None = None
    with _damage_named():
        for shape, texts in parquet_texts(handle, shape_sum):
            writer = writer or LineWriter(shape)
            yield writer.lines(texts)


def parquet_rows(handle: IO[bytes], shape_sum: str) -> Iterator[bytes]:
    """The canonical texts of a part, some rows at a time, each with its newline; else as :func:`parquet_texts`."""
    with _damage_named():
        for _, texts in parquet_texts(handle, shape_sum):
            yield copy_rows(texts)


def parquet_texts(handle: IO[bytes], shape_sum: str) -> Iterator[tuple[TableShape, Texts]]:
    """The texts of a part's values, some rows at a time, each time with the table's shape.

    Args:
        handle: A seekable file.
        shape_sum: :func:`strongroom.records.shape_sha256` of the table that it should hold.

    Raises:
        IntegrityError: It is not such a file, or is damaged.
    """
    with _damage_named(), pq.ParquetFile(handle, page_checksum_verification=True) as file:
        shape = _shape(file, shape_sum)
        for batch in _batches(file):
            *arrays, exact = batch.columns
            yield shape, _texts(shape.columns, arrays, exact, others=False)


def texts_of(columns: Sequence[Column], arrays: Sequence[Any], exact: Any) -> Texts:
    """The texts of the values of some columns.

    Args:
        columns: Any columns of the table.
        arrays: Their values, in the same order; another reader than Arrow may call the types by other names.
        exact: The values of :func:`exact_name`'s column in the same rows.
    """
    typed = []
    for column, array in zip(columns, arrays, strict=True):
        kind = _kind(column)
        typed.append(pc.cast(array, pa.string() if kind is None else kind.type))
    return _texts(columns, typed, exact, others=True)


def _texts(columns: Sequence[Column], arrays: Sequence[Any], exact: Any, *, others: bool) -> Texts:
    """The texts of columns; ``others`` says whether the exact texts may be of other columns too."""
    kinds = map(_kind, columns)
    texts = [array if kind is None else kind.read(array) for kind, array in zip(kinds, arrays, strict=True)]
    return _with_exact(columns, texts, exact, others=others)


def is_typed(column: Column) -> bool:
    """Whether a file has the values of a column in a type of Arrow's; otherwise it has their texts."""
    return _kind(column) is not None


@contextmanager
def _damage_named() -> Iterator[None]:
    try:
        yield
    except _UNSOUND as error:
        raise _damaged(type(error).__name__) from None


def _batches(file: Any) -> Iterator[Any]:
    """Fewer rows at a time if they are large. Arrow alone would fill each batch from as many row groups as needed."""
    for number in range(file.num_row_groups):
        for batch in file.iter_batches(READ_ROWS, row_groups=[number], use_threads=False):
            rows = max(1, batch.num_rows * READ_BYTES // max(1, batch.nbytes))
            yield from (batch.slice(first, rows) for first in range(0, batch.num_rows, rows))


def exact_name(columns: Sequence[Column]) -> str:
    """The column that holds, in each row where a typed column does not give its value back letter for letter, a JSON
    object of such values: PostgreSQL's text by the column's name."""
    taken = {column.name.lower() for column in columns}
    name = "strongroom_exact"
    while name in taken:
        name += "_"
    return name


def part_schema(shape: TableShape) -> Any:
    """Arrow's schema of the parts of a table: its columns, then :func:`exact_name`'s."""
    fields = []
    for column in shape.columns:
        kind = _kind(column)
        fields.append(pa.field(column.name, pa.string() if kind is None else kind.type))
    return pa.schema([*fields, pa.field(exact_name(shape.columns), pa.string())])


def _kind(column: Column) -> _Kind | None:
    """How a column is typed; None if it holds text."""
    if column.encoding != "json":
        return None
    if (numeric := _NUMERIC.fullmatch(column.base_type)) is not None:
        precision, scale = map(int, numeric.groups())
        return _Kind(pa.decimal128(precision, scale), _decimals) if scale <= precision <= 38 else None
    if (timestamp := _TIMESTAMP.fullmatch(column.base_type)) is not None:
        zoned = timestamp[1] == "with"
        return _Kind(pa.timestamp("us", "UTC" if zoned else None), _instants if zoned else _timestamps)
    return {
        "smallint": _Kind(pa.int16(), _plain),
        "integer": _Kind(pa.int32(), _plain),
        "bigint": _Kind(pa.int64(), _plain),
        "boolean": _Kind(pa.bool_(), _booleans, lambda texts: pc.equal(texts, "t")),
        "real": _Kind(pa.float32(), lambda values: _floats(values, digits=6)),
        "double precision": _Kind(pa.float64(), lambda values: _floats(values, digits=15)),
        "date": _Kind(pa.date32(), _plain),
    }.get(column.base_type)


def _typed(kind: _Kind, texts: Any) -> tuple[Any, Any]:
    """A typed column, and where it does not give its texts back; None if it does."""
    array = _cast(kind, texts)
    differs = pc.fill_null(pc.not_equal(kind.read(array), texts), pc.is_valid(texts))
    return array, differs if differs.true_count else None


def _cast(kind: _Kind, texts: Any) -> Any:
    """NULL where the type does not have the value."""
    try:
        return kind.write(texts) if kind.write is not None else pc.cast(texts, kind.type)
    except pa.ArrowInvalid:
        pass
    unreadable = pc.is_in(texts, pa.array(_UNREADABLE))
    if unreadable.true_count:
        return _cast(kind, pc.if_else(unreadable, None, texts))
    if len(texts) == 1:
        return pa.nulls(1, kind.type)
    half = len(texts) // 2
    return pa.concat_arrays([_cast(kind, texts.slice(0, half)), _cast(kind, texts.slice(half))])


def _exact(rows: int, inexact: Sequence[tuple[str, Any, Any]]) -> Any:
    if not inexact:
        return pa.nulls(rows, pa.string())
    values: list[dict[str, str]] = [{} for _ in range(rows)]
    for name, texts, differs in inexact:
        for position in pc.indices_nonzero(differs).to_pylist():
            values[position][name] = texts[position].as_py()
    return pa.array([json.dumps(value, ensure_ascii=False) if value else None for value in values], pa.string())


def _with_exact(columns: Sequence[Column], texts: Texts, exact: Any, *, others: bool) -> Texts:
    """The texts of a batch, with those that the typed columns do not give back.

    Raises:
        KeyError: A text is of a column that is not here, and ``others`` is False.
    """
    if exact.null_count == len(exact):
        return texts
    replaced: dict[str, dict[int, str]] = {}
    for position, value in enumerate(exact.to_pylist()):
        for name, text in _EXACT.decode(value).items() if value is not None else ():
            replaced.setdefault(name, {})[position] = text
    named = {column.name: values for column, values in zip(columns, texts, strict=True)}
    for name, by_position in replaced.items():
        if name in named or not others:
            here = pa.array([position in by_position for position in range(len(exact))])
            named[name] = pc.replace_with_mask(named[name], here, pa.array(by_position.values(), pa.string()))
    return list(named.values())


def _plain(values: Any) -> Any:
    return pc.cast(values, pa.string())


def _booleans(values: Any) -> Any:
    return pc.if_else(values, "t", "f")


def _timestamps(values: Any) -> Any:
    return pc.replace_substring_regex(pc.cast(values, pa.string()), r"\.?0*$", "")


def _instants(values: Any) -> Any:
    return pc.binary_join_element_wise(_timestamps(pc.cast(values, pa.timestamp("us"))), "+00", "")


def _decimals(values: Any) -> Any:
    if values.type.scale <= 6:  # Arrow writes smaller numbers with an exponent
        return _plain(values)
    return pa.array([None if value is None else format(value, "f") for value in values.to_pylist()], pa.string())


def _floats(values: Any, *, digits: int) -> Any:
    """As PostgreSQL writes them, but for the last digit of a few: it and Arrow do not always choose the same."""
    texts = _plain(values)
    plain = pc.match_substring_regex(texts, _PLAIN_FLOAT)
    awkward = pc.fill_null(pc.or_(pc.invert(plain), pc.match_substring_regex(texts, _SMALL_FLOAT)), False)
    if awkward.true_count == 0:
        return texts
    written = [_float(text, digits) for text in texts.filter(awkward).to_pylist()]
    return pc.replace_with_mask(texts, awkward, pa.array(written, pa.string()))


def _float(text: str, digits: int) -> str:
    """Arrow's text of a number, with the exponent and the zeros that PostgreSQL writes."""
    if text in _NO_NUMBERS:
        return _NO_NUMBERS[text]
    sign, number = ("-", text[1:]) if text.startswith("-") else ("", text)
    mantissa, _, exponent = number.partition("e")
    whole, _, fraction = mantissa.partition(".")
    significant = (whole + fraction).lstrip("0")
    power = int(exponent or 0) + len(significant) - len(fraction) - 1
    significant = significant.rstrip("0")
    if 0 <= power < digits:
        padded = significant.ljust(power + 1, "0")
        whole, fraction = padded[: power + 1], padded[power + 1 :]
    elif -4 <= power < 0:
        whole, fraction = "0", "0" * (-power - 1) + significant
    else:
        whole, fraction = significant[0], significant[1:]
    shown = f"{sign}{whole}.{fraction}" if fraction else f"{sign}{whole}"
    return shown if -4 <= power < digits else f"{shown}e{power:+03d}"


_NO_NUMBERS = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


class _Target(Summed):
    """The file, as Arrow wants it. After its end, writing does nothing."""

    closed = ended = False

    def write(self, data: Any, /) -> int:
        return len(data) if self.ended else super().write(data)

    def flush(self) -> None:
        """The opener flushes the handle."""

    def close(self) -> None:
        """The opener closes the handle."""


def _shape(file: Any, shape_sum: str) -> TableShape:
    written = (file.metadata.metadata or {}).get(_TABLE, b"")
    shape = TableShape.model_validate_json(written)
    if shape_sha256(shape) != shape_sum or not file.schema_arrow.equals(part_schema(shape)):
        raise _damaged("another table's columns")
    return shape


def _damaged(found: str) -> IntegrityError:
    return IntegrityError(
        "a parquet file is damaged",
        found=found,
        hint="No row was deleted because of it. Clear 'plan' and the tasks after it if the damage is in staging; "
        "if it is in the store, run `airflow strongroom verify` on the archive.",
    )
