"""The page about costs adds up: each figure follows from its tables, and its prices are those of the settings."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest

from strongroom.settings import Prices
from tests.support.repository import REPOSITORY

PAGE = (REPOSITORY / "docs" / "howto" / "cost.md").read_text()
TEXT = " ".join(PAGE.split())
CLASSES = ("standard", "glacier_ir", "glacier", "deep_archive")
KIB_PER_GIB = 2**20


def tables() -> list[list[list[str]]]:
    """Each table of the page as rows of cells, without its ruler."""
    found = re.findall(r"(?:^\|.*\|\n)+", PAGE, re.MULTILINE)
    return [[[cell.strip() for cell in line.strip("|").split("|")] for line in one.splitlines()] for one in found]


EXAMPLE, PRICES, RESULT = ([rows[0], *rows[2:]] for rows in tables())
FIGURES = {re.match(r"`(\w+)`", name)[1]: float(value) for name, value, _ in EXAMPLE[1:]}
NAMES = ("storage", "write", "transition", "read", "retrieval", "own_kib", "standard_kib", "days", "smallest_kib")
PRICE = {
    tier: {name: float(row[column] or 0) for name, row in zip(NAMES, PRICES[1:], strict=True)}
    for column, tier in enumerate(PRICES[0][1:], start=1)
}
STORED = FIGURES["size"] / FIGURES["ratio"]


def storage(tier: str) -> float:
    later = PRICE[tier]
    early = FIGURES["warm_up"] if tier != "standard" else 0
    extra = FIGURES["parts"] / KIB_PER_GIB
    monthly = (STORED + extra * later["own_kib"]) * later["storage"]
    monthly += extra * later["standard_kib"] * PRICE["standard"]["storage"]
    return early * STORED * PRICE["standard"]["storage"] + (FIGURES["months"] - early) * monthly


def writes(tier: str) -> float:
    puts = FIGURES["parts"] * FIGURES["puts_part"] + FIGURES["archives"] * FIGURES["puts_archive"]
    return (puts * PRICE["standard"]["write"] + FIGURES["parts"] * PRICE[tier]["transition"]) / 1000


def reading(tier: str, share: float) -> float:
    return share * (STORED * PRICE[tier]["retrieval"] + FIGURES["parts"] * PRICE[tier]["read"] / 1000)


@pytest.mark.parametrize("tier", CLASSES)
def test_each_row_of_the_result_adds_up(tier):
    """Glacier's colder classes are not read by scrubs."""
    [shown] = [row[1:] for row in RESULT if row[0] == f"`{tier}`"]
    frozen = tier in ("glacier", "deep_archive")
    scrubs = 0 if frozen else reading(tier, FIGURES["scrubs"])

    assert shown == [
        f"{storage(tier):.2f}",
        f"{writes(tier):.2f}",
        "not read" if frozen else f"{scrubs:.2f}",
        f"{storage(tier) + writes(tier) + scrubs:.2f}",
        f"{reading(tier, 1 / FIGURES['archives']):.2f}",
    ]


def test_the_table_itself_adds_up():
    kept = f"{FIGURES['size'] * PRICE['hot']['storage'] * FIGURES['months']:.2f}"

    assert RESULT[1] == ["the table", kept, "", "", kept, ""]


def test_the_figures_in_the_text_follow():
    month = STORED / FIGURES["archives"]
    whole = float(RESULT[1][4])
    early = month * PRICE["deep_archive"]["storage"] * (timedelta(days=180).days / 30)
    million_rows = FIGURES["size"] * 2**30 / 514 / 1e6

    paid = {row[0].strip("`"): float(row[4]) for row in RESULT[1:]}

    for words in (
        f"saves {paid['glacier_ir'] - paid['glacier']:.0f} to {paid['glacier_ir'] - paid['deep_archive']:.0f} dollars",
        f"the store holds {STORED:.1f} GiB",
        f"{STORED * 1024 / FIGURES['parts']:.0f} MiB",
        f"{whole / float(RESULT[2][4]):.0f} to {round(whole / float(RESULT[5][4]), -1):.0f} times",
        f"{STORED * 0.02:.2f} dollars for the {STORED:.1f} GiB",
        f"{month:.1f} GiB, at most {early:.2f} dollars",
        f"{million_rows / 1000:.1f} billion rows",
        f"{million_rows * 31 / 3600:.0f} hours of CPU for the steps, {FIGURES['parts'] * 12 / 3600:.1f} for starting tasks, "
        f"and {million_rows * 9 / 3600:.1f} on the source",
    ):
        assert words in TEXT


def test_the_prices_of_storage_are_the_defaults():
    """One place for each fact: whoever changes a default changes this page."""
    assert {tier: PRICE[tier]["storage"] for tier in PRICE} == {tier: getattr(Prices(), tier) for tier in PRICE}
