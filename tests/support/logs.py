"""Stores with a transparency log, for tests: one key, what their logs say, and the key of records of persons."""

from __future__ import annotations

import hashlib

from strongroom.formats.persons import SubjectKey
from strongroom.ledger.entries import Entry, parse_entry
from strongroom.ledger.journal import log_of
from strongroom.records import RunIdentity
from strongroom.settings import TableSettings
from strongroom.storage.author import Author
from strongroom.storage.store import Store
from strongroom.tlog.notes import SignerKey

KEY = SignerKey("strongroom.test/log", hashlib.sha256(b"a key that all processes of the tests know").digest())
SUBJECT_KEY = SubjectKey(hashlib.sha256(b"the key of records of persons").hexdigest())
AUTHOR = Author(
    lambda: KEY, run=RunIdentity(dag_id="archive__test", run_id="manual__test"), task_id="seal", try_number=1
)


def with_log(settings: TableSettings) -> TableSettings:
    """The same settings, for a store with a log of the key."""
    store = settings.store.model_copy(update={"log_keys": (str(KEY.verifier),)})
    return settings.model_copy(update={"store": store})


def lines_of(store: Store) -> list[bytes]:
    """Every entry of a store's log, as it lies there."""
    log = log_of(store)
    assert log is not None
    return log.entries(0, log.head().checkpoint.size)


def entries_of(store: Store) -> list[Entry]:
    """Every entry of a store's log, read."""
    return [parse_entry("an entry", line) for line in lines_of(store)]


def kinds_of(store: Store) -> list[str]:
    """What was done, in its order."""
    return [entry.act.kind for entry in entries_of(store)]
