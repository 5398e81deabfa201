"""What an archive holds of a part's rows: their blocks from staging, made anew if they are lost; and their keys, from the store."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import IO

from strongroom.errors import IntegrityError
from strongroom.formats.blocks import Block, cut_into_blocks, parse_line, to_line
from strongroom.formats.copy_text import copy_rows
from strongroom.formats.line_reader import LineReader, batches, texts_of_content
from strongroom.formats.reading_back import ReadingBack, kept_aside, require_equal
from strongroom.records import TableShape, UploadedPart, VerifiedPart
from strongroom.storage.staging import Staging
from strongroom.storage.store import Store

_LINES, _BYTES = 2000, 1 << 22

_BY_KEY = (
    "No row was deleted because of them. Set `delete_by: key` for this table and clear the task: each row is then compared "
    "with its archived line. Please report the column types."
)
"""The hint where the archive does not give its blocks back."""

_logger = logging.getLogger(__name__)


def read_blocks(staging: Staging, part: UploadedPart) -> list[Block] | None:
    """The blocks of a part from staging, as extraction wrote them; None if they are missing, damaged, or were never made.

    The content of versions 1 and 2 was not cut into blocks.
    """
    if part.blocks_sha256 is None:
        return None
    try:
        path = staging.fetch(staging.blocks(part.number), part.blocks_sha256)
    except IntegrityError:
        return None
    content = b"" if path is None else path.read_bytes()
    if hashlib.sha256(content).hexdigest() != part.blocks_sha256:
        return None
    return [*map(parse_line, content.splitlines(keepends=True))]


def restore_blocks(store: Store, staging: Staging, shape: TableShape, part: VerifiedPart) -> list[Block]:
    """The blocks of a part, made anew from the archive if staging does not have them.

    They are made of the archived rows' canonical texts, and must be, byte for byte, those that the extraction wrote.

    Raises:
        IntegrityError: The archive does not give the same blocks.
    """
    if (present := read_blocks(staging, part)) is not None:
        return present
    found = _cut_again(store, staging.folder, shape, part)
    with staging.writing(staging.blocks(part.number)) as [handle]:
        handle.writelines(map(to_line, found))
    return found


def blocks_read_back(store: Store, folder: Path | None, shape: TableShape, part: VerifiedPart) -> list[Block]:
    """The blocks of a part whose rows are in the order of their dates, made anew from the archive to compare a table with them.

    None of what was archived without blocks, or by other rules: its lines still tell what the rows were.

    Args:
        folder: Where to keep files without names meanwhile; None means the system's folder for temporary files.
    """
    if not part.ordered:
        return []
    try:
        return _cut_again(store, folder, shape, part)
    except IntegrityError as error:  # if the object is not the part, who looks for its keys meets that again
        _logger.warning("The rows of %s part %s are compared one by one: %s", part.archive_id, part.number, error.what)
        return []


def archived_texts(
    store: Store,
    folder: Path | None,
    shape: TableShape,
    part: VerifiedPart,
    *,
    hint: str,
    chunks: Iterator[bytes] | None = None,
) -> Iterator[bytes]:
    """The canonical texts of a part, some rows at a time, each row with its newline.

    Args:
        folder: Where to keep files without names meanwhile; None means the system's folder for temporary files.
        hint: Of the error about rows that their columns cannot hold.
        chunks: The object; None reads the version that was verified.

    Raises:
        IntegrityError: When all is read: the object is not the part.
    """
    reading = ReadingBack(part, chunks or store.chunks(part.object_key, part.version_id), folder)
    if part.format == "parquet" and part.blocks_sha256 is not None:
        yield from reading.blocks()
    else:
        yield from texts_of_content(shape, reading.blocks(), hint=hint)
    require_equal(part, reading.result())


def _cut_again(store: Store, folder: Path | None, shape: TableShape, part: VerifiedPart) -> list[Block]:
    """Cut the texts of a part into the blocks that the extraction cut them into. Raises as :func:`restore_blocks`."""
    texts = archived_texts(store, folder, shape, part, hint=_BY_KEY)
    date = [column.name for column in shape.columns].index(shape.date_column)
    cut = cut_into_blocks(
        (some.removesuffix(b"\n") for some in texts), date if part.ordered else None, part.end_at.isoformat()
    )
    found = [rows.block() for rows in cut]
    sha256 = hashlib.sha256(b"".join(map(to_line, found))).hexdigest()
    if sha256 != part.blocks_sha256:
        raise IntegrityError(
            f"{part.archive_id} part {part.number} does not give its blocks back",
            expected=part.blocks_sha256,
            found=sha256,
            hint=_BY_KEY,
        )
    return found


class ArchivedKeys:
    """Primary keys and line digests of an archive's rows, read from the store once for each part.

    A line of keys is ready for COPY: the values of the primary key, then the SHA-256 of the row's JSON line.

    Args:
        folder: Where to keep files without names meanwhile; None means the system's folder for temporary files.
    """

    def __init__(self, store: Store, shape: TableShape, folder: Path | None) -> None:
        self._store, self._shape, self._folder = store, shape, folder
        self._files: dict[int, IO[bytes]] = {}
        self._open = ExitStack()

    def __enter__(self) -> ArchivedKeys:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def of(self, part: VerifiedPart) -> IO[bytes]:
        """A part's keys, in the order of its rows, from the first one on.

        Raises:
            IntegrityError: The object in the store is not the part.
        """
        if part.number not in self._files:
            self._files[part.number] = self._open.enter_context(self._read(part))
        keys = self._files[part.number]
        keys.seek(0)
        return keys

    @contextmanager
    def _read(self, part: VerifiedPart) -> Iterator[IO[bytes]]:
        reading = ReadingBack(part, self._store.chunks(part.object_key, part.version_id), self._folder)
        with kept_aside(_key_lines(self._shape, reading.lines(self._shape)), self._folder) as keys:
            require_equal(part, reading.result())
            yield keys


class KeysInTurn:
    """The keys of a part's rows, read from the archive when the first of them is needed."""

    def __init__(self, archived: ArchivedKeys, part: VerifiedPart) -> None:
        self._archived, self._part = archived, part
        self._file: IO[bytes] | None = None
        self._place = 0

    def next(self, first: int, rows: int) -> list[bytes]:
        """The keys of some rows. A later call asks for later rows."""
        if self._file is None:
            self._file = self._archived.of(self._part)
        keys = [*islice(self._file, first - self._place, first - self._place + rows)]
        self._place = first + len(keys)
        return keys


def _key_lines(shape: TableShape, lines: Iterable[bytes]) -> Iterator[bytes]:
    columns = {column.name: column for column in shape.columns}
    reader = LineReader([columns[name] for name in shape.primary_key])
    for batch in batches(lines, most_lines=_LINES, most_bytes=_BYTES):
        digests = [hashlib.sha256(line).hexdigest() for line in batch]
        yield copy_rows([*reader.columns(batch), digests])
