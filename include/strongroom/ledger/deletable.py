"""Whether the ledger lets rows leave their table: asked by delete for one part, and by detach for all parts at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from strongroom.calendar import Partition, refuse_if_hot
from strongroom.database.session import Connection, read_identity
from strongroom.errors import IntegrityError
from strongroom.ledger.claims import KeepClaim
from strongroom.ledger.entries import Act, Kind, of_archive
from strongroom.ledger.manifests import Attested, require_attested, require_object, require_part_of
from strongroom.ledger.orders import Steering
from strongroom.ledger.owner import require_owner
from strongroom.ledger.restore_records import require_wanted
from strongroom.ledger.units import require_children_gone, require_unit
from strongroom.object_keys.archives import ArchiveId
from strongroom.records import RunIdentity, VerifiedPart
from strongroom.settings import TableSettings
from strongroom.storage.staging import Staging
from strongroom.storage.store import Store


@dataclass(frozen=True)
class DeletingStep:
    """What a step that takes rows out of a table works with.

    Attributes:
        store: The archive store.
        staging: The archive's staging.
        settings: The table's settings.
        partition: The partition that the rows belong to.
        run: The Airflow run.
        keep_claim: Called before each change; raises when the run no longer holds the partition's claim.
        now: Aware UTC instant at which the step begins.
        stop_at: No new batch or partition begins after this instant; None means no limit.
        steering: What it is ordered to do, and what it tells.
    """

    store: Store
    staging: Staging
    settings: TableSettings
    partition: Partition
    run: RunIdentity
    keep_claim: KeepClaim
    now: datetime
    stop_at: datetime | None = None
    steering: Steering = field(default_factory=Steering)

    def act(self, archive: ArchiveId, kind: Kind, **facts: int | str | None) -> Act:
        """What the step does with an archive, for the store's log."""
        return of_archive(archive, kind, settings_sha256=self.settings.sha256, facts=facts)


def require_sealed(parts: Sequence[VerifiedPart], step: DeletingStep) -> Attested:
    """Check that an archive is past hot retention, and that its manifest lists the parts as they were verified.

    One of a unit needs all others of it, too, and that the rows that refer to its own were deleted before.

    Args:
        parts: Verification records of one archive.

    Raises:
        PartitionError: The partition is inside hot retention.
        IntegrityError: There is no sound manifest, or it does not agree with a record; or not all archives of its unit are sealed.
        ChildrenLeftError: Rows that refer to those of the archive were not deleted yet.
    """
    refuse_if_hot(step.partition, step.settings.hot_retention, step.now)
    sealed = require_attested(step.store, parts[0].archive)
    if sealed.manifest.supersedes is not None:
        raise IntegrityError(
            f"no row is deleted because of {parts[0].archive}",
            found=f"an archive that supersedes {sealed.manifest.supersedes.archive_id}, whose rows left the table long ago",
            hint="No row was deleted. Clear 'plan' and the tasks after it.",
        )
    for part in parts:
        require_part_of(sealed.manifest, part)
    if sealed.manifest.unit:
        require_children_gone(sealed.manifest, require_unit(step.store, sealed.manifest))
    return sealed


def require_deletable(
    connection: Connection, sealed: Attested, parts: Sequence[VerifiedPart], step: DeletingStep
) -> None:
    """Check that nothing in the store forbids deleting the rows of the parts now.

    Args:
        connection: A session on the database that the rows are in.
        sealed: The archive, from :func:`require_sealed`.
        parts: Verification records of the archive.

    Raises:
        IntegrityError: The archive was condemned, or an object is no longer the one that was verified.
        NeededError: Rows of the partition were restored and are needed in the table.
        IdentityError: The store belongs to another database.
    """
    require_wanted(step.store, step.settings, step.partition, sealed, step.now)
    require_owner(step.store, read_identity(connection))
    for part in parts:
        require_object(step.store, part)
