"""The archive store: create-only writes, reads of one version, listings. Nothing here can delete.

Works against S3 and servers that speak it. The store needs conditional writes (``If-None-Match: *`` and
``If-Match``), which S3 has had since November 2024.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, NoCredentialsError, SSLError
from pydantic import AwareDatetime, Field

from strongroom.errors import (
    ConfigurationError,
    FrozenError,
    IntegrityError,
    StoreAccessError,
    StoreError,
    StrongroomError,
)
from strongroom.records import Record
from strongroom.settings import StoreSettings
from strongroom.settings.values import is_loopback

CHUNK_BYTES = 1 << 20
"""How much of an object is in memory at a time."""

LARGEST_PUT_BYTES = 5 * 1024**3
"""S3 takes no larger body in one PUT."""

LARGEST_READ_BYTES = 256 << 20
"""No manifest, record or index is nearly as large; what is would fill the memory."""

_REFUSED = frozenset(
    {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "401", "403"}
    | {"NoSuchBucket", "InvalidBucketName", "PermanentRedirect", "AuthorizationHeaderMalformed", "AccountProblem"}
)
_ABSENT = frozenset({"NoSuchKey", "NoSuchVersion", "NoSuchUpload", "404"})
_TAKEN = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "412"})

_UNKNOWN = frozenset({"NotImplemented", "XNotImplemented", "MethodNotAllowed", "501", "405"})
_NONE = frozenset(
    {
        "NoSuchLifecycleConfiguration",
        "ObjectLockConfigurationNotFoundError",
        "ServerSideEncryptionConfigurationNotFoundError",
        "NoSuchPublicAccessBlockConfiguration",
    }
)


@dataclass(frozen=True)
class ObjectVersion:
    """One version of one object.

    Attributes:
        key: Object key without the store's prefix.
        sha256: What the writer said of the content, hex; None for an object that Strongroom did not write.
    """

    key: str
    version_id: str | None
    etag: str
    size_bytes: int
    sha256: str | None


class StoredVersion(Record):
    """One version of an object, or a delete marker that hides it, as a listing tells it; its key has no prefix."""

    key: str
    version_id: str = Field(description="'null' in a bucket that has no versions.")
    size_bytes: int
    modified_at: AwareDatetime
    is_latest: bool
    is_marker: bool = False
    etag: str | None = Field(
        default=None, description="None for a delete marker, and in records from before it was kept."
    )


def by_key(versions: Iterable[StoredVersion]) -> dict[str, tuple[StoredVersion, ...]]:
    """Versions and delete markers from a listing, by key, those of one key oldest first."""
    found: defaultdict[str, list[StoredVersion]] = defaultdict(list)
    older_first = list(versions)[::-1]  # of those of one second too: a listing tells the newest of a key first
    for version in sorted(older_first, key=lambda one: (one.key, one.modified_at, one.is_latest)):
        found[version.key].append(version)
    return {key: tuple(group) for key, group in found.items()}


def is_there(versions: Iterable[StoredVersion]) -> bool:
    """Whether there is an object, hidden or not, and not only delete markers."""
    return not all(version.is_marker for version in versions)


def make_client(
    settings: StoreSettings,
    *,
    session: boto3.Session,
    endpoint_url: str | None = None,
    tls_required: bool = True,
) -> Any:
    """Make the S3 client that :class:`Store` talks through.

    Args:
        settings: Region, endpoint, time-outs, pool size and retries.
        session: Holds the credentials.
        endpoint_url: Used when the settings name none; None means Amazon's own.
        tls_required: Refuse plain HTTP to any host but this one.

    Raises:
        ConfigurationError: The endpoint is plain HTTP and not on this machine.
    """
    endpoint_url = settings.endpoint_url or endpoint_url
    client = session.client(
        "s3",
        region_name=settings.region,
        endpoint_url=endpoint_url,
        config=Config(
            connect_timeout=settings.connect_timeout_seconds,
            read_timeout=settings.read_timeout_seconds,
            max_pool_connections=settings.max_connections,
            retries={"total_max_attempts": settings.max_attempts + 1, "mode": "adaptive"},
            s3={"addressing_style": "path" if endpoint_url else "auto"},
            # A response may be checked against whatever checksum it carries; whole-object sums are compared by us.
            response_checksum_validation="when_required",
            request_checksum_calculation="when_required",
        ),
    )
    if tls_required:
        _require_tls(client.meta.endpoint_url)
    return client


def _require_tls(endpoint_url: str) -> None:
    """Look at the address that the client will use: boto3 also takes one from its environment and its files."""
    address = urlsplit(endpoint_url)
    if address.scheme != "https" and not is_loopback(address.hostname):
        raise ConfigurationError(
            f"the store's endpoint {address.scheme}://{address.netloc.rpartition('@')[2]} is not encrypted",
            expected="https",
            found=address.scheme,
            hint="Nothing was sent. Use an https endpoint; `tls_required: false` allows plain HTTP on a network you trust.",
        )


class Store:
    """One bucket and prefix.

    Keys given and returned are without the prefix.

    Args:
        client: An S3 client from :func:`make_client`.
        settings: Bucket, prefix, encryption and storage class.
    """

    def __init__(self, client: Any, settings: StoreSettings) -> None:
        self._client = client
        self._settings = settings
        self._prefix = f"{settings.prefix.strip('/')}/" if settings.prefix.strip("/") else ""

    def __str__(self) -> str:
        return f"s3://{self._settings.bucket}/{self._prefix}"

    @property
    def connections(self) -> int:
        """How many requests go at a time before one waits for another's connection."""
        return self._settings.max_connections

    def prepare(self) -> None:
        """See that the bucket is there, lets us in and keeps versions; make it where the settings say so.

        Without versions the right to write is the right to destroy: who writes over an object removes it.

        Raises:
            StoreAccessError: There is no such bucket, it is not ours to use, or it keeps no versions.
            StoreError: The store did not answer.
        """
        bucket = self._settings.bucket
        self._look_at_bucket()
        with self._translated("look at the versioning of", ""):
            versioning = self._client.get_bucket_versioning(Bucket=bucket).get("Status", "off")
        if versioning != "Enabled":
            raise StoreAccessError(
                f"the bucket {bucket} keeps no versions",
                expected="versioning Enabled",
                found=versioning,
                hint="Nothing was written and no row was deleted. Switch versioning on; an archive could be overwritten else.",
            )
        if self._settings.object_lock != "off" and not self._locks():
            raise StoreAccessError(
                f"the bucket {bucket} has no Object Lock",
                expected=f"Object Lock, since `store.object_lock` is {self._settings.object_lock}",
                hint="Nothing was written and no row was deleted. Switch Object Lock on for the bucket; "
                "most servers want that when a bucket is made.",
            )

    def _look_at_bucket(self) -> dict[str, Any]:
        """What the store answers when it is asked for the bucket, which is made first where it is missing and may be."""
        try:
            with self._translated("look at", ""):
                answer: dict[str, Any] = self._client.head_bucket(Bucket=self._settings.bucket)
                return answer
        except AbsentError:
            if not self._settings.create_bucket:
                raise StoreAccessError(
                    f"there is no bucket {self._settings.bucket}",
                    hint="Nothing was written and no row was deleted. Look whether the name is right. If the bucket is to "
                    "be new, create it with versioning on, or set `store.create_bucket: true`.",
                ) from None
        with self._translated("create the bucket of", ""):
            self._create_bucket()
            made: dict[str, Any] = self._client.head_bucket(Bucket=self._settings.bucket)
            return made

    def _locks(self) -> bool:
        with self._translated("look at the Object Lock of", ""):
            try:
                answer = self._client.get_object_lock_configuration(Bucket=self._settings.bucket)
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") == "ObjectLockConfigurationNotFoundError":
                    return False
                raise
        return bool(answer.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") == "Enabled")

    def _create_bucket(self) -> None:
        bucket, region = self._settings.bucket, self._settings.region
        elsewhere = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        self._client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True, **elsewhere)
        self._client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})

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
                key, body, size_bytes, sha256, content_type, metadata, storage_class=self._settings.storage_class
            )

    def put_bytes(self, key: str, body: bytes, *, content_type: str = "application/json") -> ObjectVersion:
        """Write a small object under a key that nothing has yet; a repeat with the same bytes changes nothing.

        Raises:
            IntegrityError: The key holds something else.
        """
        sha256 = hashlib.sha256(body).hexdigest()
        return self._put_once(key, body, len(body), sha256, content_type, {}, storage_class="STANDARD")

    def put_first(self, key: str, body: bytes) -> bytes:
        """Write a small object unless there is one; what lies there then, whoever wrote it."""
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
                answer = self._client.put_object(
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
        except _TakenError:
            return self._same_or_raise(key, size_bytes, sha256)
        return ObjectVersion(key, answer.get("VersionId"), answer["ETag"].strip('"'), size_bytes, sha256)

    def _same_or_raise(self, key: str, size_bytes: int, sha256: str) -> ObjectVersion:
        present = self.head(key)
        if present is None:  # somebody else is just writing it
            raise _failed("write", f"{self}{key}", "another writer at the same moment")
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
            ETag of what was written; None if somebody else was faster.
        """
        condition = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": f'"{etag}"'}
        sha256 = hashlib.sha256(body).hexdigest()
        try:
            with self._translated("write", key):
                answer = self._client.put_object(
                    **self._named(key),
                    Body=body,
                    ContentType=content_type,
                    **condition,
                    **self._checksum(sha256),
                    **self._encryption(),
                )
        except (_TakenError, AbsentError):
            return None
        return str(answer["ETag"]).strip('"')

    def clock(self) -> datetime:
        """What the store's own clock says, to the second: the one clock that all who use the store share.

        It is what a run asks for first, so a missing bucket is found here, or made.
        """
        answer = self._look_at_bucket()
        return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])

    def head(self, key: str, version_id: str | None = None) -> ObjectVersion | None:
        """Say what lies under a key, or None."""
        try:
            with self._translated("look at", key):
                answer = self._client.head_object(**self._named(key, version_id))
        except AbsentError:
            return None
        return ObjectVersion(
            key,
            answer.get("VersionId"),
            answer["ETag"].strip('"'),
            answer["ContentLength"],
            answer["Metadata"].get("sha256"),
        )

    def read(self, key: str, version_id: str | None = None) -> tuple[bytes, str] | None:
        """Read a small object whole, the newest version unless told otherwise, with its ETag; None if there is none."""
        try:
            with self._translated("read", key):
                answer = self._client.get_object(**self._named(key, version_id))
                if answer["ContentLength"] > LARGEST_READ_BYTES:
                    raise IntegrityError(
                        f"{self}{key} is larger than any object of its kind",
                        expected=f"at most {LARGEST_READ_BYTES} bytes",
                        found=f"{answer['ContentLength']} bytes",
                        hint="Nothing was deleted or loaded. Somebody else wrote it: list its versions, and let an "
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
                yield from self._body(key, self._client.get_object(**self._named(key, version_id)))
        except AbsentError:
            raise _vanished(f"{self}{key}", version_id) from None

    def _body(self, key: str, answer: Any) -> Iterator[bytes]:
        """The content of an answer, in chunks. Where the line breaks in its middle the rest of that version is asked for:
        the client asks again for an answer that does not begin, but not for one that does not end.
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
                if breaks > self._settings.max_attempts:
                    raise
            answer = self._client.get_object(**named, Range=f"bytes={received}-")

    def locked_until(self, key: str, version_id: str | None) -> tuple[str, datetime] | None:
        """Mode and end of the retention that a version is under, or None.

        Raises:
            IntegrityError: There is no such version any more.
        """
        try:
            with self._translated("look at the lock of", key):
                answer = self._client.head_object(**self._named(key, version_id))
        except AbsentError:
            raise _vanished(f"{self}{key}", version_id) from None
        until = answer.get("ObjectLockRetainUntilDate")
        return None if until is None else (answer["ObjectLockMode"].lower(), until)

    def lock(self, key: str, version_id: str | None, *, mode: str, until: datetime) -> bool:
        """Keep a version from being removed until an instant; a lock that is there is made longer and never shorter.

        Returns:
            False if it was locked for as long before. A lock of the other mode keeps its mode.
        """
        present = self.locked_until(key, version_id)
        if present is not None and present[1] >= until.replace(microsecond=0):
            return False
        retention = {"Mode": (present[0] if present else mode).upper(), "RetainUntilDate": until}
        with self._translated("lock", key):
            self._client.put_object_retention(**self._named(key, version_id), Retention=retention)
        return True

    def keys(self, prefix: str) -> Iterator[str]:
        """All keys below a prefix, in the store's order (by UTF-8 bytes), however many there are."""
        return (key for key, _ in self.entries(prefix))

    def entries(self, prefix: str) -> Iterator[tuple[str, str]]:
        """All keys below a prefix, each with the ETag of its newest version, in the store's order."""
        with self._translated("list", prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._settings.bucket, Prefix=self._prefix + prefix
            )
            for page in pages:
                for entry in page.get("Contents", ()):
                    yield entry["Key"].removeprefix(self._prefix), entry["ETag"].strip('"')

    def versions(self, prefix: str) -> Iterator[StoredVersion]:
        """All versions and delete markers below a prefix, however many there are, in the order of their keys.

        A page of the listing tells versions before delete markers, and of one key the newest first.
        """
        with self._translated("list versions of", prefix):
            pages = self._client.get_paginator("list_object_versions").paginate(
                Bucket=self._settings.bucket, Prefix=self._prefix + prefix
            )
            for page in pages:
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

    def ask_bucket(self, operation: str) -> dict[str, Any] | None:
        """What the bucket says of one of its settings: empty where nothing is set, None where the server knows no such."""
        method: Callable[..., dict[str, Any]] = getattr(self._client, operation)
        with self._translated(f"ask {operation} of", ""):
            try:
                return method(Bucket=self._settings.bucket)
            except ClientError as error:
                code = str(error.response.get("Error", {}).get("Code"))
                status = str(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode"))
                if code in _NONE:
                    return {}
                if {code, status} & _UNKNOWN:
                    return None
                raise

    def rules(self) -> list[dict[str, Any]] | None:
        """All lifecycle rules as the server tells them; None where it knows none."""
        answer = self.ask_bucket("get_bucket_lifecycle_configuration")
        return None if answer is None else list(answer.get("Rules", ()))

    def key_of(self, key: str) -> str:
        """A key with the store's prefix."""
        return self._prefix + key

    def _named(self, key: str, version_id: str | None = None) -> dict[str, str]:
        named = {"Bucket": self._settings.bucket, "Key": self._prefix + key}
        return named if version_id is None else {**named, "VersionId": version_id}

    @staticmethod
    def _checksum(sha256: str) -> dict[str, str]:
        return {"ChecksumSHA256": b64encode(bytes.fromhex(sha256)).decode()}

    def _encryption(self) -> dict[str, str]:
        if self._settings.sse == "none":
            return {}
        encryption = {"ServerSideEncryption": str(self._settings.sse)}
        return encryption | ({"SSEKMSKeyId": self._settings.kms_key_id} if self._settings.kms_key_id else {})

    @contextmanager
    def _translated(self, doing: str, key: str) -> Iterator[None]:
        """Turn what the client raises into errors that say what, where and what to do."""
        where = f"{self}{key}"
        try:
            yield
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", "unknown"))
            if code in _ABSENT:
                raise AbsentError(
                    f"there is no {where}",
                    found=code,
                    hint="Nothing was changed. Find out who removed it, or whether bucket and prefix are the right ones.",
                ) from None
            if code in _TAKEN:
                raise _TakenError(
                    f"{where} is not, or no longer, as it was seen",
                    found=code,
                    hint="Nothing was overwritten. Somebody else writes this object: clear the task when they are done.",
                ) from None
            if code == "InvalidObjectState":
                raise FrozenError(
                    f"{where} lies in a Glacier class and cannot be read",
                    expected="an object that can be read at once",
                    found=error.response["Error"].get("StorageClass", code),
                    hint="Nothing was changed. A restore asks for its return and waits for it.",
                ) from None
            said = f"{code}: {error.response.get('Error', {}).get('Message', '')}".strip(": ")
            if code in _REFUSED:
                raise StoreAccessError(
                    f"the store refused to {doing} {where}",
                    found=said,
                    hint="Nothing was overwritten, and no row is deleted before its archive is proved. "
                    "Check the store connection's keys, "
                    "the bucket's name and the rights of this identity, then clear the task.",
                ) from None
            raise _failed(doing, where, said) from None
        except NoCredentialsError:
            raise StoreAccessError(
                f"no credentials to {doing} {where}",
                hint="Nothing was written, and no row is deleted before its archive is proved. "
                "Give the store's Airflow connection keys (login and password), a `role_arn` or a profile.",
            ) from None
        except SSLError as error:
            if "certificate" not in str(error).lower():  # a connection that broke off
                raise _failed(doing, where, str(error)) from None
            raise StoreAccessError(
                f"the store could not prove who it is, so nothing was sent to {doing} {where}",
                found=str(error),
                hint="Nothing was overwritten, and no row is deleted before its archive is proved. See that the endpoint is the "
                "right one; where an authority of your own signed its certificate, name that one's file in AWS_CA_BUNDLE.",
            ) from None
        except (BotoCoreError, HTTPClientError) as error:
            raise _failed(doing, where, str(error)) from None


def _failed(doing: str, where: str, said: str) -> StoreError:
    return StoreError(
        f"the store failed to {doing} {where}",
        found=said,
        hint="Nothing was overwritten, and no row is deleted before its archive is proved. "
        "See whether the store is up and reachable; "
        "the task tries again by itself, and can be cleared when its tries are used up.",
    )


def _vanished(where: str, version_id: str | None) -> IntegrityError:
    return IntegrityError(
        f"{where} version {version_id} is not in the store",
        hint="No row was deleted because of this object. Find out who removed it; "
        "if the rows are still in the table, run the partition again.",
    )


class AbsentError(StrongroomError):
    """There is no such object, version or bucket."""


class _TakenError(StrongroomError):
    """The condition of a conditional write does not hold."""
