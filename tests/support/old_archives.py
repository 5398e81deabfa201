"""Archives as earlier versions wrote them."""

from __future__ import annotations

from typing import Any

from strongroom.ledger.manifests import read_manifest
from strongroom.object_keys.archives import ArchiveId
from tests.support.chain import Chain
from tests.support.partitions import remove


def as_version_1(chain: Chain, object_store: Any, archive: ArchiveId) -> None:
    """Write the manifest as the first version did: without blocks, and without a word about the order of rows."""
    manifest = read_manifest(chain.store, archive)
    of_then = {"blocks_sha256": None, "ordered": False, "keys_sha256": "0" * 64}
    parts = tuple(part.model_copy(update=of_then) for part in manifest.parts)
    old = manifest.model_copy(update={"format_version": 1, "parts": parts}).to_json()
    admin, where = object_store.client("admin"), chain.settings.store
    for key in (archive.manifest_key, archive.seal_key):
        remove(object_store, chain, key)
        admin.put_object(Bucket=where.bucket, Key=f"{where.prefix}/{key}", Body=old)
