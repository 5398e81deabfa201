"""Keep an audit report in each store that it is about, and enter it in the store's log."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from strongroom.audit.controls import Finding, judge
from strongroom.audit.oscal import make_oscal
from strongroom.audit.page import make_audit_page
from strongroom.audit.report import AuditReport
from strongroom.ledger.entries import Act, Facts, subject_of
from strongroom.ledger.journal import enter, log_of
from strongroom.object_keys.reports import audit_key
from strongroom.records import Record
from strongroom.settings.sections import RequiredControl
from strongroom.storage.store import Store


class AuditDocument(Record):
    """The report and its findings, as JSON has them."""

    report: AuditReport
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class AuditFiles:
    """One report in its three forms.

    Attributes:
        document: The JSON document, an :class:`AuditDocument`.
        page: HTML.
        oscal: OSCAL assessment results, JSON.
    """

    report: AuditReport
    findings: tuple[Finding, ...]
    document: bytes
    page: bytes
    oscal: bytes


def make_files(report: AuditReport, required: Iterable[RequiredControl] = ()) -> AuditFiles:
    """A report with how each requirement stands, in its three forms."""
    findings = judge(report, required)
    return AuditFiles(
        report=report,
        findings=findings,
        document=AuditDocument(report=report, findings=findings).to_bytes(),
        page=make_audit_page(report, findings).encode(),
        oscal=make_oscal(report, findings),
    )


def keep_files(stores: Sequence[Store], files: AuditFiles) -> list[str]:
    """Write the three forms into each store with a log, and enter them. Returns where the pages lie."""
    report, kept = files.report, []
    for store in stores:
        if log_of(store) is None:
            continue
        subjects = []
        for suffix, body, content_type in (
            ("json", files.document, "application/json"),
            ("oscal.json", files.oscal, "application/json"),
            ("html", files.page, "text/html; charset=utf-8"),
        ):
            key = audit_key(report.begin.date(), report.end.date(), report.made_at, suffix)
            store.put_bytes(key, body, content_type=content_type)
            subjects.append(subject_of(key, body))
        facts: Facts = {"begin": report.begin.isoformat(), "end": report.end.isoformat()}
        enter(store, Act(kind="audit reported", facts=facts), subjects)
        kept.append(f"{store}{subjects[-1].key}")
    return kept
