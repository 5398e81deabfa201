"""The claims of a restore: one per partition, of the archived table and of the target."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from strongroom.errors import StrongroomError
from strongroom.ledger.claims import KeepClaim, claim_keeper, release_claim, take_claim
from strongroom.ledger.restore_records import split_table
from strongroom.object_keys.archives import ArchiveId
from strongroom.object_keys.records import claim_key
from strongroom.restore.records import RestorePart, RestorePlan
from strongroom.storage.store import Store


def claim_keys(plan: RestorePlan) -> list[str]:
    """Keys of the claims that keep archive runs and purges away during the restore."""
    return [claim_key(*table, key) for table in _tables(plan) for key in plan.partition_keys]


def _tables(plan: RestorePlan) -> list[tuple[str, str]]:
    """The archived tables and the targets, the root's first: an archive run of a unit takes their claims in this order, too."""
    places = [split_table(name) for one in plan.all_tables for name in sorted({one.table, one.target})]
    return [*dict.fromkeys(places)]


def take_claims(store: Store, plan: RestorePlan, *, owner: str, now: datetime, ttl: timedelta) -> None:
    """Take all claims of a restore, or none.

    Raises:
        ContendedError: Another run holds one of them.
    """
    taken: list[str] = []
    try:
        for key in claim_keys(plan):
            take_claim(store, key, owner=owner, now=now, ttl=ttl)
            taken.append(key)
    except StrongroomError:
        for key in taken:
            release_claim(store, key, owner=owner, now=now)
        raise


def renew_claims(
    store: Store,
    plan: RestorePlan,
    part: RestorePart,
    *,
    owner: str,
    clock: Callable[[], datetime],
    ttl: timedelta,
) -> KeepClaim:
    """Renew the claims on the partition of one part. Each part does this before it changes anything.

    Returns:
        A function that keeps the claims while the part is loaded.
    """
    archive = ArchiveId.parse(part.archive_id)
    keys = [claim_key(*table, archive.partition_key) for table in _tables(plan)]
    for key in keys:
        take_claim(store, key, owner=owner, now=clock(), ttl=ttl)
    return claim_keeper(store, keys, owner=owner, clock=clock, ttl=ttl)


def release_claims(store: Store, plan: RestorePlan, *, owner: str, now: datetime) -> None:
    """Release the claims."""
    for key in claim_keys(plan):
        release_claim(store, key, owner=owner, now=now)
