"""How we talk to S3: the client, a bucket and prefix, and what S3's errors become.

Works against S3 and servers that speak it. They need conditional writes (``If-None-Match: *`` and ``If-Match``), which S3
has had since November 2024.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, NoCredentialsError, SSLError

from strongroom.errors import ConfigurationError, FrozenError, StoreAccessError, StoreError, StrongroomError
from strongroom.settings import StoreSettings
from strongroom.settings.values import is_loopback

PAGE_KEYS = 1000
"""How many keys a listing asks for at a time; S3 gives no more."""

_REFUSED = frozenset(
    {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "401", "403"}
    | {"NoSuchBucket", "InvalidBucketName", "PermanentRedirect", "AuthorizationHeaderMalformed", "AccountProblem"}
)
_ABSENT = frozenset({"NoSuchKey", "NoSuchVersion", "NoSuchUpload", "404"})
_TAKEN = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "412"})

_UNKNOWN = frozenset({"NotImplemented", "XNotImplemented", "MethodNotAllowed", "501", "405"})
_NOT_SO = frozenset({"InvalidRequest", "InvalidEncryptionAlgorithmError", "InvalidStorageClass"}) | _UNKNOWN
"""What servers say to a write that asks for an encryption or a storage class that they do not have."""

_NONE = frozenset(
    {
        "NoSuchLifecycleConfiguration",
        "ObjectLockConfigurationNotFoundError",
        "ServerSideEncryptionConfigurationNotFoundError",
        "NoSuchPublicAccessBlockConfiguration",
    }
)

_USER_AGENT = f"strongroom/{version('strongroom')} botocore/{botocore.__version__}"
"""What the logs of an S3 server show. botocore's own is built anew for each request, which takes a tenth of the request."""

_NOTHING_CHANGED = "Nothing was overwritten, and no row is deleted before its archive is proved."


class AbsentError(StrongroomError):
    """There is no such object, version or bucket."""

    code = "SR-304"


class TakenError(StrongroomError):
    """The condition of a conditional write does not hold."""

    code = "SR-305"


class S3Place:
    """One bucket and prefix.

    Keys given and returned are without the prefix.

    Args:
        client: An S3 client from :func:`make_client`.
        settings: Bucket, prefix, encryption and storage class.
    """

    def __init__(self, client: Any, settings: StoreSettings) -> None:
        self.client = client
        self.settings = settings
        self._prefix = f"{settings.prefix.strip('/')}/" if settings.prefix.strip("/") else ""

    def __str__(self) -> str:
        return f"s3://{self.settings.bucket}/{self._prefix}"

    @property
    def connections(self) -> int:
        """How many requests go at a time before one waits for another's connection."""
        return self.settings.max_connections

    def key_of(self, key: str) -> str:
        """A key with the prefix."""
        return self._prefix + key

    def ask_bucket(self, operation: str) -> dict[str, Any] | None:
        """One of the bucket's settings: empty if nothing is set, None if the server does not know the setting."""
        method: Callable[..., dict[str, Any]] = getattr(self.client, operation)
        with self._translated(f"ask {operation} of", ""):
            try:
                return method(Bucket=self.settings.bucket)
            except ClientError as error:
                code = str(error.response.get("Error", {}).get("Code"))
                status = str(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode"))
                if code in _NONE:
                    return {}
                if {code, status} & _UNKNOWN:
                    return None
                raise

    def rules(self) -> list[dict[str, Any]] | None:
        """All lifecycle rules; None if the server does not know lifecycle rules."""
        answer = self.ask_bucket("get_bucket_lifecycle_configuration")
        return None if answer is None else list(answer.get("Rules", ()))

    def _named(self, key: str, version_id: str | None = None) -> dict[str, str]:
        named = {"Bucket": self.settings.bucket, "Key": self._prefix + key}
        return named if version_id is None else {**named, "VersionId": version_id}

    def _pages(self, operation: str, prefix: str) -> Iterator[dict[str, Any]]:
        """The pages of a listing below a prefix."""
        where = {"Bucket": self.settings.bucket, "Prefix": self._prefix + prefix}
        yield from self.client.get_paginator(operation).paginate(**where, PaginationConfig={"PageSize": PAGE_KEYS})

    @contextmanager
    def _translated(self, doing: str, key: str) -> Iterator[None]:
        """Turn what the client raises into errors that say what, where and what to do."""
        where = f"{self}{key}"
        try:
            yield
        except ClientError as error:
            raise _answered(error, doing, where) from None
        except (BotoCoreError, HTTPClientError) as error:
            raise _unanswered(error, doing, where) from None


def make_client(
    settings: StoreSettings,
    *,
    session: boto3.Session,
    endpoint_url: str | None = None,
    tls_required: bool = True,
) -> Any:
    """Make the S3 client that a store talks through.

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
            user_agent=_USER_AGENT,
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


def failed(doing: str, where: str, said: str) -> StoreError:
    """The error for a store that did not do what it was asked, but may next time."""
    return StoreError(
        f"the store failed to {doing} {where}",
        found=said,
        hint=f"{_NOTHING_CHANGED} See whether the store is up and reachable; "
        "the task tries again by itself, and can be cleared when its tries are used up.",
    )


def _answered(error: ClientError, doing: str, where: str) -> StrongroomError:
    """The error for an answer that says no."""
    code = str(error.response.get("Error", {}).get("Code", "unknown"))
    if code in _ABSENT:
        return AbsentError(
            f"there is no {where}",
            found=code,
            hint="Nothing was changed. Find out who removed it, or whether bucket and prefix are the right ones.",
        )
    if code in _TAKEN:
        return TakenError(
            f"{where} is not, or no longer, as it was seen",
            found=code,
            hint="Nothing was overwritten. Another process writes this object: clear the task when it is done.",
        )
    if code == "InvalidObjectState":
        return FrozenError(
            f"{where} lies in a Glacier class and cannot be read",
            expected="an object that can be read at once",
            found=error.response["Error"].get("StorageClass", code),
            hint="Nothing was changed. A restore requests it from Glacier and waits for it.",
        )
    said = f"{code}: {error.response.get('Error', {}).get('Message', '')}".strip(": ")
    if code in _REFUSED:
        return StoreAccessError(
            f"the store refused to {doing} {where}",
            found=said,
            hint=f"{_NOTHING_CHANGED} Check the store connection's keys, "
            "the bucket's name and the rights of this identity, then clear the task.",
        )
    if code in _NOT_SO and doing == "write":
        return StoreAccessError(
            f"the store does not take an object as it was asked to {doing} {where}",
            found=said,
            hint=f"{_NOTHING_CHANGED} Perhaps the server does not know the encryption of `store.sse` (`none` asks for none), or not without TLS, "
            "or the class of `store.storage_class`. Correct the settings, then clear the task.",
        )
    return failed(doing, where, said)


def _unanswered(error: BotoCoreError | HTTPClientError, doing: str, where: str) -> StrongroomError:
    """The error for a request that got no answer, or was never sent."""
    if isinstance(error, NoCredentialsError):
        return StoreAccessError(
            f"no credentials to {doing} {where}",
            hint="Nothing was written, and no row is deleted before its archive is proved. "
            "Give the store's Airflow connection keys (login and password), a `role_arn` or a profile.",
        )
    if isinstance(error, SSLError) and "certificate" in str(error).lower():  # else the connection broke off
        return StoreAccessError(
            f"the store could not prove who it is, so nothing was sent to {doing} {where}",
            found=str(error),
            hint=f"{_NOTHING_CHANGED} Check that the endpoint is the right one. If an authority of your own signed its "
            "certificate, name that authority's file in AWS_CA_BUNDLE.",
        )
    return failed(doing, where, str(error))
