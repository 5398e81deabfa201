"""The archive store: create-only writes, reads of one version, listings. Nothing here can delete."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from strongroom.errors import IntegrityError, StoreAccessError
from strongroom.settings import StoreSettings
from strongroom.storage.author import Author
from strongroom.storage.s3 import AbsentError, S3Place, TakenError, failed
from strongroom.storage.versions import StoredVersion, by_key

CHUNK_BYTES = 1 << 20
"""How much of an object is in memory at a time."""

LARGEST_PUT_BYTES = 5 * 1024**3
"""S3 takes no larger body in one PUT."""

LARGEST_READ_BYTES = 256 << 20
"""No manifest, record or index is nearly as large; what is would fill the memory."""


@dataclass(frozen=True)
class ObjectVersion:
    """One version of one object.

    Attributes:
        key: Object key without the store's prefix.
        sha256: What the writer said of the content, hex; None for an object that Strongroom did not write.
        encryption: How the store encrypts it; None if it does not say.
        lock: Mode and end of the retention that it is under; None if it is under none.
        storage_class: None if the store does not say, which means its standard class.

        content_type: What a browser is told that it is.
        metadata: What the writer said of it.

    The last five are known after :meth:`Store.head` alone, so two of one version are equal whatever they say.
    """

    key: str
    version_id: str | None
    etag: str
    size_bytes: int
    sha256: str | None
    encryption: str | None = field(default=None, compare=False)
    lock: tuple[str, datetime] | None = field(default=None, compare=False)
    storage_class: str | None = field(default=None, compare=False)
    content_type: str | None = field(default=None, compare=False)
    metadata: Mapping[str, str] = field(default_factory=dict, compare=False)


class Store(S3Place):
    """One bucket and prefix.

    Keys given and returned are without the prefix.

    Args:
        client: An S3 client from :func:`make_client`.
        settings: Bucket, prefix, encryption and storage class.
        author: Whose entries in the store's transparency log are; None for who only reads.
        connect_replica: Opens the second copy of the store; None if there is none.
    """

    def __init__(
        self,
        client: Any,
        settings: StoreSettings,
        *,
        author: Author | None = None,
        connect_replica: Callable[[], Store] | None = None,
    ) -> None:
        super().__init__(client, settings)
        self.author = author
        self._connect_replica = connect_replica

    @cached_property
    def replica(self) -> Store | None:
        """The second copy of the store; None if the settings name none. :mod:`strongroom.storage.either` reads from it."""
        return None if self._connect_replica is None else self._connect_replica()

    def prepare(self, *, create: bool = True) -> None:
        """Check that the bucket exists, lets us in and keeps versions; create it if the settings say so.

        Without versions the right to write is the right to destroy: writing over an object removes it.

        Args:
            create: Whether a missing bucket may be created.

        Raises:
            StoreAccessError: There is no such bucket, it is not ours to use, or it keeps no versions.
            StoreError: The store did not answer.
        """
        bucket = self.settings.bucket
        self._look_at_bucket(create=create)
        with self._translated("look at the versioning of", ""):
            versioning = self.client.get_bucket_versioning(Bucket=bucket).get("Status", "off")
        if versioning != "Enabled":
            raise StoreAccessError(
                f"the bucket {bucket} keeps no versions",
                expected="versioning Enabled",
                found=versioning,
                hint="Nothing was written and no row was deleted. Switch versioning on; otherwise an archive could be overwritten.",
            )
        if self.settings.object_lock != "off" and not self._locks():
            raise StoreAccessError(
                f"the bucket {bucket} has no Object Lock",
                expected=f"Object Lock, since `store.object_lock` is {self.settings.object_lock}",
                hint="Nothing was written and no row was deleted. Switch Object Lock on for the bucket; "
                "most servers want that when a bucket is made.",
            )

    def _look_at_bucket(self, *, create: bool = True) -> dict[str, Any]:
        """Ask for the bucket, and create it first if it is missing and the settings allow it."""
        try:
            with self._translated("look at", ""):
                answer: dict[str, Any] = self.client.head_bucket(Bucket=self.settings.bucket)
                return answer
        except AbsentError:
            if not (create and self.settings.create_bucket):
                raise StoreAccessError(
                    f"there is no bucket {self.settings.bucket}",
                    hint="Nothing was written and no row was deleted. Check the name. If the bucket is to "
                    "be new, create it with versioning on, or set `store.create_bucket: true`.",
                ) from None
        with self._translated("create the bucket of", ""):
            self._create_bucket()
            made: dict[str, Any] = self.client.head_bucket(Bucket=self.settings.bucket)
            return made

    def _locks(self) -> bool:
        with self._translated("look at the Object Lock of", ""):
            try:
                answer = self.client.get_object_lock_configuration(Bucket=self.settings.bucket)
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") == "ObjectLockConfigurationNotFoundError":
                    return False
                raise
        return bool(answer.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") == "Enabled")

    def _create_bucket(self) -> None:
        bucket, region = self.settings.bucket, self.settings.region
        elsewhere = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        self.client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True, **elsewhere)
        self.client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})

    def put_file(
        self, key: str, path: Path, *, sha256: str, content_type: str, metadata: Mapping[str, str]
    ) -> ObjectVersion:
        """Write a file under a key that nothing has yet; the store checks the SHA-256 on arrival.

        A repeat with the same content returns the version that is there.

        Raises:
            IntegrityError: The key holds something else.
            StoreError: The store failed, or the file is over 5 GiB.
        """
        size_bytes = path.stat().st_size
        if size_bytes > LARGEST_PUT_BYTES:
            raise StoreAccessError(
                f"{path.name} is too large for one object",
                expected=f"at most {LARGEST_PUT_BYTES} bytes",
                found=f"{size_bytes} bytes",
                hint="Nothing was uploaded and no row was deleted. Lower `part_bytes` or `part_rows` and clear 'plan'.",
            )
        with path.open("rb") as body:
            return self._put_once(
                key, body, size_bytes, sha256, content_type, metadata, storage_class=self.settings.storage_class
            )

    def put_bytes(self, key: str, body: bytes, *, content_type: str = "application/json") -> ObjectVersion:
        """Write a small object under a key that nothing has yet; a repeat with the same bytes changes nothing.

        Raises:
            IntegrityError: The key holds something else.
        """
        sha256 = hashlib.sha256(body).hexdigest()
        return self._put_once(key, body, len(body), sha256, content_type, {}, storage_class="STANDARD")

    def put_first(self, key: str, body: bytes) -> bytes:
        """Write a small object unless there is one. Returns what is there afterwards, whoever wrote it."""
        try:
            self.put_bytes(key, body)
        except IntegrityError:
            present = self.read(key)
            if present is None:
                raise
            return present[0]
        return body

    def _put_once(
        self,
        key: str,
        body: Any,
        size_bytes: int,
        sha256: str,
        content_type: str,
        metadata: Mapping[str, str],
        *,
        storage_class: str,
    ) -> ObjectVersion:
        try:
            with self._translated("write", key):
                answer = self.client.put_object(
                    **self._named(key),
                    Body=body,
                    ContentLength=size_bytes,
                    ContentType=content_type,
                    IfNoneMatch="*",
                    Metadata={**metadata, "sha256": sha256},
                    **self._checksum(sha256),
                    **self._encryption(),
                    **({} if storage_class == "STANDARD" else {"StorageClass": storage_class}),
                )
        except TakenError:
            return self._same_or_raise(key, size_bytes, sha256)
        return ObjectVersion(key, answer.get("VersionId"), answer["ETag"].strip('"'), size_bytes, sha256)

    def _same_or_raise(self, key: str, size_bytes: int, sha256: str) -> ObjectVersion:
        present = self.head(key)
        if present is None:  # another process is writing it now
            raise failed("write", f"{self}{key}", "another writer at the same moment")
        if (present.size_bytes, present.sha256) == (size_bytes, sha256):
            return present
        raise IntegrityError(
            f"{self}{key} is taken by other content",
            expected=f"{size_bytes} bytes with SHA-256 {sha256}",
            found=f"{present.size_bytes} bytes with SHA-256 {present.sha256}",
            hint="Nothing was overwritten, and no row is deleted before its archive is proved. "
            "Clear 'plan' and the tasks after it: "
            "the run then takes the next archive id.",
        )

    def swap(self, key: str, body: bytes, *, etag: str | None, content_type: str = "application/json") -> str | None:
        """Write a small object only if it is still the one that was read: compare and swap.

        Args:
            key: Object key.
            body: New content.
            etag: ETag of the version that was read; None when there was none.
            content_type: What a browser is told that it is.

        Returns:
            ETag of what was written; None if another writer was faster.
        """
        condition = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": f'"{etag}"'}
        sha256 = hashlib.sha256(body).hexdigest()
        try:
            with self._translated("write", key):
                answer = self.client.put_object(
                    **self._named(key),
                    Body=body,
                    ContentType=content_type,
                    **condition,
                    **self._checksum(sha256),
                    **self._encryption(),
                )
        except (TakenError, AbsentError):
            return None
        return str(answer["ETag"]).strip('"')

    def clock(self) -> datetime:
        """The store's own time, to the second: the one clock that all its users share.

        A run asks for it first, so a missing bucket is found here, or created.
        """
        answer = self._look_at_bucket()
        return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])

    def head(self, key: str, version_id: str | None = None) -> ObjectVersion | None:
        """Say what is under a key; None if nothing is."""
        try:
            with self._translated("look at", key):
                answer = self.client.head_object(**self._named(key, version_id))
        except AbsentError:
            return None
        until = answer.get("ObjectLockRetainUntilDate")
        return ObjectVersion(
            key,
            answer.get("VersionId"),
            answer["ETag"].strip('"'),
            answer["ContentLength"],
            answer["Metadata"].get("sha256"),
            encryption=answer.get("ServerSideEncryption"),
            lock=None if until is None else (answer["ObjectLockMode"].lower(), until),
            storage_class=answer.get("StorageClass"),
            content_type=answer.get("ContentType"),
            metadata=answer["Metadata"],
        )

    def read(
        self, key: str, version_id: str | None = None, *, most_bytes: int | None = None
    ) -> tuple[bytes, str] | None:
        """Read a small object whole, the newest version unless told otherwise, with its ETag; None if there is none.

        Raises:
            IntegrityError: It has more bytes than any object of its kind. None of them was read.
        """
        most_bytes = most_bytes or LARGEST_READ_BYTES
        try:
            with self._translated("read", key):
                answer = self.client.get_object(**self._named(key, version_id))
                if answer["ContentLength"] > most_bytes:
                    raise IntegrityError(
                        f"{self}{key} is larger than any object of its kind",
                        expected=f"at most {most_bytes} bytes",
                        found=f"{answer['ContentLength']} bytes",
                        hint="Nothing was deleted or loaded. Strongroom did not write it: list its versions, and let an "
                        "administrator of the bucket remove this one by its version id.",
                    )
                return b"".join(self._body(key, answer)), answer["ETag"].strip('"')
        except AbsentError:
            return None

    def chunks(self, key: str, version_id: str | None) -> Iterator[bytes]:
        """Stream the content of one version.

        Raises:
            IntegrityError: There is no such version any more.
        """
        try:
            with self._translated("read", key):
                yield from self._body(key, self.client.get_object(**self._named(key, version_id)))
        except AbsentError:
            raise _vanished(f"{self}{key}", version_id) from None

    def _body(self, key: str, answer: Any) -> Iterator[bytes]:
        """The content of an answer, in chunks. If the connection breaks, the rest of that version is requested.

        The client itself repeats a request whose answer never begins, but not one whose answer breaks off.
        """
        named, received, breaks = self._named(key, answer.get("VersionId")), 0, 0
        while True:
            try:
                for chunk in answer["Body"].iter_chunks(CHUNK_BYTES):
                    received += len(chunk)
                    yield chunk
                return
            except BotoCoreError:
                breaks += 1
                if breaks > self.settings.max_attempts:
                    raise
            answer = self.client.get_object(**named, Range=f"bytes={received}-")

    def locked_until(self, key: str, version_id: str | None) -> tuple[str, datetime] | None:
        """Mode and end of the retention that a version is under, or None.

        Raises:
            IntegrityError: There is no such version any more.
        """
        present = self.head(key, version_id)
        if present is None:
            raise _vanished(f"{self}{key}", version_id)
        return present.lock

    def lock(self, key: str, version_id: str | None, *, mode: str, until: datetime) -> bool:
        """Keep a version from being removed until an instant; an existing lock is only ever extended.

        Returns:
            False if it was locked for as long before. A lock of the other mode keeps its mode.
        """
        present = self.locked_until(key, version_id)
        if present is not None and present[1] >= until.replace(microsecond=0):
            return False
        retention = {"Mode": (present[0] if present else mode).upper(), "RetainUntilDate": until}
        with self._translated("lock", key):
            self.client.put_object_retention(**self._named(key, version_id), Retention=retention)
        return True

    def keys(self, prefix: str) -> Iterator[str]:
        """All keys below a prefix, in the store's order (by UTF-8 bytes), however many there are."""
        return (key for key, _ in self.entries(prefix))

    def entries(self, prefix: str) -> Iterator[tuple[str, str]]:
        """All keys below a prefix, each with the ETag of its newest version, in the store's order."""
        with self._translated("list", prefix):
            for page in self._pages("list_objects_v2", prefix):
                for entry in page.get("Contents", ()):
                    yield entry["Key"].removeprefix(self._prefix), entry["ETag"].strip('"')

    def versions(self, prefix: str) -> Iterator[StoredVersion]:
        """All versions and delete markers below a prefix, however many there are, in the order of their keys.

        A page of the listing tells versions before delete markers, and of one key the newest first.
        """
        with self._translated("list versions of", prefix):
            for page in self._pages("list_object_versions", prefix):
                for kind in ("Versions", "DeleteMarkers"):
                    for entry in page.get(kind, ()):
                        yield StoredVersion(
                            key=entry["Key"].removeprefix(self._prefix),
                            version_id=entry["VersionId"],
                            size_bytes=entry.get("Size", 0),
                            modified_at=entry["LastModified"],
                            is_latest=entry["IsLatest"],
                            is_marker=kind == "DeleteMarkers",
                            etag=entry["ETag"].strip('"') if "ETag" in entry else None,
                        )

    def history(self, key: str) -> tuple[StoredVersion, ...]:
        """All versions and delete markers of one object, oldest first."""
        return by_key(self.versions(key)).get(key, ())

    @staticmethod
    def _checksum(sha256: str) -> dict[str, str]:
        return {"ChecksumSHA256": b64encode(bytes.fromhex(sha256)).decode()}

    def _encryption(self) -> dict[str, str]:
        if self.settings.sse == "none":
            return {}
        encryption = {"ServerSideEncryption": str(self.settings.sse)}
        return encryption | ({"SSEKMSKeyId": self.settings.kms_key_id} if self.settings.kms_key_id else {})


def _vanished(where: str, version_id: str | None) -> IntegrityError:
    return IntegrityError(
        f"{where} version {version_id} is not in the store",
        hint="No row was deleted because of this object. Find out who removed it; "
        "if the rows are still in the table, run the partition again.",
    )
