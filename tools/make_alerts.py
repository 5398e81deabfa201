#!/usr/bin/env python3
"""Make the files that Prometheus reads of the alerts: `python tools/make_alerts.py [--runbooks URL]`.

Each file in deploy/monitoring/alerts/ is one alert, with its promtool test. This makes `rules.yaml`, for Prometheus itself, and
`prometheusrule.yaml`, for the Prometheus operator on Kubernetes, beside that folder. It needs PyYAML.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).resolve().parents[1] / "deploy" / "monitoring"
RUNBOOKS = "https://strongroom.example.com/docs/runbooks"
"""Where the pages in docs/runbooks/ are served. Everybody has another address, so there is an option for it."""

GROUP = "strongroom"
HEAD = "# Made by tools/make_alerts.py from the files in deploy/monitoring/alerts. Change those.\n"
NEEDED = {"alert", "expr", "severity", "summary", "description", "tests"}
OPTIONAL = {"for"}
SEVERITIES = ("critical", "warning", "info")


def read_alerts(folder: Path) -> list[dict[str, Any]]:
    """All alerts, by name.

    Raises:
        ValueError: A file lacks a key, has one that nobody reads, or is not named as its alert.
    """
    alerts = []
    for path in sorted(folder.glob("*.yaml")):
        alert = yaml.safe_load(path.read_text(encoding="utf-8"))
        missing, unknown = NEEDED - set(alert), set(alert) - NEEDED - OPTIONAL
        if missing or unknown:
            raise ValueError(f"{path}: missing {sorted(missing)}, unknown {sorted(unknown)}")
        if alert["alert"] != path.stem:
            raise ValueError(f"{path} describes {alert['alert']}; expected an alert that has the file's name")
        if alert["severity"] not in SEVERITIES:
            raise ValueError(f"{path}: severity {alert['severity']}; expected one of {', '.join(SEVERITIES)}")
        if set(alert["tests"]) - {"interval"} != {"firing", "quiet"}:
            raise ValueError(
                f"{path}: tests {sorted(alert['tests'])}; expected firing and quiet, and perhaps an interval"
            )
        if "{{" in alert["description"]:
            raise ValueError(
                f"{path}: the description has a template; expected none, the summary says which and how many"
            )
        alerts.append(alert)
    return alerts


def make_groups(alerts: Sequence[dict[str, Any]], runbooks: str) -> dict[str, Any]:
    """The rules, as both files have them."""
    return {"groups": [{"name": GROUP, "rules": [_rule(alert, runbooks) for alert in alerts]}]}


def _rule(alert: dict[str, Any], runbooks: str) -> dict[str, Any]:
    rule = {"alert": alert["alert"], "expr": alert["expr"].strip()}
    if "for" in alert:
        rule["for"] = alert["for"]
    annotations = {key: " ".join(alert[key].split()) for key in ("summary", "description")}
    annotations["runbook_url"] = f"{runbooks.rstrip('/')}/{alert['alert']}.md"
    return {**rule, "labels": {"severity": alert["severity"]}, "annotations": annotations}


def make_tests(alerts: Sequence[dict[str, Any]], rules: Path, runbooks: str) -> list[dict[str, Any]]:
    """What `promtool test rules` reads: of each alert, a case in which it fires and one in which it does not.

    Returns:
        One document for each interval at which the alerts want to be judged: a long wait is judged hour by hour.
    """
    by_interval: dict[str, list[dict[str, Any]]] = {}
    for alert in alerts:
        interval = alert["tests"].get("interval", "1m")
        by_interval.setdefault(interval, []).extend(
            _test(alert, case, interval, runbooks) for case in ("firing", "quiet")
        )
    return [
        {"rule_files": [str(rules)], "evaluation_interval": interval, "tests": tests}
        for interval, tests in by_interval.items()
    ]


def _test(alert: dict[str, Any], case: str, interval: str, runbooks: str) -> dict[str, Any]:
    given, annotations = alert["tests"][case], _rule(alert, runbooks)["annotations"]
    expected = [
        {
            "exp_labels": {"severity": alert["severity"], **one.get("labels", {})},
            "exp_annotations": {**annotations, "summary": one["summary"]},
        }
        for one in given.get("alerts", ())
    ]
    return {
        "name": f"{alert['alert']} {case}",
        "interval": interval,
        "input_series": [{"series": name, "values": values} for name, values in given["series"].items()],
        "alert_rule_test": [{"eval_time": given["after"], "alertname": alert["alert"], "exp_alerts": expected}],
    }


def make_files(alerts: Sequence[dict[str, Any]], runbooks: str) -> dict[str, str]:
    """The text of each file, by its name."""
    groups = make_groups(alerts, runbooks)
    resource = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {
            "name": "strongroom",
            "labels": {"app.kubernetes.io/part-of": "strongroom", "release": "prometheus"},
        },
        "spec": groups,
    }
    return {"rules.yaml": _dump(groups), "prometheusrule.yaml": _dump(resource)}


def metrics_of(expression: str) -> set[str]:
    """The names of Strongroom's metrics in a PromQL expression."""
    return set(re.findall(r"\bstrongroom_\w+", expression))


def _dump(document: dict[str, Any]) -> str:
    return HEAD + yaml.safe_dump(document, sort_keys=False, width=1000, allow_unicode=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files; returns the exit code."""
    parser = argparse.ArgumentParser(description="Make the rules for Prometheus from the alerts.")
    parser.add_argument(
        "--runbooks", metavar="URL", default=RUNBOOKS, help="where docs/runbooks is served; default: %(default)s"
    )
    options = parser.parse_args(arguments)
    try:
        files = make_files(read_alerts(FOLDER / "alerts"), options.runbooks)
    except ValueError as error:
        sys.stderr.write(f"error: {error}\nhint: nothing was written; correct that file\n")
        return 1
    for name, text in files.items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
