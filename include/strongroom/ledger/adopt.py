"""Bring into a store's transparency log what it does not have: archives that are older than it, and records whose writer died.

A person asks for it, because the log vouches for what it is given. Each archive is read back first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from pydantic import AwareDatetime

from strongroom.errors import ConfigurationError, IntegrityError
from strongroom.ledger.entries import OF_MANIFESTS, Act, Facts, of_archive, parse_entry, subject_of
from strongroom.ledger.holds import Hold, release_proved, unproved_releases
from strongroom.ledger.journal import doubt_of_entry, enter, enter_with_proof, log_of, record
from strongroom.ledger.manifests import archive_ids, manifest_of, read_attested
from strongroom.ledger.reread import verify_manifest
from strongroom.object_keys.archives import ArchiveId
from strongroom.object_keys.layout import RECORDS, SETTINGS_FOLDER, SUPPRESSED
from strongroom.object_keys.records import hold_key, proof_key
from strongroom.object_keys.reports import adoption_key
from strongroom.records import Record
from strongroom.storage.store import Store


class Refused(Record):
    """An archive that was not adopted."""

    archive_id: str
    reason: str


class Adoption(Record):
    """What was brought into the log at one time."""

    who: str
    why: str
    at: AwareDatetime
    archives: tuple[str, ...]
    releases: tuple[str, ...]
    records: tuple[str, ...]
    refused: tuple[Refused, ...]


@dataclass(frozen=True)
class Missing:
    """What a store's log does not have.

    Attributes:
        archives: Sealed archives without a proof.
        releases: Holds that somebody released, without a proof of that; and the bytes that say so.
        records: Keys of other records that no entry names.
    """

    archives: tuple[ArchiveId, ...]
    releases: tuple[tuple[Hold, bytes], ...]
    records: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.archives or self.releases or self.records)


def missing_from_log(store: Store) -> Missing:
    """Find what a store's log does not have. Reads the whole log, each hold, and the proof of each archive.

    Raises:
        ConfigurationError: The store has no log.
        IntegrityError: The log is damaged.
    """
    log = log_of(store)
    if log is None:
        raise ConfigurationError(
            f"{store} has no transparency log",
            expected="`store.log_keys`, the public keys that sign it",
            hint="Nothing was changed. `airflow strongroom log key NAME` makes a key and says where its halves belong.",
        )
    lines = log.entries(0, log.head().checkpoint.size)
    entries = (parse_entry(f"entry {index} of {store}", line) for index, line in enumerate(lines))
    named = {subject.key for entry in entries for subject in entry.subjects}
    releases = tuple(unproved_releases(store))
    named |= {hold_key(hold.hold_id) for hold, _ in releases}
    keys = (key for prefix in RECORDS for key in store.keys(prefix))
    return Missing(
        archives=tuple(archive for archive in sorted(archive_ids(store)) if not _is_entered(store, archive)),
        releases=releases,
        records=tuple(key for key in record_keys(keys) if key not in named),
    )


def adopt(store: Store, missing: Missing, *, who: str, why: str, now: datetime) -> Adoption:
    """Enter what is missing, and put on record who wanted that and why. An archive that is not sound is refused.

    Args:
        missing: From :func:`missing_from_log`.
        who: The person who vouches for it.
        why: The reason, in words.
        now: Aware instant.
    """
    judged = {archive: _adopt(store, archive, who) for archive in missing.archives}
    for hold, body in missing.releases:
        release_proved(store, hold, body, who=who)
    for key in missing.records:
        if (present := store.read(key)) is not None:
            enter(store, Act(kind="recorded late", who=who), [subject_of(key, present[0])])
    adoption = Adoption(
        who=who,
        why=why,
        at=now,
        archives=tuple(str(archive) for archive, reason in judged.items() if reason is None),
        releases=tuple(hold.hold_id for hold, _ in missing.releases),
        records=missing.records,
        refused=tuple(
            Refused(archive_id=str(archive), reason=reason) for archive, reason in judged.items() if reason is not None
        ),
    )
    act = Act(kind="adoption reported", who=who, facts={"archives": len(adoption.archives)})
    record(store, adoption_key(now), adoption.to_bytes(), act)
    return adoption


def _is_entered(store: Store, archive: ArchiveId) -> bool:
    present = store.read(archive.manifest_key)
    if present is None:
        return True  # hidden or purged since; there is nothing that could be entered
    subject = subject_of(archive.manifest_key, present[0])
    return doubt_of_entry(store, subject, proof_key(archive.seal_key), OF_MANIFESTS) is None


def record_keys(keys: Iterable[str]) -> Iterator[str]:
    """Those of some keys below :data:`RECORDS` that entries should name. Settings, proofs, copies of manifests and the list of the erased are not."""
    for key in keys:
        if (
            not key.endswith((".tlog-proof", "/sealed.json"))
            and SETTINGS_FOLDER not in key
            and not key.startswith(SUPPRESSED)
        ):
            yield key


def _adopt(store: Store, archive: ArchiveId, who: str) -> str | None:
    """Read an archive back and enter it; says why not."""
    try:
        found = read_attested(store, archive, entered=False)
    except IntegrityError as error:
        return f"{error.what}: {error.found}"
    if found is None:
        return "it is gone"
    verdict = verify_manifest(store, archive, found.manifest)
    if not verdict.sound:
        return f"it is {verdict.result}"
    manifest = found.manifest
    facts: Facts = {
        "rows": manifest.record_count,
        "parts": len(manifest.parts),
        "retention_until": f"{manifest.retention_until:%Y-%m-%dT%H:%M:%SZ}",
    }
    if manifest.supersedes is not None:
        facts |= {"supersedes": manifest.supersedes.archive_id, "case": manifest.supersedes.case_id}
    act = of_archive(archive, "adopted", who=who, legal_basis=manifest.legal_basis, facts=facts)
    enter_with_proof(store, act, manifest_of(found), proof_key(archive.seal_key))
    return None
