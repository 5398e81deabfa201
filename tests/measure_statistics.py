"""How long do statistics over many archives take? `python -m tests.measure_statistics 10000`, on servers of its own."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

from strongroom.catalog import survey_catalog, write_index
from strongroom.settings import Settings, StoreSettings, TableSettings
from strongroom.statistics import make_statistics
from strongroom.statistics_page import make_page
from strongroom.statistics_report import keep_statistics
from strongroom.store import Store
from strongroom_local.s3 import ObjectStore
from tests.synthetic import many_manifests, put_manifests

TABLE = TableSettings(table="t000", date_column="at", legal_basis="a measurement")


@contextmanager
def timed(words: str) -> Iterator[None]:
    started, cpu = time.monotonic(), time.process_time()
    yield
    print(f"{words}: {time.monotonic() - started:.1f} s, {time.process_time() - cpu:.1f} s of them computing here")


def measure(store: Store, count: int) -> None:
    """Write the manifests, then make the whole report twice: without and with the index."""
    with timed(f"write {count} manifests"):
        put_manifests(store, many_manifests(count))
    for words in ("statistics without an index", "statistics with the index"):
        with timed(words):
            survey = survey_catalog(store)
            now = datetime.now(timezone.utc)
            statistics = make_statistics(Settings(tables={"t000": TABLE}), survey.manifests, now=now)
            keep_statistics(store, statistics, make_page(statistics))
            write_index(store, survey)
        assert statistics.total.archives == count


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="strongroom-") as folder:
        server = ObjectStore(Path(folder) / "store")
        try:
            server.start()
            server.create_bucket("measurement")
            measure(Store(server.client("archiver"), StoreSettings(bucket="measurement")), int(sys.argv[1]))
        finally:
            server.destroy()
