"""What a batch of archived rows is, whatever the format of its part."""

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
        text: The rows as COPY reads them.
        column: Gives the values of a column by its place, as COPY reads them.
    """

    text: bytes
    column: Callable[[int], Sequence[str]]


class Batch(Protocol):
    """Rows that go into the table in one transaction."""

    def __len__(self) -> int:
        """How many these are."""
        ...

    def pieces(self, reader: LineReader) -> Iterator[Piece]:
        """The columns that a reader reads; in pieces, so that the server is at work while the next piece is made."""
        ...

    def lines(self) -> list[bytes]:
        """The rows as JSON lines, without their newlines."""
        ...

    def equals(self, texts: Texts, writer: LineWriter) -> bool:
        """Whether rows of as many columns are these, one after the other."""
        ...
