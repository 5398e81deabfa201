"""`strongroom-exporter` as a process of its own: its figures over HTTP, from a real store, source and metadata database."""

from __future__ import annotations

import json
import re
import socket
import tempfile
import threading
import time
import urllib.request
from contextlib import suppress

from prometheus_client.parser import text_string_to_metric_families

from strongroom.overview.reading import read_facts
from strongroom.settings import Settings, StoreSettings
from strongroom.statistics.records import Uncounted
from strongroom.storage.store import Store
from strongroom_local.servers.processes import wait_until
from tests.support.chain import NOW, some_settings
from tests.support.commands import start
from tests.support.counting import count_requests
from tests.support.repository import REPOSITORY
from tests.support.sealing import claim_if_unowned

OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _figures(url: str) -> dict[str, float]:
    """All samples, once the first collection has ended."""
    deadline = time.monotonic() + 120
    while True:
        try:
            with OPENER.open(url, timeout=10) as answer:
                lines = [line for line in answer.read().decode().splitlines() if not line.startswith("#")]
        except OSError:
            lines = []
        figures = {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}
        if figures.get("strongroom_collected_timestamp_seconds") or time.monotonic() > deadline:
            return figures
        time.sleep(0.5)


def _by_table(figures: dict[str, float], name: str) -> dict[str, float]:
    """The samples of one metric by table of schema public."""
    found = (
        (re.fullmatch(rf'strongroom_{name}{{table="public\.(.*)"}}', key), value) for key, value in figures.items()
    )
    return {match[1]: value for match, value in found if match}


def test_a_scrape_gives_the_figures_of_archives_source_and_steps(exporter):
    figures = _figures(exporter)

    table = '{table="public.audit"}'
    step = '{dag_id="archive__audit",step="upload"}'
    expected = {
        f"strongroom_table_up{table}": 1,
        f"strongroom_archives{table}": 1,
        f"strongroom_archived_rows{table}": 71,
        f"strongroom_overdue_rows{table}": 29,
        f"strongroom_step_seconds_count{step}": 1,
        f"strongroom_step_seconds_sum{step}": 2.5,
        f"strongroom_step_failures_total{step}": 1,
        'strongroom_waiting_approvals{dag_id="retention_purge"}': 1,
        "strongroom_holds": 0,
        "strongroom_damaged_manifests": 0,
    }
    assert {name: figures.get(name) for name in expected} == expected
    assert figures[f"strongroom_last_verified_timestamp_seconds{table}"] == NOW.timestamp()
    assert "strongroom_days_since_restored" not in figures
    assert figures["strongroom_days_until_expiry"] > 6 * 365


def test_every_metric_says_what_it_is_has_few_labels_and_stands_in_the_documentation(exporter):
    """As Prometheus reads it: a type and a help text each, and no label whose values grow with archives, runs or time."""
    _figures(exporter)
    with OPENER.open(exporter, timeout=10) as answer:
        families = [
            family
            for family in text_string_to_metric_families(answer.read().decode())
            if family.name.startswith("strongroom_")
        ]
    page = (REPOSITORY / "docs" / "reference" / "metrics.md").read_text()
    told = re.findall(r"^\| `(\w+)` \| (\w+) \| ([\w, ]*?) ?\| (.+) \|$", page, re.MULTILINE)

    assert [
        family.name for family in families if not family.documentation or family.type in ("unknown", "untyped")
    ] == []
    labels = {label for family in families for sample in family.samples for label in sample.labels}
    assert labels <= {"table", "tier", "store", "witness", "dag_id", "step"}
    suffixes = {"counter": ("_total",), "summary": ("_count", "_sum")}
    served = {
        f"{family.name}{suffix}": (family.type, family.documentation)
        for family in families
        for suffix in suffixes.get(family.type, ("",))
    }
    assert {name: (kind, words) for name, kind, _, words in told} == served
    named = {name: set(labels.split(", ")) for name, _, labels, _ in told}
    samples = [sample for family in families for sample in family.samples if not sample.name.endswith("_created")]
    assert [sample.name for sample in samples if sample.labels and set(sample.labels) != named[sample.name]] == []


def test_a_source_that_lets_nobody_in_is_waited_for_once(environment, monkeypatch):
    """Its tables would each wait for the time-out, and those of other sources with them."""
    from strongroom_airflow.statistics.collect import count_tables

    calls = []

    def answer(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                caller, _ = listener.accept()
                calls.append(caller)  # before it is told, because it may be counted at once then
                caller.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=answer, args=(listener,), daemon=True).start()
        away = {"conn_type": "postgres", "host": "127.0.0.1", "port": listener.getsockname()[1]}
        monkeypatch.setenv("AIRFLOW_CONN_AWAY", json.dumps(away))
        monkeypatch.setenv("AIRFLOW_CONN_STRONGROOM_SOURCE", environment["AIRFLOW_CONN_STRONGROOM_SOURCE"])
        tables = {
            name: some_settings("bucket", "staging", name, source_conn_id=conn_id)
            for name, conn_id in (("one", "away"), ("audit", "strongroom_source"), ("two", "away"), ("three", "away"))
        }

        counted = count_tables(Settings(tables=tables), now=NOW)
        first = len(calls)
        count_tables(Settings(tables={"one": tables["one"]}), now=NOW)
        listener.shutdown(socket.SHUT_RDWR)

    assert len(calls) == 2 * first > 0
    assert [isinstance(one, Uncounted) for one in counted.values()] == [True, False, True, True]


def test_whoever_only_reads_the_store_reads_each_archive_once_and_leaves_nothing_behind(
    environment, object_store, bucket
):
    """The exporter's identity may read the facts of archives; the statistics keep them, as the archiver."""
    reader = Store(object_store.client("reader"), StoreSettings(bucket=bucket))
    first = read_facts(reader, now=NOW)

    asked = count_requests(lambda: read_facts(reader, now=NOW, earlier=first), reader.client)

    assert [one.record_count for one in first.archives] == [71]
    assert asked["GetObject"] + asked["HeadObject"] <= 1  # the owner
    assert list(reader.keys("index/")) == []


def test_a_taken_port_ends_with_one_error_and_a_hint(environment, exporter):
    _figures(exporter)
    port = exporter.rpartition(":")[2].partition("/")[0]

    with tempfile.TemporaryFile("w+") as errors:
        ended = start("strongroom_airflow.exporter", "--port", port, environment=environment, errors=errors)
        ended.join(120)
        errors.seek(0)
        said = errors.read()

    assert ended.exitcode == 1
    assert "HINT: Nothing was changed." in said


def test_a_store_or_connection_out_of_reach_costs_its_own_tables_and_is_looked_for_again(
    exporter, object_store, bucket
):
    """The bucket of `calls` is not there yet, `cases` names a connection that nobody made, `wrong` has a wrong setting."""
    first = _figures(exporter)
    _make_store(object_store, f"{bucket}-later")

    assert wait_until(lambda: _figures(exporter)["strongroom_up"] == 1, timeout_seconds=60)

    later = _figures(exporter)
    assert _by_table(first, "table_up") == {"audit": 1, "calls": 0, "cases": 0, "wrong": 0}
    assert set(_by_table(first, "figures_age_seconds")) == {"audit", "cases"}
    assert set(_by_table(first, "archives")) == {"audit", "cases"}
    assert first["strongroom_up"] == 0
    assert first["strongroom_collect_failures_total"] >= 1
    assert _by_table(later, "table_up") == {"audit": 1, "calls": 1, "cases": 0, "wrong": 0}
    assert _by_table(later, "archives") == {"audit": 1, "calls": 0, "cases": 0}


def test_while_a_store_fails_its_last_figures_stay_and_grow_older(exporter, object_store, bucket):
    """A legal hold that cannot be read is a doubt about everything in its store, and about no other."""
    _make_store(object_store, f"{bucket}-later")
    assert wait_until(lambda: _figures(exporter).get("strongroom_up") == 1, timeout_seconds=60)
    object_store.client("admin").put_object(Bucket=bucket, Key="holds/20261123T120000Z-00000000.json", Body=b"slip")

    assert wait_until(lambda: _figures(exporter)["strongroom_up"] == 0, timeout_seconds=60)

    figures = _figures(exporter)
    assert wait_until(
        lambda: (
            _by_table(_figures(exporter), "figures_age_seconds")["audit"]
            > _by_table(figures, "figures_age_seconds")["audit"] + 2
        ),
        timeout_seconds=60,
    )
    latest = _figures(exporter)
    assert latest['strongroom_archives{table="public.audit"}'] == 1
    assert _by_table(latest, "table_up") == {"audit": 0, "calls": 1, "cases": 0, "wrong": 0}
    ages = _by_table(latest, "figures_age_seconds")
    assert ages["calls"] < ages["audit"]
    failures = figures["strongroom_collect_failures_total"]
    assert wait_until(lambda: _figures(exporter)["strongroom_collect_failures_total"] > failures, timeout_seconds=60)


def _make_store(object_store, bucket):
    """A bucket that somebody has made and claimed."""
    object_store.create_bucket(bucket)
    claim_if_unowned(Store(object_store.client("archiver"), StoreSettings(bucket=bucket)))
