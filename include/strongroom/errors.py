"""Errors that say what, where, expected and found, and then what is safe and what to do."""

from __future__ import annotations

import errno

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What the system says of a disk, a quota or a file that is full."""


class StrongroomError(Exception):
    """Base of every error that Strongroom raises on purpose.

    Args:
        what: One sentence without a final full stop; names the thing and its place.
        hint: What is safe first, then what to do next.
        expected: What should have been there, if that can be said in a few words.
        found: What was there instead.

    Raises:
        ValueError: Sentence or hint is empty: nobody could act on such an error.
    """

    retryable = False
    """Whether the same call may succeed later without anybody changing anything."""

    def __init__(self, what: str, *, hint: str, expected: object = None, found: object = None) -> None:
        if not what.strip() or not hint.strip():
            raise ValueError(f"{type(self).__name__} needs a sentence and a hint")
        self.what = what
        self.hint = hint
        self.expected = expected
        self.found = found
        super().__init__(what, hint, expected, found)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.what, self.hint, self.expected, self.found)

    def __str__(self) -> str:
        compared = ", ".join(
            f"{word} {value}"
            for word, value in (("expected", self.expected), ("found", self.found))
            if value is not None
        )
        return f"{self.what}{': ' + compared if compared else ''}\nHINT: {self.hint}"


def _rebuild(kind: type[StrongroomError], what: str, hint: str, expected: object, found: object) -> StrongroomError:
    return kind(what, hint=hint, expected=expected, found=found)


class ConfigurationError(StrongroomError):
    """The settings are wrong; nothing was started."""


class PartitionError(StrongroomError):
    """A partition key is missing, malformed, or names a window that may not be archived yet."""


class UnarchivableError(StrongroomError):
    """A table, column or row cannot be archived without loss or without touching other rows."""


class IdentityError(StrongroomError):
    """The archive store belongs to another database, or to none."""


class ContendedError(StrongroomError):
    """Somebody else holds the claim on this partition."""

    retryable = True


class NeededError(StrongroomError):
    """Rows were restored and are needed in the table for some time; they are left alone."""


class HeldError(StrongroomError):
    """A hold on everything stops all deletion until it is released."""


class OutOfTimeError(StrongroomError):
    """The hours or the time in which the source database may be worked on are over; the rest is left for later."""


class BusyError(StrongroomError):
    """The source database had other worries for so long that the delete gave up waiting."""

    retryable = True


class ClockError(StrongroomError):
    """This machine's clock is not to be trusted."""

    retryable = True


class RestoreError(StrongroomError):
    """Archived rows cannot be brought back as they were asked for."""


class SourceError(StrongroomError):
    """The source database refused or broke off."""

    retryable = True


class SourceAccessError(StrongroomError):
    """The source database let nobody in, or lacks a right; a retry changes nothing."""


class StoreError(StrongroomError):
    """The archive store refused or broke off."""

    retryable = True


class StoreAccessError(StrongroomError):
    """The archive store let nobody in, or lacks a bucket or a right; a retry changes nothing."""


class FrozenError(StoreAccessError):
    """An object lies in a Glacier class and cannot be read until it was asked for and came back."""


class StagingError(StrongroomError):
    """Staging is full, missing or unreadable."""

    retryable = True


class IntegrityError(StrongroomError):
    """Bytes, sums or counts do not agree. Nothing is deleted after this error."""
