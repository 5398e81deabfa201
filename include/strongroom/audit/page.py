"""Pages for auditors as HTML: one file each, without scripts, that prints well. Jinja escapes every value."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from strongroom.audit.controls import Finding
from strongroom.audit.report import MOST_LISTED, AuditReport
from strongroom.statistics.words import minute, number, size

_TEMPLATES = Path(__file__).parent / "templates"


def make_audit_page(report: AuditReport, findings: Sequence[Finding]) -> str:
    """The report as one HTML file."""
    return render("audit.html", report=report, findings=findings, most=MOST_LISTED)


def render(template: str, **values: Any) -> str:
    """Fill in one of the room's templates."""
    return _environment().get_template(template).render(**values)


def second(instant: datetime) -> str:
    """A date and time in UTC, to the second."""
    return f"{instant:%Y-%m-%d %H:%M:%S} UTC"


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"minute": minute, "number": number, "second": second, "size": size}
    return made
