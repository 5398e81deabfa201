"""A Prometheus with our alerts that scrapes an exporter of the stack, for the pictures of its pages in the documentation.

Grafana is in no registry of packages that the stack is made of, so the pages are Prometheus's own: those of Debian's package.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from strongroom_local.demo.evidence import cosign
from strongroom_local.servers.airflow import COMPONENTS, REPOSITORY
from strongroom_local.servers.ports import PortClaims
from strongroom_local.servers.processes import ServerError, wait_until
from strongroom_local.servers.stack import Stack

_SCRAPED_SECONDS = 5
_WAIT_SECONDS = 300
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


GRAPHS = (
    ("figures-rows", 'strongroom_archived_rows{table=~".*"}', 880),
    ("figures-log", "strongroom_witness_unseen_entries", 810),
)
"""Name of the picture, expression as the dashboard has it, and height."""


@dataclass(frozen=True)
class Prometheus:
    """A server that runs.

    Attributes:
        url: Its address.
        stack: Whose figures it has.
        since: When it began to scrape them, by the monotonic clock.
    """

    url: str
    stack: Stack
    since: float

    @property
    def alerts(self) -> str:
        """The address of the page with all alerts."""
        return f"{self.url}/classic/alerts"

    def graph(self, expression: str) -> str:
        """The address of the page that draws an expression from the beginning until now."""
        seconds = int(time.monotonic() - self.since) + _SCRAPED_SECONDS
        shown = {
            "g0.expr": expression,
            "g0.tab": "0",
            "g0.range_input": f"{seconds}s",
            "g0.step_input": str(_SCRAPED_SECONDS),
        }
        return f"{self.url}/classic/graph?{urlencode(shown)}"

    def await_witness(self) -> None:
        """Let the witness look, and wait until the figures say that it has seen everything.

        Raises:
            ServerError: They never did.
        """
        cosign(self.stack)
        if not wait_until(lambda: self._first("sum(strongroom_witness_unseen_entries)") == "0", _WAIT_SECONDS):
            raise ServerError(
                "the figures do not say that the witness has seen the whole log",
                hint="nothing but pictures depends on it; look at the log of strongroom-exporter",
            )

    def _first(self, expression: str) -> str | None:
        address = f"{self.url}/api/v1/query?{urlencode({'query': expression})}"
        with _OPENER.open(address, timeout=30) as answer:
            found = json.load(answer)["data"]["result"]
        return found[0]["value"][1] if found else None


@contextmanager
def scraped(stack: Stack) -> Iterator[Prometheus]:
    """Scrape the stack meanwhile. The exporter is one more, that collects often and trusts the demo's witness.

    Raises:
        ServerError: There is no Prometheus whose pages can be shown, or it does not start.
    """
    program = find_program("find-promtool", "--pages").with_name("prometheus")
    witness = cosign(stack)
    with tempfile.TemporaryDirectory() as folder, PortClaims() as claims:
        exporter_port, port = claims.choose(2)
        variables = {**os.environ, **stack.environment_of(COMPONENTS[-1]), "STRONGROOM__STORE__WITNESS_KEYS": witness}
        options = ("--port", str(exporter_port), "--interval", str(_SCRAPED_SECONDS))
        exporter = [*COMPONENTS[-1].command(), *options]
        with (
            _running(exporter, Path(folder), variables),
            _running(_server(program, Path(folder), exporter_port, port), Path(folder), dict(os.environ)),
        ):
            server = Prometheus(f"http://127.0.0.1:{port}", stack, time.monotonic())
            if not wait_until(lambda: _is_ready(server.url), _WAIT_SECONDS):
                raise ServerError("Prometheus did not start", hint="nothing was changed; see whether its port is taken")
            yield server


def find_program(script: str, option: str) -> Path:
    """The program that a script of ``deploy/`` finds, and fetches if it is not there.

    Raises:
        ServerError: It could not be found.
    """
    command = [str(REPOSITORY / "deploy" / script), option]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode != 0:
        what, _, hint = found.stderr.strip().rpartition("error: ")[2].partition("\nhint: ")
        raise ServerError(what, hint=hint)
    return Path(found.stdout.strip())


def _server(program: Path, folder: Path, target: int, port: int) -> list[str | Path]:
    configuration = {
        "global": {"scrape_interval": f"{_SCRAPED_SECONDS}s", "evaluation_interval": f"{_SCRAPED_SECONDS}s"},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [{"job_name": "strongroom", "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]}],
    }
    (folder / "prometheus.yml").write_text(json.dumps(configuration))
    shutil.copy(REPOSITORY / "deploy" / "monitoring" / "rules.yaml", folder)
    return [
        program,
        "--config.file=prometheus.yml",
        "--storage.tsdb.path=data",
        f"--web.listen-address=127.0.0.1:{port}",
        f"--web.local-assets={program.parents[1]}/share/prometheus/web/",
    ]


@contextmanager
def _running(command: list[str | Path] | list[str], folder: Path, variables: dict[str, str]) -> Iterator[None]:
    """A process that is ended in the end; what it says is kept beside its files until then."""
    with (folder / f"{Path(command[0]).name}.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=variables, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            yield
        finally:
            process.terminate()
            process.wait(60)


def _is_ready(url: str) -> bool:
    try:
        with _OPENER.open(f"{url}/-/ready", timeout=5):
            return True
    except OSError:
        return False
