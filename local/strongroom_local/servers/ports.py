"""Free TCP ports on a shared machine."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Iterable
from contextlib import closing

from strongroom.errors import StrongroomError

LOOPBACK = "127.0.0.1"

# Below Linux's default range for outgoing connections (32768 and up), so that no client socket takes a chosen port
# before its server binds it.
_FIRST, _LAST = 20_000, 32_700


class PortTakenError(StrongroomError):
    """Another process listens on the requested port, or no port is free."""


def is_free(port: int) -> bool:
    """Whether a server could bind the loopback port now."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as probe:
        # Servers set this too: old connections in TIME_WAIT do not block the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def come_free(ports: Iterable[int], patience_seconds: float = 1.0) -> bool:
    """Whether all ports are free, or become free in time. A killed process takes a moment to close its sockets."""
    deadline = time.monotonic() + patience_seconds
    wanted = list(ports)
    while not all(is_free(port) for port in wanted):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def choose_ports(count: int) -> list[int]:
    """Find `count` free ports. Another process may still take one first; the server then has to ask again."""
    chosen: list[int] = []
    for port in random.SystemRandom().sample(range(_FIRST, _LAST), k=_LAST - _FIRST):
        if len(chosen) == count:
            break
        if is_free(port):
            chosen.append(port)
    if len(chosen) < count:
        raise PortTakenError(
            f"no free TCP ports between {_FIRST} and {_LAST} on {LOOPBACK}",
            expected=f"{count} free ports",
            found=len(chosen),
            hint="nothing was started; stop other servers on this machine and try again",
        )
    return chosen


def require_free(port: int, server: str) -> None:
    """Check that another process does not hold the port that a server was told to use.

    Raises:
        PortTakenError: The port is in use. The error names the server that wanted it.
    """
    if not come_free([port]):
        raise PortTakenError(
            f"port {port}, which {server} was told to use, is taken by another process",
            hint=f"nothing was started; find that process with 'ss -ltnp sport = :{port}', or let the port be chosen",
        )
