"""Find archives by words: a table, a time, a partition key, a checksum, a run or an archive id. Several words narrow.

Pure functions over the facts of all stores. A word may mean several things: `deadbeef` may begin a checksum and be part of a name. An
archive is found if each word means it in one way.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Generic, TypeVar

from strongroom.calendar import Frequency, Partition, Window
from strongroom.errors import PartitionError
from strongroom.ledger.holds import Hold
from strongroom.object_keys.archives import ArchiveId
from strongroom.object_keys.layout import decode_table
from strongroom.overview.facts import ArchiveFacts, StoreFacts

MOST = 50
"""How many of each kind are shown."""

_FIRST, _LAST = datetime.min.replace(tzinfo=timezone.utc), datetime.max.replace(tzinfo=timezone.utc)
_SUM = re.compile("[0-9a-f]{8,64}")
_YEAR = re.compile("[0-9]{4}")
_INSTANT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T_][0-9]{2}(:[0-9]{2}){0,2}(Z|[+-][0-9]{2}:?[0-9]{2})?")

Item = TypeVar("Item")


@dataclass(frozen=True)
class Some(Generic[Item]):
    """The first of what was found, and how many more there are."""

    shown: tuple[Item, ...] = ()
    more: int = 0

    def __bool__(self) -> bool:
        return bool(self.shown)


@dataclass(frozen=True)
class NoArchive:
    """An archive of which there are no facts: its manifest is damaged, or it was destroyed.

    Attributes:
        problem: Of the manifest; empty for a destroyed archive.
    """

    archive_id: str
    table: str
    partition_key: str
    problem: str = ""


@dataclass(frozen=True)
class Found:
    """What was found, of each kind the newest first.

    Attributes:
        archives: Sound ones.
        damaged: With a damaged manifest.
        destroyed: With a certificate of destruction.
        holds: In force, by their id, their reference, or what they cover.
        run_words: The words that may name a run; none if one of them is a time.
    """

    archives: Some[ArchiveFacts] = Some()
    damaged: Some[NoArchive] = Some()
    destroyed: Some[NoArchive] = Some()
    holds: Some[Hold] = Some()
    run_words: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return any((self.archives, self.damaged, self.destroyed, self.holds))


@dataclass(frozen=True)
class _Word:
    """One word, and all that it may mean.

    Attributes:
        text: In lower case.
        window: A time; None if it is none.
        sums: Whether it may begin a checksum.
    """

    text: str
    window: Window | None
    sums: bool

    @property
    def names(self) -> bool:
        """Whether it may be a part of a name: a time says something else."""
        return self.window is None

    def fits_name(self, *names: str) -> bool:
        return self.names and any(self.text in name.lower() for name in names)

    def fits_time(self, start: datetime, end: datetime) -> bool:
        return self.window is not None and self.window.start < end and start < self.window.end

    def fits(self, one: ArchiveFacts) -> bool:
        """Whether an archive is meant."""
        return (
            self.fits_time(one.window_start, one.window_end)
            or self.fits_name(one.archive_id, one.table_name, one.run_id, one.dag_id)
            or self.text == one.run_id.lower()
            or (self.sums and any(digest.startswith(self.text) for digest in one.sums))
        )

    def fits_lost(self, one: NoArchive) -> bool:
        """Whether an archive is meant of which there are no facts."""
        window = Partition.named(one.partition_key).window
        return self.fits_time(window.start, window.end) or self.fits_name(one.archive_id, one.table)

    def fits_hold(self, hold: Hold) -> bool:
        """Whether a hold is meant; a hold covers no time."""
        return self.text in hold.hold_id.lower() or self.fits_name(hold.reference, hold.what, hold.subject)


def search(facts: StoreFacts, text: str, *, most: int = MOST) -> Found:
    """Find what all words of a text mean.

    Args:
        facts: Of all stores, and only of tables that may be shown.
        text: Words between blanks. A time is a year, a month, a day, a week, an instant (UTC unless it says otherwise), or a range of
            these such as `2026-05..2026-07`, open on either end.
        most: How many of each kind to return.
    """
    words = [_word(word) for word in text.lower().split()]
    if not words:
        return Found()

    def fitting(items: Iterable[Item], fits: Callable[[_Word, Item], bool]) -> Some[Item]:
        found = [one for one in items if all(fits(word, one) for word in words)]
        return Some(tuple(found[:most]), max(0, len(found) - most))

    damaged = [_lost(one.archive_id, one.problem) for one in facts.damaged]
    destroyed = [_lost(archive_id, "") for archive_id in facts.destroyed]
    return Found(
        archives=fitting(sorted(facts.archives, key=_window, reverse=True), _Word.fits),
        damaged=fitting(sorted(damaged, key=_key, reverse=True), _Word.fits_lost),
        destroyed=fitting(sorted(destroyed, key=_key, reverse=True), _Word.fits_lost),
        holds=fitting(sorted(facts.holds, key=lambda one: one.placed_at, reverse=True), _Word.fits_hold),
        run_words=tuple(word.text for word in words) if all(word.names for word in words) else (),
    )


def _window(one: ArchiveFacts) -> tuple[datetime, str]:
    return one.window_start, one.archive_id


def _key(one: NoArchive) -> tuple[str, str]:
    return one.partition_key, one.archive_id


def _lost(archive_id: str, problem: str) -> NoArchive:
    return NoArchive(archive_id, decode_table(archive_id), ArchiveId.parse(archive_id).partition_key, problem)


def _word(text: str) -> _Word:
    return _Word(text, _time(text), bool(_SUM.fullmatch(text)))


def _time(text: str) -> Window | None:
    """The time that a word names: a point or a range; None if it names none."""
    first, dots, last = text.upper().partition("..")
    if not dots:
        return _moment(first)
    start, end = _moment(first), _moment(last)
    if (first and start is None) or (last and end is None) or not (first or last):
        return None
    if start and end and end.start < start.start:
        start, end = end, start
    return Window(start.start if start else _FIRST, end.end if end else _LAST)


def _moment(text: str) -> Window | None:
    """A year, month, week, day or instant."""
    if _INSTANT.fullmatch(text):
        return _instant(text)
    try:
        if _YEAR.fullmatch(text):
            return Window(
                Partition.parse(Frequency.MONTHLY, f"{text}-01").window.start,
                Partition.parse(Frequency.MONTHLY, f"{text}-12").window.end,
            )
        return Partition.named(text).window
    except PartitionError:
        return None


def _instant(text: str) -> Window | None:
    """An instant of the second, minute or hour that is written."""
    date, clock = text.replace("_", "T").split("T")
    found = re.fullmatch(r"([0-9:]+)(Z|[+-][0-9]{2}:?[0-9]{2})?", clock)
    if found is None:
        return None
    fields, zone = found[1].split(":"), (found[2] or "Z").replace("Z", "+0000").replace(":", "")
    length = timedelta(**{("hours", "minutes", "seconds")[len(fields) - 1]: 1})
    try:
        at = datetime.strptime(f"{date}T{':'.join([*fields, '00', '00'][:3])}{zone}", "%Y-%m-%dT%H:%M:%S%z")
        start = at.astimezone(timezone.utc)
        return Window(start, start + length)
    except (ValueError, OverflowError):
        return None
