"""What was compared with a store's second copy: the records, and the report of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Literal

from pydantic import AwareDatetime, Field

from strongroom.errors import IntegrityError
from strongroom.ledger.copies import ObjectCopy
from strongroom.records import Record

ArchiveResult = Literal["same", "hidden", "differs", "missing", "unverifiable", "contended", "leaving"]
"""What the second copy of an archive is.

``same``, ``hidden``, ``differs``, ``missing``: the worst of its objects. ``unverifiable``: the first copy is not sound, so it was neither
copied nor compared. ``contended``: another run has claimed its partition. ``leaving``: its purge has begun, or it is gone.
"""

_GRAVITY: tuple[ArchiveResult, ...] = ("same", "hidden", "missing", "differs")
_WAITS = frozenset({"contended", "leaving"})


class ArchiveCopy(Record):
    """One archive, compared with its second copy."""

    archive_id: str
    replica: str = Field(description="Bucket and prefix of the second copy.")
    filled_by: Literal["store", "strongroom"]
    result: ArchiveResult
    detail: str = ""
    objects: tuple[ObjectCopy, ...] = ()
    copied: int = Field(default=0, description="How many objects were copied before they were compared.")
    who: str
    compared_at: AwareDatetime

    @property
    def is_wrong(self) -> bool:
        """Whether somebody must look at it. What a store fills by itself may still be under way."""
        return self.result not in ("same", *_WAITS) and not (self.filled_by == "store" and self.result == "missing")

    def sentence(self) -> str:
        """The one line that a reader of the log needs."""
        bad = ", ".join(f"{one.key.rpartition('/')[2]} {one.result}" for one in self.objects if one.result != "same")
        why = "; ".join(filter(None, (self.detail, bad)))
        return f"{self.archive_id} is {self.result} in {self.replica}" + (f": {why}" if why else "")


def worst(objects: Iterable[ObjectCopy]) -> ArchiveResult:
    """The worst result of some objects."""
    return max((one.result for one in objects), key=_GRAVITY.index, default="same")


class RestCopy(Record):
    """Evidence, holds, reports and the log of a store, compared with those in its second copy."""

    replica: str
    filled_by: Literal["store", "strongroom"]
    result: Literal["same", "missing", "differs"]
    objects: int = Field(description="How many there are in the first copy.")
    compared: int = Field(description="How many were read back and compared; the others have not changed since.")
    copied: int
    wrong: tuple[ObjectCopy, ...] = Field(description="Those that are not the same.")
    lost: tuple[str, ...] = Field(description="Keys that only the second copy has: somebody removed the first one.")
    log_size: int | None = Field(description="Entries of the log in the second copy; None without a log.")
    problem: str = Field(default="", description="What is wrong with the log in the second copy.")
    whole: bool = Field(description="Whether all objects were compared.")
    who: str
    compared_at: AwareDatetime

    def sentence(self) -> str:
        """The one line that a reader of the log needs."""
        done = f"{self.compared:,} of {self.objects:,} records and objects of the log compared, {self.copied:,} copied"
        bad = [f"{one.key} {one.result}" for one in self.wrong] + [f"{key} is only in the replica" for key in self.lost]
        named = "; ".join(([self.problem] if self.problem else []) + bad[:_NAMED])
        return f"{self.replica}: {done}: {self.result}" + (f": {named}" if named else "")


class ReplicaLane(Record):
    """Archives of one store that one task copies and compares, one after the other."""

    store_table: str
    """A configured table whose settings open the store and its second copy."""
    archives: tuple[str, ...]


class ReplicaReport(Record):
    """What one run found."""

    archives: int
    results: dict[str, int]
    copied: int
    wrong: tuple[str, ...]
    """The sentences of what somebody must look at."""
    who: str
    finished_at: AwareDatetime

    def sentence(self) -> str:
        """The one line that a reader of the log needs."""
        counted = ", ".join(f"{number:,} {result}" for result, number in sorted(self.results.items())) or "none due"
        more = f" and {len(self.wrong) - _NAMED:,} more" if len(self.wrong) > _NAMED else ""
        named = f". {'; '.join(self.wrong[:_NAMED])}{more}" if self.wrong else ""
        return f"compared {self.archives:,} archives with their second copies ({self.copied:,} objects copied): {counted}{named}"


def sum_up(
    wanted: int, archives: Sequence[ArchiveCopy], rests: Sequence[RestCopy], *, who: str, now: datetime
) -> ReplicaReport:
    """Sum up a run; `wanted` is how many archives were to be compared."""
    results = Counter(one.result for one in archives)
    counts = dict(results) | ({"unfinished": wanted - len(archives)} if wanted > len(archives) else {})
    wrong = [one.sentence() for one in archives if one.is_wrong] + [
        one.sentence()
        for one in rests
        if one.result == "differs" or (one.result, one.filled_by) == ("missing", "strongroom")
    ]
    return ReplicaReport(
        archives=wanted,
        results=counts,
        copied=sum(one.copied for one in archives) + sum(one.copied for one in rests),
        wrong=tuple(wrong),
        who=who,
        finished_at=now,
    )


def require_same(report: ReplicaReport) -> None:
    """Check that each archive and record has a second copy that is the same.

    Raises:
        IntegrityError: Names what has none.
    """
    if report.wrong or report.results.get("unfinished"):
        raise IntegrityError(
            "the second copy is not the same as the first",
            expected="each object read back and equal",
            found=report.sentence(),
            hint="Nothing was overwritten or removed, and the first copy is untouched. Look at the objects named; an administrator of the "
            "replica's bucket removes what is wrong by its version id, then clear this run. See docs/howto/second-copy.md.",
        )


_NAMED = 10
"""The records of a run: how many sentences it names."""
