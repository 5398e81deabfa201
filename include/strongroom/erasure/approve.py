"""What a second person was shown of a case, and what they answered, as records in the store.

The record of what was found is what is shown. An answer counts for that record alone, and only if the log has it: whoever can write into
the bucket cannot answer for a person.
"""

from __future__ import annotations

from datetime import datetime

from pydantic import AwareDatetime

from strongroom.erasure.cases import doubt_of, keep, records_of
from strongroom.erasure.find import Found
from strongroom.errors import ErasureError, IntegrityError
from strongroom.ledger.entries import Act, Facts
from strongroom.ledger.stored_records import read_record
from strongroom.object_keys.records import case_key
from strongroom.records import Record, RunIdentity, make_salt
from strongroom.retention.certificate import NOBODY
from strongroom.storage.store import Store

_HINT = "Nothing was erased. Clear 'find' and the tasks after it to look and ask again."


class Answer(Record):
    """What a person answered."""

    case_id: str
    found_key: str
    approved: bool
    by: str
    at: AwareDatetime
    objection: str | None = None

    @property
    def refused(self) -> bool:
        """Whether a person said no. Silence, and a yes that does not count, leave the case open."""
        return not self.approved and self.objection is None and self.by != NOBODY


def keep_found(store: Store, found: Found) -> str:
    """Write what was found, and return its key."""
    key = case_key(found.case_id, "found", found.found_at)
    facts: Facts = {
        "case": found.case_id,
        "places": len(found.places),
        "rows": sum(place.rows + place.about_two for place in found.places),
    }
    keep(store, key, found.model_copy(update={"salt": make_salt()}), Act(kind="case found", facts=facts))
    return key


def read_found(store: Store, case_id: str, run: RunIdentity) -> tuple[str, Found]:
    """What a run found last.

    Raises:
        ErasureError: It found nothing yet.
        IntegrityError: The record is damaged, or the log does not vouch for it.
    """
    for key in reversed(records_of(store, case_id, "found")):
        found = read_record(store, key, Found, what="a sound record of what was found", hint=_HINT)
        if found is None or (found.run.dag_id, found.run.run_id) != (run.dag_id, run.run_id):
            continue
        if (doubt := doubt_of(store, key, found, "case found")) is not None:
            raise IntegrityError(f"the transparency log of {store} does not vouch for {key}", found=doubt, hint=_HINT)
        return key, found
    raise ErasureError(f"run {run.run_id} has found nothing of case {case_id} in {store} yet", hint=_HINT)


def keep_answer(
    store: Store, case_id: str, found_key: str, *, approved: bool, by: str, at: datetime, not_by: frozenset[str]
) -> Answer:
    """Write what a person answered to what a run found.

    Args:
        not_by: Who may not approve: who recorded the case, and who started the run.
    """
    objection = (
        f"{by} recorded the case or started the run; another person must approve" if approved and by in not_by else None
    )
    answer = Answer(
        case_id=case_id, found_key=found_key, approved=approved and objection is None, by=by, at=at, objection=objection
    )
    facts: Facts = {"case": case_id, "answer": "yes" if answer.approved else "no"}
    keep(store, case_key(case_id, "answered", at), answer, Act(kind="case answered", who=by, facts=facts))
    return answer


def read_answer(store: Store, case_id: str, found_key: str) -> Answer | None:
    """The latest answer to what was found; None if there is none that the log vouches for."""
    for key in reversed(records_of(store, case_id, "answered")):
        answer = read_record(store, key, Answer, what="a sound answer", hint=_HINT)
        if (
            answer is not None
            and answer.found_key == found_key
            and doubt_of(store, key, answer, "case answered") is None
        ):
            return answer
    return None


def require_approved(store: Store, case_id: str, found_key: str) -> Answer:
    """The answer that lets a case be carried out.

    Raises:
        ErasureError: Nobody answered, or the answer was no.
    """
    answer = read_answer(store, case_id, found_key)
    if answer is None or not answer.approved:
        said = (
            "no answer" if answer is None else answer.objection or f"no, by {answer.by}, {answer.at:%Y-%m-%d %H:%M} UTC"
        )
        raise ErasureError(
            f"case {case_id} was not approved",
            expected="a yes from a second person to what this run found",
            found=said,
            hint=_HINT,
        )
    return answer
