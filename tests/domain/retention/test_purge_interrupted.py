"""The retention purge, where something happens between two removals: it stops, and the next one finishes it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from datetime import datetime, timedelta, timezone

import pytest

from strongroom.errors import StoreError
from strongroom.ledger.holds import release_hold
from strongroom.ledger.manifests import require_manifest
from strongroom.object_keys.records import claim_key
from strongroom.records import Claim
from strongroom.retention.certificate import Approval, begun_purges
from tests.support.vault import LATER, NEXT_RUN, RUN, TTL, Interrupting, Vault, an_archive, fill_vault


@pytest.fixture
def vault(object_store, bucket, tmp_path) -> Vault:
    return fill_vault(object_store, bucket, tmp_path)


@pytest.mark.parametrize("removed", [1, 4, 5])
def test_a_hold_placed_meanwhile_stops_the_purge_and_says_what_is_left(vault, removed):
    """After the last removal, the manifest's, there is nothing left to hold, and the certificate says so."""
    interrupting = Interrupting(vault, removed, lambda: vault.hold(now=LATER))

    result = vault.purge("2026-05", purge_store=interrupting)

    if removed == 5:
        assert (result.result, vault.left_of("2026-05")) == ("purged", [])
        return
    assert result.result == "held"
    assert f"{removed} of 5 versions were removed before, left are " in result.detail
    assert "public.audit.2026-05.0001.json" in result.detail
    assert len(vault.left_of("2026-05")) == 5 - removed
    assert vault.certificates() == []


def test_a_released_hold_lets_the_next_purge_finish_what_it_had_stopped(vault):
    placed = []
    vault.purge("2026-05", purge_store=Interrupting(vault, 2, lambda: placed.append(vault.hold(now=LATER))))
    release_hold(vault.store, placed[0].hold_id, who="bob", reason="case closed", now=LATER)

    later = Approval(approved=True, by="bob", at=LATER + 2 * TTL)
    result = vault.purge("2026-05", run=NEXT_RUN, now=LATER + 2 * TTL, approval=later)

    assert (result.result, vault.left_of("2026-05")) == ("purged", [])
    certificate = vault.certificate("2026-05")
    assert (certificate.begun_by, certificate.destroyed_by, certificate.approved_by) == (RUN, NEXT_RUN, "bob")
    assert len(certificate.removed) == 5


KILLED = """
import json, os, signal, sys
from datetime import datetime, timedelta
import boto3
from strongroom.retention.certificate import Approval
from strongroom.retention.decide import judge
from strongroom.retention.purge import purge_archive
from strongroom.storage.purge_store import PurgeStore, UnfinishedUpload
from strongroom.records import RunIdentity
from strongroom.settings import StoreSettings
from strongroom.storage.store import Store

given = json.loads(sys.stdin.read())
settings = StoreSettings(bucket=given["bucket"])

def client(keys):
    return boto3.client("s3", endpoint_url=given["url"], region_name="us-east-1",
                        aws_access_key_id=keys[0], aws_secret_access_key=keys[1])

class Dying(PurgeStore):
    left = given["after"]

    def remove(self, version):
        super().remove(version)
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

now = datetime.fromisoformat(given["now"])
store = Store(client(given["archiver"]), settings)
[decision] = [one for one in judge(store, now=now) if one.archive_id == given["archive_id"]]
purge_archive(store, Dying(client(given["purger"]), settings), decision,
              Approval(approved=True, by="ada", at=now), run=RunIdentity(dag_id="retention_purge", run_id="killed"),
              now=now, claim_ttl=timedelta(hours=1))
"""


@pytest.mark.parametrize("after", [1, 3, 5])
def test_a_purge_that_was_killed_between_two_removals_is_finished_by_the_next(vault, object_store, after):
    """After the fifth the manifest is gone too: the intent alone tells the next purge what the certificate must say."""
    manifest = require_manifest(vault.store, an_archive("2026-05"))
    given = {
        "bucket": vault.bucket,
        "url": object_store.endpoint_url,
        "archiver": object_store.keys("archiver"),
        "purger": object_store.keys("purger"),
        "archive_id": str(an_archive("2026-05")),
        "now": LATER.isoformat(),
        "after": after,
    }
    killed = subprocess.run([sys.executable, "-c", KILLED], input=json.dumps(given), text=True, check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert len(vault.left_of("2026-05")) == 5 - after
    assert vault.certificates() == []

    contended = vault.purge("2026-05", run=NEXT_RUN, now=LATER + TTL / 2)
    result = vault.purge("2026-05", run=NEXT_RUN, now=LATER + TTL)

    assert contended.result == "contended"
    assert (result.result, vault.left_of("2026-05")) == ("purged", [])
    certificate = vault.certificate("2026-05")
    assert (certificate.parts, certificate.begun_by.run_id) == (manifest.parts, "killed")
    assert len(certificate.removed) == 5


def test_a_lock_set_during_the_purge_stops_it(vault):
    def lock() -> None:
        until = datetime.now(timezone.utc) + timedelta(days=1)
        vault.admin.put_object_retention(
            Bucket=vault.bucket,
            Key=an_archive("2026-05").sums_key,
            Retention={"Mode": "GOVERNANCE", "RetainUntilDate": until},
        )

    result = vault.purge("2026-05", purge_store=Interrupting(vault, 1, lock))

    assert (result.result, len(vault.left_of("2026-05"))) == ("locked", 2)
    assert "GOVERNANCE mode until" in result.detail
    assert "3 of 5 versions were removed before, left are SHA256SUMS, public.audit.2026-05.0001.json" in result.detail


def test_what_is_left_after_all_is_an_error_and_no_certificate(vault):
    """Somebody writes into the archive while it is being destroyed."""
    part = an_archive("2026-05").part_key(0, "zstd")

    def write() -> None:
        vault.admin.put_object(Bucket=vault.bucket, Key=part, Body=b"again")

    with pytest.raises(StoreError, match="is not gone after its purge"):
        vault.purge("2026-05", purge_store=Interrupting(vault, 5, write))

    assert vault.certificates() == []
    assert vault.purge("2026-05").result == "purged"


def test_a_hold_tells_which_purges_under_it_had_begun(vault):
    def die() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        vault.purge("2026-05", purge_store=Interrupting(vault, 1, die))

    assert begun_purges(vault.store, vault.hold("2026-05")) == [an_archive("2026-05")]
    assert begun_purges(vault.store, vault.hold("2026-04")) == []


def test_a_claim_that_another_took_meanwhile_stops_the_purge_and_says_what_is_left(vault):
    key = claim_key("public", "audit", "2026-05")

    def take() -> None:
        claim = Claim(owner="restore", state="held", taken_at=LATER, expires_at=LATER + TTL)
        vault.admin.put_object(Bucket=vault.bucket, Key=key, Body=claim.model_dump_json().encode())

    result = vault.purge("2026-05", purge_store=Interrupting(vault, 1, take))

    assert result.result == "contended"
    assert result.detail.endswith(
        "1 of 5 versions were removed before, left are SHA256SUMS, part-00001.jsonl.zst, part-00002.jsonl.zst, "
        f"{an_archive('2026-05')}.json"
    )
    assert len(vault.left_of("2026-05")) == 4
