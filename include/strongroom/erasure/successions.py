"""The records that archives supersede others, and what a case has superseded."""

from __future__ import annotations

from datetime import datetime

from pydantic import AwareDatetime, Field

from strongroom.erasure.cases import doubt_of
from strongroom.errors import IntegrityError
from strongroom.ledger.index import survey_manifests
from strongroom.ledger.stored_records import read_record
from strongroom.object_keys.archives import ArchiveId
from strongroom.object_keys.layout import EVIDENCE
from strongroom.records import Record, RunIdentity, Sha256
from strongroom.settings import TableSettings
from strongroom.storage.store import Store


class PartSuccession(Record):
    """One part and its successor, as they were compared: ``earlier_rows == kept + removed``, of which some are blanked."""

    number: int
    earlier_rows: int
    kept: int
    removed: int
    blanked: int
    earlier_sha256: Sha256
    sha256: Sha256


class SuccessionRecord(Record):
    """That an archive holds what an earlier one holds, without the rows of a person: read back and compared row by row."""

    archive_id: str
    manifest_sha256: Sha256
    supersedes: str
    superseded_sha256: Sha256
    case_id: str
    parts: tuple[PartSuccession, ...]
    proved_at: AwareDatetime
    proved_by: RunIdentity
    remove_after: AwareDatetime | None = Field(
        default=None,
        exclude_if=lambda instant: instant is None,
        description="When the cooling-off of the earlier archive ends; not there in records of the first versions.",
    )

    def cooled_off_at(self, settings: TableSettings) -> datetime:
        """When the earlier archive may go, as it was fixed with the proof. Only older records leave that to the settings of today."""
        return self.remove_after or settings.erasure.cooling_off.after(self.proved_at)

    @property
    def removed_rows(self) -> int:
        """Rows that are not in it."""
        return sum(part.removed for part in self.parts)

    @property
    def blanked_rows(self) -> int:
        """Rows about two persons without the values of one."""
        return sum(part.blanked for part in self.parts)


def read_succession(store: Store, archive: ArchiveId) -> SuccessionRecord | None:
    """The record that an archive supersedes another; None if it does not.

    Raises:
        IntegrityError: It is damaged.
    """
    what, hint = "a sound record of a succession", "Nothing was removed. Look at its earlier versions."
    return read_record(store, archive.succession_key, SuccessionRecord, what=what, hint=hint)


def successions_of(store: Store, case_id: str, *, proved: bool = False) -> list[SuccessionRecord]:
    """What a case has superseded, by archive id.

    Args:
        proved: Whether to leave out records that the log does not have, instead of raising.

    Raises:
        IntegrityError: A record is damaged, or the log does not vouch for it.
    """
    found = []
    for key in store.keys(EVIDENCE):
        archive = ArchiveId.parse_or_none(key.rpartition("/")[0].rpartition("/")[2])
        if archive is None or key != archive.succession_key:
            continue
        record = read_succession(store, archive)
        if record is None or record.case_id != case_id:
            continue
        if (doubt := doubt_of(store, key, record, "superseded")) is None:
            found.append(record)
        elif not proved:
            raise IntegrityError(
                f"the transparency log of {store} does not vouch for {key}",
                found=doubt,
                hint="Nothing was removed. If the task `erase` of this case failed, clear it. Otherwise find out who wrote the record.",
            )
    return sorted(found, key=lambda record: record.archive_id)


def superseded_for(store: Store, settings: TableSettings, case_id: str) -> list[ArchiveId]:
    """Archives of a table that are still there, and that a case has superseded."""
    survey = survey_manifests(store, settings.schema_name, settings.table_name)
    successions = (one.supersedes for one in (*survey.manifests, *survey.superseded))
    of_case = {one.archive_id for one in successions if one is not None and one.case_id == case_id}
    return [ArchiveId.parse(one.archive_id) for one in survey.superseded if one.archive_id in of_case]


def unrecorded_for(store: Store, settings: TableSettings, case_id: str) -> list[ArchiveId]:
    """Those of :func:`superseded_for` whose succession the log does not have: the try that sealed the successor died after it."""
    recorded = {one.supersedes for one in successions_of(store, case_id, proved=True)}
    return [archive for archive in superseded_for(store, settings, case_id) if str(archive) not in recorded]
