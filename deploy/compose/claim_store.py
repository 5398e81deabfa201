"""Claim the archive's store for the source database, at the first start only: see docs/explain/security.md.

A bucket that was emptied later looks like a new one, but must not be claimed again. So the first claim leaves a marker
file, whose path is the first argument.

Everything else comes from the environment: STRONGROOM__STORE__BUCKET, STRONGROOM__STORE__ENDPOINT_URL,
STRONGROOM__STORE__LOG_KEYS and LOG_SIGNING_KEY, with which the store's transparency log begins, boto3's own variables (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_CA_BUNDLE) and libpq's (PGHOST, PGUSER, ...).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import boto3

from strongroom.database.session import open_source, read_identity
from strongroom.ledger.owner import record_owner
from strongroom.settings import StoreSettings
from strongroom.storage.author import Author
from strongroom.storage.s3 import make_client
from strongroom.storage.store import Store
from strongroom.tlog.notes import SignerKey


def claim(done: Path) -> None:
    """Claim the store, unless an earlier start did so."""
    if done.exists():
        return
    settings = StoreSettings(
        bucket=os.environ["STRONGROOM__STORE__BUCKET"],
        endpoint_url=os.environ["STRONGROOM__STORE__ENDPOINT_URL"],
        log_keys=(os.environ["STRONGROOM__STORE__LOG_KEYS"],),
    )
    key = SignerKey.parse(os.environ["LOG_SIGNING_KEY"])
    author = Author(lambda: key, person="deploy/compose/claim_store.py")
    store = Store(make_client(settings, session=boto3.Session()), settings, author=author)
    store.prepare()
    with open_source("", application_name="strongroom bucket claim") as connection:
        record_owner(store, read_identity(connection))
    done.touch()


if __name__ == "__main__":
    claim(Path(sys.argv[1]))
