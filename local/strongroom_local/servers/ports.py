"""TCP ports for servers that share a machine with others."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Iterable
from contextlib import closing

from strongroom.errors import StrongroomError

LOOPBACK = "127.0.0.1"

# Below Linux's default range for outgoing connections (32768 and up), so that no client socket takes a chosen port
# between the moment it was found free and the moment its server binds it.
_FIRST, _LAST = 20_000, 32_700


class PortTakenError(StrongroomError):
    """Somebody else listens on a port that was asked for."""


def is_free(port: int) -> bool:
    """Say whether a server could bind the loopback port at this moment."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as probe:
        # As servers do: connections of a predecessor that still linger in TIME_WAIT do not count as taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def come_free(ports: Iterable[int], patience_seconds: float = 1.0) -> bool:
    """Say whether all the ports are free, or become so soon: a killed process closes its sockets a little later."""
    deadline = time.monotonic() + patience_seconds
    wanted = list(ports)
    while not all(is_free(port) for port in wanted):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def choose_ports(count: int) -> list[int]:
    """Find so many different free ports; a server may still lose one to a neighbour and then asks again."""
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
    """Refuse to start a server on a port that it was told to use and somebody else holds.

    Raises:
        PortTakenError: The port is in use; names the server that wanted it.
    """
    if not come_free([port]):
        raise PortTakenError(
            f"port {port}, which {server} was told to use, is taken by another process",
            hint=f"nothing was started; see who it is with 'ss -ltnp sport = :{port}', or leave the port to be chosen",
        )
