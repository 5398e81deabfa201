"""Airflow in the local stack: its settings, its four processes, its API, and the metrics exporter."""

from __future__ import annotations

import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strongroom_local.servers.ports import LOOPBACK
from strongroom_local.servers.processes import ServerError

REPOSITORY = Path(__file__).resolve().parents[3]
SHARED_SETTINGS = REPOSITORY / "deploy" / "airflow.env"
USER = "admin"
VIEWER = "viewer"
"""The two users of the stack: one may do everything, the other may look."""

_PARALLELISM = 4
_API_SECONDS = 60
"""Generous: with ten busy processes per core, a one-second answer takes half a minute."""

# Variables that would point the stack at another Airflow, database or store.
_FOREIGN_PREFIXES = ("AIRFLOW_", "AIRFLOW__", "AWS_", "PG", "_AIRFLOW")
# Without bytecode files, every Airflow process recompiles a thousand modules: 129 s until the stack is healthy.
_FOREIGN_NAMES = ("PYTHONDONTWRITEBYTECODE", "PYTHONHOME", "VIRTUAL_ENV")


# No proxies: all addresses are on loopback.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Component:
    """One process of Airflow, or the exporter.

    Args:
        name: Its name in this stack.
        health_key: Its key in the result of :func:`read_health`.
        words: The command line after ``python -m``.
    """

    name: str
    health_key: str
    words: tuple[str, ...]

    def command(self) -> list[str]:
        """Return the command line, which runs this same Python."""
        return [sys.executable, "-m", *self.words]


# All components share one log folder, so none of them has to serve logs over HTTP, which listens on every interface.
COMPONENTS = (
    Component("api-server", "metadatabase", ("airflow", "api-server")),
    Component("scheduler", "scheduler", ("airflow", "scheduler", "--skip-serve-logs")),
    Component("dag-processor", "dag_processor", ("airflow", "dag-processor")),
    Component("triggerer", "triggerer", ("airflow", "triggerer", "--skip-serve-logs")),
    Component("exporter", "exporter", ("strongroom_airflow.exporter",)),
)


def read_shared_settings(path: Path = SHARED_SETTINGS) -> dict[str, str]:
    """Read the settings that both stacks share, one KEY=VALUE per line, in file order.

    Raises:
        ServerError: A line is neither a setting nor a comment.
    """
    settings = {}
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        key, equals, value = line.partition("=")
        if not equals or key.strip() != key:
            raise ServerError(
                f"{path} line {number} is not a setting",
                expected="KEY=VALUE",
                found=line,
                hint="nothing was started; fix that line",
            )
        settings[key] = value
    return settings


def local_settings(
    home: Path, *, port: int, database_url: str, secrets: Mapping[str, str], staging: Path
) -> dict[str, str]:
    """Return every variable that Airflow needs in this stack, including the shared settings but not the connections.

    Args:
        home: AIRFLOW_HOME.
        port: Port of the API and UI.
        database_url: SQLAlchemy URL of the metadata database.
        secrets: ``jwt``, ``fernet`` and ``api``.
        staging: Scratch space of the archive runs.
    """
    address = f"http://{LOOPBACK}:{port}"
    return {
        **read_shared_settings(),
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(REPOSITORY / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(REPOSITORY / "plugins"),
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": str(_PARALLELISM),
        "AIRFLOW__CORE__FERNET_KEY": secrets["fernet"],
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin,{VIEWER}:viewer",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / "passwords.json"),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{address}/execution/",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database_url,
        "AIRFLOW__API__HOST": LOOPBACK,
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": address,
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API__SECRET_KEY": secrets["api"],
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets["jwt"],
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
        "AIRFLOW__LOGGING__REMOTE_LOGGING": "True",
        "STRONGROOM__STAGING": str(staging),
    }


def inherited_environment() -> dict[str, str]:
    """Return the caller's environment without variables for other Airflows, databases and stores."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_FOREIGN_PREFIXES) and name not in _FOREIGN_NAMES
    }
    # A network proxy cannot reach this machine's loopback.
    exceptions = ",".join(filter(None, [kept.get("no_proxy"), LOOPBACK, "localhost"]))
    return {**kept, "no_proxy": exceptions, "NO_PROXY": exceptions, "PYTHONUNBUFFERED": "1"}


def read_health(api_url: str, exporter_url: str) -> dict[str, str]:
    """Return each component's health by health key: ``healthy``, ``unhealthy`` or ``unknown``. Silent ones are left out."""
    health = {"exporter": "healthy"} if _answers(f"{exporter_url}/metrics") else {}
    try:
        answer = call_api(api_url, "GET", "/api/v2/monitor/health")
    except ServerError:
        return health
    return health | {name: str(part.get("status") or "unknown") for name, part in answer.items()}


def _answers(url: str) -> bool:
    try:
        with _OPENER.open(url, timeout=_API_SECONDS) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def call_api(api_url: str, method: str, path: str, *, body: object = None, token: str | None = None) -> dict[str, Any]:
    """Call Airflow's REST API and return its JSON response.

    Args:
        api_url: Address without a trailing slash.
        method: HTTP method.
        path: Path and query.
        body: What to send as JSON.
        token: From POST /auth/token.

    Raises:
        ServerError: There was no response, or it was an error; `found` then starts with the HTTP status.
    """
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{api_url}{path}", data=data, headers=headers, method=method)  # noqa: S310 (ours)
    try:
        with _OPENER.open(request, timeout=_API_SECONDS) as response:
            answer: dict[str, Any] = json.loads(response.read() or b"{}")
            return answer
    except urllib.error.HTTPError as error:
        raise ServerError(
            f"Airflow refused {method} {path}",
            found=f"{error.code} {error.read().decode(errors='replace')[:400]}",
            hint="this call changed nothing; see the response above",
        ) from error
    except (OSError, ValueError) as error:
        raise ServerError(
            f"Airflow does not answer {method} {path} at {api_url}",
            found=str(error),
            hint="nothing is lost; 'make status' shows what is running, 'make up' starts the rest",
        ) from error
