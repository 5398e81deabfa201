"""Parts that a lifecycle rule moved to a Glacier class: request their return, and check whether they are back.

An object there cannot be read until S3 has made a copy of it, which takes between minutes and two days. The copy stays readable
for the requested number of days; the object itself stays where it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

from botocore.exceptions import ClientError

from strongroom.ledger.manifests import require_readable
from strongroom.object_keys.archives import ArchiveId
from strongroom.records import Record, VerifiedPart
from strongroom.restore.records import GlacierTier, RestorePart
from strongroom.storage.s3 import AbsentError
from strongroom.storage.store import Store

_GLACIER = ("GLACIER", "DEEP_ARCHIVE")
_LOOKERS = 8
_ASKED_BEFORE = frozenset({"RestoreAlreadyInProgress", "ObjectAlreadyInActiveTierError"})
_READY = re.compile(r'ongoing-request="false"')


class PartReturn(Record):
    """The state of one part's return.

    ``readable``: it can be read now, or it is gone, which the restore of the part reports. ``frozen``: it is in a Glacier class,
    and nobody requested it. ``asked``: it was requested just now. ``waiting``: it was requested before and is not back yet.
    """

    archive_id: str
    number: int
    state: Literal["readable", "frozen", "asked", "waiting"]


class GlacierStore(Store):
    """A store whose parts may lie in a Glacier class."""

    def look(self, part: VerifiedPart) -> PartReturn:
        """Read the state of a part's return."""
        state: Literal["readable", "frozen", "waiting"] = "readable"
        try:
            with self._translated("look at", part.object_key):
                answer = self.client.head_object(**self._named(part.object_key, part.version_id))
        except AbsentError:
            answer = {}
        if answer.get("StorageClass") in _GLACIER:
            told = str(answer.get("Restore", ""))
            state = "frozen" if not told else "readable" if _READY.search(told) else "waiting"
        return PartReturn(archive_id=part.archive_id, number=part.number, state=state)

    def ask(self, part: VerifiedPart, *, days: int, tier: GlacierTier) -> None:
        """Request the return of a part; does nothing if it was requested before.

        Raises:
            StoreAccessError: This identity lacks the right ``s3:RestoreObject``.
        """
        wish: dict[str, Any] = {"Days": days, "GlacierJobParameters": {"Tier": tier}}
        with self._translated("ask for the return of", part.object_key):
            try:
                self.client.restore_object(**self._named(part.object_key, part.version_id), RestoreRequest=wish)
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") not in _ASKED_BEFORE:
                    raise


def parts_of(store: Store, parts: Iterable[RestorePart]) -> list[VerifiedPart]:
    """The verification records of the parts of a restore.

    Raises:
        IntegrityError: A manifest is missing or damaged.
    """
    wanted = list(parts)
    manifests = {name: require_readable(store, ArchiveId.parse(name)) for name in {part.archive_id for part in wanted}}
    return [manifests[part.archive_id].verified_part(part.number) for part in wanted]


def ask_back(store: GlacierStore, parts: Iterable[VerifiedPart], *, days: int, tier: GlacierTier) -> list[PartReturn]:
    """Request the return of each part that is in a Glacier class and was not requested yet. Safe to repeat.

    Args:
        store: Its identity needs ``s3:RestoreObject``.
        parts: Of any archives.
        days: How long the copies stay readable.
        tier: How quickly S3 makes the copies.
    """

    def ask(part: VerifiedPart) -> PartReturn:
        found = store.look(part)
        if found.state != "frozen":
            return found
        store.ask(part, days=days, tier=tier)
        return found.model_copy(update={"state": "asked"})

    with ThreadPoolExecutor(_LOOKERS) as lookers:
        return list(lookers.map(ask, parts))


def still_away(store: GlacierStore, parts: Iterable[VerifiedPart]) -> list[PartReturn]:
    """The parts that cannot be read yet."""
    with ThreadPoolExecutor(_LOOKERS) as lookers:
        return [found for found in lookers.map(store.look, parts) if found.state != "readable"]
