"""What a batch of archived rows can do, whatever the format of its part: :mod:`part_batches` and :mod:`parquet_batches` make them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from strongroom.formats.line_reader import LineReader

if TYPE_CHECKING:
    from strongroom.formats.line_writer import LineWriter
    from strongroom.formats.row_texts import Texts


class Piece(NamedTuple):
    """Some rows of a batch.

    Attributes:
        text: The rows for ``COPY … FROM STDIN``.
        column: Returns the values of a column by its position, escaped for COPY.
    """

    text: bytes
    column: Callable[[int], Sequence[str]]


class Batch(Protocol):
    """Archived rows that go into the table in one transaction."""

    def __len__(self) -> int:
        """The number of rows."""
        ...

    def pieces(self, reader: LineReader) -> Iterator[Piece]:
        """The rows, with the columns of a reader. In pieces, so that the server works while the next piece is made."""
        ...

    def lines(self) -> list[bytes]:
        """The rows as JSON lines, without their newlines."""
        ...

    def equals(self, texts: Texts, writer: LineWriter) -> bool:
        """Whether rows read from the table are the rows of this batch, in the same order."""
        ...
