"""Copy a batch of archived rows straight into the table, and read it back from there: the same texts both times."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from strongroom.database.copy_in import copy_in
from strongroom.database.date_index import has_date_index
from strongroom.database.session import Connection
from strongroom.formats.blocks import CutRows
from strongroom.formats.copy_text import NULL, picked
from strongroom.records import TableShape
from strongroom.restore.fit import Fit
from strongroom.restore.progress import highest_of
from strongroom.restore.statements import KEYS, LoadStatements
from strongroom.restore.target import Target
from strongroom.restore.target_rows import TargetReader

_PIECE_ROWS = 500


class StraightCopy:
    """Copies batches of one archive into one target.

    Where an index begins with the date, a batch is read back by the range of its dates; otherwise by its keys.
    """

    def __init__(
        self,
        connection: Connection,
        target: Target,
        fit: Fit,
        shape: TableShape,
        statements: LoadStatements,
        reader: TargetReader,
    ) -> None:
        self._connection, self._statements, self._reader = connection, statements, reader
        names = [column.name for column in shape.columns]
        self._width = len(names)
        self._loaded = [*map(names.index, fit.loaded)]
        self._key = [*map(names.index, shape.primary_key)]
        self._counted = {name: names.index(name) for name in fit.loaded if name in target.sequences}
        own_date = not shape.dated_through
        indexed = own_date and has_date_index(connection, target.schema_name, target.table_name, shape.date_column)
        self._date = names.index(shape.date_column) if indexed else None

    def copy(self, rows: Sequence[bytes], meanwhile: Callable[[], None]) -> dict[str, int]:
        """Copy rows into the table.

        Args:
            rows: Canonical texts of whole rows.
            meanwhile: Called while the server works on some of them.

        Returns:
            The highest value of each column that a sequence counts.
        """
        highest: dict[str, int] = {}
        with self._connection.cursor() as cursor, cursor.copy(self._statements.copy) as copy:
            for first in range(0, len(rows), _PIECE_ROWS):
                piece = rows[first : first + _PIECE_ROWS]
                copy.write(_in_lines(picked(piece, self._width, self._loaded)))
                meanwhile()
                highest = highest_of(highest, self._highest(piece))
        return highest

    def is_there(self, batch: CutRows) -> bool:
        """Whether the table holds exactly the rows of a batch, in a transaction that finds rows by index.

        Where rows of others are in the range of its dates, the batch is looked up by its keys, and so are those after it.
        """
        rows = self._reader.archived(batch.rows)
        if self._date is not None and batch.until is not None:
            [first] = picked(batch.rows[:1], self._width, [self._date])
            look = self._statements.look_at_range(first.decode(), batch.until, most_rows=len(rows) + 1)
            if _same(rows, self._reader.texts(look)):
                return True
            self._date = None
        copy_in(self._connection, KEYS, _in_lines(picked(batch.rows, self._width, self._key)))
        return _same(rows, self._reader.texts(self._statements.look_at_copied))

    def _highest(self, rows: Sequence[bytes]) -> dict[str, int]:
        values = {
            name: [int(text) for text in picked(rows, self._width, [position]) if text != NULL.encode()]
            for name, position in self._counted.items()
        }
        return {name: max(numbers) for name, numbers in values.items() if numbers}


def _in_lines(rows: Sequence[bytes]) -> bytes:
    return b"\n".join([*rows, b""])


def _same(rows: Sequence[bytes], found: bytes) -> bool:
    """Whether texts from the table, each with its newline, are those of some rows, in whatever order."""
    return found == _in_lines(rows) or sorted(found.split(b"\n")) == sorted([*rows, b""])
