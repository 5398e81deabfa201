"""An archive store belongs to one database, and remembers which."""

from __future__ import annotations

from strongroom.errors import IdentityError, StoreAccessError
from strongroom.object_keys import SOURCE_IDENTITY
from strongroom.records import SourceIdentity, parse_record
from strongroom.store import Store


def claim_store(store: Store, source: SourceIdentity) -> None:
    """Enter the database as the owner of an unowned store, or see that it is the owner.

    The server version is not compared: a database stays the same one through an upgrade.

    Raises:
        IdentityError: The store belongs to another database.
        StoreAccessError: The store writes over what is there, although it is told not to.
    """
    body = source.model_dump_json(indent=2).encode()
    # Two first runs at once: one creates the record, the other reads it.
    if store.swap(SOURCE_IDENTITY, body, etag=None):
        if store.swap(SOURCE_IDENTITY, body, etag=None):
            raise StoreAccessError(
                f"{store} does not know conditional writes: it wrote {SOURCE_IDENTITY} twice",
                expected="If-None-Match: * to be refused where an object is already",
                hint="No row was read or deleted. On such a store one run could write over the archive of another: "
                "take S3 itself, or a server that honours If-None-Match and If-Match.",
            )
        return
    present = store.read(SOURCE_IDENTITY)
    if present is None:
        raise IdentityError(
            f"{store}{SOURCE_IDENTITY} vanished while it was read",
            hint="Nothing was written and no row was deleted. Find out who removed it before any run goes on.",
        )
    owner = parse_record(
        SourceIdentity,
        present[0],
        where=f"{store}{SOURCE_IDENTITY}",
        what="a sound record of the store's owner",
        hint="Nothing was written and no row was deleted. Look at its earlier versions and put the right one back.",
    )
    if _named(owner) != _named(source):
        raise IdentityError(
            f"{store} belongs to another database",
            expected=_named(owner),
            found=_named(source),
            hint="Nothing was written and no row was deleted. Give this database a bucket or prefix of its own. "
            f"If it replaces the owner for good, put a new {SOURCE_IDENTITY} in place by hand.",
        )


def _named(source: SourceIdentity) -> str:
    return f"{source.database} (oid {source.database_oid}, system {source.system_identifier})"
