"""Requirements of laws and standards, each with the entries of the log that show how it was met, and with what they do not show.

A requirement is satisfied or not; there is nothing between, as in NIST's OSCAL. What Strongroom cannot show at all is not satisfied.
The citations are those of GDPR (Regulation (EU) 2016/679), of the Nigeria Data Protection Act 2023 and of ISO 15489-1:2016.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

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
    runs, purged = report.count("purge reported"), report.count("purged")
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
        return False, f"signed, not witnessed: {', '.join(alone)}. Who holds the log's key could have written it anew"
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
    return (
        True,
        f"{purged} archives were destroyed, each after its intent was entered" if purged else "nothing was destroyed",
    )


def _no_erasure(_: AuditReport) -> Judgement:
    return False, "Strongroom does not erase single persons from archives; a request has to be met by other means"


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
        "gdpr-17",
        "Erasure of a person's data",
        "GDPR Art. 17; NDPA 2023 s. 34(1)",
        (),
        _no_erasure,
        "All of it.",
    ),
    Control(
        "gdpr-30",
        "Records of processing: time limits and legal basis",
        "GDPR Art. 30(1)(f)",
        ("archived", "empty"),
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
        "iso-15489-9-9",
        "Disposition as authorised and documented",
        "ISO 15489-1:2016, 9.9",
        ("approval asked", "approval answered", "purge intended", "purged", "held", "released"),
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
