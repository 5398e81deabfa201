"""A restore and a query of archives whose first copy lost a part and a manifest: the rows come from the second copy, and they say so."""

from __future__ import annotations

import json

import pytest

from strongroom.errors import IntegrityError
from strongroom.ledger.manifests import archive_ids
from strongroom.storage.store import Store
from tests.support import restoring
from tests.support.chain import NOW, Chain, some_settings
from tests.support.damaging import ROWS, Vandal
from tests.support.database import execute
from tests.support.logs import AUTHOR, with_log
from tests.support.querying import ask
from tests.support.second_copy import TwoCopies


def test_rows_come_from_the_second_copy_and_the_records_say_so(source, object_store, coming_buckets, tmp_path):
    first, second = (next(coming_buckets).result() for _ in range(2))
    execute(source, ROWS)
    settings = with_log(some_settings(first, tmp_path, part_rows=10))
    chain = Chain(source, object_store.client("archiver"), settings)
    assert chain.run().deleted_rows == 30
    replica = Store(chain.client, settings.store.model_copy(update={"bucket": second}))
    copies = TwoCopies.of(object_store, chain.store, replica, settings)
    [archive] = archive_ids(chain.store)
    chain.store.put_bytes(archive.kept_rows_key(0), b"[]")
    copies.copy_all(NOW)
    assert replica.read(archive.kept_rows_key(0))[0] == b"[]"
    vandal = Vandal(object_store.client("admin"), chain.store, first)
    vandal.remove(archive.part_key(1, "zstd"))
    vandal.hide(archive.manifest_key)

    with pytest.raises(IntegrityError, match="is not a sound manifest"):
        restoring.plan(chain)
    chain.store = Store(chain.client, settings.store, author=AUTHOR, connect_replica=lambda: replica)
    outcome = ask(chain)
    report = restoring.restore(chain)

    assert (outcome.outcome, outcome.rows, outcome.searched[0].from_replica) == ("complete", 30, (1,))
    assert outcome.sentence().endswith("1 parts were read from the replica")
    record = json.loads(chain.store.read(outcome.record_key)[0])
    assert record["searched"][0]["from_replica"] == [1]
    assert (report.outcome, report.inserted) == ("restored", 30)
    [part] = [part for part in report.parts if part.from_replica]
    assert (part.number, f"read from the replica {replica}" in part.detail) == (1, True)
