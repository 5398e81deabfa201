"""An archive store belongs to one database, and remembers which."""

from __future__ import annotations

from strongroom.errors import IdentityError
from strongroom.object_keys import SOURCE_IDENTITY
from strongroom.records import SourceIdentity
from strongroom.store import Store


def claim_store(store: Store, source: SourceIdentity) -> None:
    """Enter the database as the owner of an unowned store, or see that it is the owner.

    The server version is not compared: a database stays the same one through an upgrade.

    Raises:
        IdentityError: The store belongs to another database.
    """
    # Two first runs at once: one creates the record, the other reads it.
    if store.swap(SOURCE_IDENTITY, source.model_dump_json(indent=2).encode(), etag=None):
        return
    present = store.read(SOURCE_IDENTITY)
    if present is None:
        raise IdentityError(
            f"{store}{SOURCE_IDENTITY} vanished while it was read",
            hint="Nothing was written and no row was deleted. Find out who removed it before any run goes on.",
        )
    owner = SourceIdentity.model_validate_json(present[0])
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
