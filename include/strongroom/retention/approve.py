"""What a person was shown before a purge, and what they answered, as records in the store.

Airflow keeps records between tasks as XComs, and people with enough rights can write those. So `purge` trusts none of
them: it reads what was shown and answered from the store, where only the archiver's identity writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pydantic import AwareDatetime

from strongroom.ledger.entries import Act, subject_of
from strongroom.ledger.journal import doubt_of_entry, record, record_with_proof
from strongroom.ledger.stored_records import read_record
from strongroom.object_keys.records import answer_key, is_question, proof_key, question_key, questions_prefix
from strongroom.records import Record, RunIdentity, Sha256
from strongroom.retention.certificate import NOBODY, Approval
from strongroom.retention.decide import Decision
from strongroom.storage.store import Store

_HINT = "Nothing was removed. Clear 'approve' and the tasks after it to ask again."


class PurgeQuestion(Record):
    """The archives that one run asks a person to approve, each with the SHA-256 of the manifest that was judged."""

    run: RunIdentity
    asked_at: AwareDatetime
    shown: dict[str, Sha256]


class PurgeAnswer(Record):
    """What a person answered, as Airflow reported it to the task that asked."""

    question_key: str
    approval: Approval


def keep_question(store: Store, decisions: Sequence[Decision], *, run: RunIdentity, now: datetime) -> PurgeQuestion:
    """Store what is about to be shown. Only the run's latest question counts."""
    shown = {one.archive_id: one.manifest_sha256 for one in decisions if one.manifest_sha256 is not None}
    question = PurgeQuestion(run=run, asked_at=now, shown=shown)
    key = question_key(run.run_id, len(_questions(store, run)) + 1)
    record(store, key, question.to_bytes(), Act(kind="approval asked", facts={"archives": len(shown)}))
    return question


def keep_answer(store: Store, approval: Approval, *, run: RunIdentity) -> None:
    """Store the answer to the run's latest question; does nothing in a store about which nothing was asked."""
    asked = _latest_question(store, run)
    if asked is not None:
        answer = PurgeAnswer(question_key=asked, approval=approval)
        said = "yes" if approval.approved else "no"
        act = Act(kind="approval answered", who=approval.by, facts={"answer": said})
        record_with_proof(store, answer_key(asked), answer.to_bytes(), act)


def refused_in(store: Store, *, run: RunIdentity) -> frozenset[str]:
    """Ids of the archives about which the run's latest question was answered no. That counts even if nobody has to be asked any more.

    Raises:
        IntegrityError: The question or the answer cannot be read.
    """
    question, answer = _read(store, run)
    return frozenset(question.shown if question is not None and answer is not None and not answer.approved else ())


def approval_of(
    store: Store, decisions: Sequence[Decision], *, run: RunIdentity, four_eyes: Sequence[str], now: datetime
) -> dict[str, Approval]:
    """The approval of each archive that needs one from a person, as the store has it.

    Args:
        store: Of the archives.
        decisions: About them.
        run: Which Airflow run this is.
        four_eyes: Ids of the archives that whoever started the run may not approve.
        now: Aware instant.

    Returns:
        By archive id. An answer counts only for the archives that were shown, with the manifests that they have now.

    Raises:
        IntegrityError: The question or the answer cannot be read.
    """
    question, answer = _read(store, run)

    def approval(decision: Decision) -> Approval:
        shown = None if question is None else question.shown.get(decision.archive_id)
        if shown is None or shown != decision.manifest_sha256:
            return Approval(approved=False, by=NOBODY, at=now, objection="not_shown")
        if answer is None:
            return Approval(approved=False, by=NOBODY, at=now)
        if answer.approved and decision.archive_id in four_eyes and answer.by == run.triggered_by:
            return answer.model_copy(update={"approved": False, "objection": "self_approved"})
        return answer

    return {one.archive_id: approval(one) for one in decisions}


def _read(store: Store, run: RunIdentity) -> tuple[PurgeQuestion | None, Approval | None]:
    asked = _latest_question(store, run)
    if asked is None:
        return None, None
    what = "a sound record of an approval"
    question = read_record(store, asked, PurgeQuestion, what=what, hint=_HINT)
    if question is None or question.run != run:  # another run of the same name asked
        return None, None
    answer = read_record(store, key := answer_key(asked), PurgeAnswer, what=what, hint=_HINT)
    if answer is None or doubt_of_entry(
        store, subject_of(key, answer.to_bytes()), proof_key(key), ["approval answered"]
    ):
        return question, None  # whoever can write into the store cannot answer for a person
    return question, answer.approval


def _latest_question(store: Store, run: RunIdentity) -> str | None:
    return max(_questions(store, run), default=None)


def _questions(store: Store, run: RunIdentity) -> list[str]:
    """Their keys. They are numbered, because the store's clock cannot order two questions of the same second."""
    return [key for key in store.keys(questions_prefix(run.run_id)) if is_question(key)]
