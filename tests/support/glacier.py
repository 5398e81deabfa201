"""An S3 with lifecycle transitions and Glacier, which SeaweedFS lacks: moto's HTTP server, in this process."""

from __future__ import annotations

import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from moto.core import DEFAULT_ACCOUNT_ID
from moto.moto_api import state_manager
from moto.s3.models import FakeKey, s3_backends
from moto.server import ThreadedMotoServer

from strongroom.settings import StoreSettings
from strongroom.storage.s3 import make_client


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
    urllib.request.urlopen(urllib.request.Request(f"{url}/moto-api/reset", method="POST")).close()


def make_bucket(url: str, bucket: str) -> Any:
    """Create a bucket with Object Lock if there is none, and return a client of the server."""
    session = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test")
    client = make_client(StoreSettings(bucket=bucket), session=session, endpoint_url=url)
    if bucket not in [each["Name"] for each in client.list_buckets()["Buckets"]]:
        client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    return client


def freeze(bucket: str, key: str) -> None:
    """Do what a lifecycle rule does eventually: change the object's storage class and keep its version.

    Once its restore is requested, it stays in progress until :func:`bring_back`. By itself moto would report the restore
    as done, then as in progress, then as done.
    """
    state_manager.set_transition("s3::keyrestore", {"progression": "manual", "times": sys.maxsize})
    frozen = _object(bucket, key)
    frozen.set_storage_class("GLACIER")
    frozen.status = "IN_PROGRESS"


def bring_back(bucket: str, key: str) -> None:
    """Do what Amazon does within minutes to days: make the requested copy readable."""
    _object(bucket, key).status = "RESTORED"


def _object(bucket: str, key: str) -> FakeKey:
    found = s3_backends[DEFAULT_ACCOUNT_ID]["aws"].get_object(bucket, key)
    assert found is not None, f"{bucket}/{key}"
    return found
