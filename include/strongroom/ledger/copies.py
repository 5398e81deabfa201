"""A store's second copy, object by object: copying what is not there, and comparing what is.

A copy lies under the same key and has a version id of its own, so only its content says whether it is the right one. It is read
back and hashed; what the server says of it counts for nothing.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import Field

from strongroom.errors import ConfigurationError, IntegrityError
from strongroom.object_keys.archives import ArchiveId
from strongroom.object_keys.layout import ARCHIVES, REPLICAS, encode_name
from strongroom.object_keys.records import proof_key
from strongroom.object_keys.reports import copies_prefix, parse_copy_key
from strongroom.records import Record, Sha256
from strongroom.settings import StoreSettings
from strongroom.storage.store import Store
from strongroom.storage.versions import StoredVersion

Same = Literal["same", "hidden", "differs", "missing"]


class ObjectCopy(Record):
    """An object, and what its copy is.

    ``same``: read back and equal. ``hidden``: equal, but a delete marker or another version lies over it. ``differs``: other bytes.
    ``missing``: not there.
    """

    key: str
    sha256: Sha256 = Field(description="Of the first copy.")
    size_bytes: int
    result: Same
    version_id: str | None = Field(default=None, description="Of the second copy.")


def place_of(settings: StoreSettings) -> str:
    """A name for where a store lies, for keys: its bucket, and a digest of its endpoint, bucket and prefix."""
    where = f"{settings.endpoint_url or ''}\n{settings.bucket}\n{settings.prefix.strip('/')}"
    return f"{encode_name(settings.bucket)}-{hashlib.sha256(where.encode()).hexdigest()[:8]}"


def require_apart(store: Store, replica: Store) -> None:
    """Require that the two do not lie in one place.

    Raises:
        ConfigurationError: They do: a purge of the copy would be a purge of the archive.
    """
    places = [(one.client.meta.endpoint_url, str(one)) for one in (store, replica)]
    if places[0] == places[1]:
        raise ConfigurationError(
            f"the replica of {store} is the store itself",
            expected="another bucket, prefix or endpoint",
            found=f"{replica} at {places[1][0]}",
            hint="Nothing was copied or removed. Correct `replica:` in archive.yaml, and the endpoint of its connection.",
        )


def compare_copy(
    replica: Store, key: str, sha256: str, size_bytes: int, versions: Sequence[StoredVersion] | None = None
) -> ObjectCopy:
    """Read the copy of an object back, whichever of its versions it is, and compare it with what the first copy is.

    Args:
        replica: Where the copy should lie.
        key: Of the object.
        sha256: Of the first copy.
        size_bytes: Of the same.
        versions: What is under the key in the replica, oldest first, if that was listed before.
    """
    listed = replica.history(key) if versions is None else versions
    result: Same = "differs" if any(not one.is_marker for one in listed) else "missing"
    for version in reversed(listed):
        may_be = not version.is_marker and version.size_bytes == size_bytes
        if may_be and _digest(replica.chunks(key, version.version_id)) == sha256:
            result = "same" if version == listed[-1] else "hidden"
            return ObjectCopy(
                key=key, sha256=sha256, size_bytes=size_bytes, result=result, version_id=version.version_id
            )
    return ObjectCopy(key=key, sha256=sha256, size_bytes=size_bytes, result=result)


def copy_object(
    source: Store, target: Store, key: str, *, version_id: str | None = None, sha256: str | None = None
) -> None:
    """Copy an object to where nothing is, by reading and writing it: a server that demands conditional writes refuses to copy.

    Args:
        source: Has it.
        target: Takes it, with the same metadata.
        key: In both.
        version_id: In the source; None is the newest.
        sha256: What the source must hold; None takes what is there.

    Raises:
        IntegrityError: The source does not hold that, or the target has something else under the key.
    """
    known = source.head(key, version_id)
    if known is None:
        raise _other(source, key, sha256, "nothing")
    with tempfile.NamedTemporaryFile() as file:
        digest = hashlib.sha256()
        for chunk in source.chunks(key, known.version_id):
            digest.update(chunk)
            file.write(chunk)
        file.flush()
        if sha256 is not None and digest.hexdigest() != sha256:
            raise _other(source, key, sha256, digest.hexdigest())
        content_type = known.content_type or "application/octet-stream"
        if key.startswith(ARCHIVES):
            metadata = {name: value for name, value in known.metadata.items() if name != "sha256"}
            target.put_file(
                key, Path(file.name), sha256=digest.hexdigest(), content_type=content_type, metadata=metadata
            )
        else:
            target.put_bytes(key, Path(file.name).read_bytes(), content_type=content_type)


@dataclass(frozen=True)
class Latest:
    """The latest comparison of an archive with its second copy."""

    at: datetime
    result: str


def latest_copies(store: Store, place: str) -> dict[ArchiveId, Latest]:
    """The latest comparison of each archive with its copy in a place; a listing is enough."""
    found: dict[ArchiveId, Latest] = {}
    for key in store.keys(REPLICAS):
        parsed = parse_copy_key(key)
        if parsed is not None and parsed[0] == place:
            one = parsed[1]
            if one.archive not in found or found[one.archive].at < one.at:
                found[one.archive] = Latest(one.at, one.result)
    return found


def places_of(store: Store, archive: ArchiveId) -> set[str]:
    """Names of all places that were once found to have a sound copy of an archive."""
    parsed = (parse_copy_key(key) for key in store.keys(copies_prefix(archive)))
    return {place for place, one in filter(None, parsed) if one.result == "same"}


def copy_intent(store: Store, replica: Store, archive: ArchiveId) -> None:
    """Put the intent of a purge into the replica, with its proof, before anything of the archive is removed there.

    Whoever recovers from the replica alone then knows why the archive is not whole. A repeat changes nothing.
    """
    for key in (archive.purge_intent_key, proof_key(archive.purge_intent_key)):
        if store.head(key) is not None:
            copy_object(store, replica, key)


def _digest(chunks: Iterator[bytes]) -> str:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def digest_of(store: Store, key: str, version_id: str | None = None) -> str:
    """SHA-256 of what is under a key.

    Raises:
        IntegrityError: Nothing is.
    """
    return _digest(store.chunks(key, version_id))


def _other(source: Store, key: str, expected: str | None, found: str) -> IntegrityError:
    return IntegrityError(
        f"{source}{key} is not what it should be",
        expected=expected or "an object",
        found=found,
        hint="It was not copied. Read the archive again (`airflow strongroom verify`); if its other copy is sound, put that in place.",
    )
