"""Erase a person in one table: enter the intent, keep the person from coming back, then tables, then archives.

A repeat continues: rows that are gone are not found again, and an archive that has its successor keeps it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime

from strongroom.database.session import Connection
from strongroom.erasure.cases import keep
from strongroom.erasure.find import Place, find_person, is_refused
from strongroom.erasure.rows import Wanted
from strongroom.erasure.successions import SuccessionRecord, unrecorded_for
from strongroom.erasure.supersede import Superseding
from strongroom.erasure.tables import Target, erase_rows, targets_of
from strongroom.errors import ContendedError
from strongroom.ledger.claims import claim_keeper, others_at_work, release_claim, take_claim
from strongroom.ledger.entries import Act, Facts
from strongroom.ledger.stored_records import read_record
from strongroom.ledger.suppressed import persons_of, suppress
from strongroom.object_keys.archives import ArchiveId
from strongroom.object_keys.layout import encode_name
from strongroom.object_keys.records import case_key
from strongroom.records import Record, RunIdentity
from strongroom.settings import TableSettings
from strongroom.storage.staging import Staging
from strongroom.storage.store import Store


class ErasureIntent(Record):
    """That an erasure begins: what was found, and who approved it."""

    case_id: str
    found_key: str
    approved_by: str
    intended_at: AwareDatetime
    intended_by: RunIdentity


class Erased(Record):
    """What one run erased in one table."""

    case_id: str
    table: str
    kind: Literal["live", "warm", "copy"]
    name: str
    removed_rows: int
    blanked_rows: int
    erased_at: AwareDatetime
    erased_by: RunIdentity


def intend(
    store: Store, case_id: str, found_key: str, *, found_at: datetime, approved_by: str, run: RunIdentity, now: datetime
) -> ErasureIntent:
    """Enter that an erasure begins. Nothing is erased before. A repeat returns the first intent."""
    key = case_key(case_id, "intent", found_at)
    intent = ErasureIntent(
        case_id=case_id, found_key=found_key, approved_by=approved_by, intended_at=now, intended_by=run
    )
    what, hint = "a sound intent", "Nothing was erased. Clear 'find' and the tasks after it."
    intent = read_record(store, key, ErasureIntent, what=what, hint=hint) or intent
    act = Act(kind="erasure intended", who=approved_by, facts={"case": case_id})
    keep(store, key, intent, act)
    return intent


class Erasing:
    """Erases a person in the tables of one store.

    Args:
        store: That has the archives.
        staging: Opens the staging of an archive by its id.
        wanted: Whose rows go.
        intent: From :func:`intend`.
        run: Which Airflow run this is.
        clock: Returns the current instant.
    """

    def __init__(
        self,
        store: Store,
        staging: Callable[[str], AbstractContextManager[Staging]],
        wanted: Wanted,
        intent: ErasureIntent,
        *,
        run: RunIdentity,
        clock: Callable[[], datetime],
    ) -> None:
        self._store, self._staging, self._wanted = store, staging, wanted
        self._intent, self._run, self._clock = intent, run, clock

    def erase(
        self, connection: Connection, settings: TableSettings, *, folder: Path | None
    ) -> tuple[list[Erased], list[SuccessionRecord]]:
        """Erase the person in one table, its warm table, copies of it, and its archives. What is refused stays.

        Args:
            connection: A session that may delete in these tables.
            settings: Of the table.
            folder: Where to keep files without names meanwhile.

        Returns:
            What was erased in tables, and the archives that were superseded.

        Raises:
            ContendedError: A run is still working on the table or on one of its archives, or a hold came meanwhile.
            ErasureError: Other rows refer to one of the rows, or a value cannot be blanked.
            IntegrityError: An archive or its successor is not what it should be.
        """
        if is_refused(self._store, settings) is not None:
            return [], []
        case_id = self._intent.case_id
        suppress(
            self._store,
            self._wanted.key,
            settings,
            self._wanted.tokens,
            case_id=case_id,
            before=self._intent.intended_at,
        )
        # In this order: who claims a partition from here on reads the list before it seals, and who has claimed one is waited for.
        schema_name, table_name = settings.schema_name, settings.table_name
        working = others_at_work(self._store, schema_name, table_name, owner=str(self._run), now=self._clock())
        if working:
            raise _not_yet(settings, working)
        places, _ = find_person(connection, self._store, settings, self._wanted, folder=folder)
        if waiting := [f"{place.name}: {place.why}" for place in places if place.fate == "wait"]:
            raise _not_yet(settings, waiting)
        erased = self._in_tables(connection, settings)
        begun = unrecorded_for(self._store, settings, case_id)
        archives = [ArchiveId.parse(place.name) for place in places if _has_to_go(place)]
        return erased, [self._in_archive(settings, archive) for archive in (*begun, *archives)]

    def _in_tables(self, connection: Connection, settings: TableSettings) -> list[Erased]:
        erased = []
        for target in targets_of(connection, self._store, settings):
            if (why := is_refused(self._store, settings)) is not None:  # a hold may have come since
                raise _not_yet(settings, [why])
            deleted, blanked = erase_rows(connection, target, settings, self._wanted)
            if deleted or blanked:
                erased.append(self._record(settings, target, deleted, blanked))
        return erased

    def _in_archive(self, settings: TableSettings, archive: ArchiveId) -> SuccessionRecord:
        claim, owner, ttl = archive.claim_key, str(self._run), settings.claim_ttl
        take_claim(self._store, claim, owner=owner, now=self._clock(), ttl=ttl)
        keep_claim = claim_keeper(self._store, [claim], owner=owner, clock=self._clock, ttl=ttl)
        try:
            superseding = Superseding(
                self._store,
                self._staging,
                settings,
                self._wanted,
                persons_of(self._store, self._wanted.key, settings),
                case_id=self._intent.case_id,
                run=self._run,
                clock=self._clock,
            )
            return superseding.supersede(archive, keep_claim)
        finally:
            release_claim(self._store, claim, owner=owner, now=self._clock())

    def _record(self, settings: TableSettings, target: Target, removed: int, blanked: int) -> Erased:
        now = self._clock()
        record = Erased(
            case_id=self._intent.case_id,
            table=settings.qualified_name,
            kind=target.kind,
            name=str(target),
            removed_rows=removed,
            blanked_rows=blanked,
            erased_at=now,
            erased_by=self._run,
        )
        facts: Facts = {"case": record.case_id, "removed_rows": removed, "blanked_rows": blanked}
        act = Act(kind="erased", table=record.name, facts=facts)
        key = case_key(record.case_id, f"erased-{target.kind}-{encode_name(record.name)}", now)
        keep(self._store, key, record, act)
        return record


def _not_yet(settings: TableSettings, why: Sequence[str]) -> ContendedError:
    return ContendedError(
        f"{settings.qualified_name} cannot be erased yet",
        found="; ".join(why),
        hint="Nothing more of this table was changed. The task tries again by itself; if it keeps failing, clear it when that has ended.",
    )


def _has_to_go(place: Place) -> bool:
    return place.kind == "archive" and place.fate == "erase"
