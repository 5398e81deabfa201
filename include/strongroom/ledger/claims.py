"""A claim keeps two runs of one partition apart, on any number of machines.

It is one small object in the archive store, changed only by compare-and-swap. If its owner dies, it expires by itself.
The promise does not depend on it (the delete's own comparison keeps that); it stops two runs from doing the same work.
A step takes it when it begins. A step that works in batches checks and renews it in each batch, so a task that stalls
until another run takes the claim notices that before it changes anything more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from strongroom.errors import ClockError, ContendedError
from strongroom.object_keys.records import claims_prefix
from strongroom.records import Claim, parse_record
from strongroom.storage.store import Store

MOST_APART = timedelta(minutes=5)
"""How far a machine's clock may be from the store's. S3 itself refuses requests from 15 minutes on."""

KeepClaim = Callable[[], None]
"""Renews the claim in time while it is ours, and raises once another run has had it."""


def take_claim(store: Store, key: str, *, owner: str, now: datetime, ttl: timedelta) -> Claim:
    """Take or renew the claim under a key.

    Args:
        store: The archive store.
        key: From :func:`strongroom.object_keys.records.claim_key`.
        owner: Names the run; a run may take its own claim any number of times.
        now: Aware instant.
        ttl: How long the claim holds without being renewed.

    Raises:
        ContendedError: Another run holds it.
        IntegrityError: The claim that is there cannot be read.
    """
    present = store.read(key)
    if present is not None:
        held = parse_claim(key, present[0])
        if held.owner != owner and held.state == "held" and held.expires_at > now:
            raise _contended(key, held)
        if held.owner == owner and held.state == "held" and held.expires_at - now > ttl / 2:
            return held
    claim = Claim(owner=owner, state="held", taken_at=now, expires_at=now + ttl)
    if store.swap(key, claim.model_dump_json().encode(), etag=present[1] if present else None):
        return claim
    faster = store.read(key)
    winner = parse_claim(key, faster[0]) if faster else claim
    if winner.owner == owner and winner.state == "held":  # two parts of this very run renewed at once
        return winner
    raise _contended(key, winner)


def parse_claim(key: str, body: bytes) -> Claim:
    """Read a claim.

    Raises:
        IntegrityError: It is not sound, so it is unknown who works on the partition.
    """
    return parse_record(
        Claim,
        body,
        where=key,
        what="a sound claim",
        hint="Nothing was changed. Make sure that nobody works on the partition, then remove this object; the next run takes a new claim.",
    )


def others_at_work(store: Store, schema_name: str, table_name: str, *, owner: str, now: datetime) -> list[str]:
    """Claims of other runs on partitions of a table that hold at an aware instant, in words.

    Raises:
        IntegrityError: A claim is not sound.
    """
    found = ((key, store.read(key)) for key in store.keys(claims_prefix(schema_name, table_name)))
    claims = ((key, parse_claim(key, present[0])) for key, present in found if present is not None)
    return [
        f"{key} is held by {claim.owner}"
        for key, claim in claims
        if claim.owner != owner and claim.state == "held" and claim.expires_at > now
    ]


def claim_keeper(
    store: Store, keys: Iterable[str], *, owner: str, clock: Callable[[], datetime], ttl: timedelta
) -> KeepClaim:
    """Keep the claims that a step has taken; it calls the result in each batch of its work.

    Args:
        store: The archive store.
        keys: Of the claims.
        owner: Names the run.
        clock: Returns the current instant.
        ttl: How long the claims hold without being renewed.
    """
    keys = list(keys)

    def keep_claim() -> None:
        for key in keys:
            present = store.read(key)
            held = None if present is None else parse_claim(key, present[0])
            if held is None or held.owner != owner:
                raise _lost(key, owner, held)
            if held.state != "held" or held.expires_at - clock() <= ttl / 2:
                take_claim(store, key, owner=owner, now=clock(), ttl=ttl)

    return keep_claim


def shared_clock(store: Store, now: datetime) -> Callable[[], datetime]:
    """A clock that continues from the store's: the same one for every machine that takes claims there.

    Windows, terms, grace ages and claims are measured by it, so a machine with a wrong clock decides nothing.

    Args:
        store: The archive store.
        now: What this machine's clock says, aware.

    Raises:
        ClockError: The two are too far apart.
    """
    theirs = store.clock()
    apart = abs(theirs - now)
    if apart > MOST_APART:
        raise ClockError(
            f"the clocks of this machine and of {store} are {apart.total_seconds():,.0f} seconds apart",
            expected=f"at most {MOST_APART.total_seconds():.0f}",
            found=f"{now:%Y-%m-%d %H:%M:%S} here and {theirs:%Y-%m-%d %H:%M:%S} UTC there",
            hint="Nothing was changed. With a wrong clock, rows would be archived, claims taken over or archives purged before "
            "their time. Set the wrong clock and keep it right with NTP; the task tries again by itself.",
        )
    return running_clock(theirs)


def running_clock(now: datetime) -> Callable[[], datetime]:
    """A clock that starts at ``now``, for work that takes so long that a claim from its start would expire."""
    started = time.monotonic()
    return lambda: now + timedelta(seconds=time.monotonic() - started)


def release_claim(store: Store, key: str, *, owner: str, now: datetime) -> None:
    """Release the claim; does nothing if it is not the owner's, or no longer."""
    present = store.read(key)
    if present is None:
        return
    held = parse_claim(key, present[0])
    if held.owner == owner and held.state == "held":
        released = held.model_copy(update={"state": "released", "expires_at": now})
        store.swap(key, released.model_dump_json().encode(), etag=present[1])


def _lost(key: str, owner: str, held: Claim | None) -> ContendedError:
    return ContendedError(
        f"contended: {key} is no longer held by {owner}",
        expected="the claim that this task took when it began",
        found=f"{held.owner} took it at {held.taken_at:%Y-%m-%d %H:%M:%S} UTC" if held else "no claim",
        hint="Nothing more was changed by this try: it stalled for longer than its claim holds. "
        "What it did before is proved; the next try checks everything again.",
    )


def _contended(key: str, held: Claim) -> ContendedError:
    return ContendedError(
        f"contended: {key} is held by {held.owner}",
        expected="no other run on this partition",
        found=f"a claim from {held.taken_at:%Y-%m-%d %H:%M:%S} UTC that runs out at {held.expires_at:%Y-%m-%d %H:%M:%S} UTC",
        hint="Nothing was changed. Wait for that run to end. If it is dead, its claim expires by itself and a retry takes it.",
    )
