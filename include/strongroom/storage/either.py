"""Read what was archived from the store, or from its second copy when the store's own object is gone, damaged or unreadable.

This is the one place that falls back. The second copy has other version ids, so the content alone decides: each version that lies
there under the key is tried until one is what it should be. Whoever deletes rows never reads through this: a delete needs the first
copy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from strongroom.errors import FrozenError, IntegrityError, StoreError, StrongroomError
from strongroom.storage.store import Store

T = TypeVar("T")


def read_either(
    store: Store, key: str, version_id: str | None, read: Callable[[Iterator[bytes]], T]
) -> tuple[T, str | None]:
    """Have one version read, and a copy of it from the replica if it cannot be read or is not what it should be.

    Args:
        store: The first copy, which knows the second one if there is any.
        key: Of the object.
        version_id: In the first copy.
        read: Takes the content and raises :class:`IntegrityError` if it is wrong. May be called several times.

    Returns:
        What `read` returned; and why the replica was read, in words, or None if it was not.

    Raises:
        IntegrityError, StoreError: What was wrong with the first copy, if no copy is sound.
    """
    try:
        return read_own(store, key, version_id, read), None
    except FrozenError:
        raise
    except (IntegrityError, StoreError) as error:
        try:
            found = None if store.replica is None else read_copy(store.replica, key, read)
        except StrongroomError:
            raise error from None
        if found is None:
            raise
        return found[0], f"read from the replica {store.replica}, because {error.what}"


def read_own(store: Store, key: str, version_id: str | None, read: Callable[[Iterator[bytes]], T]) -> T:
    """Have one version read; if it is not there, another one with the right content.

    A store that was filled from its replica has other version ids than its manifests say.

    Raises:
        IntegrityError, StoreError: What was wrong with the version that was asked for.
    """
    try:
        return read(store.chunks(key, version_id))
    except IntegrityError:
        if store.head(key, version_id) is not None:
            raise
        found = read_copy(store, key, read)
        if found is None:
            raise
        return found[0]


def read_copy(replica: Store, key: str, read: Callable[[Iterator[bytes]], T]) -> tuple[T, str] | None:
    """Have the versions under a key read, the newest first, until one is what it should be.

    Returns:
        What `read` returned, and the id of the version; None if none is right.

    Raises:
        StoreError: The replica failed.
    """
    for version in reversed(replica.history(key)):
        if version.is_marker:
            continue
        try:
            return read(replica.chunks(key, version.version_id)), version.version_id
        except IntegrityError:
            continue
    return None
