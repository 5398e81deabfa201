"""The dashboard and the alerts before a real Prometheus, which scrapes a real exporter with something to say about everything."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from itertools import combinations
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from strongroom.ledger.journal import log_of
from strongroom.object_keys.archives import ArchiveId
from strongroom.object_keys.records import witness_prefix
from strongroom.settings import Replica
from strongroom.statistics.proofs import verify_archives
from strongroom.storage.store import Store
from strongroom.tlog.notes import COSIGNATURE, SignerKey
from strongroom_airflow.exporter import Figures
from strongroom_local.servers.processes import wait_until
from tests.airflow.monitoring.conftest import make_tasks, running_exporter
from tests.airflow.monitoring.test_alerts import metrics_of_exporter
from tests.support.chain import NOW, Chain, some_settings
from tests.support.deployment import aws_connection, postgres_connection
from tests.support.drilling import drill, drill_role
from tests.support.erasing import Person
from tests.support.logs import KEY, with_log
from tests.support.prometheus import Prometheus, running_prometheus
from tests.support.repository import REPOSITORY
from tests.support.second_copy import TwoCopies
from tests.support.tools import load_tool

MONITORING = REPOSITORY / "deploy" / "monitoring"
DASHBOARD = json.loads((MONITORING / "dashboard.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
ROWS = ["Health", "Archive", "Database", "Cost", "Proofs", "Log", "Cases", "Steps"]
UNITS = {"none", "short", "bytes", "s", "d", "currencyUSD", "dateTimeAsIso"}
"""The ids that Grafana has for the units used here."""

FIRES = {"StrongroomApprovalWaiting"}
"""What the expressions find in the fixture: a purge that waits for a person. It has waited for seconds only, so nobody is told yet."""


WITNESS = SignerKey.generate("witness.test/one", COSIGNATURE)


def cosign(store: Store) -> None:
    """Cosign the head of a store's log, as a witness does."""
    log = log_of(store)
    assert log is not None
    head = log.head()
    note = head.note.cosigned(WITNESS, datetime.now(timezone.utc))
    key_id = WITNESS.verifier.key_id.hex()
    store.put_bytes(f"{witness_prefix(key_id)}{head.checkpoint.size}", note.to_bytes())


def expressions(panel: dict[str, Any]) -> list[str]:
    return [target["expr"] for target in panel["targets"]]


@pytest.fixture
def everything(source, metadata, object_store, bucket, tmp_path) -> dict[str, str]:
    """The variables of an exporter whose table was archived, copied, drilled and verified, and in whose store a person has asked."""
    with psycopg.connect(source, autocommit=True) as connection:
        connection.execute("CREATE TABLE audit (id bigint PRIMARY KEY, at timestamptz NOT NULL)")
        connection.execute(
            "INSERT INTO audit SELECT n, '2026-05-01Z'::timestamptz + n * interval '1 h' FROM generate_series(1, 40) n"
        )
    with psycopg.connect(metadata, autocommit=True, options="-c lock_timeout=60s") as connection:
        connection.execute("TRUNCATE dag_run CASCADE")  # steps of other tests failed: their alerts would fire here
    make_tasks(metadata)
    copy = f"{bucket}-copy"
    object_store.create_bucket(copy)
    settings = with_log(some_settings(bucket, tmp_path)).model_copy(
        update={"replica": Replica(filled_by="strongroom", bucket=copy)}
    )
    chain = Chain(source, object_store.client("archiver"), settings)
    archive = ArchiveId.parse(chain.run().archive_id)
    assert settings.replica_store is not None
    replica = Store(object_store.client("archiver"), settings.replica_store)
    TwoCopies.of(object_store, chain.store, replica, settings).copy_one(archive)
    with drill_role(source) as role:
        drill(chain, role, archive)
    list(verify_archives(chain.store, [archive], who="ada", now=lambda: NOW + timedelta(minutes=1)))
    Person(chain, object_store.client("purger")).open("+234800007")
    cosign(chain.store)
    config = tmp_path / "archive.yaml"
    table = {"date_column": "at", "replica": {"filled_by": "strongroom", "bucket": copy}}
    config.write_text(json.dumps({"legal_basis": "a test", "tables": {"audit": table}}))
    return {
        **os.environ,
        "STRONGROOM_CONFIG": str(config),
        "STRONGROOM__STORE__BUCKET": bucket,
        "STRONGROOM__STORE__ENDPOINT_URL": object_store.endpoint_url,
        "STRONGROOM__STORE__LOG_KEYS": str(KEY.verifier),
        "STRONGROOM__STORE__WITNESS_KEYS": str(WITNESS.verifier),
        "AIRFLOW_CONN_STRONGROOM_STORE": aws_connection(*object_store.keys("reader")),
        "AIRFLOW_CONN_STRONGROOM_SOURCE": postgres_connection(source),
    }


@pytest.fixture
def prometheus(everything, tmp_path) -> Iterator[Prometheus]:
    """A Prometheus with our rules that has the exporter's figures of two scrapes."""
    folder = tmp_path / "prometheus"
    folder.mkdir()
    with running_exporter(everything) as url:
        target = url.removeprefix("http://").removesuffix("/metrics")
        with running_prometheus(folder, target, MONITORING / "rules.yaml") as server:
            counted = 'count_over_time(strongroom_step_failures_total{step="upload"}[1m]) > 1'
            assert wait_until(lambda: bool(server.query(counted)), timeout_seconds=120)
            yield server


def test_prometheus_takes_every_query_each_panel_has_data_and_every_alert_is_judged(prometheus: Prometheus) -> None:
    """With `All` chosen as the table, as the dashboard opens. The rules are those that Prometheus itself has loaded."""
    served = {name for name in prometheus.ask("label/__name__/values") if name.startswith("strongroom_")}
    asked = {(panel["title"], text.replace("$table", ".*")) for panel in PANELS for text in expressions(panel)}
    rules = yaml.safe_load((MONITORING / "rules.yaml").read_text())["groups"][0]["rules"]

    empty = {title for title, text in asked if not prometheus.query(text)}
    answers = {rule["alert"]: prometheus.query(rule["expr"]) for rule in rules}
    assert wait_until(lambda: {rule["health"] for rule in judged(prometheus)} == {"ok"}, timeout_seconds=60)

    assert metrics_of_exporter() - served == set()
    assert empty == set()
    assert prometheus.query(DASHBOARD["annotations"]["list"][0]["expr"]) == []
    assert prometheus.ask("label/table/values") == ["public.audit"]
    [rows] = prometheus.query('sum(strongroom_archived_rows{table=~".*"})')
    assert rows["value"][1] == "40"
    assert [rule["name"] for rule in judged(prometheus)] == list(answers)
    assert {name for name, found in answers.items() if found} == FIRES


def test_a_log_whose_store_cannot_be_opened_any_more_is_not_up(everything, monkeypatch) -> None:
    """Its other figures are the last ones that were read."""
    for name, value in everything.items():
        monkeypatch.setenv(name, value)
    exporter = Figures()

    def told() -> dict[str, float]:
        exporter.refresh()
        samples = [sample for family in exporter.collect() for sample in family.samples if "store" in sample.labels]
        return {sample.name: sample.value for sample in samples if sample.name.startswith("strongroom_log_")}

    before = told()
    monkeypatch.delenv("AIRFLOW_CONN_STRONGROOM_STORE")
    after = told()

    assert (before["strongroom_log_up"], before["strongroom_log_grew"]) == (1, 1)
    ages = {"strongroom_log_unentered_seconds": after["strongroom_log_unentered_seconds"]}
    assert after == before | {"strongroom_log_up": 0} | ages


def judged(server: Prometheus) -> list[dict[str, Any]]:
    """The rules as Prometheus has loaded them, each with its health."""
    [group] = server.ask("rules")["groups"]
    rules: list[dict[str, Any]] = group["rules"]
    return rules


def test_the_dashboard_shows_every_metric_of_the_exporter() -> None:
    make_alerts = load_tool("make_alerts")
    shown = {name for panel in PANELS for text in expressions(panel) for name in make_alerts.metrics_of(text)}

    assert metrics_of_exporter() ^ shown == set()


def test_the_dashboard_is_built_as_grafana_wants_it() -> None:
    """What Grafana's own documentation of the dashboard's JSON asks for."""
    panels = DASHBOARD["panels"]

    assert DASHBOARD["schemaVersion"] >= 36
    assert (DASHBOARD["uid"], DASHBOARD["title"]) == ("strongroom", "Strongroom")
    assert "id" not in DASHBOARD, "the number of a dashboard belongs to one Grafana"
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({panel["title"] for panel in PANELS}) == len(PANELS)
    assert [panel["title"] for panel in panels if panel["type"] == "row"] == ROWS
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    assert (variables["datasource"]["type"], variables["datasource"]["query"]) == ("datasource", "prometheus")
    assert variables["table"]["datasource"]["uid"] == "${datasource}"


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_says_what_it_shows_in_a_unit_from_the_chosen_data_source(panel: dict[str, Any]) -> None:
    assert panel["type"] in {"stat", "timeseries", "bargauge"}
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    assert {panel["datasource"]["uid"], *(one["datasource"]["uid"] for one in panel["targets"])} == {"${datasource}"}
    letters = [target["refId"] for target in panel["targets"]]
    assert letters == sorted(set(letters)) != []
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    values = [step["value"] for step in steps]
    assert values[0] is None
    assert values[1:] == sorted(values[1:])


def test_no_panel_covers_another_and_each_stands_below_its_row() -> None:
    def covers(one: dict[str, int], other: dict[str, int]) -> bool:
        return (
            one["x"] < other["x"] + other["w"]
            and other["x"] < one["x"] + one["w"]
            and one["y"] < other["y"] + other["h"]
            and other["y"] < one["y"] + one["h"]
        )

    places = {panel["title"]: panel["gridPos"] for panel in DASHBOARD["panels"]}

    assert [pair for pair in combinations(places, 2) if covers(places[pair[0]], places[pair[1]])] == []
    assert [title for title, place in places.items() if place["x"] < 0 or place["x"] + place["w"] > 24] == []
    tops = [panel["gridPos"]["y"] for panel in DASHBOARD["panels"]]
    assert tops == sorted(tops)


def test_the_names_of_the_variables_are_those_in_the_queries() -> None:
    used = {name for panel in PANELS for text in expressions(panel) for name in re.findall(r"\$(\w+)", text)}

    assert used == {"table"}


def test_the_dashboard_names_no_server_of_ours() -> None:
    text = Path(MONITORING / "dashboard.json").read_text()

    assert "localhost" not in text
    assert "127.0.0.1" not in text
