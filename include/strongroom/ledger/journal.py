"""What was done with a store's archives, entry by entry, in its transparency log.

What removes something is entered before it begins, and again when it has ended.

A store without ``store.log_keys`` has no log. Then nothing is entered and nothing is asked of it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from strongroom.errors import ConfigurationError, IntegrityError
from strongroom.ledger.entries import Act, Facts, Kind, Subject, parse_entry, subject_of, write_entry
from strongroom.ledger.log import CHECKPOINT, Head, Log
from strongroom.object_keys.layout import LOG, SOURCE_IDENTITY
from strongroom.object_keys.records import proof_key, rotation_key
from strongroom.settings import StoreSettings
from strongroom.storage.store import Store
from strongroom.tlog.checkpoints import Checkpoint, EntryProof
from strongroom.tlog.notes import SignerKey, VerifierKey


def log_of(store: Store) -> Log | None:
    """The store's transparency log; None if it has none."""
    keys = trusted_keys(store.settings)
    return Log(store, keys[0].name, keys) if keys else None


def trusted_keys(settings: StoreSettings) -> tuple[VerifierKey, ...]:
    """The keys that may have signed the log; the first is the one in use."""
    return tuple(map(parsed_key, settings.log_keys))


parsed_key = lru_cache(maxsize=64)(VerifierKey.parse)
"""A key from its line in the settings."""


@dataclass(frozen=True)
class Place:
    """Where an entry stands in a log.

    Attributes:
        index: Of the entry, from 0.
        size: Of the log whose signed head proves it.
        proof_key: Key of the proof.
    """

    index: int
    size: int
    proof_key: str


def place_of(store: Store, kept_at: str) -> Place | None:
    """What a proof says, which :func:`doubt_of_entry` must have found sound; None if there is none."""
    present = None if log_of(store) is None else store.read(kept_at)
    if present is None:
        return None
    where = f"{store}{kept_at}"
    proof = EntryProof.parse(where, present[0])
    return Place(proof.index, Checkpoint.parse(where, proof.note.text).size, kept_at)


def checkpoint_of(store: Store) -> str | None:
    """The signed head of the store's log as text, to be printed on reports; None for a store without a log.

    An auditor who keeps its first three lines can require at the next audit that the log only grew.
    """
    log = log_of(store)
    return None if log is None else log.head().note.to_bytes().decode()


def begin_log(store: Store) -> Head | None:
    """Begin the log of a store with an entry that says whose it is. A repeat changes nothing.

    Returns:
        Its head; None for a store without a log.

    Raises:
        IdentityError: There are remains of a log, so somebody removed its checkpoint.
    """
    log = log_of(store)
    if log is None:
        return None
    signer = _signer(store, log)
    head = log.head() if any(store.versions(LOG)) else log.create(signer)
    if head.checkpoint.size:
        return head
    owner = store.read(SOURCE_IDENTITY)
    return enter(store, Act(kind="log begun"), [subject_of(SOURCE_IDENTITY, owner[0])] if owner else [])


def enter(store: Store, act: Act, subjects: Sequence[Subject] = ()) -> Head | None:
    """Enter an act. When this returns, it is in the log for good.

    Returns:
        The head of the log, which has the entry last or nearly so; None for a store without a log.

    Raises:
        ConfigurationError: The store has a log, and nobody gave a key to sign with.
        ContendedError: Others were faster, again and again.
        IdentityError: The log is gone.
        IntegrityError: The log is damaged.
    """
    log = log_of(store)
    if log is None:
        return None
    _, head = log.append([write_entry(store.author, act, subjects)], _signer(store, log))
    return head


def change_key(store: Store, earlier: SignerKey) -> Head:
    """Let the author's key replace an earlier one: the entry that says so is the last that both sign.

    Args:
        store: Whose log it is; its settings trust both keys.
        earlier: The key that signed the log so far.

    Raises:
        ConfigurationError: The settings do not trust one of the keys, or both are the same.
        IntegrityError: The head of the log is not the earlier key's.
    """
    log, where = log_of(store), f"{store}{CHECKPOINT}"
    signer = None if log is None else _signer(store, log)
    if log is None or signer is None or signer == earlier or earlier.verifier not in log.trusted:
        raise ConfigurationError(
            f"the key of the transparency log of {store} cannot be changed",
            expected="two keys that `store.log_keys` names: the earlier one, and that of the connection",
            found="the same key twice" if signer == earlier else "one of them is not there",
            hint="Nothing was changed. Add the public line of the new key to `store.log_keys` and leave the old one there.",
        )
    log.head().note.require_signature(where, [earlier.verifier])
    facts: Facts = {"from": str(earlier.verifier), "to": str(signer.verifier)}
    _, head = log.append([write_entry(store.author, Act(kind="key changed", facts=facts), ())], signer, also=earlier)
    store.put_bytes(rotation_key(head.checkpoint.size), head.note.to_bytes(), content_type="text/plain")
    return head


def record(store: Store, key: str, body: bytes, act: Act) -> None:
    """Write a record where nothing is yet, and enter it. A repeat with the same bytes enters it again.

    Raises:
        IntegrityError: The key holds something else.
    """
    store.put_bytes(key, body)
    enter(store, act, [subject_of(key, body)])


def record_with_proof(store: Store, key: str, body: bytes, act: Act) -> None:
    """:func:`record` for what is believed later because the log has it. A repeat finds the entry that is there.

    Raises:
        IntegrityError: The key, or that of its proof, holds something else.
    """
    store.put_bytes(key, body)
    enter_with_proof(store, act, subject_of(key, body), proof_key(key))


def enter_with_proof(store: Store, act: Act, subject: Subject, kept_at: str) -> None:
    """Enter an act about one object, and keep the proof. A repeat finds the proof that is there.

    Raises:
        IntegrityError: Something else lies where the proof belongs.
    """
    log = log_of(store)
    if log is None or doubt_of_entry(store, subject, kept_at, [act.kind]) is None:
        return
    line = write_entry(store.author, act, [subject])
    index, _ = log.append([line], _signer(store, log))
    proof = replace(log.prove(index), extra=line)
    store.put_bytes(kept_at, proof.to_bytes(), content_type="text/plain")


def doubt_of_entry(store: Store, subject: Subject, kept_at: str, kinds: Collection[Kind]) -> str | None:
    """Why the log does not vouch for an object as one of some kinds; None if it does, or if the store has no log."""
    if log_of(store) is None:
        return None
    present = store.read(kept_at)
    if present is None:
        return f"no proof at {kept_at} that the store's log has it"
    where = f"{store}{kept_at}"
    try:
        proof = EntryProof.parse(where, present[0])
        proof.note.require_signature(where, trusted_keys(store.settings))
        checkpoint = proof.require(where, proof.extra)
        entry = parse_entry(where, proof.extra)
    except IntegrityError as error:
        return f"a proof that proves nothing: {error.what}{f', {error.found}' if error.found else ''}"
    if checkpoint.origin != trusted_keys(store.settings)[0].name:
        return f"a proof from another log, {checkpoint.origin}"
    if entry.act.kind not in kinds or not entry.vouches_for(subject.key, subject.sha256):
        return "a proof of another entry, which does not name these bytes"
    return None


def _signer(store: Store, log: Log) -> SignerKey:
    """The key of the store's author, which must be one that the settings trust."""
    if store.author is None:
        raise ConfigurationError(
            f"nobody gave a key for the transparency log of {store}",
            expected=f"the key of {log.origin}",
            hint="Nothing was written to the log, and nothing was deleted that needs an entry. Who opens the store must be able to sign.",
        )
    signer = store.author.sign_with()
    if signer.verifier not in log.trusted:
        raise ConfigurationError(
            f"the key for the transparency log of {store} is not one that the settings trust",
            expected=" or ".join(map(str, log.trusted)),
            found=str(signer.verifier),
            hint="Nothing was written to the log, and nothing was deleted that needs an entry. Put the right key into the connection, or, "
            "if this is a new key, add it to `store.log_keys`.",
        )
    return signer
