"""The program that checks deploy/kubernetes/values.yaml against the Helm chart's own schema, of which the project holds no copy."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from strongroom_local.servers.processes import bare_environment
from tests.support.repository import REPOSITORY

SCHEMA = {
    "type": "object",
    "properties": {
        "executor": {"type": "string"},
        "images": {"type": "object"},
        "workers": {"type": "object", "properties": {"kubernetes": {"type": "object"}}},
    },
}


def check(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, REPOSITORY / "deploy" / "check-helm-values", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=bare_environment(),
    )


def test_keys_that_the_charts_schema_does_not_list_are_faults_at_the_top_and_below(tmp_path):
    """Helm takes them. The schema here lists almost nothing, so almost everything is one."""
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA))

    checked = check(tmp_path / "schema.json")

    assert checked.returncode == 1
    assert re.search(r"^values.yaml: \$: .*'airflowVersion'.*were unexpected", checked.stdout, re.MULTILINE)
    assert re.search(r"\$.workers: .*'celery' was unexpected", checked.stdout)


@pytest.mark.parametrize("text", [None, "", "executor: x", "[]", '{"properties": {"executor": {}}}'])
def test_without_the_charts_schema_the_check_fails(tmp_path, text):
    if text is not None:
        (tmp_path / "schema.json").write_text(text)

    checked = check(tmp_path / "schema.json")

    assert checked.returncode == 2
    assert "is not the chart's values schema" in checked.stderr
