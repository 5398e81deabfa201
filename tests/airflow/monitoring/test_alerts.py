"""The alerts: each has what a person needs at three in the morning, uses metrics that exist, and fires when it should."""

from __future__ import annotations

import re
import shlex
import subprocess
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.cli import cli_parser

from strongroom.settings import Settings
from strongroom.statistics.figures import make_statistics
from strongroom.statistics.metrics import make_metrics
from strongroom_airflow.exporter import Figures
from tests.support.prometheus import find_promtool
from tests.support.repository import REPOSITORY
from tests.support.tools import load_tool

MONITORING, RUNBOOKS = REPOSITORY / "deploy" / "monitoring", REPOSITORY / "docs" / "runbooks"

make_alerts = load_tool("make_alerts")
ALERTS = make_alerts.read_alerts(MONITORING / "alerts")
RULES = {rule["alert"]: rule for rule in make_alerts.make_groups(ALERTS, make_alerts.RUNBOOKS)["groups"][0]["rules"]}


def metrics_of_exporter() -> set[str]:
    """The names of all samples that an exporter can serve, with or without figures."""
    nothing = make_statistics(Settings(tables={}), [], now=datetime.now(timezone.utc))
    suffixes = {"counter": ("_total",), "summary": ("_count", "_sum")}
    return {
        family.name + suffix
        for family in (*Figures().collect(), *make_metrics(nothing, [], {}, []))
        for suffix in suffixes.get(family.type, ("",))
    }


def promtool(*words: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([find_promtool(), *map(str, words)], capture_output=True, text=True, check=False)


def test_there_is_an_alert_for_each_file() -> None:
    assert len(ALERTS) >= 25
    assert set(RULES) == {path.stem for path in (MONITORING / "alerts").iterdir()}


@pytest.mark.parametrize("name", RULES)
def test_an_alert_says_how_bad_it_is_what_it_means_and_where_to_read_on(name: str) -> None:
    rule = RULES[name]

    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert all(rule["annotations"][key] for key in ("summary", "description", "runbook_url"))
    assert rule["annotations"]["runbook_url"].endswith(f"/docs/runbooks/{name}.md")


@pytest.mark.parametrize("name", RULES)
def test_a_runbook_says_what_it_means_what_it_costs_how_to_look_and_what_to_do(name: str) -> None:
    text = (RUNBOOKS / f"{name}.md").read_text()

    title, *sections = re.split(r"^#+ (.*)$", text, flags=re.MULTILINE)[1::2]
    bodies = [body.strip() for body in re.split(r"^## .*$", text, flags=re.MULTILINE)[1:]]
    assert title == name
    assert sections == ["Meaning", "Impact", "Diagnosis", "Mitigation"]
    assert all(len(body) > 40 for body in bodies)
    assert "airflow " in text


def test_each_runbook_belongs_to_an_alert() -> None:
    assert {path.stem for path in RUNBOOKS.iterdir()} == set(RULES)


@pytest.mark.parametrize("path", sorted(RUNBOOKS.iterdir()), ids=lambda path: path.stem)
def test_the_commands_of_a_runbook_are_commands(path: Path) -> None:
    """Airflow's own parser takes each of them, options included."""
    parser = cli_parser.get_parser()
    for line in re.findall(r"(?:^ *|`)(airflow [^`\n]+)", path.read_text(), flags=re.MULTILINE):
        try:
            parser.parse_args(shlex.split(line, comments=True)[1:])
        except SystemExit:
            pytest.fail(f"airflow does not take: {line}")


@pytest.mark.parametrize("name", RULES)
def test_an_alert_uses_metrics_that_the_exporter_serves(name: str) -> None:
    used = make_alerts.metrics_of(RULES[name]["expr"])

    assert used
    assert used - metrics_of_exporter() == set()


def test_the_made_files_are_those_of_the_alerts() -> None:
    """If not: `make alerts`."""
    made = make_alerts.make_files(ALERTS, make_alerts.RUNBOOKS)

    assert {name: (MONITORING / name).read_text() for name in made} == made
    resource = yaml.safe_load(made["prometheusrule.yaml"])
    assert (resource["apiVersion"], resource["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    assert resource["spec"] == yaml.safe_load(made["rules.yaml"])


def test_prometheus_takes_the_rules() -> None:
    checked = promtool("check", "rules", "--lint-fatal", MONITORING / "rules.yaml")

    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{len(RULES)} rules found" in checked.stdout


def test_each_alert_fires_when_it_should_and_is_quiet_when_it_should_be(tmp_path) -> None:
    """As the files of the alerts say, judged by Prometheus's own code on the made rules."""
    files = []
    for number, document in enumerate(make_alerts.make_tests(ALERTS, MONITORING / "rules.yaml", make_alerts.RUNBOOKS)):
        files.append(tmp_path / f"{number}.yaml")
        files[-1].write_text(yaml.safe_dump(document))

    tested = promtool("test", "rules", *files)

    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert all(alert["tests"]["firing"]["alerts"] and not alert["tests"]["quiet"].get("alerts") for alert in ALERTS)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"alert": "Another"}, "describes Another"),
        ({"severity": "bad"}, "severity bad"),
        ({"summery": "typo"}, "unknown ['summery']"),
        ({"description": "{{ $value }} rows"}, "has a template"),
        ({"tests": {"firing": {}}}, "expected firing and quiet"),
    ],
)
def test_a_wrong_file_is_refused_in_words(tmp_path, change: dict[str, Any], expected: str) -> None:
    alert = yaml.safe_load((MONITORING / "alerts" / "StrongroomDamage.yaml").read_text())
    (tmp_path / "StrongroomDamage.yaml").write_text(yaml.safe_dump({**alert, **change}))

    with pytest.raises(ValueError, match=re.escape(expected)):
        make_alerts.read_alerts(tmp_path)
