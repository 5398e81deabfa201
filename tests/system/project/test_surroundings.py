"""The tests are isolated from the caller's shell."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from tests.support.repository import REPOSITORY

SHOW = "import json, os, tests.conftest; print(json.dumps(dict(os.environ)))"


def test_the_tests_hear_nothing_of_a_stack_that_the_shell_talks_to():
    """`eval "$(make -s env)"` exports settings, connections and addresses. Another database or store may be set too."""
    shell = {
        "STRONGROOM__POOL": "theirs",
        "STRONGROOM_CONFIG": "/theirs.yaml",
        "AIRFLOW_HOME": "/theirs",
        "AIRFLOW__CORE__FERNET_KEY": "theirs",
        "AIRFLOW_CONN_STRONGROOM_SOURCE": "theirs",
        "_AIRFLOW_PARSING_CONTEXT_DAG_ID": "theirs",
        "AWS_ENDPOINT_URL": "http://theirs",
        "PGHOST": "theirs",
    }
    told = {"STRONGROOM_POSTGRES": "/usr/lib/postgresql/15/bin", "STRONGROOM_FAULTS_TABLE": "table.md"}

    shown = subprocess.run(
        [sys.executable, "-c", SHOW],
        env={**os.environ, **shell, **told},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )

    environment = json.loads(shown.stdout)
    assert environment.keys() & shell.keys() == set()
    assert environment.items() >= told.items()
