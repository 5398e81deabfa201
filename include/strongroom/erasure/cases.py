"""The records of a case: that a person asked, when it is due, who the person is, and how it ended.

The identifiers of the person lie in one protected record. Nothing else names them: no parameter of a run, no log, no XCom, and no
other record. A case is known by its id alone.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from pydantic import AwareDatetime

from strongroom.calendar import Term
from strongroom.errors import ErasureError, IntegrityError
from strongroom.ledger.entries import Act, subject_of
from strongroom.ledger.journal import doubt_of_entry, record_with_proof
from strongroom.ledger.stored_records import read_record
from strongroom.object_keys.layout import CASES
from strongroom.object_keys.records import case_key, case_prefix, is_case_id, proof_key, subject_key
from strongroom.records import Record, RunIdentity, Salt, Sha256, make_salt
from strongroom.storage.purge_store import PurgeStore
from strongroom.storage.store import Store

if TYPE_CHECKING:
    from strongroom.formats.persons import SubjectKey

ANSWER_WITHIN, EXTENDED = Term.parse("P1M"), Term.parse("P3M")
"""GDPR 12(3): one month from the receipt, and two months more where the person was told why within the first."""

RIGHTS = "The person may lodge a complaint with the supervisory authority (in Nigeria the NDPC) and seek a judicial remedy: GDPR 12(4), 77 and 79."
"""What a refusal must say."""

_CLASS = re.compile("[a-z][a-z0-9_-]{0,31}")
_SOUND, _HINT = "a sound record of a case", "Nothing was changed. Look at its earlier versions: it was written once."


class Case(Record):
    """That a person asked for something."""

    case_id: str
    kind: Literal["erasure", "access"]
    received_at: AwareDatetime
    due_at: AwareDatetime
    identity_check: str
    recorded_by: str
    recorded_at: AwareDatetime
    identifiers: dict[str, int]
    key_id: str
    subject_sha256: Sha256
    salt: Salt = None


class Extension(Record):
    """That the person was told of a longer term, and why."""

    case_id: str
    due_at: AwareDatetime
    why: str
    who: str
    extended_at: AwareDatetime
    salt: Salt = None


class Refusal(Record):
    """What was not erased, and why."""

    name: str
    rows: int | None
    why: str


class Closing(Record):
    """How a case ended, as the person is told."""

    case_id: str
    outcome: Literal["erased", "partly erased", "refused", "nothing found", "answered"]
    erased_rows: int
    certificates: tuple[str, ...]
    refusals: tuple[Refusal, ...]
    rights: str | None
    recipients: tuple[str, ...]
    closed_at: AwareDatetime
    closed_by: RunIdentity | str
    salt: Salt = None


@dataclass(frozen=True)
class CaseState:
    """A case as it stands."""

    case: Case
    extension: Extension | None
    closing: Closing | None

    @property
    def due_at(self) -> datetime:
        """When the person must have an answer."""
        return self.case.due_at if self.extension is None else self.extension.due_at


def parse_identifiers(lines: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Read who the person is, one `class=value` a line; empty lines and those that begin with # are skipped.

    Raises:
        ErasureError: A line has another form, or there is none. The error does not show the line.
    """
    found: dict[str, dict[str, None]] = {}
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        kind, equals, value = text.partition("=")
        if not equals or _CLASS.fullmatch(kind.strip()) is None or not value.strip():
            raise ErasureError(
                f"line {number} of the identifiers has another form",
                expected="class=value, such as msisdn=+2348030000000",
                hint="Nothing was recorded. Classes are those of `subjects.columns` in archive.yaml.",
            )
        found.setdefault(kind.strip(), {})[value.strip()] = None
    if not found:
        raise ErasureError(
            "there are no identifiers",
            expected="one class=value a line on standard input",
            hint="Nothing was recorded. They are read from standard input, so that no command line and no log holds them.",
        )
    return {kind: tuple(values) for kind, values in found.items()}


def open_case(
    store: Store,
    key: SubjectKey,
    case_id: str,
    *,
    kind: Literal["erasure", "access"],
    identifiers: Mapping[str, tuple[str, ...]],
    received_at: datetime,
    identity_check: str,
    who: str,
    now: datetime,
    salt: str | None = None,
) -> Case:
    """Record that a person asked. The protected record is written first.

    Args:
        salt: To write the same record into several stores; None makes a new one.

    Raises:
        ErasureError: The id has another form or is taken, or the day lies in the future.
    """
    if not is_case_id(case_id):
        raise ErasureError(
            f"{case_id[:100]!r} cannot name a case",
            expected="1 to 64 letters, digits, _ and -, such as DSR-2026-0042",
            hint="Nothing was recorded. Choose an id that does not tell who the person is: it is seen in runs and logs.",
        )
    if received_at > now:
        raise ErasureError(
            f"case {case_id} cannot have been received in the future",
            found=f"{received_at:%Y-%m-%d %H:%M} UTC",
            hint="Nothing was recorded. Give the day on which the request came in.",
        )
    if store.head(case_key(case_id, "received")) is not None:
        raise ErasureError(
            f"case {case_id} already exists",
            hint="Nothing was recorded. `airflow strongroom subject list` shows it; each request has an id of its own.",
        )
    body = key.protect(json.dumps({kind: list(values) for kind, values in identifiers.items()}).encode())
    kept = store.put_first(subject_key(case_id), body)
    if json.loads(key.reveal(f"{store}{subject_key(case_id)}", kept)) != json.loads(key.reveal("what was given", body)):
        raise ErasureError(
            f"an earlier try to open case {case_id} had other identifiers",
            hint="Nothing more was recorded. Take another id, and have an administrator of the bucket remove "
            f"{subject_key(case_id)}.",
        )
    case = Case(
        case_id=case_id,
        kind=kind,
        received_at=received_at,
        due_at=ANSWER_WITHIN.after(received_at),
        identity_check=identity_check,
        recorded_by=who,
        recorded_at=now,
        identifiers={kind: len(values) for kind, values in identifiers.items()},
        key_id=key.key_id,
        subject_sha256=hashlib.sha256(kept).hexdigest(),
        salt=salt or make_salt(),
    )
    keep(
        store,
        case_key(case_id, "received"),
        case,
        Act(kind="case opened", who=who, facts={"case": case_id, "asks": kind}),
    )
    return case


def keep(store: Store, key: str, record: Record, act: Act) -> None:
    """Write a record of a case and enter it in the log, with the proof."""
    record_with_proof(store, key, record.to_bytes(), act)


def doubt_of(
    store: Store, key: str, record: Record, kind: Literal["case opened", "case found", "case answered", "superseded"]
) -> str | None:
    """Why the log does not vouch for a record; None if it does, or if the store has no log."""
    return doubt_of_entry(store, subject_of(key, record.to_bytes()), proof_key(key), [kind])


def read_case(store: Store, case_id: str) -> CaseState:
    """Read a case.

    Raises:
        ErasureError: There is none.
        IntegrityError: A record is damaged, or the log does not vouch for it.
    """
    key = case_key(case_id, "received") if is_case_id(case_id) else ""
    case = read_record(store, key, Case, what=_SOUND, hint=_HINT) if key else None
    if case is None:
        raise ErasureError(
            f"there is no case {case_id[:100]} in {store}",
            hint="Nothing was read or changed. `airflow strongroom subject list` shows the cases.",
        )
    if (doubt := doubt_of(store, key, case, "case opened")) is not None:
        raise IntegrityError(
            f"the transparency log of {store} does not vouch for case {case_id}",
            found=doubt,
            hint="Nothing was changed. Somebody who can write into the bucket may have put it there. Open the case again under another id.",
        )
    return CaseState(
        case,
        read_record(store, case_key(case_id, "extended"), Extension, what=_SOUND, hint=_HINT),
        read_record(store, case_key(case_id, "closed"), Closing, what=_SOUND, hint=_HINT),
    )


def read_cases(store: Store) -> Iterator[CaseState]:
    """All cases, in the order of their ids. Raises as :func:`read_case`."""
    names = sorted({key.removeprefix(CASES).partition("/")[0] for key in store.keys(CASES)})
    return (read_case(store, name) for name in names if store.head(case_key(name, "received")) is not None)


def extend_case(store: Store, case_id: str, *, why: str, who: str, now: datetime) -> Extension:
    """Record that the person was told of a longer term.

    Raises:
        ErasureError: The first month is over, so it is too late, or the case has ended.
    """
    state = read_case(store, case_id)
    if state.closing is not None or state.extension is not None or now > state.case.due_at:
        raise ErasureError(
            f"the term of case {case_id} cannot be extended",
            expected="a case that is open, was not extended, and whose first month is not over (GDPR 12(3))",
            found=f"due at {state.due_at:%Y-%m-%d %H:%M} UTC{', ended' if state.closing else ''}{', extended' if state.extension else ''}",
            hint="Nothing was recorded.",
        )
    extension = Extension(
        case_id=case_id,
        due_at=EXTENDED.after(state.case.received_at),
        why=why,
        who=who,
        extended_at=now,
        salt=make_salt(),
    )
    act = Act(kind="case answered", who=who, facts={"case": case_id, "answer": "extended"})
    keep(store, case_key(case_id, "extended"), extension, act)
    return extension


def read_identifiers(store: Store, key: SubjectKey, case: Case) -> dict[str, frozenset[str]] | None:
    """Who the person is: values by their class. None once the protected record was removed.

    Raises:
        IntegrityError: It is not the record that the case names, or another key protects it.
    """
    where = subject_key(case.case_id)
    present = store.read(where)
    if present is None:
        return None
    found = hashlib.sha256(present[0]).hexdigest()
    if found != case.subject_sha256:
        raise IntegrityError(
            f"{store}{where} is not the record that case {case.case_id} names",
            expected=f"SHA-256 {case.subject_sha256}",
            found=found,
            hint="Nothing was changed. Somebody wrote over it: list its versions. Open the case again under another id.",
        )
    return {kind: frozenset(values) for kind, values in json.loads(key.reveal(f"{store}{where}", present[0])).items()}


def forget_person(purge_store: PurgeStore, case_id: str) -> int:
    """Remove all versions of the protected record. Returns how many there were."""
    versions = [
        version for version in purge_store.versions(subject_key(case_id)) if version.key == subject_key(case_id)
    ]
    for version in versions:
        purge_store.remove(version)
    return len(versions)


def records_of(store: Store, case_id: str, name: str) -> list[str]:
    """Keys of the records of a case that are written several times, the latest last."""
    beginning = f"{case_prefix(case_id)}{name}-"
    return sorted(key for key in store.keys(beginning) if key.endswith(".json"))
