"""Turn templates into answers. Jinja escapes every value, because names and reasons come from databases and manifests."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from fastapi import status
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from strongroom.statistics.page import TEMPLATES
from strongroom.statistics.words import size
from strongroom_airflow.pages.addresses import page

HERE = Path(__file__).parent

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "form-action 'self'; frame-ancestors 'self'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Nothing is fetched from elsewhere, no inline script runs, and no proxy or shared computer keeps a page."""

templates = Environment(
    loader=FileSystemLoader([HERE / "templates", TEMPLATES]),
    autoescape=select_autoescape(default=True, default_for_string=True),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def span(seconds: float | None) -> str:
    """A duration: `12 s`, `3 min`, `5 h`, `142 days`."""
    if seconds is None:
        return "–"
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def breaking(name: str) -> Markup:
    """A name that a narrow screen breaks after a dot or an underscore, and inside a word only where nothing else helps."""
    return Markup("<wbr>").join(re.findall(r"[^._]*[._]+|[^._]+", name))


templates.filters |= {"size": size, "span": span, "breaking": breaking}
templates.globals |= {"url": page}


def render(template: str, *, status_code: int = status.HTTP_200_OK, **values: Any) -> HTMLResponse:
    """Answer with a page."""
    values = {"tab": None, "problems": (), **values}
    return HTMLResponse(templates.get_template(template).render(**values), status_code=status_code, headers=HEADERS)
