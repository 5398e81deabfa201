"""An S3 with lifecycle transitions and Glacier, which SeaweedFS lacks: moto's HTTP server, in this process."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends
from moto.server import ThreadedMotoServer


@contextmanager
def running() -> Iterator[str]:
    """The server's address, on a free port of this machine."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def reset(url: str) -> None:
    """Forget every bucket."""
    _post(f"{url}/moto-api/reset", None)


def answer_late(url: str, looks: int) -> None:
    """Let an object come back from Glacier only when it was looked at so often."""
    wish = {"model_name": "s3::keyrestore", "transition": {"progression": "manual", "times": looks}}
    _post(f"{url}/moto-api/state-manager/set-transition", wish)


def freeze(bucket: str, key: str) -> None:
    """What a lifecycle rule does in time: the object changes its class, and its version stays the same."""
    s3_backends[DEFAULT_ACCOUNT_ID]["aws"].get_object(bucket, key).set_storage_class("GLACIER")


def _post(address: str, document: object) -> None:
    body = json.dumps(document).encode() if document is not None else b""
    headers = {"Content-Type": "application/json"}
    urllib.request.urlopen(urllib.request.Request(address, body, headers, method="POST")).close()
