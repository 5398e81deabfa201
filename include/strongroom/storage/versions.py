"""Versions of objects, and the delete markers that hide them, as a listing tells them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from pydantic import AwareDatetime, Field

from strongroom.records import Record


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
