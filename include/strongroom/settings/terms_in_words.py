"""The terms that a legal basis names in words, so that a slip beside it is noticed: ``NCC 7-year audit trail`` and ``P7M``."""

from __future__ import annotations

import re

from strongroom.calendar import Term
from strongroom.errors import ConfigurationError

_NUMBERS = {
    word: number
    for number, word in enumerate(
        ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"), start=1
    )
} | {"fifteen": 15, "twenty": 20, "thirty": 30}

_NAMED = re.compile(rf"(?i)\b([0-9]{{1,4}}|{'|'.join(_NUMBERS)})[ -]+(year|month|week|day)s?\b")


def terms_in(text: str) -> list[Term]:
    """Every term that a text names in English, in its order: ``7-year``, ``seven years``, ``18 months``."""
    terms = []
    for number, unit in _NAMED.findall(text):
        count = int(number) if number.isdecimal() else _NUMBERS[number.lower()]
        try:
            terms.append(Term.parse(f"P{count}{unit[0].upper()}"))
        except ConfigurationError:  # no days, or thousands of years
            continue
    return terms
