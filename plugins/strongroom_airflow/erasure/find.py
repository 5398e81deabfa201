"""Step 1 of an erasure."""

from __future__ import annotations

from typing import Any

from strongroom.erasure.approve import keep_found
from strongroom.erasure.find import Found, Place
from strongroom_airflow.erasure.base import ErasureOperator
from strongroom_airflow.erasure.run import ErasureRun


class FindPersonOperator(ErasureOperator):
    """Find the rows of the person everywhere, decide for each place, and put both on record. Changes nothing.

    Returns counts only.
    """

    def step(self, run: ErasureRun) -> tuple[str, dict[str, Any], Any]:
        places: list[Place] = []
        searched: dict[str, int] = {}
        for of in run.stores:
            due_at = run.case(of).due_at
            now = run.now(of.store)
            found_here, counts = of.find(run.case_id, application_name=run.application_name)
            found = Found(
                case_id=run.case_id, run=run.identity, found_at=now, places=tuple(found_here), searched=counts
            )
            keep_found(of.store, found)
            places += found_here
            for name, number in counts.items():
                searched[name] = searched.get(name, 0) + number
            for place in found_here:
                self.log.info(f"{place.name}: {describe(place)}")
        rows = sum(place.rows + place.about_two for place in places)
        facts = {
            "case": run.case_id,
            "due_at": due_at.isoformat(),
            "rows": rows,
            "places": len(places),
            **{
                f"to_{fate}": number for fate in ("erase", "keep", "refuse", "wait") if (number := _count(places, fate))
            },
            "unsearchable": _count(places, "unsearchable") or None,
            **searched,
        }
        return f"case {run.case_id}: found {rows} rows in {len(places)} places", facts, facts


def describe(place: Place) -> str:
    """What was found in a place, and what becomes of it, in one line."""
    two = f", {place.about_two} about two persons" if place.about_two else ""
    return (
        f"{place.rows} rows{two}: {place.why}" if place.fate != "unsearchable" else f"cannot be searched: {place.why}"
    )


def _count(places: list[Place], fate: str) -> int:
    return sum(place.fate == fate for place in places)
