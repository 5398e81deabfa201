"""Proxies in front of PostgreSQL: one that can break a session at a message, and a pooler."""

from __future__ import annotations

import contextlib
import itertools
import socket
import struct
import threading
from collections.abc import Iterator

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from strongroom_local.servers.ports import LOOPBACK
from tests.support.proxies import TIMEOUT_SECONDS, Moment, Watch, pass_all, reset_connection

_SSL_REQUEST, _GSS_REQUEST = 80877103, 80877104


_STARTUP_BYTES = 8


class DatabaseProxy:
    """Stands between a task and PostgreSQL, and knows where a statement begins and where its answer ends.

    Each statement has two moments: when the client has sent all of it (``request``), and when the server has answered all
    of it (``answer``). The rows of a COPY are not moments; its end is one, ``COPY ends``.
    """

    def __init__(self, target: tuple[str, int], watch: Watch = pass_all) -> None:
        self.target = target
        self.watch = watch
        self._listener = socket.create_server((LOOPBACK, 0))

    def __enter__(self) -> DatabaseProxy:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def conninfo(self, direct: str) -> str:
        """The connection string of a database, changed to go through the proxy."""
        given = conninfo_to_dict(direct)
        return make_conninfo("", **(given | {"host": LOOPBACK, "port": self._listener.getsockname()[1]}))

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=_Session(self, client).serve, daemon=True).start()


MADE_UP_PROCESS = 2**31 - 1
"""The server process id that a pooler reports."""


_ASKS_THE_CLIENT = (3, 5, 10, 11)
"""The server's authentication requests that the client must answer: they are about passwords."""


_Messages = Iterator[tuple[bytes, bytes]]


class Pooler(DatabaseProxy):
    """Stands in for pgbouncer: invents the server process id, and gives each transaction the most recently freed session.

    Args:
        shared: Whether sessions are shared by transaction; otherwise each client keeps its own.
    """

    def __init__(self, target: tuple[str, int], *, shared: bool) -> None:
        super().__init__(target)
        self.shared = shared
        self.free: list[tuple[socket.socket, _Messages]] = []

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        for server, _messages_of_it in self.free:
            server.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=_PooledSession(self, client).serve, daemon=True).start()


class _Session:
    """One connection through the proxy."""

    def __init__(self, proxy: DatabaseProxy, client: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._statement = "login"

    def serve(self) -> None:
        try:
            self._server = socket.create_connection(self._proxy.target, timeout=TIMEOUT_SECONDS)
        except OSError:
            return reset_connection(self._client)
        for end in (self._client, self._server):
            end.settimeout(None)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            with contextlib.suppress(OSError):
                self._start()
                threading.Thread(target=self._answers, daemon=True).start()
                self._requests()
        finally:
            self._close()
        return None

    def _start(self) -> None:
        """Handle the first login packet, which has no type. Decline encryption, so that the rest can be read."""
        while True:
            head = _exactly(self._client, _STARTUP_BYTES)
            length, code = struct.unpack("!II", head)
            if code not in (_SSL_REQUEST, _GSS_REQUEST):
                self._server.sendall(head + _exactly(self._client, length - _STARTUP_BYTES))
                return
            self._client.sendall(b"N")

    def _requests(self) -> None:
        """Forward what the client sends, statement by statement."""
        waiting: list[bytes] = []
        parsed = ""
        for kind, message in _messages(self._client):
            waiting.append(message)
            if kind == b"P":  # name, then the statement
                parsed = _text(message[5:].split(b"\0")[1])
                continue
            if kind in b"BDEC":
                continue
            named = {b"Q": _text(message[5:-1]), b"S": parsed, b"c": "COPY ends", b"X": "end of session"}.get(kind)
            if named is not None:
                self._statement = named
                if not self._proxy.watch(Moment("database", "request", named)):
                    return
            self._server.sendall(b"".join(waiting))
            waiting.clear()

    def _answers(self) -> None:
        """Forward what the server sends. An answer is complete when the server waits for the client again."""
        try:
            with contextlib.suppress(OSError):
                for kind, message in _messages(self._server):
                    if kind in b"ZG" and not self._proxy.watch(Moment("database", "answer", self._statement)):
                        break
                    self._client.sendall(message)
        finally:
            self._close()

    def _close(self) -> None:
        reset_connection(self._client)
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()


class _PooledSession(_Session):
    """One client of a pooler. COPY FROM is not supported."""

    def __init__(self, pooler: Pooler, client: socket.socket) -> None:
        super().__init__(pooler, client)
        self._pooler = pooler

    def serve(self) -> None:
        self._server = socket.create_connection(self._pooler.target, timeout=TIMEOUT_SECONDS)
        with contextlib.closing(self._client), contextlib.suppress(OSError, StopIteration):
            self._start()
            clients, taken = _messages(self._client), (self._server, _messages(self._server))
            self._log_in(clients, *taken)
            if not self._pooler.shared:
                with contextlib.closing(self._server):
                    return self._ask(clients, *taken)
            self._pooler.free.insert(0, taken)
            for first in clients:
                taken = self._pooler.free.pop()
                self._ask(itertools.chain([first], clients), *taken, to_the_end=False)
                self._pooler.free.append(taken)
        return None

    def _log_in(self, clients: _Messages, server: socket.socket, answers: _Messages) -> None:
        for kind, message in answers:
            if kind == b"K":
                message = message[:5] + struct.pack("!I", MADE_UP_PROCESS) + message[9:]
            self._client.sendall(message)
            if kind == b"R" and struct.unpack_from("!I", message, 5)[0] in _ASKS_THE_CLIENT:
                server.sendall(next(clients)[1])
            if kind == b"Z":
                return

    def _ask(self, clients: _Messages, server: socket.socket, answers: _Messages, *, to_the_end: bool = True) -> None:
        """Forward statements and their answers, until the transaction or the client ends."""
        for kind, message in clients:
            if kind == b"X":
                return
            server.sendall(message)
            while kind in b"QS":
                kind, answer = next(answers)
                self._client.sendall(answer)
                if kind == b"Z" and answer[5:6] == b"I" and not to_the_end:
                    return
                if kind == b"Z":
                    break
                kind = b"Q"


def _messages(end: socket.socket) -> Iterator[tuple[bytes, bytes]]:
    """Yield the type and bytes of each message that arrives at one end, until the connection ends."""
    waiting = bytearray()
    while block := end.recv(1 << 16):
        waiting += block
        start = 0
        while len(waiting) - start >= 5:
            length = 1 + struct.unpack_from("!I", waiting, start + 1)[0]
            if len(waiting) - start < length:
                break
            yield bytes(waiting[start : start + 1]), bytes(waiting[start : start + length])
            start += length
        del waiting[:start]


def _exactly(end: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        block = end.recv(size - len(data))
        if not block:
            raise ConnectionResetError
        data += block
    return data


def _text(statement: bytes) -> str:
    return " ".join(statement.decode(errors="replace").split())
