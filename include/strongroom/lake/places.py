"""Where an Iceberg table finds its bytes: the archive store, which is only read, and a bucket of its own, which is written.

The bucket of its own must keep no versions, since what is removed from it must be gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from strongroom.errors import StoreAccessError
from strongroom.object_keys.layout import ARCHIVES, table_folder
from strongroom.storage.s3 import AbsentError
from strongroom.storage.store import Store

_PAGES = "list_object_versions"


@dataclass(frozen=True)
class StoredPart:
    """An object among the archives, as a reader finds it who does not ask for a version.

    Attributes:
        versions: How many versions and delete markers there are; one, unless somebody wrote over it or hid it.
    """

    size_bytes: int
    storage_class: str
    versions: int


class ReadPlace(Store):
    """A bucket and prefix that an Iceberg table reads."""

    def stored_parts(self, schema_name: str, table_name: str) -> Mapping[str, StoredPart]:
        """All objects of the archives of one table, by key, from one listing."""
        found: dict[str, StoredPart] = {}
        prefix = f"{ARCHIVES}{table_folder(schema_name, table_name)}/"
        with self._translated("list versions of", prefix):
            for page in self._pages(_PAGES, prefix):
                for entry in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
                    key = entry["Key"].removeprefix(self._prefix)
                    before = found.get(key)
                    found[key] = StoredPart(
                        entry.get("Size", 0),
                        entry.get("StorageClass") or "STANDARD",
                        1 if before is None else before.versions + 1,
                    )
        return found

    def read_range(self, key: str, first: int, length: int) -> bytes:
        """Some bytes of an object.

        Raises:
            AbsentError: There is no such object.
        """
        with self._translated("read", key):
            answer = self.client.get_object(**self._named(key), Range=f"bytes={first}-{first + length - 1}")
            body: bytes = answer["Body"].read()
            return body


class OwnPlace(ReadPlace):
    """The bucket and prefix that hold the metadata of Iceberg tables, and nothing else."""

    def require_fit(self) -> None:
        """Check that the bucket exists and keeps no versions.

        Raises:
            StoreAccessError: There is no such bucket, it is not ours to use, or it keeps versions.
        """
        try:
            with self._translated("look at the versioning of", ""):
                versioning = self.client.get_bucket_versioning(Bucket=self.settings.bucket).get("Status", "off")
        except AbsentError:
            versioning = "no such bucket"
        if versioning not in ("off", "Suspended", ""):
            raise StoreAccessError(
                f"the bucket {self.settings.bucket} is not fit for Iceberg tables",
                expected="a bucket without versions, so that metadata of purged archives is gone when it is removed",
                found=versioning if versioning != "Enabled" else "versioning Enabled",
                hint="No archive was touched, and no table was changed. Create a bucket without versioning and Object Lock for "
                "`iceberg.bucket`; see docs/howto/iceberg.md.",
            )

    def write(self, key: str, body: bytes, *, overwrite: bool = False) -> None:
        """Write an object.

        Raises:
            TakenError: There is one already, and `overwrite` is False.
        """
        condition = {} if overwrite else {"IfNoneMatch": "*"}
        with self._translated("write", key):
            self.client.put_object(**self._named(key), Body=body, **condition, **self._encryption())

    def remove(self, key: str) -> None:
        """Remove an object; does nothing if it is gone."""
        with self._translated("remove", key):
            self.client.delete_object(**self._named(key))
