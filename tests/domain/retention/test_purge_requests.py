"""How many requests a purge makes. docs/explain/purge-requests.md says what each is for."""

from __future__ import annotations

import io
from collections import Counter

import pytest
from botocore.awsrequest import AWSResponse, HeadersDict
from urllib3 import HTTPResponse

from strongroom.ledger.holds import covered, place_hold
from strongroom.ledger.manifests import require_manifest
from tests.support.counting import count_requests
from tests.support.vault import LATER, SEALED, Vault, an_archive, fill_vault

OBJECTS = 5
"""Of an archive of three parts: these, SHA256SUMS and the manifest."""


@pytest.fixture
def vault(object_store, bucket, tmp_path) -> Vault:
    return fill_vault(object_store, bucket, tmp_path)


@pytest.fixture
def vault_without_locks(object_store, tmp_path) -> Vault:
    """A vault in a bucket that keeps versions and has no Object Lock."""
    admin, name = object_store.client("admin"), f"without-locks-{tmp_path.name.lower().replace('_', '-')[-30:]}"
    admin.create_bucket(Bucket=name)
    admin.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return fill_vault(object_store, name, tmp_path)


def requests_of_a_purge(vault: Vault) -> Counter[str]:
    """Without those that read the manifest, which whoever reads an archive makes too."""
    decision = vault.decisions(LATER)["2026-05"]
    reading = count_requests(lambda: require_manifest(vault.store, an_archive("2026-05")), vault.archiver)
    results = []

    made = count_requests(lambda: results.append(vault.carry_out(decision).result), vault.archiver, vault.purger)

    assert results == ["purged"]
    return made - reading


IN_ALL = {
    "GetObject": 4 + OBJECTS,
    "PutObject": 4,
    "ListObjectsV2": 3,
    "ListObjectVersions": 1 + 2 + 4 + OBJECTS,
    "DeleteObject": OBJECTS,
    "GetObjectLockConfiguration": 1,
}


def test_a_purge_looks_no_oftener_than_the_promise_wants(vault):
    assert requests_of_a_purge(vault) == {**IN_ALL, "HeadObject": OBJECTS}


def test_a_bucket_without_object_lock_is_not_searched_for_locks(vault_without_locks):
    """The bucket itself says it once for all archives that a task purges."""
    vault = vault_without_locks

    assert requests_of_a_purge(vault) == IN_ALL
    assert not vault.purge_store.may_hold_locks


def test_an_identity_that_may_not_ask_for_object_lock_looks_at_each_version(vault):
    refused = b"<Error><Code>AccessDenied</Code></Error>"
    vault.purger.meta.events.register(
        "before-send.s3.GetObjectLockConfiguration",
        lambda request, **_: AWSResponse(
            request.url, 403, HeadersDict(), HTTPResponse(io.BytesIO(refused), preload_content=False)
        ),
    )

    assert requests_of_a_purge(vault)["HeadObject"] == OBJECTS


def test_each_hold_is_read_once_in_a_purge(vault):
    """It is listed before each object all the same."""
    for number in range(3):
        what = covered("public", f"other_{number}")
        place_hold(vault.store, what, why="fraud case", who="ada", reference="EFCC/2026/17", now=SEALED)

    made = requests_of_a_purge(vault)

    assert made["GetObject"] == IN_ALL["GetObject"] + 3
    assert made["ListObjectVersions"] == IN_ALL["ListObjectVersions"]
