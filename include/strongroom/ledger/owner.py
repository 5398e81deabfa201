"""An archive store belongs to one database, and remembers which. Somebody says so once; no run ever does.

If a run could claim a store, an emptied bucket or a wrong one would look like a new one.
"""

from __future__ import annotations

from collections.abc import Iterator

from strongroom.errors import IdentityError, StoreAccessError
from strongroom.object_keys import (
    ARCHIVES,
    EVIDENCE,
    SOURCE_IDENTITY,
    manifest_archive_id,
    manifest_prefix,
    sealed_and_kept,
    stored_archive_id,
)
from strongroom.records import SourceIdentity, parse_record
from strongroom.storage.store import Store


def record_owner(store: Store, source: SourceIdentity) -> bool:
    """Enter the database as the owner of an empty store that nobody owns. A repeat changes nothing.

    Returns:
        False if the store belonged to this database before.

    Raises:
        IdentityError: The store belongs to another database, or holds archives and nothing says whose.
        StoreAccessError: The store writes over what is there, although it is told not to.
    """
    if _read_owner(store) is None:
        _refuse_remains(store)
        body = source.model_dump_json(indent=2).encode()
        # Two claims at once: one creates the record, the other reads it.
        if store.swap(SOURCE_IDENTITY, body, etag=None):
            if store.swap(SOURCE_IDENTITY, body, etag=None):
                raise StoreAccessError(
                    f"{store} does not know conditional writes: it wrote {SOURCE_IDENTITY} twice",
                    expected="If-None-Match: * to be refused where an object is already",
                    hint="No row was read or deleted. On such a store one run could write over the archive of another: "
                    "take S3 itself, or a server that honours If-None-Match and If-Match.",
                )
            return True
    require_owner(store, source)
    return False


def require_owner(store: Store, source: SourceIdentity) -> None:
    """See that the store belongs to this database.

    The server version is not compared: a database stays the same one through an upgrade.

    Raises:
        IdentityError: The store belongs to another database, or to none.
    """
    owner = require_owned(store)
    if _named(owner) != _named(source):
        raise IdentityError(
            f"{store} belongs to another database",
            expected=_named(owner),
            found=_named(source),
            hint="Nothing was written and no row was deleted. Give this database a bucket or prefix of its own. "
            f"If it replaces the owner for good, put a new {SOURCE_IDENTITY} in place by hand.",
        )


def require_owned(store: Store) -> SourceIdentity:
    """See that the store belongs to a database, and say to which.

    Raises:
        IdentityError: It belongs to none, so it is new, emptied, or the wrong one.
    """
    owner = _read_owner(store)
    if owner is None:
        raise IdentityError(
            f"{store} is unclaimed: no database owns it",
            expected=f"the owner's record {SOURCE_IDENTITY}",
            found="none",
            hint="Nothing was changed and no row was deleted. If the bucket is new, run `airflow strongroom bucket claim` "
            "once. If archives were made before, do not claim it: this is the wrong bucket or prefix, or somebody emptied "
            "it. Compare both with the settings, and list the earlier versions of its objects.",
        )
    return owner


def _read_owner(store: Store) -> SourceIdentity | None:
    present = store.read(SOURCE_IDENTITY)
    if present is None:
        return None
    return parse_record(
        SourceIdentity,
        present[0],
        where=f"{store}{SOURCE_IDENTITY}",
        what="a sound record of the store's owner",
        hint="Nothing was written and no row was deleted. Look at its earlier versions and put the right one back.",
    )


def _refuse_remains(store: Store) -> None:
    """A store with archives had an owner, whose record somebody removed."""
    left = next(_remains(store), None)
    if left is not None:
        raise IdentityError(
            f"{store} holds archives, and nothing says of which database",
            expected=f"the owner's record {SOURCE_IDENTITY}, or a store without archives",
            found=left,
            hint="Nothing was claimed. Find out who removed the record, and put it back from its earlier versions: "
            "it is what each manifest of this store says in its field `source`.",
        )


def _remains(store: Store) -> Iterator[str]:
    yield from (key for key in store.keys(manifest_prefix()) if manifest_archive_id(key) is not None)
    yield from (f"evidence of {archive}" for archive in sealed_and_kept(store.keys(EVIDENCE)))
    yield from (key for key in store.keys(ARCHIVES) if stored_archive_id(key) is not None)


def _named(source: SourceIdentity) -> str:
    return f"{source.database} (oid {source.database_oid}, system {source.system_identifier})"


claim_store = record_owner
