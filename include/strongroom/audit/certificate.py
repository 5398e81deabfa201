"""A certificate of destruction as a page that prints well on A4: what the record says, and where the store's log has it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from strongroom.audit.page import render
from strongroom.errors import ConfigurationError, IntegrityError
from strongroom.ledger.entries import Subject
from strongroom.ledger.journal import Place, doubt_of_entry, log_of, place_of, trusted_keys
from strongroom.ledger.witnesses import cosignatures
from strongroom.object_keys.archives import ArchiveId
from strongroom.object_keys.records import proof_key
from strongroom.retention.certificate import Certificate, read_certificate
from strongroom.storage.store import Store

MOST_LISTED = 60
"""How many parts, and how many removed versions, a page lists. The record has all of them."""


@dataclass(frozen=True)
class Logged:
    """Where the log of a store has a certificate, as far as that was found sound.

    Attributes:
        origin: The log's name.
        keys: The public keys that may have signed it.
        place: Of the entry; None if the log does not vouch for the certificate.
        doubt: Why it does not.
        proof: The stored proof as text, which anybody can check against the log's key.
        witnessed: Who cosigned the log, over how many entries, and when.
    """

    origin: str
    keys: tuple[str, ...]
    place: Place | None
    doubt: str | None
    proof: str
    witnessed: tuple[tuple[str, int, datetime], ...]

    @property
    def is_witnessed(self) -> bool:
        """Whether a witness saw the log when it had the entry."""
        return self.place is not None and any(size > self.place.index for _, size, _ in self.witnessed)


@dataclass(frozen=True)
class KeptCertificate:
    """A certificate with what its store says about it.

    Attributes:
        certificate: The record.
        key: Of the object that has it.
        sha256: Of that object.
        logged: Where the log has it; None for a store without a log.
        put_back: Whether somebody has put the archive's manifest back since.
    """

    certificate: Certificate
    key: str
    sha256: str
    logged: Logged | None
    put_back: bool

    @property
    def doubt(self) -> str | None:
        """Why the certificate is not to be relied on as it is; None if nothing speaks against it."""
        if self.put_back:
            return "somebody has put the archive's manifest back since"
        return None if self.logged is None else self.logged.doubt


def read_kept(store: Store, archive: ArchiveId) -> KeptCertificate:
    """Read the certificate of an archive, and find it in the store's log.

    Raises:
        IntegrityError: There is none, or it is damaged.
    """
    certificate = read_certificate(store, archive)
    present = store.read(archive.destruction_key)
    if certificate is None or present is None:
        raise IntegrityError(
            f"there is no certificate of destruction of {archive}",
            found=f"nothing at {store}{archive.destruction_key}",
            hint="Nothing was changed. `airflow strongroom certificates` lists those that there are; an archive that is not destroyed has none.",
        )
    sha256 = hashlib.sha256(present[0]).hexdigest()
    return KeptCertificate(
        certificate=certificate,
        key=archive.destruction_key,
        sha256=sha256,
        logged=_logged(store, archive.destruction_key, sha256),
        put_back=store.head(archive.manifest_key) is not None,
    )


def _logged(store: Store, key: str, sha256: str) -> Logged | None:
    log = log_of(store)
    if log is None:
        return None
    doubt = doubt_of_entry(store, Subject(key=key, sha256=sha256), proof_key(key), ["purged"])
    proof = store.read(proof_key(key)) if doubt is None else None
    return Logged(
        origin=log.origin,
        keys=tuple(map(str, trusted_keys(store.settings))),
        place=place_of(store, proof_key(key)) if doubt is None else None,
        doubt=doubt,
        proof=proof[0].decode() if proof else "",
        witnessed=tuple((one.witness.name, one.checkpoint.size, one.at) for one in cosignatures(store)),
    )


def make_certificate_page(kept: KeptCertificate, *, made_at: datetime) -> str:
    """The certificate as one HTML file without scripts."""
    return render("certificate.html", kept=kept, one=kept.certificate, most=MOST_LISTED, made_at=made_at)


def choose_certificate(found: Sequence[Certificate], what: str) -> Certificate:
    """The one certificate that is meant.

    Args:
        found: Those of the partition that was named.
        what: As it was named.

    Raises:
        ConfigurationError: There is none, or there are several.
    """
    if len(found) == 1:
        return found[0]
    raise ConfigurationError(
        f"{what} names {'no' if not found else str(len(found))} destroyed archive{'s' if len(found) != 1 else ''}",
        expected="one",
        found=", ".join(one.number or one.archive_id for one in found) or "none",
        hint="Nothing was changed. `airflow strongroom certificates` lists all of them; give the number or the archive id of one.",
    )
