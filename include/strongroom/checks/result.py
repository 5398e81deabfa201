"""What one check says, and how an error becomes that."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal

from strongroom.errors import StrongroomError
from strongroom.records import Record

_SAFE = re.compile(r"^(?:(?:Nothing|No row|No rows) [^.]*\. )+(?=\S)")
"""What a hint says first: what is safe. A check changes nothing anyway, so there it says what to do at once."""

Verdict = Literal["ok", "warning", "failed"]


class CheckResult(Record):
    """One thing that was tried.

    Attributes:
        area: What it belongs to, such as ``source strongroom_source`` or ``store s3://strongroom-archive/``.
        what: The thing, in one line.
        verdict: ``warning`` for what works but should be known, and for what could not be tried.
        found: What was seen, in one line; empty if there is no more to say.
        hint: What to do, to be pasted where that is possible; empty when all is well.
    """

    area: str
    what: str
    verdict: Verdict
    found: str = ""
    hint: str = ""


class Checklist:
    """Collects the checks of one area."""

    def __init__(self, area: str) -> None:
        self.area = area
        self.results: list[CheckResult] = []

    def ok(self, what: str, found: str = "") -> None:
        """Note that something is as it must be."""
        self._note(what, "ok", found, "")

    def warning(self, what: str, found: str, hint: str) -> None:
        """Note something that works and should be known, or that could not be tried."""
        self._note(what, "warning", found, hint)

    def failed(self, what: str, found: str, hint: str) -> None:
        """Note a fault."""
        self._note(what, "failed", found, hint)

    def attempt(self, what: str, work: Callable[[], str | None]) -> bool:
        """Try something: what it returns is what was found, and a StrongroomError is a fault. Returns whether it worked."""
        try:
            found = work()
        except StrongroomError as error:
            self.fault(what, error)
            return False
        self.ok(what, found or "")
        return True

    def fault(self, what: str, error: StrongroomError) -> None:
        """Note an error as a fault, with its own hint."""
        compared = "; ".join(
            f"{word} {value}"
            for word, value in (("expected", error.expected), ("found", error.found))
            if value is not None
        )
        self.failed(what, f"{error.what}{f' ({compared})' if compared else ''}", _SAFE.sub("", error.hint))

    def refused(self, what: str, allowed: bool, hint: str) -> None:
        """Note a thing that must be refused, and whether it was."""
        if allowed:
            self.failed(f"{what} must be refused", "it was allowed", hint)
        else:
            self.ok(f"{what} is refused")

    def _note(self, what: str, verdict: Verdict, found: str, hint: str) -> None:
        one_line = {"what": what, "found": found}
        what, found = (" ".join(text.split()) for text in one_line.values())
        self.results.append(CheckResult(area=self.area, what=what, verdict=verdict, found=found, hint=hint.strip()))
