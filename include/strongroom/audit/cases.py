"""The requests of persons in a period: what became of each, and whether it was answered in time.

What happened is read from the log. The day that a case is due, the recipients and the reasons of a refusal are read from its records, and
believed only if the log has just these bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Literal, TypeVar

from pydantic import AwareDatetime, Field, ValidationError

from strongroom.calendar import Window
from strongroom.erasure.cases import Case, Closing, Extension
from strongroom.ledger.entries import Entry
from strongroom.object_keys.records import case_key
from strongroom.records import Record
from strongroom.storage.store import Store

_R = TypeVar("_R", bound=Record)


class CaseAudit(Record):
    """One case that was open in the period. It is known by its id; nothing here tells who the person is."""

    case_id: str
    asks: str
    opened: int = Field(description="Index of the entry that it was opened.")
    received_at: AwareDatetime | None
    due_at: AwareDatetime | None = Field(description="With the extension; None if its record is not that of the log.")
    extended: bool
    ended_at: AwareDatetime | None = Field(description="None if it was still open at the end of the period.")
    outcome: str | None
    clock: Literal["in time", "late", "overdue", "running", "unknown"]
    erased_rows: int = Field(description="Removed or blanked, in tables and archives, so far.")
    superseded: tuple[str, ...] = Field(description="Archives that got a successor.")
    destroyed: tuple[str, ...] = Field(description="Those of them that were destroyed.")
    refusals: tuple[str, ...]
    unsearchable: bool = Field(description="Whether a place could not be searched.")
    recipients: tuple[str, ...] = Field(description="Who has to be told (GDPR 19).")
    unreadable: tuple[str, ...] = Field(description="Records that are not those of the log.")


def read_cases(
    store: Store, entries: Sequence[tuple[int, Entry]], window: Window, now: datetime
) -> tuple[CaseAudit, ...]:
    """The cases that were open at any time in a period, by their ids.

    Args:
        store: Whose log has the entries.
        entries: All of the log, with their indexes.
        window: The period; its end is excluded.
        now: Aware UTC instant.
    """
    until = min(now, window.end)
    known = [(index, entry) for index, entry in entries if entry.at < window.end]
    by_case: dict[str, list[tuple[int, Entry]]] = {}
    for index, entry in known:
        if "case" in entry.act.facts and entry.act.kind != "archived":
            by_case.setdefault(str(entry.act.facts["case"]), []).append((index, entry))
    purged = {entry.act.archive_id for _, entry in known if entry.act.kind == "purged"}
    found = (_Reading(store, case_id, acts).audit(purged, until) for case_id, acts in sorted(by_case.items()))
    return tuple(one for one in found if one.ended_at is None or one.ended_at >= window.start)


class _Reading:
    """One case as its entries and records tell it."""

    def __init__(self, store: Store, case_id: str, acts: Sequence[tuple[int, Entry]]) -> None:
        self._store, self._case_id, self._acts = store, case_id, acts
        self._unreadable: list[str] = []

    def audit(self, purged: set[str | None], until: datetime) -> CaseAudit:
        received = self._record("received", Case)
        extension = self._record("extended", Extension)
        closing = self._record("closed", Closing)
        last = next((entry for _, entry in reversed(self._acts) if entry.act.kind == "case closed"), None)
        ended_at = last.at if last is not None else None
        due_at = extension.due_at if extension is not None else received.due_at if received is not None else None
        superseded = tuple(sorted({str(one.act.facts["supersedes"]) for one in self._of("superseded")}))
        first, opened = self._acts[0]
        return CaseAudit(
            case_id=self._case_id,
            asks=str(opened.act.facts.get("asks", "unknown")),
            opened=first,
            received_at=received.received_at if received is not None else None,
            due_at=due_at,
            extended=extension is not None,
            ended_at=ended_at,
            outcome=str(last.act.facts.get("outcome")) if last is not None else None,
            clock=_clock(due_at, ended_at, until),
            erased_rows=sum(self._rows()),
            superseded=superseded,
            destroyed=tuple(one for one in superseded if one in purged),
            refusals=tuple(f"{one.name}: {one.why}" for one in closing.refusals) if closing is not None else (),
            unsearchable=closing is not None and any(one.rows is None for one in closing.refusals),
            recipients=closing.recipients if closing is not None else (),
            unreadable=tuple(self._unreadable),
        )

    def _of(self, *kinds: str) -> Iterator[Entry]:
        return (entry for _, entry in self._acts if entry.act.kind in kinds)

    def _rows(self) -> Iterator[int]:
        """Rows of each act; an act that was entered twice counts once."""
        acts = {entry.subjects: entry.act.facts for entry in self._of("erased", "superseded")}
        return (int(facts.get(name) or 0) for facts in acts.values() for name in ("removed_rows", "blanked_rows"))

    def _record(self, name: str, kind: type[_R]) -> _R | None:
        """A record, if the log has one of that name; it is remembered as unreadable if it is not the one that the log has."""
        key = case_key(self._case_id, name)
        entered = [entry for _, entry in self._acts if any(subject.key == key for subject in entry.subjects)]
        if not entered:
            return None
        present = self._store.read(key)
        try:
            record = kind.model_validate_json(present[0] if present is not None else b"")
        except ValidationError:
            record = None
        if present is None or record is None or not any(_vouches(entry, key, present[0]) for entry in entered):
            self._unreadable.append(key)
            return None
        return record


def _vouches(entry: Entry, key: str, body: bytes) -> bool:
    return entry.vouches_for(key, hashlib.sha256(body).hexdigest())


def _clock(
    due_at: datetime | None, ended_at: datetime | None, until: datetime
) -> Literal["in time", "late", "overdue", "running", "unknown"]:
    """Whether the person was answered in time, as it stood at an instant."""
    if due_at is None:
        return "unknown"
    if ended_at is not None:
        return "in time" if ended_at <= due_at else "late"
    return "running" if until <= due_at else "overdue"
