"""Somebody with every right who damages an archive store, and can put back what was there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from strongroom.object_keys import ArchiveId
from strongroom.store import Store

Document = dict[str, Any]


class Vandal:
    """An administrator of the bucket, careless or worse."""

    def __init__(self, admin: Any, store: Store, bucket: str) -> None:
        self.admin, self.store, self.bucket = admin, store, bucket

    def read(self, key: str) -> bytes:
        """The newest version."""
        return self.admin.get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def write(self, key: str, body: bytes) -> str:
        """Put another version over an object; returns its id."""
        return self.admin.put_object(Bucket=self.bucket, Key=key, Body=body)["VersionId"]

    def hide(self, key: str) -> None:
        """Put a delete marker over an object."""
        self.admin.delete_object(Bucket=self.bucket, Key=key)

    def remove(self, key: str) -> None:
        """Remove every version of an object."""
        for version in self._versions(key):
            self.admin.delete_object(Bucket=self.bucket, Key=key, VersionId=version)

    def rot(self, archive: ArchiveId, number: int, body: bytes) -> None:
        """Let the very version that was verified have other bytes, as a bad disk would.

        A server gives no way to do that, so the damaged version is a new one, and manifest and copy name it.
        """
        [key] = (key for key in self.store.keys(archive.archive_prefix) if f"part-{number:05d}." in key)
        version = self.write(key, body)

        def name(document: Document) -> None:
            document["parts"][number]["version_id"] = version

        self.edit(archive, name, copy_too=True)

    def edit(self, archive: ArchiveId, change: Callable[[Document], object], *, copy_too: bool = False) -> None:
        """Change a manifest by hand, and its copy too where somebody was thorough."""
        document = json.loads(self.read(archive.manifest_key))
        change(document)
        for key in (archive.manifest_key, *([archive.seal_key] if copy_too else [])):
            self.write(key, json.dumps(document).encode())

    @contextmanager
    def undone(self) -> Iterator[None]:
        """Whatever is written or hidden in the block is taken back at its end."""
        before = set(self._all())
        try:
            yield
        finally:
            for key, version in set(self._all()) - before:
                self.admin.delete_object(Bucket=self.bucket, Key=key, VersionId=version)

    def _versions(self, key: str) -> list[str]:
        return [version for found, version in self._all(key) if found == key]

    def _all(self, prefix: str = "") -> Iterator[tuple[str, str]]:
        pages = self.admin.get_paginator("list_object_versions").paginate(Bucket=self.bucket, Prefix=prefix)
        for page in pages:
            for entry in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
                yield entry["Key"], entry["VersionId"]
