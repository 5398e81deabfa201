"""A claim keeps two runs of one partition apart, on any number of machines.

It is one small object in the archive store, changed only by compare-and-swap. It runs out by itself when its owner died.
The promise does not rest on it (the delete's own comparison does); it keeps two runs from doing the same work twice.
A step takes it when it begins, and one that works in batches looks after it in each of them: whoever stood still for so
long that another took the claim meanwhile finds that out before it changes anything more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from strongroom.errors import ClockError, ContendedError
from strongroom.records import Claim, parse_record
from strongroom.storage.store import Store

MOST_APART = timedelta(minutes=5)
"""How far a machine's clock and the store's may be apart; S3 itself refuses requests from 15 minutes on."""

KeepClaim = Callable[[], None]
"""Says nothing while the claim is ours, renews it in time, and raises once somebody else has had it."""


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


def claim_keeper(
    store: Store, keys: Iterable[str], *, owner: str, clock: Callable[[], datetime], ttl: timedelta
) -> KeepClaim:
    """Look after claims that a step has taken: the result is called in each batch of its work.

    Args:
        store: The archive store.
        keys: Of the claims.
        owner: Names the run.
        clock: Says the instant.
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
    """A clock that goes on from what the store's says: the same for everybody who takes claims in it.

    Windows, terms, grace ages and claims are measured by it, so a machine whose clock is wrong decides nothing.

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
            hint="Nothing was changed: by a wrong clock rows would be archived, claims taken over or archives purged before "
            "their time. Set the clock that is wrong and keep it right with NTP; the task tries again by itself.",
        )
    return running_clock(theirs)


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


def _lost(key: str, owner: str, held: Claim | None) -> ContendedError:
    return ContendedError(
        f"contended: {key} is no longer held by {owner}",
        expected="the claim that this task took when it began",
        found=f"{held.owner} took it at {held.taken_at:%Y-%m-%d %H:%M:%S} UTC" if held else "no claim",
        hint="Nothing more was changed by this try: it stood still for longer than its claim holds. "
        "What it did before is proved; the next try looks at everything again.",
    )


def _contended(key: str, held: Claim) -> ContendedError:
    return ContendedError(
        f"contended: {key} is held by {held.owner}",
        expected="no other run on this partition",
        found=f"a claim from {held.taken_at:%Y-%m-%d %H:%M:%S} UTC that runs out at {held.expires_at:%Y-%m-%d %H:%M:%S} UTC",
        hint="Nothing was changed. Wait for that run to end; if it is dead, its claim runs out by itself and a retry takes it.",
    )
