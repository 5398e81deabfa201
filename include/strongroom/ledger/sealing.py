"""Make parts an archive: write SHA256SUMS and a copy of the manifest, enter the manifest in the store's log, and write it.

Whoever seals knows that the parts are in the store as the manifest says, and holds the claim on the partition.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

from strongroom.errors import IntegrityError
from strongroom.ledger.configuration import keep_settings
from strongroom.ledger.entries import Facts, of_archive, subject_of
from strongroom.ledger.journal import enter_with_proof
from strongroom.ledger.manifest_record import Manifest, sha256_sums
from strongroom.object_keys.archives import ArchiveId
from strongroom.object_keys.records import proof_key
from strongroom.settings import TableSettings
from strongroom.storage.store import Store

_SOFTWARE = ("strongroom", "apache-airflow", "psycopg", "pyarrow", "zstandard", "boto3")


def software_versions() -> dict[str, str]:
    """What an archive is made with, as its manifest names it."""
    versions = {"python": platform.python_version()}
    for name in _SOFTWARE:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def write_sealed(store: Store, settings: TableSettings, manifest: Manifest, *, check: Callable[[], None]) -> None:
    """Seal an archive. A repeat with the same manifest finds what is there.

    Args:
        store: That has the parts.
        settings: Of the table; the log's entry names them by their digest.
        manifest: Of the archive.
        check: Raises if the archive must not be sealed. It is called before anything is written, and again when a later run
            would find the copy.

    Raises:
        IntegrityError: One of the objects is there, and is another.
    """
    archive = ArchiveId.parse(manifest.archive_id)
    check()
    put_and_compare(store, archive.sums_key, sha256_sums(manifest.parts), "text/plain")
    put_and_compare(store, archive.seal_key, manifest.to_json(), "application/json")
    check()
    _enter(store, settings, archive, manifest)
    put_and_compare(store, archive.manifest_key, manifest.to_json(), "application/json")


def _enter(store: Store, settings: TableSettings, archive: ArchiveId, manifest: Manifest) -> None:
    """Enter the archive in the store's log, which keeps the settings that its entries name."""
    keep_settings(store, settings)
    facts: Facts = {
        "rows": manifest.record_count,
        "parts": len(manifest.parts),
        "retention_until": f"{manifest.retention_until:%Y-%m-%dT%H:%M:%SZ}",
        "shape_sha256": manifest.shape_sha256,
    }
    if manifest.supersedes is not None:
        facts |= {"supersedes": manifest.supersedes.archive_id, "case": manifest.supersedes.case_id}
    act = of_archive(
        archive,
        "archived",
        legal_basis=manifest.legal_basis,
        settings_sha256=settings.sha256,
        facts=facts,
    )
    enter_with_proof(store, act, subject_of(archive.manifest_key, manifest.to_json()), proof_key(archive.seal_key))


def put_and_compare(store: Store, key: str, body: bytes, content_type: str) -> None:
    """Write an object and read it back: rows are deleted because of it.

    Raises:
        IntegrityError: It is not what was written.
    """
    store.put_bytes(key, body, content_type=content_type)
    found = store.read(key)
    if found is None or found[0] != body:
        raise IntegrityError(
            f"{store}{key} is not what was written",
            expected=f"SHA-256 {hashlib.sha256(body).hexdigest()}",
            found="nothing" if found is None else f"SHA-256 {hashlib.sha256(found[0]).hexdigest()}",
            hint="No row was deleted. Find out what is wrong with the store before anything else; remove the object if it "
            "is there, then clear this task.",
        )
