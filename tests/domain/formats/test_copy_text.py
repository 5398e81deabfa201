"""Dates as PostgreSQL writes them. The parser of Python 3.10 reads only some of them."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from strongroom.formats.copy_text import instant_of


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-06-02", datetime(2026, 6, 2)),
        ("2026-06-02 00:00:00+00", datetime(2026, 6, 2)),
        ("2026-06-02 23:59:59.5", datetime(2026, 6, 2, 23, 59, 59, 500_000)),
        ("2026-06-02 23:59:59.000001+00", datetime(2026, 6, 2, 23, 59, 59, 1)),
        ("2026-06-02T23:59:59+00:00", datetime(2026, 6, 2, 23, 59, 59)),
    ],
)
def test_a_date_is_read_in_utc(text, instant):
    assert instant_of(text) == instant.replace(tzinfo=timezone.utc)


@pytest.mark.parametrize(
    "text", ["infinity", "-infinity", "0044-03-15 00:00:00+00 BC", "10000-01-01", "None", "2026-02-30"]
)
def test_what_no_calendar_of_python_has_is_refused(text):
    with pytest.raises(ValueError, match=r"is not a date|out of range"):
        instant_of(text)
