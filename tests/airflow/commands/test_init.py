"""`airflow strongroom init`, as a user types it."""

from __future__ import annotations

import json
import shlex

import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.support.database import AUDIT, execute


@pytest.fixture
def target(source, deployment, tmp_path):
    execute(source, AUDIT + "ANALYZE")
    deployment.database(source, "source")
    return tmp_path / "proposed.yaml"


def test_it_writes_a_file_once_and_says_what_to_do_next(source, target, airflow):
    wrote = airflow("strongroom", "init", "-o", str(target), source)
    again = airflow("strongroom", "init", "-o", str(target), source)
    over = airflow(
        "strongroom", "init", "-o", str(target), "strongroom_source", "--force", "--legal-basis", "a law", "--json"
    )

    assert wrote.returncode == 0, wrote.stderr
    assert f"Wrote {target}." in wrote.stdout
    assert (
        "Fill in legal_basis there: nothing starts before. Then, in the folder of Strongroom's repository"
        in wrote.stdout
    )
    assert "decide: it is small" in wrote.stdout
    assert conninfo_to_dict(source)["password"] not in wrote.stdout
    commands = [
        shlex.split(line) for line in wrote.stdout.splitlines() if line.startswith("  ") and "strongroom" in line
    ][-3:]
    assert [command[0] for command in commands] == [
        "psql",
        f"STRONGROOM_CONFIG={target}",
        f"STRONGROOM_CONFIG={target}",
    ]
    assert (again.returncode, f"{target} already exists" in again.stderr) == (1, True)
    assert over.returncode == 0, over.stderr
    [audit] = json.loads(over.stdout)["tables"]
    assert (audit["date_column"], audit["primary_key"], audit["proposal"]) == ("at", ["id"], "ask")
    assert 'legal_basis: "a law"' in target.read_text()


def test_what_cannot_be_done_is_said_and_no_file_is_written(source, target, airflow):
    nothing = airflow("strongroom", "init", "-o", str(target), source, "--schema", "nowhere")
    abroad = airflow("strongroom", "init", "-o", str(target), "postgresql://db.example.com/shop?sslmode=disable")
    unknown = airflow("strongroom", "init", "-o", str(target), "strongroom_nowhere")
    term = airflow("strongroom", "init", "-o", str(target), source, "--hot", "90 days")

    assert [one.returncode for one in (nothing, abroad, unknown, term)] == [1, 1, 1, 1]
    assert "no table that this role can see in nowhere" in nothing.stderr
    assert "would not be encrypted" in abroad.stderr
    assert "Airflow has no connection strongroom_nowhere" in unknown.stderr
    assert "90 days" in term.stderr
    assert not target.exists()
