"""``make bench-compression``: ratio and speed of each zstd and gzip level on each sample table.

It also tries other zstd features: long-distance matching, a dictionary per table, threads. The input is the lines of a
part, as the steps write them to staging. Method and results: docs/measured/performance.md.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone
from itertools import accumulate
from pathlib import Path
from typing import IO, Any

import zstandard
from rich.console import Console
from rich.table import Table

from bench.goals import machine, say
from strongroom.calendar import Frequency, Partition, Term, newest_due
from strongroom.formats.codecs import BLOCK_BYTES, Codec, blocks, compress_stream, decompress
from strongroom.settings import load_settings
from strongroom_local.demo import sample
from strongroom_local.servers.postgres import PostgresServer
from strongroom_local.servers.s3 import ObjectStore
from tests.support.chain import Chain

BUCKET = "compression"
CALL_RECORDS = 100_000
LEVELS = (3, 9, 19)
"""The zstd levels at which the other features are tried."""

READABLE_WINDOW = 23
"""2^23 bytes: the largest window that `zstd -d` accepts by default."""

LONG_WINDOW = 27
"""2^27 bytes: needs `zstd -d --long=27`; the largest window that our reader accepts."""

DICTIONARY_BYTES = 112 * 1024
_DICTIONARY_SHARE = 10
"""One line in this many trains the dictionary and is left out of the compression."""


@dataclass(frozen=True)
class Measured:
    """The result of one compression method on one table.

    Attributes:
        ratio: Original size divided by compressed size, without the dictionary.
        compress_mb_per_second: Original MB per CPU second, or per wall-clock second if it uses threads.
        decompress_mb_per_second: Original MB per CPU second.
    """

    table: str
    way: str
    original_bytes: int
    ratio: float
    compress_mb_per_second: float
    decompress_mb_per_second: float


@dataclass(frozen=True)
class Way:
    """One compression method.

    Attributes:
        compress: Compresses one stream into another.
        decompress: Yields the decompressed bytes in blocks.
        clock: Returns seconds.
    """

    words: str
    compress: Callable[[IO[bytes], IO[bytes]], Any]
    decompress: Callable[[bytes], Iterator[bytes]]
    clock: Callable[[], float] = time.process_time


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-compression", description=__doc__)
    parser.add_argument("--mb", type=int, default=32, help="take no more JSON lines of a table than this")
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")
    args = parser.parse_args()
    measured: list[Measured] = []
    for table, lines in sample_lines(args.mb * 1_000_000):
        learnt = lines[::_DICTIONARY_SHARE]
        del lines[::_DICTIONARY_SHARE]
        body = b"".join(lines)
        for way in every_way(learnt):
            say(f"{table}: {way.words}")
            measured.append(measure(table, way, body))
    if args.json:
        print(json.dumps([asdict(one) for one in measured], indent=2))
    else:
        show(measured)
    return 0


def sample_lines(most_bytes: int) -> Iterator[tuple[str, list[bytes]]]:
    """The lines of one due month of each sample table, produced by plan and extract_to_staging."""
    month = newest_due(Frequency.MONTHLY, Term.parse("P90D"), datetime.now(timezone.utc))
    assert month is not None
    with tempfile.TemporaryDirectory(prefix="strongroom-") as name, ExitStack() as servers:
        folder = Path(name)
        postgres, store = PostgresServer(folder / "postgres"), ObjectStore(folder / "store")
        for server in (postgres, store):
            servers.callback(server.destroy)
            server.start()
        store.create_bucket(BUCKET)
        sample.create_schema(postgres.conninfo())
        last = month.window.end - timedelta(seconds=1)
        sample.load(postgres.conninfo(), call_records_per_month=CALL_RECORDS, months=1, now=last)
        for table in sample.TABLES:
            lines = _lines(table.name, month, postgres, store, folder)
            ends = accumulate(map(len, lines))
            yield table.name, [line for line, end in zip(lines, ends, strict=True) if end <= most_bytes]


def _lines(name: str, month: Partition, postgres: PostgresServer, store: ObjectStore, folder: Path) -> list[bytes]:
    settings = load_settings().table(name)
    place = settings.store.model_copy(update={"bucket": BUCKET, "endpoint_url": store.endpoint_url})
    settings = settings.model_copy(update={"staging": str(folder / "staging"), "store": place})
    chain = Chain(postgres.conninfo(), store.client("admin"), settings, month.key, now=datetime.now(timezone.utc))
    part = chain.extract(chain.plan().parts[0])
    with chain.staging(part.archive_id).extracted(part.number, "zstd", "jsonl").open("rb") as handle:
        return b"".join(decompress("zstd", blocks(handle), on_chunk=len)).splitlines(keepends=True)


def every_way(learnt: Sequence[bytes]) -> Iterator[Way]:
    """All methods to try. Strongroom's own method uses Strongroom's code."""
    for kind, levels in (("zstd", range(1, 20)), ("gzip", range(1, 10))):
        for level in levels:
            yield _plain(Codec(kind, level))
    for level in LEVELS:
        for window in (READABLE_WINDOW, LONG_WINDOW):
            words = f"zstd {level}, long distance, {1 << window - 20} MiB window"
            yield _zstd(words, level, enable_ldm=True, window_log=window)
        dictionary = zstandard.train_dictionary(DICTIONARY_BYTES, list(learnt))
        yield _zstd(f"zstd {level}, a dictionary", level, dictionary)
        for threads in (1, 2):
            yield _zstd(f"zstd {level}, {threads} thread{'s'[: threads - 1]} of its own", level, threads=threads)


def _plain(codec: Codec) -> Way:
    def unpacked(body: bytes) -> Iterator[bytes]:
        return decompress(codec.type, iter([body]), on_chunk=len)

    return Way(
        f"{codec.type} {codec.level}", lambda source, target: compress_stream(codec, blocks(source), target), unpacked
    )


def _zstd(words: str, level: int, dictionary: Any = None, **parameters: int | bool) -> Way:
    chosen = zstandard.ZstdCompressionParameters.from_level(level, write_checksum=True, **parameters)

    def packed(source: IO[bytes], target: IO[bytes]) -> None:
        compressor = zstandard.ZstdCompressor(dict_data=dictionary, compression_params=chosen)
        compressor.copy_stream(source, target, read_size=BLOCK_BYTES, write_size=BLOCK_BYTES)

    def unpacked(body: bytes) -> Iterator[bytes]:
        yield from zstandard.ZstdDecompressor(dict_data=dictionary).read_to_iter(body, write_size=BLOCK_BYTES)

    return Way(words, packed, unpacked, time.monotonic if "threads" in parameters else time.process_time)


def measure(table: str, way: Way, body: bytes) -> Measured:
    """Compress and decompress once, and check that the result equals the input."""
    source, target = io.BytesIO(body), io.BytesIO()
    started = way.clock()
    way.compress(source, target)
    compressing = way.clock() - started
    started = time.process_time()
    blocks = list(way.decompress(target.getvalue()))
    decompressing = time.process_time() - started
    assert b"".join(blocks) == body, f"{way.words} does not give back what it got"
    return Measured(
        table,
        way.words,
        original_bytes=len(body),
        ratio=len(body) / len(target.getvalue()),
        compress_mb_per_second=len(body) / 1e6 / compressing,
        decompress_mb_per_second=len(body) / 1e6 / decompressing,
    )


def show(measured: Sequence[Measured]) -> None:
    """Print a row for each method and a column for each table."""
    tables = list(dict.fromkeys(one.table for one in measured))
    sizes = {one.table: one.original_bytes for one in measured}
    found = {(one.way, one.table): one for one in measured}
    table = Table(
        title="ratio, MB/s in, MB/s out, by CPU seconds (threads: by the clock); "
        f"{machine()}, zstd {'.'.join(map(str, zstandard.ZSTD_VERSION))}"
    )
    table.add_column("")
    for name in tables:
        table.add_column(f"{name}\n{sizes[name] / 1e6:.0f} MB", justify="right")
    for way in dict.fromkeys(one.way for one in measured):
        cells = [found[way, name] for name in tables]
        table.add_row(
            way,
            *(
                f"{one.ratio:.2f} {one.compress_mb_per_second:4.0f} {one.decompress_mb_per_second:5.0f}"
                for one in cells
            ),
        )
    Console(width=170, highlight=False).print(table)


if __name__ == "__main__":
    sys.exit(main())
