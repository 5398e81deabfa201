"""The one place that removes objects from the archive store: version by version, never around a lock.

It needs the purger's rights, which let it read and delete versions and write nothing. A plain delete, which only hides
an object behind a marker, is never made.
"""

from __future__ import annotations

from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from functools import cached_property

from pydantic import AwareDatetime

from strongroom.errors import StoreAccessError, StrongroomError
from strongroom.records import Record
from strongroom.storage.s3 import AbsentError
from strongroom.storage.store import Store
from strongroom.storage.versions import StoredVersion


class LockedError(StrongroomError):
    """An Object Lock protects a version; it is never forced."""

    code = "SR-306"


class UnfinishedUpload(Record):
    """A multipart upload that was begun and neither completed nor given up; its key has no prefix."""

    key: str
    upload_id: str
    initiated_at: AwareDatetime


class PurgeStore(Store):
    """A bucket and prefix as the purger sees them."""

    @cached_property
    def may_hold_locks(self) -> bool:
        """Whether a version in the bucket may be under an Object Lock; asked once.

        Without Object Lock on the bucket there can be none. S3 refuses to remove a locked version in any case. If the
        server does not say, or not to this identity, there may be locks.
        """
        try:
            return self.ask_bucket("get_object_lock_configuration") != {}
        except StoreAccessError:
            return True

    def lock_of(self, version: StoredVersion) -> str | None:
        """What keeps a version from being removed now, in words, or None; dates are measured by the store's own clock."""
        if version.is_marker:
            return None
        try:
            with self._translated("look at", version.key):
                answer = self.client.head_object(**self._named(version.key, version.version_id))
        except AbsentError:
            return None
        if answer.get("ObjectLockLegalHoldStatus") == "ON":
            return "an Object Lock legal hold"
        until = answer.get("ObjectLockRetainUntilDate")
        if until is not None and until > parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"]):
            return f"an Object Lock in {answer.get('ObjectLockMode')} mode until {until:%Y-%m-%d %H:%M %Z}"
        return None

    def remove(self, version: StoredVersion) -> None:
        """Remove one version or delete marker for good; does nothing if it is gone.

        Raises:
            LockedError: An Object Lock protects it.
            StoreAccessError: This identity may not remove it.
        """
        try:
            with self._translated("remove", version.key):
                self.client.delete_object(**self._named(version.key, version.version_id))
        except AbsentError:
            return
        except StoreAccessError:
            lock = self.lock_of(version)
            if lock is None:
                raise
            raise LockedError(
                f"{self}{version.key} version {version.version_id} is protected by {lock}",
                hint="It was not removed. When the lock has expired, or somebody with the right to do so has lifted it, the next purge removes it.",
            ) from None

    def unfinished_uploads(self, prefix: str) -> Iterator[UnfinishedUpload]:
        """All unfinished multipart uploads to keys below a prefix."""
        with self._translated("list unfinished uploads to", prefix):
            for page in self._pages("list_multipart_uploads", prefix):
                for entry in page.get("Uploads", ()):
                    yield UnfinishedUpload(
                        key=entry["Key"].removeprefix(self._prefix),
                        upload_id=entry["UploadId"],
                        initiated_at=entry["Initiated"],
                    )

    def abort(self, upload: UnfinishedUpload) -> None:
        """Give an unfinished upload up; does nothing if it is gone."""
        try:
            with self._translated("give up an upload to", upload.key):
                self.client.abort_multipart_upload(**self._named(upload.key), UploadId=upload.upload_id)
        except AbsentError:
            return
