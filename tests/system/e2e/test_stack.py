"""The local stack as a newcomer uses it: started, inspected, used from a shell, and stopped without leftovers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import psycopg
import pytest
import yaml

from strongroom.settings import FILE_VARIABLE
from strongroom_local.servers.airflow import REPOSITORY, call_api, inherited_environment, read_shared_settings
from strongroom_local.servers.processes import ServerError, wait_until
from strongroom_local.servers.stack import Stack
from strongroom_local.servers.stack_folder import ARCHIVER_ROLE, BUCKET
from tests.system.helpers import configuration_of

COMPONENTS = ["PostgreSQL", "S3 server", "api-server", "scheduler", "dag-processor", "triggerer", "exporter"]


def processes_of(stack: Stack) -> list[str]:
    """List the command lines of all living processes whose environment or arguments name the stack's folder."""
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdecimal() or int(process.name) == os.getpid():
            continue
        try:
            belongings = (process / "environ").read_bytes() + (process / "cmdline").read_bytes()
        except (FileNotFoundError, PermissionError, ProcessLookupError):
            continue
        if os.fsencode(stack.folder) + b"/" in belongings:
            found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return found


def run_local(stack: Stack, *words: str) -> subprocess.CompletedProcess[str]:
    """Run ``python -m strongroom_local`` against the stack, with its archive.yaml."""
    command = [sys.executable, "-m", "strongroom_local", "--folder", str(stack.folder), *words]
    environment = {**os.environ, FILE_VARIABLE: str(configuration_of(stack))}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180, check=False)


def run_in_shell(stack: Stack, script: str) -> str:
    """Run a bash script after ``eval`` of the exports, and return its output."""
    command = f'eval "$({sys.executable} -m strongroom_local --folder {stack.folder} env)"\n{script}'
    result = subprocess.run(["bash", "-euc", command], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_every_component_is_healthy(stack):
    """Status lists all six with their pids. The command prints the same and exits 0."""
    shown = stack.status()

    assert [(part.name, part.health) for part in shown] == [(name, "healthy") for name in COMPONENTS]
    assert all(part.pid for part in shown)
    assert run_local(stack, "status").returncode == 0


def test_the_checks_of_the_containers_find_what_this_api_answers(stack):
    """docker-compose.yaml greps the answer for three words."""
    services = yaml.safe_load((REPOSITORY / "docker-compose.yaml").read_text())["services"]
    asked = {
        name: services[name]["healthcheck"]["test"][1].partition("grep -q ")[2].strip("'")
        for name in ("api-server", "dag-processor", "triggerer")
    }

    with urllib.request.urlopen(f"{stack.api_url}/api/v2/monitor/health", timeout=60) as answered:
        answer = answered.read().decode()

    assert all(words and words in answer for words in asked.values()), (asked, answer)


def test_the_status_says_whether_purge_and_statistics_are_paused(stack):
    """Other tests may have unpaused them."""
    paused = stack.paused()

    said = run_local(stack, "status").stdout

    assert paused.keys() == {"archive_statistics", "audit_report", "restore_drill", "retention_purge", "scrub_archives"}
    for dag_id, is_paused in paused.items():
        assert f"{dag_id}: {'paused' if is_paused else 'runs by its schedule'}" in said


def test_the_api_takes_the_stacks_login_and_no_other(stack):
    """The admin's random password yields a token that the API accepts. A guessed password does not."""
    version = call_api(stack.api_url, "GET", "/api/v2/version", token=stack.token())
    guess = {"username": "admin", "password": "admin"}  # pragma: allowlist secret

    assert version["version"].startswith("3.3.")
    with pytest.raises(ServerError, match="401"):
        call_api(stack.api_url, "POST", "/auth/token", body=guess)
    with pytest.raises(ServerError, match="401"):
        call_api(stack.api_url, "GET", "/api/v2/dags")


def test_the_viewer_may_look_and_change_nothing(stack):
    """The stack's second user reads the DAGs, and cannot unpause one."""
    token, dag = stack.token("viewer"), "/api/v2/dags/retention_purge"
    before = call_api(stack.api_url, "GET", dag, token=token)["is_paused"]

    with pytest.raises(ServerError, match="403"):
        call_api(stack.api_url, "PATCH", dag, body={"is_paused": not before}, token=token)

    assert call_api(stack.api_url, "GET", dag, token=token)["is_paused"] is before


def test_the_pool_bounds_work_on_the_source(stack):
    """The pool exists, with the number of slots in the shared settings."""
    shared = read_shared_settings()

    pool = call_api(stack.api_url, "GET", f"/api/v2/pools/{shared['STRONGROOM__POOL']}", token=stack.token())

    assert pool["slots"] == int(shared["STRONGROOM_POOL_SLOTS"])


def test_up_twice_is_once(stack):
    """A second up finds everything running and starts nothing."""
    before = [part.pid for part in stack.status()]

    Stack(stack.folder).up()

    assert [part.pid for part in stack.status()] == before


def test_the_exports_make_psql_and_airflow_work(stack):
    """Bash can evaluate what `env` prints. Then psql counts rows, the S3 client lists, and airflow reads its own settings."""
    tables = run_in_shell(stack, "psql -XAtc \"SELECT count(*) FROM pg_tables WHERE schemaname = 'public'\"")
    home = run_in_shell(stack, "airflow config get-value core dags_folder 2> /dev/null; echo $AIRFLOW_HOME")
    listing = "import boto3, os; print(boto3.client('s3').list_objects_v2(Bucket=os.environ['STRONGROOM_BUCKET'])['KeyCount'])"
    objects = run_in_shell(stack, f'python -c "{listing}"')

    assert int(tables) >= 5
    assert home.split() == [stack.environment()["AIRFLOW__CORE__DAGS_FOLDER"], str(stack.home)]
    assert objects.strip().isdecimal()


def test_the_exports_name_what_the_readme_promises(stack):
    """All variables that an auditor's shell needs are exported."""
    names = set(stack.environment())

    assert names >= {"PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE", "AIRFLOW_HOME", "STRONGROOM_BUCKET"}
    assert names >= {"AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"}
    assert names >= {f"AIRFLOW_CONN_STRONGROOM_{name}" for name in ("SOURCE", "RESTORE", "STORE", "PURGE")}
    assert stack.environment()["STRONGROOM__STORE__BUCKET"] == BUCKET


def test_the_source_connection_is_the_archivers(stack):
    """Airflow's connection logs in with the archiver's role, which may not create or change tables."""
    connection = json.loads(stack.environment()["AIRFLOW_CONN_STRONGROOM_SOURCE"])
    conninfo = stack.postgres.conninfo(connection["schema"], connection["login"], connection["password"])

    with psycopg.connect(conninfo) as session:
        role = session.execute("SELECT current_user").fetchone()
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            session.execute("CREATE TABLE public.forged (n int)")

    assert role == (ARCHIVER_ROLE,)


def test_secrets_are_for_the_owner_alone(stack):
    """Files with passwords and keys are 0600, or in folders that are 0700."""
    for secret in (stack.folder / "stack.json", stack.postgres.folder / "postgres.json", stack.home / "passwords.json"):
        assert secret.stat().st_mode & 0o077 == 0
    for folder in (stack.home, stack.staging, stack.logs, stack.object_store.folder):
        assert folder.stat().st_mode & 0o077 == 0


def test_the_callers_surroundings_stay_outside(monkeypatch):
    """Settings of another Airflow, variables of another database or store, and a ban on bytecode are not passed on."""
    for name in ("AIRFLOW__CORE__EXECUTOR", "AIRFLOW_HOME", "PGHOST", "AWS_PROFILE", "PYTHONDONTWRITEBYTECODE"):
        monkeypatch.setenv(name, "foreign")
    monkeypatch.setenv("STRONGROOM__HOT_RETENTION", "P60D")

    inherited = inherited_environment()

    assert "foreign" not in inherited.values()
    assert inherited["STRONGROOM__HOT_RETENTION"] == "P60D"


def test_a_component_that_was_killed_comes_back_with_up(stack):
    """Status says which component is down. Up starts only that one."""
    before = {part.name: part.pid for part in stack.status()}
    os.kill(before["triggerer"], signal.SIGKILL)
    assert wait_until(lambda: {part.name: part.pid for part in stack.status()}["triggerer"] is None, timeout_seconds=5)
    assert run_local(stack, "status").returncode == 1

    stack.up()

    after = {part.name: part.pid for part in stack.status()}
    assert after.pop("triggerer") != before.pop("triggerer")
    assert after == before


def test_commands_for_a_stack_that_never_was_end_in_one_error_with_a_hint(tmp_path):
    """No traceback, nothing on stdout that a shell would evaluate."""
    result = run_local(Stack(tmp_path / "none"), "env")

    assert (result.returncode, result.stdout) == (1, "")
    assert "hint: " in result.stderr
    assert "Traceback" not in result.stderr


def test_down_leaves_no_process(stack):
    """Each process of this stack is gone. Other processes are untouched."""
    bystander = subprocess.Popen(["sleep", "60"], start_new_session=True)

    result = run_local(stack, "down")
    stack.down()

    assert result.returncode == 0
    assert processes_of(stack) == []
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()


@pytest.mark.exhaustive  # tests/system/demo continues from what an interrupted demo left
def test_up_finds_everything_again(stack):
    """Rows and secrets are kept while the stack is down."""
    assert run_local(stack, "up").returncode == 0
    login = stack.login
    with psycopg.connect(stack.source_conninfo(), autocommit=True) as connection:
        connection.execute("CREATE SCHEMA IF NOT EXISTS kept")
    stack.down()

    assert run_local(stack, "up").returncode == 0
    assert stack.login == login
    with psycopg.connect(stack.source_conninfo()) as connection:
        assert connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = 'kept'").fetchone() == (1,)
