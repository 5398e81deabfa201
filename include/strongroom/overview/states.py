"""The states that a calendar partition can be in, from the worst to the best. A partition may be in several at once."""

from __future__ import annotations

from enum import Enum


class State(str, Enum):
    """One state; the order is the order of gravity."""

    UNVERIFIABLE = "unverifiable"
    FAILED = "failed"
    OVERDUE = "overdue"
    LEFT = "left"
    UNKNOWN = "unknown"
    RUNNING = "running"
    DUE = "due"
    RESTORED = "restored"
    EXPIRING = "expiring"
    HELD = "held"
    DETACHED = "detached"
    WARM = "warm"
    ARCHIVED = "archived"
    PURGED = "purged"
    HOT = "hot"
    WITH_ROOT = "with"
    EMPTY = "empty"
    BEFORE = "before"

    @property
    def gravity(self) -> int:
        """0 is the worst."""
        return _ORDER[self]

    @property
    def words(self) -> str:
        """What the screen calls it."""
        return _WORDS[self][0]

    @property
    def sign(self) -> str:
        """One character, so that colour is never the only sign."""
        return _WORDS[self][1]

    @property
    def meaning(self) -> str:
        """One sentence for the legend."""
        return _WORDS[self][2]


_ORDER = {state: place for place, state in enumerate(State)}

_WORDS = {
    State.UNVERIFIABLE: (
        "unverifiable",
        "‼",
        "A manifest is damaged, or the last verification found an archive unsound.",
    ),
    State.FAILED: ("run failed", "×", "The latest run of the partition failed. No row is lost; see its log."),
    State.OVERDUE: ("overdue", "!", "The scheduled run is past, and rows wait in the table without an archive."),
    State.LEFT: ("rows left", "◑", "Archived, but rows are in the table: they came late, changed, or are referred to."),
    State.UNKNOWN: (
        "not known",
        "?",
        "The source database or the store was not read, so nobody can say whether rows wait.",
    ),
    State.RUNNING: ("running", "▸", "A run works on the partition now, or is queued."),
    State.DUE: ("due", "◷", "Hot retention is over; the next scheduled run archives the rows."),
    State.RESTORED: (
        "restored",
        "↩",
        "Rows were brought back, and are needed in the table for some time.",
    ),
    State.EXPIRING: (
        "expiring",
        "◔",
        "The term of an archive ends within 90 days, or has ended; the purge destroys it then.",
    ),
    State.HELD: ("on hold", "‖", "A legal hold covers an archive; nothing destroys it until the hold is released."),
    State.DETACHED: ("detached", "◫", "Archived rows wait in a detached table partition until it is dropped."),
    State.WARM: ("warm", "≈", "Archived, and still readable in the warm table."),
    State.ARCHIVED: ("archived", "✓", "Archived, read back from the store and matched."),
    State.PURGED: ("purged", "∅", "Its archives were destroyed when their term was over; certificates are kept."),
    State.HOT: ("hot", "•", "Inside hot retention; the rows stay in the table."),
    State.WITH_ROOT: (
        "with another table",
        "↳",
        "Its rows belong to rows of the table that names it in `with`, and go with them.",
    ),
    State.EMPTY: ("empty", " ", "There is no row and no archive."),
    State.BEFORE: ("before the first row", " ", "Older than any row or archive of the table."),
}


def worst_first(states: set[State]) -> tuple[State, ...]:
    """States in the order of their gravity."""
    return tuple(sorted(states, key=lambda state: state.gravity))
