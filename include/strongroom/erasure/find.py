"""Find the rows of a person, and say for each place whether they may be erased. Nothing is changed here.

An archive's locators tell which of its parts may have such rows; these are read whole and searched row by row. A part without a sound
locator is searched in any case. Nothing is left out silently: a place that cannot be searched is named with the reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import AwareDatetime

from strongroom.database.session import Connection
from strongroom.erasure.rows import PersonRows, Wanted, columns_of, split_rows
from strongroom.erasure.tables import count_rows, targets_of
from strongroom.errors import FrozenError, IntegrityError
from strongroom.ledger.evidence import read_detached
from strongroom.ledger.holds import Hold, holds_in_force
from strongroom.ledger.index import survey_manifests
from strongroom.ledger.manifest_record import Manifest
from strongroom.ledger.manifests import require_manifest
from strongroom.ledger.suppressed import part_may_hold
from strongroom.object_keys.archives import ArchiveId
from strongroom.object_keys.layout import table_folder
from strongroom.object_keys.records import evidence_prefix
from strongroom.records import Record, RunIdentity, Salt, VerifiedPart
from strongroom.settings import TableSettings
from strongroom.storage.either import read_own
from strongroom.storage.store import Store
from strongroom.tables.archived_rows import archived_texts

T = TypeVar("T")

Fate = Literal["erase", "keep", "refuse", "wait", "unsearchable"]

_NO_ROWS = "It is not known which rows are the person's. Nothing was changed; `airflow strongroom verify` says what is wrong with the archive."


class Place(Record):
    """Rows of a person in one place, and what becomes of them.

    ``erase``: they go. ``keep``: rows about two persons, which the settings keep. ``refuse``: a hold or a law keeps them. ``wait``:
    a run is still working on the archive. ``unsearchable``: it is unknown whether there are any.
    """

    table: str
    kind: Literal["live", "warm", "copy", "archive"]
    name: str
    rows: int
    about_two: int
    parts: int = 0
    searched_parts: int = 0
    fate: Fate
    why: str


class Found(Record):
    """What one run found of a person."""

    case_id: str
    run: RunIdentity
    found_at: AwareDatetime
    places: tuple[Place, ...]
    searched: dict[str, int]
    salt: Salt = None

    def of(self, *fates: Fate) -> list[Place]:
        """The places with some fates."""
        return [place for place in self.places if place.fate in fates]


@dataclass(frozen=True)
class Rows:
    """What an archive or a table has of a person: rows that go, and rows about two persons that stay, whole or blanked."""

    theirs: int
    about_two: int
    parts: int = 0
    searched_parts: int = 0


_OF_A_UNIT = "it was sealed together with archives of other tables, and no successor can take its place among them"


def find_person(
    connection: Connection, store: Store, settings: TableSettings, wanted: Wanted, *, folder: Path | None
) -> tuple[list[Place], dict[str, int]]:
    """Find the rows of a person in one table, its warm table, restored copies of it, and its archives.

    Args:
        connection: A session that may read these tables.
        store: That has the archives.
        settings: Of the table, which name its columns of persons.
        wanted: Whose rows.
        folder: Where to keep files without names meanwhile; None means the system's folder for temporary files.

    Returns:
        The places with rows, and those that cannot be searched; and how many tables, archives and parts were searched.

    Raises:
        IntegrityError: A hold cannot be read.
        IdentityError: The store is unclaimed.
        ConfigurationError: A column's type cannot identify persons.
    """
    holding = _holding(holds_in_force(store), settings)
    places: list[Place] = []
    searched: Counter[str] = Counter()
    for target in targets_of(connection, store, settings):
        searched["tables"] += 1
        theirs, about_two = count_rows(connection, target, settings, wanted)
        if theirs or about_two:
            fate, why = _fate(settings, holding, theirs=theirs, about_two=about_two, until=None)
            places.append(_place(settings, target.kind, str(target), Rows(theirs, about_two), fate, why))
    survey = survey_manifests(store, settings.schema_name, settings.table_name)
    for damaged in survey.damaged:
        places.append(_unsearchable(settings, damaged.archive_id, damaged.problem))
    for manifest in survey.manifests:
        searched["archives"] += 1
        searched["parts"] += len(manifest.parts)
        if not columns_of(settings, manifest.table):
            searched["archives_without_columns_of_persons"] += 1
            continue
        found = _OF_A_UNIT if manifest.unit else _search(store, settings, manifest, wanted, folder)
        if isinstance(found, str):
            places.append(_unsearchable(settings, manifest.archive_id, found))
            continue
        searched["searched_parts"] += found.searched_parts
        if not found.theirs and not found.about_two:
            continue
        until = manifest.retention_until
        fate, why = _fate(settings, holding, theirs=found.theirs, about_two=found.about_two, until=until)
        if fate == "erase" and (working := unfinished(store, manifest)) is not None:
            fate, why = "wait", working
        places.append(_place(settings, "archive", manifest.archive_id, found, fate, why))
    return places, dict(searched)


def rows_in_archive(
    store: Store, settings: TableSettings, manifest: Manifest, wanted: Wanted, folder: Path | None
) -> Iterator[bytes]:
    """The rows of an archive that are about a person, as canonical texts.

    Raises:
        IntegrityError: A part is not what was archived, or is gone.
    """
    rows = PersonRows(manifest.table, settings.subjects, wanted)
    for part in suspects(store, manifest, wanted):
        yield from _read(
            store, folder, manifest, part, lambda found: [row for row in found if rows.fate(row) != "kept"]
        )


def suspects(store: Store, manifest: Manifest, wanted: Wanted) -> list[VerifiedPart]:
    """The parts of an archive that may have rows of a person."""
    parts = map(manifest.verified_part, range(len(manifest.parts)))
    return [part for part in parts if part.rows and part_may_hold(store, part, wanted.key, wanted.tokens)]


def unfinished(store: Store, manifest: Manifest) -> str | None:
    """Why the rows of an archive may still be in the table as they were archived; None if they have left it.

    Until then the delete compares the table with this very archive, so it gets no successor.
    """
    archive = ArchiveId.parse(manifest.archive_id)
    if manifest.supersedes is not None:
        return None
    evidence = set(store.keys(evidence_prefix(archive.schema_name, archive.table_name, archive.partition_key)))
    if archive.condemnation_key in evidence:
        return None
    if any(archive.delete_evidence_key(part.number) not in evidence for part in manifest.parts):
        return "its rows are still being deleted from the table; let that run end first"
    detached = read_detached(store, archive)
    for partition in detached.detached if detached is not None else ():
        if not any(key.startswith(f"{archive.drop_evidence_prefix}{partition.oid}-") for key in evidence):
            return f"{partition.held_as} was detached with its rows and waits to be dropped"
    return None


def _search(
    store: Store, settings: TableSettings, manifest: Manifest, wanted: Wanted, folder: Path | None
) -> Rows | str:
    """What an archive has of a person, or why that cannot be told."""
    try:
        manifest = require_manifest(store, ArchiveId.parse(manifest.archive_id))
        rows = PersonRows(manifest.table, settings.subjects, wanted)
        fates: Counter[str] = Counter()
        searched = suspects(store, manifest, wanted)
        for part in searched:
            fates += _read(store, folder, manifest, part, lambda found: Counter(map(rows.fate, found)))
    except (IntegrityError, FrozenError) as error:
        return f"{error.what}{f', found {error.found}' if error.found else ''}"
    return Rows(fates["removed"], fates["blanked"] + fates["about two"], len(manifest.parts), len(searched))


def _read(
    store: Store, folder: Path | None, manifest: Manifest, part: VerifiedPart, take: Callable[[Iterator[bytes]], T]
) -> T:
    """Take what is wanted of the rows of a part. A bucket that was filled from its second copy has other versions."""

    def read(chunks: Iterator[bytes]) -> T:
        return take(split_rows(archived_texts(store, folder, manifest.table, part, hint=_NO_ROWS, chunks=chunks)))

    return read_own(store, part.object_key, part.version_id, read)


def _holding(holds: Sequence[Hold], settings: TableSettings) -> list[Hold]:
    """The holds in force that touch a table, whatever part of it."""
    folder = table_folder(settings.schema_name, settings.table_name)
    return [hold for hold in holds if hold.what == "*" or f"{hold.what}.".startswith(f"{folder}.")]


def _fate(
    settings: TableSettings, holding: Iterable[Hold], *, theirs: int, about_two: int, until: datetime | None
) -> tuple[Fate, str]:
    subjects = settings.subjects
    if subjects.obligation:
        term = f"until {until:%Y-%m-%d}" if until is not None else f"for {settings.cold_retention.in_words}"
        return "refuse", f"a law obliges to keep them {term}: {settings.legal_basis} (GDPR 17(3)(b))"
    if held := "; ".join(map(str, holding)):
        return "refuse", f"{held} (GDPR 17(3)(e))"
    if not theirs and subjects.about_two == "keep":
        return "keep", "they are about two persons, and `subjects.about_two` keeps them"
    if not theirs and subjects.about_two == "blank":
        return "erase", "they are about two persons, and the person's values in them are blanked"
    blank = " and blanked where they are about two" if about_two and subjects.about_two == "blank" else ""
    return "erase", f"they are removed{blank}"


def begun(settings: TableSettings, archive: ArchiveId) -> Place:
    """The place of an archive whose successor an earlier try sealed, and did not put on record."""
    return _place(
        settings, "archive", str(archive), Rows(0, 0), "erase", "its successor is sealed, and not yet on record"
    )


def is_refused(store: Store, settings: TableSettings) -> str | None:
    """Why nothing of a table may be erased: a hold, or a law. None if it may.

    Raises:
        IntegrityError: A hold cannot be read.
    """
    holding = _holding(holds_in_force(store), settings)
    fate, why = _fate(settings, holding, theirs=1, about_two=0, until=None)
    return why if fate == "refuse" else None


def _place(
    settings: TableSettings,
    kind: Literal["live", "warm", "copy", "archive"],
    name: str,
    rows: Rows,
    fate: Fate,
    why: str,
) -> Place:
    return Place(
        table=settings.qualified_name,
        kind=kind,
        name=name,
        rows=rows.theirs,
        about_two=rows.about_two,
        parts=rows.parts,
        searched_parts=rows.searched_parts,
        fate=fate,
        why=why,
    )


def _unsearchable(settings: TableSettings, archive_id: str, why: str) -> Place:
    return _place(settings, "archive", archive_id, Rows(0, 0), "unsearchable", why)
