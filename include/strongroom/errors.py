"""Errors that say what, where, expected and found, and then what is safe and what to do."""

from __future__ import annotations

import errno

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""The errors of the system for a disk, a quota or a file that is full."""


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

    code = "SR-000"
    """Names the kind of error for good: docs/reference/errors.md lists all. Each class has its own; a code is never given twice."""

    retryable = False
    """Whether the same call may succeed later although nobody changed anything."""

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
        return f"{self.what}{': ' + compared if compared else ''}\nHINT: {self.hint}\nCODE: {self.code}"


def _rebuild(kind: type[StrongroomError], what: str, hint: str, expected: object, found: object) -> StrongroomError:
    return kind(what, hint=hint, expected=expected, found=found)


class ConfigurationError(StrongroomError):
    """The settings are wrong; nothing was started."""

    code = "SR-101"


class PartitionError(StrongroomError):
    """A partition key is missing, malformed, or names a window that may not be archived yet."""

    code = "SR-102"


class UnarchivableError(StrongroomError):
    """A table, column or row cannot be archived without loss or without touching other rows."""

    code = "SR-203"


class IdentityError(StrongroomError):
    """The archive store belongs to another database, or to none."""

    code = "SR-307"


class ContendedError(StrongroomError):
    """Somebody else holds the claim on this partition."""

    code = "SR-501"
    retryable = True


class NeededError(StrongroomError):
    """Rows were restored and are needed in the table for some time; they stay there."""

    code = "SR-502"


class HeldError(StrongroomError):
    """A hold on everything stops all deletion until it is released."""

    code = "SR-503"


class OutOfTimeError(StrongroomError):
    """The time in which a run may work on the source database is over; the rest is left for later."""

    code = "SR-205"


class BusyError(StrongroomError):
    """The source database was above the limits of a delete for too long."""

    code = "SR-204"
    retryable = True


class PausedError(StrongroomError):
    """An operator paused the steps of a table, or its orders are damaged, and nobody resumed them in time."""

    code = "SR-206"


class ChildrenLeftError(StrongroomError):
    """Rows of another table that refer to these must be deleted first."""

    code = "SR-505"
    retryable = True


class ClockError(StrongroomError):
    """This machine's clock cannot be trusted."""

    code = "SR-308"
    retryable = True


class RestoreError(StrongroomError):
    """Archived rows cannot be restored as requested."""

    code = "SR-601"


class QueryError(StrongroomError):
    """Archives cannot be searched as requested, or there is no such result."""

    code = "SR-602"


class QueryLimitError(QueryError):
    """A query needed more time, memory or room than the settings allow."""

    code = "SR-603"


class SourceError(StrongroomError):
    """The source database failed, or the connection to it broke."""

    code = "SR-201"
    retryable = True


class SourceAccessError(StrongroomError):
    """The source database refused the login, or the role lacks a right; a retry does not help."""

    code = "SR-202"


class StoreError(StrongroomError):
    """The archive store failed, or the connection to it broke."""

    code = "SR-301"
    retryable = True


class StoreAccessError(StrongroomError):
    """The archive store refused access, or a bucket or a right is missing; a retry does not help."""

    code = "SR-302"


class FrozenError(StoreAccessError):
    """An object is in a Glacier class and cannot be read until its return was requested and finished."""

    code = "SR-303"


class StagingError(StrongroomError):
    """Staging is full, missing or unreadable."""

    code = "SR-309"
    retryable = True


class ErasedError(StrongroomError):
    """Rows of a person who was erased would come back."""

    code = "SR-612"


class ErasureError(StrongroomError):
    """A request about a person cannot be carried out as asked."""

    code = "SR-611"


class IntegrityError(StrongroomError):
    """Bytes, sums or counts do not agree. Nothing is deleted after this error."""

    code = "SR-401"
