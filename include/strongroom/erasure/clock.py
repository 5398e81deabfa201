"""Which cases are open, and when each is due: for metrics and alerts, so a case is never left out because it cannot be read."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import AwareDatetime, Field

from strongroom.erasure.cases import read_case
from strongroom.errors import ErasureError, IntegrityError
from strongroom.ledger.entries import subject_of
from strongroom.ledger.journal import doubt_of_entry
from strongroom.object_keys.layout import CASES
from strongroom.object_keys.records import case_key, proof_key
from strongroom.records import Record
from strongroom.storage.store import Store


class OpenCase(Record):
    """A case that has not ended."""

    case_id: str
    due_at: AwareDatetime | None = Field(description="None if its records are not those of the log.")


class StoreCases(Record):
    """What one store has of requests of persons, for metrics: no id of a case."""

    store: str
    open: int
    overdue: int = Field(description="Open ones that are past their day, or of which nobody can tell.")
    next_due_at: AwareDatetime | None = Field(description="When the first of them is due.")
    superseded: int = Field(description="Archives that are superseded and not removed yet.")


def open_cases(store: Store) -> Iterator[OpenCase]:
    """The cases that have not ended, by their ids. An end that the log does not vouch for is none."""
    keys = set(store.keys(CASES))
    for case_id in sorted({key.removeprefix(CASES).partition("/")[0] for key in keys}):
        closed = case_key(case_id, "closed")
        if closed in keys and _is_entered(store, closed):
            continue
        try:
            due_at = read_case(store, case_id).due_at
        except (ErasureError, IntegrityError):
            due_at = None
        yield OpenCase(case_id=case_id, due_at=due_at)


def _is_entered(store: Store, key: str) -> bool:
    present = store.read(key)
    return (
        present is not None
        and doubt_of_entry(store, subject_of(key, present[0]), proof_key(key), ["case closed"]) is None
    )
