"""All checks in the one line that Nagios, Icinga and their like understand: https://nagios-plugins.org/doc/guidelines.html."""

from __future__ import annotations

from collections.abc import Sequence

from strongroom.checks.result import CheckResult

_LONGEST = 400


def nagios_line(results: Sequence[CheckResult]) -> tuple[str, int]:
    """The line, and the exit code: 0 all is well, 1 warnings, 2 faults, 3 nothing could be checked."""
    failed = [one for one in results if one.verdict == "failed"]
    warned = [one for one in results if one.verdict == "warning"]
    figures = f"|checks={len(results)} failed={len(failed)};;0 warnings={len(warned)};0"
    if not results:
        return f"STRONGROOM UNKNOWN - nothing was checked {figures}", 3
    told = "; ".join(f"{one.area}: {one.what}: {one.found}" for one in [*failed, *warned]).replace("|", "/")
    if len(told) > _LONGEST:
        told = f"{told[: _LONGEST - 1]}…"
    if failed:
        return f"STRONGROOM CRITICAL - {len(failed)} of {len(results)} checks failed: {told} {figures}", 2
    if warned:
        return f"STRONGROOM WARNING - {len(warned)} of {len(results)} checks: {told} {figures}", 1
    return f"STRONGROOM OK - {len(results)} checks {figures}", 0
