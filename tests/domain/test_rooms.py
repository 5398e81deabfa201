"""A newcomer finds the room: each room of the domain says what lives in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import strongroom

HOUSE = Path(strongroom.__file__).parent
ROOMS = sorted(path.parent for path in HOUSE.glob("*/__init__.py"))


def named(init: Path) -> set[str]:
    """What a docstring names in double backticks, and the steps that an arrow stands between."""
    text = init.read_text()
    return {*re.findall(r"``(\w+)``", text), *re.findall(r"\w+", " ".join(re.findall(r".*→.*", text)))}


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.name)
def test_each_room_names_every_module_in_it(room: Path) -> None:
    """A module that is not named there cannot be found."""
    modules = {path.stem for path in room.glob("*.py")} - {"__init__"}

    assert modules - named(room / "__init__.py") == set()


def test_the_house_names_every_room_and_every_module_outside_the_rooms() -> None:
    """Its own docstring is the table of contents."""
    modules = {path.stem for path in HOUSE.glob("*.py")} - {"__init__"}

    assert {room.name for room in ROOMS} | modules == named(HOUSE / "__init__.py")
