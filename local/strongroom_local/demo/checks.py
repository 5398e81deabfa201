"""The demo's claims, checked by comparing the rows before and after."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date

from strongroom_local.demo.proof import Look, Rows

RowsByMonth = Mapping[str, Mapping[date | None, int]]
"""Rows by table name and first day of the month; None stands for rows without a date."""


@dataclass(frozen=True)
class Check:
    """One claim, whether it holds, and the numbers behind it.

    Args:
        claim: The claim, as a sentence.
        faults: Where the claim does not hold; empty if it holds.
        numbers: Numbers that a reader can recompute, in words.
    """

    claim: str
    faults: tuple[str, ...]
    numbers: str

    @property
    def holds(self) -> bool:
        return not self.faults


def check(  # one list of five claims; splitting it would only scatter them
    before: Iterable[Look], after: Iterable[Look], months_before: RowsByMonth, months_after: RowsByMonth
) -> list[Check]:
    """Compare two looks at the same months of the same tables, and the row counts of all other months.

    Args:
        before: Looks from before the archiving.
        after: Looks at the same months after it, in the same order.
        months_before: Row counts of every month of every table before the archiving.
        months_after: The same counts after it.
    """
    pairs = list(zip(before, after, strict=True))
    looks = [new for _, new in pairs]
    months = {date.fromisoformat(f"{look.month}-01") for look in looks}
    objects = [(look, one) for look in looks for one in look.objects]
    archived = sum(look.archived.count for look in looks)
    left = sum(look.all.count for look in looks) - archived
    needed = sum(look.in_both.count for look in looks if look.needed)
    others = sum(_count_others(rows, months) for rows in months_before.values())
    return [
        Check(
            "every row is accounted for",
            tuple(
                f"{_where(new)}: {old.all.count:,} rows before, {new.in_table.count:,} in the table, "
                f"{new.archived.count:,} in archives, {new.in_both.count:,} of them in both"
                for old, new in pairs
                if old.all.count != new.all.count
            ),
            f"{sum(old.all.count for old, _ in pairs):,} before = {left:,} left + {archived:,} in archives",
        ),
        Check(
            "each archived row equals the row that was in the table",
            tuple(f"{_where(new)}: other rows than before" for old, new in pairs if old.all != new.all),
            f"{archived:,} by digest",
        ),
        Check(
            "no archived row is still in its table",
            tuple(
                f"{_where(look)}: {look.in_both.count:,} rows"
                for look in looks
                if look.in_both.count and not look.needed
            ),
            f"{archived:,} keys looked up" + (f", {needed:,} were restored and are needed there" if needed else ""),
        ),
        Check(
            "no row of another month is gone",
            tuple(_compare_others(months_before, months_after, months))
            + tuple(
                f"{_where(look)}: {look.outside:,} archived rows of other months" for look in looks if look.outside
            ),
            f"{others:,} rows",
        ),
        Check(
            "the objects in the store give the sums in SHA256SUMS",
            tuple(f"{_where(look)}: {one.key}" for look, one in objects if not one.sound),
            f"{len(objects)} objects downloaded",
        ),
    ]


def check_restored(before: Look, restored: Rows, again: Rows, inserted_again: int) -> list[Check]:
    """Compare a month that was restored twice with the look from before it was archived.

    Args:
        before: The look from before it was archived.
        restored: The month's rows in the table after the first restore.
        again: The same rows after the second restore.
        inserted_again: How many rows the second restore reports as inserted.
    """
    twice = []
    if again != restored:
        twice.append(f"{_where(before)}: {restored.count:,} rows became {again.count:,}, or others than before")
    if inserted_again:
        twice.append(f"{_where(before)}: {inserted_again:,} rows were inserted")
    return [
        Check(
            "the month is as it was before it was archived",
            ()
            if restored == before.all
            else (f"{_where(before)}: {before.all.count:,} rows before, {restored.count:,} now, or other rows",),
            f"{restored.count:,} rows by digest",
        ),
        Check("restoring it again changes nothing", tuple(twice), f"{inserted_again:,} rows inserted"),
    ]


def _where(look: Look) -> str:
    return f"{look.table} {look.month}"


def _count_others(rows: Mapping[date | None, int], months: set[date]) -> int:
    return sum(count for month, count in rows.items() if month not in months)


def _compare_others(before: RowsByMonth, after: RowsByMonth, months: set[date]) -> Iterator[str]:
    for table, rows in before.items():
        for month, count in rows.items():
            left = after[table].get(month, 0)
            if month not in months and left < count:
                name = f"{month:%Y-%m}" if month else "rows without a date"
                yield f"{table} {name}: {count:,} rows before, {left:,} after"
