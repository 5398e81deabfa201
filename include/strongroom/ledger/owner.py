"""An archive store belongs to one database, and records which. A person records it once; a run never does.

If a run could claim a store, an emptied or wrong bucket would look like a new one.
"""

from __future__ import annotations

from collections.abc import Iterator

from strongroom.errors import ContendedError, IdentityError, StoreAccessError
from strongroom.ledger.entries import Act, Facts, subject_of
from strongroom.ledger.journal import begin_log, enter
from strongroom.ledger.stored_records import read_record
from strongroom.object_keys.archives import manifest_archive_id, manifest_prefix, sealed_and_kept, stored_archive_id
from strongroom.object_keys.layout import ARCHIVES, EVIDENCE, SOURCE_IDENTITY
from strongroom.records import SourceIdentity
from strongroom.storage.store import Store


def record_owner(store: Store, source: SourceIdentity) -> bool:
    """Record a database as the owner of an empty store that nobody owns, and begin the store's log. A repeat changes nothing.

    Returns:
        False if the store already belonged to this database.

    Raises:
        IdentityError: The store belongs to another database, or holds archives of an unknown one.
        StoreAccessError: The store overwrites objects although it is told not to.
    """
    if _read_owner(store) is None:
        _refuse_remains(store)
        body = source.model_dump_json(indent=2).encode()
        # Two claims at once: one creates the record, the other reads it.
        if store.swap(SOURCE_IDENTITY, body, etag=None):
            if store.swap(SOURCE_IDENTITY, body, etag=None):
                raise StoreAccessError(
                    f"{store} does not know conditional writes: it wrote {SOURCE_IDENTITY} twice",
                    expected="If-None-Match: * to be refused where an object already exists",
                    hint="No row was read or deleted. On such a store one run could overwrite the archive of another. "
                    "Use S3 itself, or a server that honours If-None-Match and If-Match.",
                )
            begin_log(store)
            return True
    require_owner(store, source)
    begin_log(store)  # the store is older than its log, or an earlier claim broke off
    return False


def change_owner(store: Store, source: SourceIdentity, *, who: str) -> bool:
    """Let another database own a store: the one that replaces a lost owner. It is entered before it is written.

    Args:
        store: With a key to sign, if it has a log.
        source: The new owner.
        who: The person who wants that.

    Returns:
        False if the store belonged to this database already.

    Raises:
        IdentityError: The store is unclaimed.
        ContendedError: Somebody else changed the owner at the same moment.
    """
    owner = require_owned(store)
    if _named(owner) == _named(source):
        return False
    present = store.read(SOURCE_IDENTITY)
    body = source.model_dump_json(indent=2).encode()
    facts: Facts = {"from": _named(owner), "to": _named(source)}
    enter(store, Act(kind="owner changed", who=who, facts=facts), [subject_of(SOURCE_IDENTITY, body)])
    if not store.swap(SOURCE_IDENTITY, body, etag=None if present is None else present[1]):
        raise ContendedError(
            f"the owner of {store} was changed by somebody else at the same moment",
            hint="Look at metadata/source.json, and try again if it is not the right one.",
        )
    return True


def require_owner(store: Store, source: SourceIdentity) -> None:
    """Require that the store belongs to this database.

    The server version is not compared, because a database stays the same one through an upgrade.

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
    """Require that the store belongs to a database, and return which.

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
            "once. If it held archives before, do not claim it: this is the wrong bucket or prefix, or somebody emptied "
            "it. Compare both with the settings, and list the earlier versions of its objects.",
        )
    return owner


def _read_owner(store: Store) -> SourceIdentity | None:
    return read_record(
        store,
        SOURCE_IDENTITY,
        SourceIdentity,
        what="a sound record of the store's owner",
        hint="Nothing was written and no row was deleted. Look at its earlier versions and put the right one back.",
    )


def _refuse_remains(store: Store) -> None:
    """Refuse a store with archives: it had an owner, and somebody removed the record."""
    left = next(_remains(store), None)
    if left is not None:
        raise IdentityError(
            f"{store} holds archives, and nothing says of which database",
            expected=f"the owner's record {SOURCE_IDENTITY}, or a store without archives",
            found=left,
            hint="Nothing was claimed. Find out who removed the record, and put it back from its earlier versions. "
            "Each manifest of this store has the same content in its field `source`.",
        )


def _remains(store: Store) -> Iterator[str]:
    yield from (key for key in store.keys(manifest_prefix()) if manifest_archive_id(key) is not None)
    yield from (f"evidence of {archive}" for archive in sealed_and_kept(store.keys(EVIDENCE)))
    yield from (key for key in store.keys(ARCHIVES) if stored_archive_id(key) is not None)


def _named(source: SourceIdentity) -> str:
    return f"{source.database} (oid {source.database_oid}, system {source.system_identifier})"
