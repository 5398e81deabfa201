"""The findings as NIST's OSCAL assessment results, version 1.1.3, for programs that collect them from many tools.

The format is https://pages.nist.gov/OSCAL/resources/concepts/layer/assessment/assessment-results/. Identifiers are made from the log's
root and the period, so the same report gives the same document.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from strongroom.audit.controls import Finding
from strongroom.audit.report import AuditReport

VERSION = "1.1.3"


def make_oscal(report: AuditReport, findings: Sequence[Finding]) -> bytes:
    """The document as JSON."""
    name = f"urn:strongroom:audit:{'+'.join(store.root for store in report.stores)}:{report.begin}:{report.end}"
    document = {
        "assessment-results": {
            "uuid": _uuid(name, "results"),
            "metadata": {
                "title": f"Archives of {report.organisation or 'an unnamed organisation'}",
                "last-modified": _instant(report.made_at),
                "version": str(report.report_version),
                "oscal-version": VERSION,
            },
            "import-ap": {"href": "https://example.com/no-assessment-plan", "remarks": "There is no assessment plan."},
            "results": [
                {
                    "uuid": _uuid(name, "result"),
                    "title": f"{report.begin:%Y-%m-%d} to {report.end:%Y-%m-%d}",
                    "description": "Made by " + report.tool + " from the transparency logs of its stores.",
                    "start": _instant(report.begin),
                    "end": _instant(report.end),
                    "reviewed-controls": {
                        "control-selections": [
                            {"include-controls": [{"control-id": finding.control} for finding in findings]}
                        ]
                    },
                    "observations": [_observation(name, finding, report) for finding in findings],
                    "findings": [_finding(name, finding) for finding in findings],
                }
            ],
        }
    }
    return json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n"


def _observation(name: str, finding: Finding, report: AuditReport) -> dict[str, Any]:
    evidence = [
        {"description": f"Entry {index} of the transparency log of {store}."} for store, index in finding.entries[:1000]
    ]
    return {
        "uuid": _uuid(name, f"observation {finding.control}"),
        "description": finding.why,
        "methods": ["EXAMINE"],
        "collected": _instant(report.made_at),
        "remarks": f"Not covered: {finding.not_covered}",
        **({"relevant-evidence": evidence} if evidence else {}),
    }


def _finding(name: str, finding: Finding) -> dict[str, Any]:
    return {
        "uuid": _uuid(name, f"finding {finding.control}"),
        "title": finding.title,
        "description": f"{finding.citation}: {finding.why}",
        "target": {
            "type": "objective-id",
            "target-id": finding.control,
            "status": {"state": "satisfied" if finding.satisfied else "not-satisfied"},
        },
        "related-observations": [{"observation-uuid": _uuid(name, f"observation {finding.control}")}],
    }


def _uuid(name: str, part: str) -> str:
    return str(uuid5(NAMESPACE_URL, f"{name}#{part}"))


def _instant(at: datetime) -> str:
    return at.isoformat()
