"""The output of ``COPY … TO STDOUT``, in blocks of many rows.

Each row is a message of its own, and psycopg's iteration waits for each one, which takes longer than everything else. Here all
messages that have already arrived are taken from libpq without waiting.
"""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO

import psycopg
from psycopg import errors, generators, pq
from psycopg.abc import PQGen
from psycopg.waiting import Wait

from strongroom.errors import IntegrityError

_ROWS, _BYTES = 2000, 1 << 21


def copied_blocks(copy: psycopg.Copy, *, most_messages: int, most_bytes: int) -> Iterator[bytes]:
    """Read the whole output of a COPY. Use it instead of iterating, inside the ``with`` block of the COPY.

    Args:
        copy: A COPY of which nothing was read yet.
        most_messages: Messages per block. A message is usually a row but need not be, so a block may end inside a row.
        most_bytes: A block is full when it has this many bytes; a single larger message is not cut.

    Yields:
        Blocks, none of them empty.

    Raises:
        psycopg.Error: As for iterating. What arrived since the last block is dropped.
    """
    ended = False
    while not ended:
        block, ended = copy.connection.wait(_receive(copy.connection.pgconn, most_messages, most_bytes))
        if block:
            yield block


def copied_rows(copy: psycopg.Copy) -> Iterator[bytes]:
    """:func:`copied_blocks` of a COPY in its text format, each of whole rows and without its last newline.

    Raises:
        IntegrityError: The output ended inside a row.
    """
    rest = b""
    for block in copied_blocks(copy, most_messages=_ROWS, most_bytes=_BYTES):
        whole, newline, rest = (rest + block).rpartition(b"\n")
        if newline:
            yield whole
    if rest:
        raise IntegrityError(
            "the COPY stream ended inside a row",
            hint="Nothing was kept of these rows and no row was deleted because of them. Clear the task to try again.",
        )


def _receive(pgconn: pq.abc.PGconn, most_messages: int, most_bytes: int) -> PQGen[tuple[bytes, bool]]:
    """The next block, and whether the COPY ended with it."""
    block = BytesIO()  # a list of messages would keep the garbage collector busy
    messages = 0
    while messages < most_messages and block.tell() < most_bytes:
        size, message = pgconn.get_copy_data(1)
        if size > 0:
            block.write(message)
            messages += 1
        elif size == 0:
            while not (yield Wait.R):
                continue
            pgconn.consume_input()
        else:
            for result in (yield from generators.fetch_many(pgconn)):
                if result.status != pq.ExecStatus.COMMAND_OK:
                    raise errors.error_from_result(result)
            return block.getvalue(), True
    return block.getvalue(), False
