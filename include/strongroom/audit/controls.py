"""Requirements of laws and standards, each with the entries of the log that show how it was met, and with what they do not show.

A requirement is satisfied or not; there is nothing between, as in NIST's OSCAL. What Strongroom cannot show at all is not satisfied.
The citations are those of GDPR (Regulation (EU) 2016/679), of the Nigeria Data Protection Act 2023 and of ISO 15489-1:2016.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from strongroom.audit.cases import CaseAudit
from strongroom.audit.report import AuditReport
from strongroom.records import Record
from strongroom.settings.sections import RequiredControl

Judgement = tuple[bool, str]

_UNPROVED = ("corrupted", "missing", "hidden", "unverifiable")


class Finding(Record):
    """How one requirement stands in the period."""

    control: str
    title: str
    citation: str
    satisfied: bool
    why: str
    not_covered: str
    entries: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Control:
    """One requirement.

    Attributes:
        kinds: Of the entries that show how it was met.
        judge: Whether it was, and why.
        not_covered: What the entries do not show.
    """

    id: str
    title: str
    citation: str
    kinds: tuple[str, ...]
    judge: Callable[[AuditReport], Judgement]
    not_covered: str


def _kept_for_its_term(report: AuditReport) -> Judgement:
    gaps = [f"{table.table} {gap}" for table in report.tables for gap in table.gaps]
    if gaps:
        return False, f"{len(gaps)} calendar partitions are due and neither archived nor empty: {', '.join(gaps[:5])}"
    return True, "each calendar partition that was due is archived or was entered as empty"


def _destroyed_in_time(report: AuditReport) -> Judgement:
    runs, purged = report.count("purge reported"), report.count("purged") - report.purged_for_persons
    if not runs:
        return False, "the retention purge did not run in the period"
    return True, f"the retention purge ran {runs} times and destroyed {purged} archives whose term was over"


def _sound(report: AuditReport) -> Judgement:
    verified = [act for table in report.tables for act in table.acts if act.kind == "verified"]
    unsound = [act.of for act in verified if any(word in act.facts for word in _UNPROVED)]
    if unsound:
        return False, f"archives were read again and not found sound: {', '.join(unsound[:5])}"
    if not verified and not report.count("drilled"):
        return False, "no archive was read again in the period"
    return (
        True,
        f"archives were read again {len(verified)} times, and restored as a drill {report.count('drilled')} times",
    )


def _accountable(report: AuditReport) -> Judgement:
    alone = [store.store for store in report.stores if not store.witnessed]
    if alone:
        return False, f"signed, not witnessed: {', '.join(alone)}. Who holds the log's key could have rewritten it"
    return True, "the log of each store is signed, and witnessed by a host of others"


def _recorded(report: AuditReport) -> Judgement:
    unknown = [table.table for table in report.tables if table.table and table.policy is None]
    if unknown:
        return False, f"tables with archives and no policy in the settings: {', '.join(unknown[:5])}"
    return True, "each table has its terms and its legal basis in this report"


def _disposed_as_ordered(report: AuditReport) -> Judgement:
    intended, purged = report.count("purge intended"), report.count("purged")
    if purged > intended:
        return False, f"{purged} archives were destroyed, and {intended} intents were entered in the period"
    for_persons = f", {report.purged_for_persons} of them for persons" if report.purged_for_persons else ""
    return (
        True,
        f"{purged} archives were destroyed{for_persons}, each after its intent was entered"
        if purged
        else "nothing was destroyed",
    )


def _erased(report: AuditReport) -> Judgement:
    asked = _asking(report, "erasure")
    bad = [*_unclear(asked)]
    bad += [f"{case.case_id} is {case.clock}" for case in asked if case.clock == "overdue"]
    bad += [f"{case.case_id} ended, and a place could not be searched" for case in asked if case.unsearchable]
    left = [one for case in asked if case.ended_at for one in case.superseded if one not in case.destroyed]
    bad += [f"{one} is superseded and was not destroyed" for one in left]
    if bad:
        return False, "; ".join(bad[:5])
    if not asked and not any(table.names_persons for table in report.tables):
        return (
            False,
            "no table names its columns of persons (`subjects.columns`), so a request could not be carried out",
        )
    outcomes = Counter(case.outcome or "still open" for case in asked)
    told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
    refused = [f"{case.case_id} ({why})" for case in asked for why in case.refusals]
    return True, f"requests: {told}" + (f"; refused: {', '.join(refused[:5])}" if refused else "") if asked else _NOBODY


def _reported(report: AuditReport) -> Judgement:
    asked = _asking(report, "access")
    if bad := [*_unclear(asked), *(f"{case.case_id} is overdue" for case in asked if case.clock == "overdue")]:
        return False, "; ".join(bad[:5])
    if not asked and not any(table.names_persons for table in report.tables):
        return False, "no table names its columns of persons (`subjects.columns`), so a person's rows cannot be found"
    answered = sum(case.ended_at is not None for case in asked)
    return True, f"{answered} of {len(asked)} requests are answered, and none is overdue" if asked else _NOBODY


def _in_time(report: AuditReport) -> Judgement:
    asked = _asking(report)
    bad = [*_unclear(asked)]
    for case in asked:
        if case.clock in ("late", "overdue") and case.due_at is not None:
            ended = f"ended {case.ended_at:%Y-%m-%d}" if case.ended_at else "is still open"
            bad.append(f"{case.case_id} was due {case.due_at:%Y-%m-%d} and {ended}")
    if bad:
        return False, "; ".join(bad[:5])
    extended = sum(case.extended for case in asked)
    return True, f"none of {len(asked)} requests is overdue, {extended} extended" if asked else _NOBODY


def _recipients_listed(report: AuditReport) -> Judgement:
    erased = [case for case in _asking(report) if case.erased_rows and case.ended_at]
    if bad := [*_unclear(erased)]:
        return False, "; ".join(bad[:5])
    told = [f"{case.case_id}: {', '.join(case.recipients) or 'none by the settings'}" for case in erased]
    return True, f"to be told: {'; '.join(told[:5])}" if told else "nobody was erased in the period"


def _rights_met(report: AuditReport) -> Judgement:
    judged = [one(report) for one in (_erased, _reported, _in_time)]
    bad = [why for satisfied, why in judged if not satisfied]
    return not bad, "; ".join(dict.fromkeys(bad or [why for _, why in judged]))


_OF_ERASURE = (
    "case opened",
    "case found",
    "case answered",
    "erasure intended",
    "erased",
    "superseded",
    "purged",
    "case closed",
)
_NOBODY = "nobody asked in the period"


def _asking(report: AuditReport, what: str | None = None) -> list[CaseAudit]:
    """The cases of the period, of all stores."""
    return [case for some in report.cases.values() for case in some if what in (None, case.asks)]


def _unclear(cases: Iterable[CaseAudit]) -> Iterator[str]:
    """Records that are not those of the log, so nothing can be said of their case."""
    return (f"{key} is not what the log has" for case in cases for key in case.unreadable)


CONTROLS = (
    Control(
        "gdpr-5-1-e",
        "Storage limitation",
        "GDPR Art. 5(1)(e)",
        ("purge reported", "purge intended", "purged"),
        _destroyed_in_time,
        "Rows that stay in the tables, backups of database and bucket, and copies that somebody made.",
    ),
    Control(
        "gdpr-5-2",
        "Accountability",
        "GDPR Art. 5(2)",
        ("log begun", "key changed"),
        _accountable,
        "What is done past Strongroom, in the database or with the bucket's own tools.",
    ),
    Control(
        "gdpr-12-3",
        "Answers within a month",
        "GDPR Art. 12(3)",
        ("case opened", "case answered", "case closed"),
        _in_time,
        "Requests that nobody opened a case for, and whether the person was told; the reasons of an extension.",
    ),
    Control(
        "gdpr-15",
        "Access of a person to their data",
        "GDPR Art. 15",
        ("case opened", "case answered", "case closed"),
        _reported,
        "What the person was given: the log has only that a report was written.",
    ),
    Control(
        "gdpr-17",
        "Erasure of a person's data",
        "GDPR Art. 17",
        _OF_ERASURE,
        _erased,
        "Columns that the settings do not name, values inside texts and documents, backups, and copies that somebody made.",
    ),
    Control(
        "gdpr-19",
        "Recipients are told of an erasure",
        "GDPR Art. 19",
        ("case closed",),
        _recipients_listed,
        "Whether they were told, and whether the settings name all of them.",
    ),
    Control(
        "gdpr-30",
        "Records of processing: time limits and legal basis",
        "GDPR Art. 30(1)(f)",
        ("archived", "empty", "configuration changed"),
        _recorded,
        "Purposes, recipients and categories of persons, which the settings do not know.",
    ),
    Control(
        "gdpr-32",
        "Integrity and availability, tested regularly",
        "GDPR Art. 32(1)(b) to (d); NDPA 2023 s. 39",
        ("verified", "drilled", "restored"),
        _sound,
        "Access rights in Airflow, the database and the store; the keys of encryption.",
    ),
    Control(
        "ndpa-24-1-d",
        "Kept no longer than necessary",
        "NDPA 2023 s. 24(1)(d)",
        ("purge reported", "purged"),
        _destroyed_in_time,
        "Rows that stay in the tables, backups, and copies that somebody made.",
    ),
    Control(
        "ndpa-34",
        "A person's rights, without unreasonable delay",
        "NDPA 2023 s. 34",
        _OF_ERASURE,
        _rights_met,
        "Correction, restriction and objection; and all that gdpr-15 and gdpr-17 do not cover.",
    ),
    Control(
        "iso-15489-9-9",
        "Disposition as authorised and documented",
        "ISO 15489-1:2016, 9.9",
        ("approval asked", "approval answered", "purge intended", "purged", "held", "released", "refused"),
        _disposed_as_ordered,
        "Whether the terms themselves are right: that is the organisation's decision.",
    ),
)


def judge(report: AuditReport, required: Iterable[RequiredControl] = ()) -> tuple[Finding, ...]:
    """How each requirement stands: the general ones, then those that the settings add."""
    own = (
        Control(
            one.id,
            one.title,
            one.citation,
            one.kinds,
            _kept_for_its_term,
            "Whether the citation asks for just this: that is the organisation's decision.",
        )
        for one in required
    )
    return tuple(_find(control, report) for control in (*CONTROLS, *own))


def _find(control: Control, report: AuditReport) -> Finding:
    satisfied, why = control.judge(report)
    entries: Sequence[tuple[str, int]] = report.entries(*control.kinds)
    return Finding(
        control=control.id,
        title=control.title,
        citation=control.citation,
        satisfied=satisfied,
        why=why,
        not_covered=control.not_covered,
        entries=tuple(entries),
    )
