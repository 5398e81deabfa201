"""A restore by range never skips an archive that was hidden, removed, forged or put back. It names the archive."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from strongroom.errors import IntegrityError
from strongroom.ledger.manifests import require_manifest
from strongroom.object_keys.archives import ArchiveId
from strongroom.retention.certificate import Approval
from strongroom.retention.decide import judge
from strongroom.retention.purge import purge_archive
from strongroom.statistics.proofs import verify_and_record
from strongroom.storage.purge_store import PurgeStore
from tests.support.chain import NOW, RUN, Chain, some_settings
from tests.support.damaging import Vandal
from tests.support.database import execute, scalar
from tests.support.restoring import plan, restore

FIRST, SECOND = (ArchiveId("public", "audit", "2026-05", number) for number in (1, 2))
AFTER_THE_TERM = datetime(2033, 6, 2, tzinfo=timezone.utc)


@pytest.fixture
def chain(source, object_store, bucket, tmp_path) -> Chain:
    """Ten rows in one archive of a month and five in the next archive. The table is empty."""
    execute(source, "CREATE TABLE audit (id bigint PRIMARY KEY, at timestamptz NOT NULL)")
    chain = Chain(source, object_store.client("archiver"), some_settings(bucket, tmp_path))
    for rows in ("generate_series(1, 10)", "generate_series(11, 15)"):
        execute(source, f"INSERT INTO audit SELECT n, '2026-05-02' FROM {rows} AS n")
        chain.run()
    return chain


@pytest.fixture
def vandal(chain, object_store, bucket) -> Vandal:
    return Vandal(object_store.client("admin"), chain.store, bucket)


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (Vandal.hide, "found a delete marker that hides it"),
        (Vandal.remove, f"the manifest of {FIRST} is gone"),
        (lambda vandal, key: vandal.write(key, vandal.read(key)), "found 2 versions"),
    ],
    ids=["hidden", "removed", "written over"],
)
def test_a_range_with_an_archive_whose_manifest_was_tampered_with_is_refused(chain, vandal, harm, says):
    harm(vandal, FIRST.manifest_key)

    with pytest.raises(IntegrityError, match=says) as caught:
        restore(chain, first_partition="2026-05", last_partition="2026-05")

    assert str(FIRST) in str(caught.value)
    assert caught.value.hint.startswith("Nothing was deleted or loaded.")
    assert scalar(chain.conninfo, "SELECT count(*) FROM audit") == 0


def test_the_archives_beside_one_that_is_hidden_come_back_when_they_are_named(chain, vandal):
    vandal.hide(FIRST.manifest_key)

    report = restore(chain, archives=[str(SECOND)])

    assert (report.outcome, report.inserted) == ("restored", 5)


def test_a_range_without_the_hidden_archive_comes_back(chain, vandal):
    vandal.hide(FIRST.manifest_key)
    chain.key = "2026-06"
    execute(chain.conninfo, "INSERT INTO audit VALUES (20, '2026-06-02')")
    chain.run()

    report = restore(chain, first_partition="2026-06")

    assert (report.outcome, report.inserted) == ("restored", 1)


def test_a_run_does_not_archive_around_an_archive_that_is_hidden(chain, vandal):
    vandal.hide(FIRST.manifest_key)
    execute(chain.conninfo, "INSERT INTO audit VALUES (20, '2026-05-02')")

    with pytest.raises(IntegrityError, match="found a delete marker that hides it"):
        chain.run()

    assert scalar(chain.conninfo, "SELECT count(*) FROM audit") == 1


def test_an_archive_that_was_destroyed_and_put_back_is_neither_restored_nor_called_sound(chain, vandal, object_store):
    """As if copied from a replica of the bucket that missed the removals."""
    manifest = require_manifest(chain.store, FIRST)
    body = vandal.read(manifest.parts[0].object_key)
    decision = next(one for one in judge(chain.store, now=AFTER_THE_TERM) if one.archive == FIRST)
    purger = PurgeStore(object_store.client("purger"), chain.settings.store)
    yes = Approval(approved=True, by="ada", at=AFTER_THE_TERM)
    given = {"run": RUN, "now": AFTER_THE_TERM, "claim_ttl": timedelta(hours=1)}
    assert purge_archive(chain.store, purger, decision, yes, **given).result == "purged"
    with pytest.raises(IntegrityError, match=f"{FIRST} was destroyed: found its certificate .*{FIRST.destruction_key}"):
        restore(chain, now=AFTER_THE_TERM, archives=[str(FIRST)])
    assert [one.archive_id for one in judge(chain.store, now=AFTER_THE_TERM)] == [str(SECOND)]

    version = vandal.write(manifest.parts[0].object_key, body)
    part = manifest.parts[0].model_copy(update={"version_id": version})
    again = manifest.model_copy(update={"parts": (part,)})
    vandal.replace(FIRST.seal_key, again.to_json())
    vandal.write(FIRST.manifest_key, again.to_json())

    for asked in ({"archives": [str(FIRST)]}, {}):
        with pytest.raises(
            IntegrityError, match=rf"put it back since: found its certificate .*{FIRST.destruction_key}"
        ):
            restore(chain, now=AFTER_THE_TERM, **asked)
    verdict = verify_and_record(chain.store, FIRST, now=NOW, who="ada")
    assert (verdict.result, FIRST.destruction_key in str(verdict.problem)) == ("unverifiable", True)
    assert scalar(chain.conninfo, "SELECT count(*) FROM audit") == 0


@pytest.mark.parametrize(
    "key",
    [
        "metadata/public.audit/2026-99/public.audit.2026-99.0001.json",
        pytest.param("metadata/public.audit/2026-05/x.json", marks=pytest.mark.exhaustive),
        pytest.param("metadata/public.audit/2026-05/public.audit.2026-05.1.json", marks=pytest.mark.exhaustive),
        "evidence/public.audit/2026-99/public.audit.2026-99.0001/delete-part-00000.json",
    ],
)
def test_an_object_of_a_name_that_no_run_writes_stops_no_restore(chain, key):
    chain.client.put_object(Bucket=chain.settings.store.bucket, Key=key, Body=b"x")

    planned = plan(chain, dry_run=True)
    report = restore(chain)

    assert planned.strays == ((key,) if key.startswith("metadata/") else ())
    assert (report.outcome, report.inserted) == ("restored", 15)
