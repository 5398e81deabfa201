"""The report as HTML: one file without scripts that prints well. Jinja escapes every value."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from strongroom.audit.controls import Finding
from strongroom.audit.report import MOST_LISTED, AuditReport
from strongroom.statistics.words import minute, number

_TEMPLATES = Path(__file__).parent / "templates"


def make_audit_page(report: AuditReport, findings: Sequence[Finding]) -> str:
    """The report as one HTML file."""
    return _environment().get_template("audit.html").render(report=report, findings=findings, most=MOST_LISTED)


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"minute": minute, "number": number}
    return made
