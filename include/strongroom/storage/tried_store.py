"""A bucket and prefix as one identity sees it when its rights are tried. What must be refused is tried where it would do no harm."""

from __future__ import annotations

import hashlib
import secrets
from base64 import b64encode

import boto3
from botocore.exceptions import ClientError

from strongroom.errors import StoreAccessError
from strongroom.storage.purge_store import PurgeStore
from strongroom.storage.s3 import AbsentError, make_client

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

    def lets_strangers_in(self, key: str) -> bool:
        """Whether the server lets somebody read an object whose keys nobody ever gave out; there need be no object."""
        nobody = boto3.Session("AKIA" + secrets.token_hex(8).upper(), secrets.token_urlsafe(30))
        where = self.settings.model_copy(update={"region": self.client.meta.region_name})
        client = make_client(where, session=nobody, endpoint_url=self.client.meta.endpoint_url, tls_required=False)
        return TriedStore(client, where).may_read(key)

    def takes_what_broke(self, key: str, body: bytes) -> bool:
        """Whether the server takes bytes that are not those whose SHA-256 was sent with them; then they are there."""
        other = b64encode(hashlib.sha256(body + b"\n").digest()).decode()
        with self._translated("write", key):
            try:
                self.client.put_object(**self._named(key), Body=body, ChecksumSHA256=other)
            except ClientError as error:
                if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 400:
                    return False
                raise
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
