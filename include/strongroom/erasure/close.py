"""End a case: see that nothing is left that could be erased, say what became of it, and forget who the person is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Literal

from strongroom.erasure.approve import Answer
from strongroom.erasure.cases import RIGHTS, Closing, Refusal, forget_person, keep, records_of
from strongroom.erasure.erase import Erased
from strongroom.erasure.find import Place
from strongroom.erasure.successions import SuccessionRecord, successions_of, superseded_for
from strongroom.errors import ErasureError
from strongroom.ledger.entries import Act, Facts
from strongroom.ledger.stored_records import read_record
from strongroom.object_keys.archives import ArchiveId
from strongroom.object_keys.records import case_key
from strongroom.records import RunIdentity, make_salt
from strongroom.settings import TableSettings
from strongroom.storage.purge_store import PurgeStore
from strongroom.storage.store import Store

_LEFT = ("erase", "wait")


def close_case(
    store: Store,
    purge_store: PurgeStore,
    case_id: str,
    places: Sequence[Place],
    tables: Sequence[TableSettings],
    *,
    run: RunIdentity,
    now: datetime,
    answer: Answer | None = None,
) -> Closing:
    """End a case whose erasure is through, or which was refused. A repeat returns what was written.

    Args:
        answer: What the second person said to what the run found. If it was no, everything is refused.
        places: What is found of the person now, from :func:`strongroom.erasure.find.find_person`.
        tables: That have columns of persons: they name who was given the data.

    Raises:
        ErasureError: Something is left that could be erased, or an archive that was superseded is still there.
    """
    what, hint = "a sound record of an end", "Nothing was changed. Look at its earlier versions."
    closing = read_record(store, case_key(case_id, "closed"), Closing, what=what, hint=hint)
    if closing is None:
        if answer is not None and answer.refused:
            why = f"{answer.by} refused it, {answer.at:%Y-%m-%d %H:%M} UTC"
            places = [
                place.model_copy(update={"fate": "refuse", "why": why}) if place.fate in _LEFT else place
                for place in places
            ]
        successions = successions_of(store, case_id)
        left = [f"{place.name} ({place.rows + place.about_two} rows)" for place in places if place.fate in _LEFT]
        superseded = (archive for table in tables for archive in superseded_for(store, table, case_id))
        left += [f"{archive}, superseded" for archive in superseded]
        if left:
            raise ErasureError(
                f"case {case_id} cannot end",
                expected="no row of the person that could be erased",
                found=", ".join(left[:5]),
                hint="Clear 'find' and the tasks after it: they erase what is left.",
            )
        closing = _closing(store, case_id, places, tables, successions, run, now)
    facts: Facts = {"case": case_id, "outcome": closing.outcome, "erased_rows": closing.erased_rows}
    keep(store, case_key(case_id, "closed"), closing, Act(kind="case closed", facts=facts))
    forget_person(purge_store, case_id)
    return closing


def _closing(
    store: Store,
    case_id: str,
    places: Sequence[Place],
    tables: Iterable[TableSettings],
    successions: Sequence[SuccessionRecord],
    run: RunIdentity,
    now: datetime,
) -> Closing:
    in_tables = sum(one.removed_rows + one.blanked_rows for one in erased_of(store, case_id))
    erased = in_tables + sum(one.removed_rows + one.blanked_rows for one in successions)
    refusals = tuple(
        Refusal(
            name=place.name, rows=None if place.fate == "unsearchable" else place.rows + place.about_two, why=place.why
        )
        for place in places
        if place.fate in ("refuse", "keep", "unsearchable")
    )
    refused = any(place.fate in ("refuse", "unsearchable") for place in places)
    outcome: Literal["erased", "partly erased", "refused", "nothing found"] = (
        ("partly erased" if refused else "erased") if erased else "refused" if refused else "nothing found"
    )
    recipients = dict.fromkeys(one for table in tables for one in table.subjects.recipients)
    return Closing(
        case_id=case_id,
        outcome=outcome,
        erased_rows=erased,
        certificates=tuple(ArchiveId.parse(one.supersedes).destruction_key for one in successions),
        refusals=refusals,
        rights=RIGHTS if refused else None,
        recipients=tuple(recipients) if erased else (),
        closed_at=now,
        closed_by=run,
        salt=make_salt(),
    )


def answer_case(store: Store, purge_store: PurgeStore, case_id: str, *, who: str, now: datetime) -> Closing:
    """End a case that asked for access, after the person was given the report. A repeat returns what was written."""
    what, hint = "a sound record of an end", "Nothing was changed. Look at its earlier versions."
    key = case_key(case_id, "closed")
    closing = read_record(store, key, Closing, what=what, hint=hint) or Closing(
        case_id=case_id,
        outcome="answered",
        erased_rows=0,
        certificates=(),
        refusals=(),
        rights=None,
        recipients=(),
        closed_at=now,
        closed_by=who,
        salt=make_salt(),
    )
    facts: Facts = {"case": case_id, "outcome": closing.outcome}
    keep(store, key, closing, Act(kind="case closed", who=who, facts=facts))
    forget_person(purge_store, case_id)
    return closing


def erased_of(store: Store, case_id: str) -> list[Erased]:
    """What was erased in tables for a case so far, in the order of the records' keys."""
    what, hint = "a sound record of what was erased", "Nothing was changed. Look at its earlier versions."
    found = (read_record(store, key, Erased, what=what, hint=hint) for key in records_of(store, case_id, "erased"))
    return [one for one in found if one is not None]
