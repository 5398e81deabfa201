"""A bucket and prefix as one identity sees it when its rights are tried. What must be refused is tried where it would do no harm."""

from __future__ import annotations

from strongroom.errors import StoreAccessError
from strongroom.storage.purge_store import PurgeStore
from strongroom.storage.s3 import AbsentError

NO_VERSION = "null"
"""The version id of an object that was written without versions. Removing it where there is none changes nothing."""


class TriedStore(PurgeStore):
    """Says of one right after the other whether the identity has it.

    Raises, in each method:
        StoreError: The store failed for another reason than a missing right.
    """

    def may_read(self, key: str) -> bool:
        """Whether the identity may read an object; there need be none."""
        try:
            with self._translated("read", key):
                self.client.get_object(**self._named(key))["Body"].close()
        except AbsentError:
            return True
        except StoreAccessError:
            return False
        return True

    def may_write(self, key: str, body: bytes) -> bool:
        """Whether the identity may write an object; then it is there."""
        try:
            with self._translated("write", key):
                self.client.put_object(**self._named(key), Body=body)
        except StoreAccessError:
            return False
        return True

    def may_hide(self, key: str) -> bool:
        """Whether the identity may hide an object behind a delete marker; then there is one."""
        return self._may_delete(key, None)

    def may_remove(self, key: str, version_id: str) -> bool:
        """Whether the identity may remove a version; then it is gone."""
        return self._may_delete(key, version_id)

    def _may_delete(self, key: str, version_id: str | None) -> bool:
        try:
            with self._translated("remove", key):
                self.client.delete_object(**self._named(key, version_id))
        except AbsentError:
            return True
        except StoreAccessError:
            return False
        return True
