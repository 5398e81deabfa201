"""What a person was shown before a purge, and what they answered, as records in the store.

Between its tasks Airflow keeps records as XComs, which people with enough rights may write. So `purge` believes none of them:
what was shown and what was answered it reads from the store, where only the archiver's identity writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pydantic import AwareDatetime

from strongroom.object_keys import answer_key, is_question, question_key, questions_prefix
from strongroom.records import Record, RunIdentity, Sha256, parse_record
from strongroom.retention.certificate import NOBODY, Approval
from strongroom.retention.decide import Decision
from strongroom.storage.store import Store

_HINT = "Nothing was removed. Clear 'approve' and the tasks after it: it asks again."


class PurgeQuestion(Record):
    """What one run asks a person to approve: archives, each with the SHA-256 of the manifest that was judged."""

    run: RunIdentity
    asked_at: AwareDatetime
    shown: dict[str, Sha256]


class PurgeAnswer(Record):
    """What a person answered, as Airflow told the task that had asked."""

    question_key: str
    approval: Approval


def keep_question(store: Store, decisions: Sequence[Decision], *, run: RunIdentity, now: datetime) -> PurgeQuestion:
    """Write down what is about to be shown; the run's latest question is the one that counts."""
    shown = {one.archive_id: one.manifest_sha256 for one in decisions if one.manifest_sha256 is not None}
    question = PurgeQuestion(run=run, asked_at=now, shown=shown)
    key = question_key(run.run_id, len(_questions(store, run)) + 1)
    store.put_bytes(key, question.to_bytes())
    return question


def keep_answer(store: Store, approval: Approval, *, run: RunIdentity) -> None:
    """Write down the answer to the run's latest question; does nothing in a store of which nothing was asked."""
    asked = _latest_question(store, run)
    if asked is not None:
        answer = PurgeAnswer(question_key=asked, approval=approval)
        store.put_bytes(answer_key(asked), answer.to_bytes())


def approval_of(
    store: Store, decisions: Sequence[Decision], *, run: RunIdentity, four_eyes: Sequence[str], now: datetime
) -> dict[str, Approval]:
    """The approval of each archive that needs a person's, from what lies in the store.

    Args:
        store: Of the archives.
        decisions: About them.
        run: Which Airflow run this is.
        four_eyes: Archive ids that whoever started the run may not approve.
        now: Aware instant.

    Returns:
        By archive id. An answer counts for the archives that were shown, with the manifests that they have now.

    Raises:
        IntegrityError: Question or answer cannot be read.
    """
    question, answer = _read(store, run)
    found = {}
    for one in decisions:
        if question is None or one.manifest_sha256 is None or question.shown.get(one.archive_id) != one.manifest_sha256:
            found[one.archive_id] = Approval(approved=False, by=NOBODY, at=now, objection="not_shown")
        elif answer is None:
            found[one.archive_id] = Approval(approved=False, by=NOBODY, at=now)
        elif answer.approved and one.archive_id in four_eyes and answer.by == run.triggered_by:
            found[one.archive_id] = answer.model_copy(update={"approved": False, "objection": "self_approved"})
        else:
            found[one.archive_id] = answer
    return found


def _read(store: Store, run: RunIdentity) -> tuple[PurgeQuestion | None, Approval | None]:
    asked = _latest_question(store, run)
    if asked is None or (question := store.read(asked)) is None:
        return None, None
    where = {"what": "a sound record of an approval", "hint": _HINT}
    shown = parse_record(PurgeQuestion, question[0], where=f"{store}{asked}", **where)
    answered = store.read(answer_key(asked))
    if shown.run != run:  # somebody else's run of the same name
        return None, None
    if answered is None:
        return shown, None
    return shown, parse_record(PurgeAnswer, answered[0], where=f"{store}{answer_key(asked)}", **where).approval


def _latest_question(store: Store, run: RunIdentity) -> str | None:
    return max(_questions(store, run), default=None)


def _questions(store: Store, run: RunIdentity) -> list[str]:
    """Their keys. They are numbered: of two within a second the store's clock does not tell which came first."""
    return [key for key in store.keys(questions_prefix(run.run_id)) if is_question(key)]
