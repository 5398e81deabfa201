"""TCP ports of the loopback address, on a machine where other stacks start at the same time."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Iterable
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

from strongroom.errors import StrongroomError

if TYPE_CHECKING:
    from typing_extensions import Self

LOOPBACK = "127.0.0.1"

# Below Linux's default range for outgoing connections (32768 and up), so that no client socket takes a chosen port
# before its server binds it.
_FIRST, _LAST = 20_000, 32_700


class PortTakenError(StrongroomError):
    """Another process listens on the requested port, or no port is free."""

    code = "SR-901"


class PortClaims:
    """The ports that one start has chosen. Until it ends, no other start on this machine gets them.

    A server may bind its port minutes after the port was chosen, so a free port alone says nothing. A claim is a Unix
    socket with the port in its abstract name: only one process can bind it, and it vanishes with its process.
    """

    def __init__(self) -> None:
        self._claimed: set[int] = set()
        self._sockets = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._claimed.clear()
        self._sockets.close()

    def claim(self, port: int) -> bool:
        """Claim a port. False if another start has claimed it, or a server could not bind it now."""
        if port in self._claimed:
            return _is_free(port)
        with ExitStack() as unless_claimed:
            name = unless_claimed.enter_context(closing(socket.socket(socket.AF_UNIX)))
            try:
                name.bind(f"\0strongroom-port-{port}")
            except OSError:
                return False
            if not _is_free(port):
                return False
            self._sockets.push(unless_claimed.pop_all())
        self._claimed.add(port)
        return True

    def keep(self, ports: Iterable[int], patience_seconds: float = 1.0) -> bool:
        """Claim ports that were used before. False if one of them is not free in time.

        A killed process takes a moment to close its sockets.
        """
        deadline = time.monotonic() + patience_seconds
        wanted = list(ports)
        while not all(self.claim(port) for port in wanted):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def choose(self, count: int) -> list[int]:
        """Find and claim `count` further ports. A stranger may still take one first; the server then has to ask again."""
        chosen: list[int] = []
        for port in random.SystemRandom().sample(range(_FIRST, _LAST), k=_LAST - _FIRST):
            if len(chosen) == count:
                break
            if port not in self._claimed and self.claim(port):
                chosen.append(port)
        if len(chosen) < count:
            raise PortTakenError(
                f"no free TCP ports between {_FIRST} and {_LAST} on {LOOPBACK}",
                expected=f"{count} free ports",
                found=len(chosen),
                hint="nothing was started; stop other servers on this machine and try again",
            )
        return chosen

    def require(self, port: int, server: str) -> None:
        """Claim the port that a server was told to use.

        Raises:
            PortTakenError: The port is in use. The error names the server that wanted it.
        """
        if not self.keep([port]):
            raise PortTakenError(
                f"port {port}, which {server} was told to use, is taken by another process",
                hint=f"nothing was started; find that process with 'ss -ltnp sport = :{port}', or let the port be chosen",
            )


def choose_ports(count: int) -> list[int]:
    """Find `count` free ports and claim none of them."""
    with PortClaims() as claims:
        return claims.choose(count)


def _is_free(port: int) -> bool:
    """Whether a server could bind the loopback port now."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as probe:
        # Servers set this too: old connections in TIME_WAIT do not block the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True
