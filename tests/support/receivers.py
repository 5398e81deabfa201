"""Who receives notices: an HTTP server and a mail server on loopback, which keep what they were sent."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller

from strongroom_local.servers.ports import PortClaims


@dataclass
class Web:
    """A server that takes JSON.

    Attributes:
        port: Of loopback.
        status: What it answers.
        received: The path and the body of each request.
    """

    port: int = 0
    status: int = 200
    received: list[tuple[str, Any]] = field(default_factory=list)

    def connection(self, path: str = "") -> str:
        """An Airflow connection to it, as JSON."""
        return json.dumps({"conn_type": "http", "host": f"http://127.0.0.1:{self.port}{path}"})

    @property
    def kinds(self) -> list[str]:
        """What the notices were about."""
        return [body["kind"] for _, body in self.received]


@contextmanager
def web_receiver(status: int = 200) -> Iterator[Web]:
    """A running one."""
    web = Web(status=status)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            web.received.append((self.path, json.loads(body)))
            self.send_response(web.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    web.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()


@dataclass
class Mail:
    """A mail server.

    Attributes:
        port: Of loopback.
        received: The messages.
    """

    port: int = 0
    received: list[EmailMessage] = field(default_factory=list)

    def connection(self) -> str:
        """An Airflow connection to it, as JSON."""
        extra = {"disable_ssl": True, "disable_tls": True, "from_email": "strongroom@example.com", "retry_limit": 1}
        where = {"conn_type": "smtp", "host": "127.0.0.1", "port": self.port}
        return json.dumps({**where, "extra": json.dumps(extra)})

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        """Keep a message."""
        self.received.append(message_from_bytes(envelope.content, policy=default))
        return "250 OK"


@contextmanager
def mail_receiver() -> Iterator[Mail]:
    """A running one."""
    with PortClaims() as claims:
        mail = Mail(*claims.choose(1))
        controller = Controller(mail, hostname="127.0.0.1", port=mail.port)
        controller.start()
        try:
            yield mail
        finally:
            controller.stop()
