"""How far the load of a part has come, and what each batch adds to it."""

from __future__ import annotations

from typing import NamedTuple

from strongroom.records import VerifiedPart
from strongroom.restore.records import DifferentRow


class Outcome(NamedTuple):
    """What became of the rows of one transaction.

    Attributes:
        rows: Archived rows that were read.
        wanted: Those inside the time range and key list of the request.
        inserted: Wanted rows that were not in the table.
        unchanged: Wanted rows that were there, and equal.
        different: Some of the wanted rows that were there, and not equal.
        more_different: How many more of those there are.
        highest: The highest value of each column that a sequence counts.
    """

    rows: int
    wanted: int
    inserted: int
    unchanged: int
    different: list[DifferentRow]
    more_different: int
    highest: dict[str, int]


class RestoreProgress(VerifiedPart):
    """How far the restore of a part has come; kept in staging after each transaction."""

    life: str = ""
    """Of the database that the rows were loaded into: session.read_life()."""
    done_rows: int = 0
    wanted: int = 0
    inserted: int = 0
    unchanged: int = 0
    different: int = 0
    listed: tuple[DifferentRow, ...] = ()
    highest: dict[str, int] = {}  # noqa: RUF012 - pydantic copies it

    def advanced(self, outcome: Outcome) -> RestoreProgress:
        """The progress after one more transaction."""
        return self.model_copy(
            update={
                "done_rows": self.done_rows + outcome.rows,
                "wanted": self.wanted + outcome.wanted,
                "inserted": self.inserted + outcome.inserted,
                "unchanged": self.unchanged + outcome.unchanged,
                "different": self.different + len(outcome.different) + outcome.more_different,
                "listed": (*self.listed, *outcome.different),
                "highest": highest_of(self.highest, outcome.highest),
            }
        )


def highest_of(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    """The higher value of each column."""
    return {name: max(values[name] for values in (one, other) if name in values) for name in one | other}
