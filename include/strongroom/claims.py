"""A claim keeps two runs of one partition apart, on any number of machines.

It is one small object in the archive store, changed only by compare-and-swap. It runs out by itself when its owner died.
The promise does not rest on it (the delete's own comparison does); it keeps two runs from doing the same work twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta

from strongroom.errors import ContendedError
from strongroom.records import Claim, parse_record
from strongroom.store import Store


def take_claim(store: Store, key: str, *, owner: str, now: datetime, ttl: timedelta) -> Claim:
    """Take or renew the claim under a key.

    Args:
        store: The archive store.
        key: From :func:`strongroom.object_keys.claim_key`.
        owner: Names the run; a run may take its own claim as often as it likes.
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
        IntegrityError: It is none, so it is unknown who works on the partition.
    """
    return parse_record(
        Claim,
        body,
        where=key,
        what="a sound claim",
        hint="Nothing was changed. See that nobody works on the partition, then remove this object: a claim is taken anew.",
    )


def running_clock(now: datetime) -> Callable[[], datetime]:
    """A clock that says ``now`` and goes on from there, for work so long that a claim taken at its start is stale."""
    started = time.monotonic()
    return lambda: now + timedelta(seconds=time.monotonic() - started)


def release_claim(store: Store, key: str, *, owner: str, now: datetime) -> None:
    """Give the claim back; does nothing if it is not, or no longer, the owner's."""
    present = store.read(key)
    if present is None:
        return
    held = parse_claim(key, present[0])
    if held.owner == owner and held.state == "held":
        released = held.model_copy(update={"state": "released", "expires_at": now})
        store.swap(key, released.model_dump_json().encode(), etag=present[1])


def _contended(key: str, held: Claim) -> ContendedError:
    return ContendedError(
        f"contended: {key} is held by {held.owner}",
        expected="no other run on this partition",
        found=f"a claim from {held.taken_at:%Y-%m-%d %H:%M:%S} UTC that runs out at {held.expires_at:%Y-%m-%d %H:%M:%S} UTC",
        hint="Nothing was changed. Wait for that run to end; if it is dead, its claim runs out by itself and a retry takes it.",
    )
