"""What witnesses left in a store: their cosignatures under heads of its log, and the marks of heads that they refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone

from strongroom.errors import IntegrityError
from strongroom.ledger.journal import log_of, parsed_key
from strongroom.object_keys.records import refusal_prefix, witness_prefix
from strongroom.settings import StoreSettings
from strongroom.storage.store import Store
from strongroom.tlog.checkpoints import Checkpoint
from strongroom.tlog.notes import LARGEST_NOTE, Note, VerifierKey

_STAMP = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True)
class Cosignature:
    """That a witness saw a head of the log.

    Attributes:
        witness: Its key.
        checkpoint: The head.
        at: When it cosigned it, by its own clock.
    """

    witness: VerifierKey
    checkpoint: Checkpoint
    at: datetime


def witness_keys(settings: StoreSettings) -> tuple[VerifierKey, ...]:
    """The witnesses that the settings trust."""
    return tuple(map(parsed_key, settings.witness_keys))


def cosignatures(store: Store) -> list[Cosignature]:
    """The newest cosignature of each witness that the settings trust and that ever cosigned."""
    return [found for key in witness_keys(store.settings) if (found := newest_cosignature(store, key)) is not None]


def newest_cosignature(store: Store, witness: VerifierKey) -> Cosignature | None:
    """The cosignature of a witness under the largest head. What others put among them hides none. Costs a listing and a read."""
    prefix = witness_prefix(witness.key_id.hex())
    names = (key.removeprefix(prefix) for key in store.keys(prefix))
    sizes = sorted((int(name) for name in names if name.isascii() and name.isdecimal()), reverse=True)
    return next((found for size in sizes if (found := cosignature_at(store, witness, size)) is not None), None)


def cosignature_at(store: Store, witness: VerifierKey, size: int) -> Cosignature | None:
    """The cosignature of a witness under the head of this log with this many entries; None if there is none of its own. Costs one read."""
    key = f"{witness_prefix(witness.key_id.hex())}{size}"
    try:
        present = store.read(key, most_bytes=LARGEST_NOTE)
        if present is None:
            return None
        note = Note.parse(f"{store}{key}", present[0])
        checkpoint = Checkpoint.parse(f"{store}{key}", note.text)
    except IntegrityError:
        return None
    at = note.cosigned_at(witness)
    log = log_of(store)
    if at is None or checkpoint.size != size or log is None or checkpoint.origin != log.origin:
        return None  # one key may cosign many logs
    return Cosignature(witness, checkpoint, at)


def refused_at(store: Store, witness: VerifierKey) -> datetime | None:
    """When a witness last refused a head, by its own clock; None if it never did. Costs a listing.

    Nobody signs such a mark: it tells that somebody must look, and the witness's folder has the head that shows why.
    """
    return max(_refusals(store, refusal_prefix(witness.key_id.hex())), default=None)


def _refusals(store: Store, prefix: str) -> Iterator[datetime]:
    for key in store.keys(prefix):
        try:
            yield datetime.strptime(key.removeprefix(prefix), _STAMP).replace(tzinfo=timezone.utc)
        except ValueError:  # somebody else's
            continue
