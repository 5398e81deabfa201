"""Real boundaries that tests can break: proxies in front of the S3 server and of PostgreSQL.

Both forward every byte unchanged until told otherwise. Each message is a :class:`Moment`. The watching function may wait
there, kill a process, or have both connections cut. Nothing of Strongroom is patched.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, NamedTuple
from urllib.parse import unquote

import boto3

from strongroom.settings import StoreSettings
from strongroom.storage.s3 import make_client
from strongroom_local.servers.ports import LOOPBACK
from strongroom_local.servers.s3 import ObjectStore

TIMEOUT_SECONDS = 120


class Moment(NamedTuple):
    """A message at a boundary: a request that has not yet reached the server, or an answer not yet delivered."""

    boundary: Literal["store", "database", "staging"]
    side: Literal["request", "answer"]
    what: str

    def __str__(self) -> str:
        return f"{self.boundary} {self.side}: {self.what}"


Watch = Callable[[Moment], bool]
"""Called from any thread before a message is forwarded. If it returns False, both connections are cut instead."""


def pass_all(_: Moment) -> bool:
    """Let everything through."""
    return True


# -------------------------------------------------------------------------------------------------------------- store


class Answer(NamedTuple):
    """An answer of the store, real or made up."""

    status: int
    reason: str
    headers: list[tuple[str, str]]
    content: bytes


@dataclass
class Rule:
    """What happens to some requests to the store.

    Attributes:
        method: HTTP method.
        path: A substring of the request's path.
        act: What to do with the request.
        times: How many requests the rule applies to, from the first one on.
        met: How many it has applied to so far.
    """

    method: str
    path: str
    act: Callable[[Exchange], None]
    times: int = 1
    met: int = 0


@dataclass
class Hold:
    """Where to stop a request to the store.

    Attributes:
        at: ``request``: half of the body has reached the store. ``answer``: the store has done its work and half of
            its answer has come back.
    """

    at: Literal["request", "answer"]
    reached: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)

    def __call__(self, exchange: Exchange) -> None:
        if self.at == "request":
            exchange.forward_half()
        else:
            exchange.answer_half(exchange.forward())
        self.reached.set()
        self.over.wait()
        exchange.cut()


class HoldingProxy:
    """Stands between a task and the store. It can stop or cut a request, answer it itself, or lie."""

    def __init__(self, watch: Watch = pass_all) -> None:
        self.watch = watch
        self.rules: list[Rule] = []
        self._holds: list[Hold] = []
        self._lock = threading.Lock()
        self._server = _Server((LOOPBACK, 0), Exchange)
        self._server.proxy = self
        self.target: tuple[str, int] | None = None
        """The store's address. While there is none, each request is cut."""

    @property
    def endpoint_url(self) -> str:
        """Where the proxy listens."""
        return f"http://{LOOPBACK}:{self._server.server_port}"

    def __enter__(self) -> HoldingProxy:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for hold in self._holds:
            hold.over.set()
        self._server.shutdown()
        self._server.server_close()

    def forward_to(self, host: str, port: int) -> None:
        """Set the store's address."""
        self.target = (host, port)

    def hold(self, method: str, path: str, at: Literal["request", "answer"]) -> Hold:
        """Stop the first such request that comes."""
        hold = Hold(at)
        self._holds.append(hold)
        self.on(method, path, hold)
        return hold

    def on(self, method: str, path: str, act: Callable[[Exchange], None], *, times: int = 1) -> Rule:
        """Apply an action to the next such requests."""
        self.rules.append(Rule(method, path, act, times))
        return self.rules[-1]

    def rule_for(self, method: str, path: str) -> Rule | None:
        """The rule that applies to a request, if any."""
        with self._lock:
            for rule in self.rules:
                if rule.method == method and rule.path in path and rule.met < rule.times:
                    rule.met += 1
                    return rule
        return None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    proxy: HoldingProxy

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Do not log broken connections: breaking them is the purpose."""


class Exchange(BaseHTTPRequestHandler):
    """One request, whose body has been read, and what can be done with it."""

    protocol_version = "HTTP/1.1"
    server: _Server
    body: bytes

    def relay(self) -> None:
        """Forward one request and its answer, byte for byte, unless a rule or the watch says otherwise."""
        proxy = self.server.proxy
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._upstream: HTTPConnection | None = None
        if proxy.target is None:
            return self.cut()
        what = f"{self.command} {unquote(self.path)}"
        if not proxy.watch(Moment("store", "request", what)):
            return self.cut()
        rule = proxy.rule_for(self.command, self.path)
        if rule is not None:
            return rule.act(self)
        answer = self.forward()
        if not proxy.watch(Moment("store", "answer", what)):
            return self.cut()
        return self.answer(answer)

    def forward(self) -> Answer:
        """Send the request to the store and return its answer."""
        upstream = self._open()
        upstream.send(self.body)
        answer = upstream.getresponse()
        found = Answer(answer.status, answer.reason, answer.getheaders(), answer.read())
        upstream.close()
        return found

    def forward_half(self) -> None:
        """Send the store half of the body, and no more."""
        self._open().send(self.body[: len(self.body) // 2])

    def answer(self, answer: Answer) -> None:
        """Return a whole answer to the task."""
        self._head(answer)
        if self.command != "HEAD":
            self.wfile.write(answer.content)

    def answer_half(self, answer: Answer) -> None:
        """Return half of an answer's content to the task, or nothing if it has no content."""
        if answer.content:
            self._head(answer)
            self.wfile.write(answer.content[: len(answer.content) // 2])
            self.wfile.flush()

    def cut(self) -> None:
        """Reset the connection to the task, and close the one to the store."""
        if self._upstream is not None:
            self._upstream.close()
        self.close_connection = True
        reset_connection(self.connection)

    def _open(self) -> HTTPConnection:
        target = self.server.proxy.target
        assert target is not None
        self._upstream = HTTPConnection(*target, timeout=TIMEOUT_SECONDS)
        # The signature covers the Host header, so it stays.
        self._upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() != "expect":
                self._upstream.putheader(name, value)
        self._upstream.endheaders()
        return self._upstream

    def _head(self, answer: Answer) -> None:
        self.send_response_only(answer.status, answer.reason)
        length = str(len(answer.content))
        for name, value in answer.headers:
            if name.lower() == "content-length":
                length = value if self.command == "HEAD" else length
            elif name.lower() not in ("transfer-encoding", "connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.end_headers()

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = relay  # noqa: N815 (the names that the base class calls)

    def log_message(self, *_: object) -> None:
        """Log nothing. The tests report what they saw."""


def refuse(status: int, code: str) -> Callable[[Exchange], None]:
    """Answer with an S3 error without asking the store."""

    def act(exchange: Exchange) -> None:
        content = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()
        exchange.answer(Answer(status, code, [("Content-Type", "application/xml")], content))

    return act


def cut_in_request(exchange: Exchange) -> None:
    """Reset in the middle of the request's body."""
    exchange.forward_half()
    exchange.cut()


def cut_in_answer(exchange: Exchange) -> None:
    """Reset in the middle of the answer's body."""
    exchange.answer_half(exchange.forward())
    exchange.cut()


def lose_answer(exchange: Exchange) -> None:
    """Let the store do its work, and cut the connections before its answer."""
    exchange.forward()
    exchange.cut()


def pretend(exchange: Exchange) -> None:
    """Claim success, and store nothing."""
    headers = [("ETag", f'"{"0" * 32}"'), ("x-amz-version-id", "0" * 32)]
    exchange.answer(Answer(200, "OK", headers, b""))


def store_other_bytes(client: Any, change: Callable[[bytes], bytes]) -> Callable[[Exchange], None]:
    """Store other bytes under the key with unchanged metadata, and answer as if all were well.

    Args:
        client: A client that may write. The task's own signature covers its body, so it cannot be reused.
        change: Returns the other bytes.
    """

    def act(exchange: Exchange) -> None:
        bucket, _, key = unquote(exchange.path.split("?")[0]).lstrip("/").partition("/")
        prefix = "x-amz-meta-"
        metadata = {
            name.lower().removeprefix(prefix): value
            for name, value in exchange.headers.items()
            if name.lower().startswith(prefix)
        }
        stored = client.put_object(Bucket=bucket, Key=key, Body=change(exchange.body), Metadata=metadata)
        headers = [("ETag", stored["ETag"]), ("x-amz-version-id", stored["VersionId"])]
        exchange.answer(Answer(200, "OK", headers, b""))

    return act


def proxied_client(store: ObjectStore, proxy: HoldingProxy, identity: str = "archiver", **settings: Any) -> Any:
    """The product's own S3 client, connected through the proxy.

    Args:
        settings: Store settings, such as timeouts and attempts.
    """
    access_key, secret_key = store.keys(identity)
    session = boto3.Session(aws_access_key_id=access_key, aws_secret_access_key=secret_key)
    return make_client(StoreSettings(**settings), session=session, endpoint_url=proxy.endpoint_url)


# ----------------------------------------------------------------------------------------------------------- database


def reset_connection(end: socket.socket) -> None:
    """Close with a reset, as the kernel does for a process that was killed with unread data."""
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        end.shutdown(socket.SHUT_RD)  # wakes readers; SHUT_WR would close it normally, without a reset
    end.close()
