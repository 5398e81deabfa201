"""Check a bucket against a recovery kit, and say what it has: what can be restored, what is held, what was purged, what is lost."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import AwareDatetime, Field

from strongroom.errors import IdentityError
from strongroom.ledger.entries import OF_MANIFESTS, Entry, Kind, parse_entry
from strongroom.ledger.holds import holds_in_force
from strongroom.ledger.index import DamagedManifest, Survey, survey_manifests
from strongroom.ledger.journal import log_of
from strongroom.ledger.log import Head
from strongroom.ledger.owner import require_owned
from strongroom.ledger.units import covering_unit, ids_of_unit
from strongroom.object_keys.archives import certified, unfinished_purges
from strongroom.object_keys.layout import EVIDENCE
from strongroom.records import Record
from strongroom.recovery.kit import KitStore, RecoveryError
from strongroom.storage.store import Store
from strongroom.tlog.checkpoints import Checkpoint
from strongroom.tlog.notes import Note

GONE: tuple[Kind, ...] = ("purged",)
"""What the log says of an archive that must never come back. An archive that another supersedes must not either."""


class Restorable(Record):
    """An archive that can be restored."""

    archive_id: str
    table: str
    rows: int
    window_start: AwareDatetime
    window_end: AwareDatetime


class StoreState(Record):
    """What one bucket has."""

    store: str
    read_from: Literal["store", "replica"]
    database: str = Field(description="The database that owns the store.")
    entries: int | None = Field(description="Of the log; None for a store without one.")
    checkpoint: str | None
    restorable: tuple[Restorable, ...]
    held: tuple[str, ...]
    superseded: tuple[str, ...]
    purged: tuple[str, ...]
    purging: tuple[str, ...] = Field(description="A purge of them began and did not end.")
    damaged: tuple[DamagedManifest, ...]
    lost: tuple[str, ...] = Field(
        description="The log says that they were sealed; they are not there, and were not purged."
    )
    parted: tuple[str, ...] = Field(
        default=(),
        description="They were sealed together with an archive that is lost, damaged or destroyed, so their objects do not come back whole.",
    )

    @property
    def whole(self) -> bool:
        """Whether everything is there that should be."""
        return not self.damaged and not self.lost


def require_kit(store: Store, kit: KitStore) -> Head | None:
    """Require that a bucket is that of a kit: the owner's, with a log that trusted keys signed and that only grew since.

    Returns:
        The head of its log; None for a store without one.

    Raises:
        RecoveryError: The settings trust other keys, or the store belongs to another database.
        IdentityError, IntegrityError: The log is gone, damaged, or does not continue the kit's checkpoint.
    """
    if store.settings.log_keys != kit.log_keys:
        raise RecoveryError(
            f"the settings of {store} trust other keys than the kit",
            expected=" ".join(kit.log_keys) or "no log",
            found=" ".join(store.settings.log_keys) or "no log",
            hint="Nothing was changed. Take the settings of the kit; a key that replaced another since then needs a newer kit.",
        )
    log, head = log_of(store), None
    if log is not None:
        head = log.head()
        if kit.checkpoint is not None:
            note = Note.parse("the checkpoint of the kit", kit.checkpoint.encode())
            note.require_signature("the checkpoint of the kit", log.trusted)
            head = log.require_growth(Checkpoint.parse("the checkpoint of the kit", note.text))
    owner = require_owned(store)
    same = owner.model_copy(update={"server_version": ""}) == kit.owner.model_copy(update={"server_version": ""})
    if not same and not any(one.act.kind == "owner changed" for one in entries_of(store)):
        raise IdentityError(
            f"{store} belongs to another database than the kit says",
            expected=f"{kit.owner.database} (system {kit.owner.system_identifier})",
            found=f"{owner.database} (system {owner.system_identifier})",
            hint="Nothing was changed. It is another store, or somebody replaced metadata/source.json.",
        )
    return head


def entries_of(store: Store) -> list[Entry]:
    """All entries of a store's log; none without a log. Each is compared with the tree."""
    log = log_of(store)
    if log is None:
        return []
    lines = log.entries(0, log.head().checkpoint.size)
    return [parse_entry(f"entry {index} of {store}", line) for index, line in enumerate(lines)]


def survey_store(
    store: Store, kit: KitStore, *, read_from: Literal["store", "replica"] = "store"
) -> tuple[StoreState, Survey]:
    """Check a bucket against a kit, and read every manifest in it. The index is not used.

    Raises:
        RecoveryError, IdentityError, IntegrityError: As :func:`require_kit`.
    """
    head = require_kit(store, kit)
    survey = survey_manifests(store, indexed=False)
    holds, evidence = holds_in_force(store), list(store.keys(EVIDENCE))
    entries = entries_of(store)
    present = {one.archive_id for one in (*survey.manifests, *survey.superseded)}
    present |= {one.archive_id for one in survey.damaged}
    purged = {str(one) for one in certified(evidence)} | gone_of(entries)
    purging = {str(one) for one in unfinished_purges(evidence)} - purged
    sealed = {one.act.archive_id for one in entries if one.act.kind in OF_MANIFESTS}
    lost = {name for name in sealed - present - purged - purging if name is not None}
    apart = {one.archive_id for one in survey.damaged} | lost | purged | purging
    apart -= {one.supersedes.archive_id for one in survey.manifests if one.supersedes is not None}
    state = StoreState(
        store=str(store),
        read_from=read_from,
        database=require_owned(store).database,
        entries=None if head is None else head.checkpoint.size,
        checkpoint=None if head is None else head.note.to_bytes().decode(),
        restorable=tuple(
            Restorable(
                archive_id=one.archive_id,
                table=one.table_name,
                rows=one.record_count,
                window_start=one.window_start,
                window_end=one.window_end,
            )
            for one in survey.manifests
        ),
        held=tuple(one.archive_id for one in survey.manifests if covering_unit(holds, one)),
        superseded=tuple(one.archive_id for one in survey.superseded),
        purged=tuple(sorted(purged)),
        purging=tuple(sorted(purging)),
        damaged=survey.damaged,
        lost=tuple(sorted(lost)),
        parted=tuple(one.archive_id for one in survey.manifests if apart.intersection(ids_of_unit(one))),
    )
    return state, survey


def gone_of(entries: Iterable[Entry]) -> set[str]:
    """Ids of the archives that a log says were destroyed."""
    return {one.act.archive_id for one in entries if one.act.kind in GONE and one.act.archive_id is not None}
