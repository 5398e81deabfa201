"""A real Prometheus on loopback, and its promtool."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from strongroom_local.servers.ports import PortClaims
from strongroom_local.servers.processes import wait_until
from tests.support.repository import REPOSITORY


@cache
def find_promtool() -> Path:
    """The program; Prometheus itself lies beside it. It is fetched if it is not there, and whoever needs it fails if that fails."""
    found = subprocess.run(
        [REPOSITORY / "deploy" / "find-promtool", "--install"], capture_output=True, text=True, check=False
    )
    if found.returncode:
        raise RuntimeError(found.stderr)
    return Path(found.stdout.strip())


OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""The servers of the tests are on this machine, whatever proxy the environment names."""


class Prometheus:
    """A server that runs.

    Args:
        url: Its address.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, path: str, **parameters: str) -> Any:
        """The `data` of an answer of its API.

        Raises:
            AssertionError: It refused; the message is Prometheus's own.
        """
        try:
            with OPENER.open(f"{self.url}/api/v1/{path}?{urlencode(parameters)}", timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {json.load(error)['error']}") from None

    def query(self, expression: str) -> list[dict[str, Any]]:
        """What an expression gives now: one item for each series."""
        found: list[dict[str, Any]] = self.ask("query", query=expression)["result"]
        return found


@contextmanager
def running_prometheus(folder: Path, target: str, *rules: Path) -> Iterator[Prometheus]:
    """A Prometheus on a free port of loopback that scrapes one target each second.

    Args:
        folder: An empty one, for its configuration, its data and its log.
        target: Host and port.
        rules: Files of rules.
    """
    configuration = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(path) for path in rules],
        "scrape_configs": [{"job_name": "strongroom", "static_configs": [{"targets": [target]}]}],
    }
    (folder / "prometheus.yml").write_text(json.dumps(configuration))
    with PortClaims() as claims, (folder / "log").open("wb") as log:
        [port] = claims.choose(1)
        command = [
            find_promtool().parent / "prometheus",
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            server = Prometheus(f"http://127.0.0.1:{port}")
            if not wait_until(lambda: process.poll() is not None or _is_ready(server), timeout_seconds=60):
                raise RuntimeError((folder / "log").read_text())
            if process.poll() is not None:
                raise RuntimeError((folder / "log").read_text())
            yield server
        finally:
            process.terminate()
            process.wait(30)


def _is_ready(server: Prometheus) -> bool:
    try:
        with OPENER.open(f"{server.url}/-/ready", timeout=5):
            return True
    except OSError:
        return False
