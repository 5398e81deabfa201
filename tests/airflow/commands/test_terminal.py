"""What commands print: a text from the store never commands the terminal of its reader."""

from __future__ import annotations

import json
import re

import pytest
from rich.markup import escape
from rich.table import Table

from strongroom.errors import StrongroomError
from strongroom_airflow.commands.terminal import print_error, print_json, print_out

CLEAR, TITLE, C1, DELETE = "\x1b[2J", "\x1b]0;owned\x07", "\x9b2J", "\x7f"
FORGED = f"law{CLEAR}{TITLE}{C1}{DELETE}\r\x08 [red]of[/] Ñairobi"
SAID = "law�[2J�]0;owned��2J��� [red]of[/] Ñairobi"


@pytest.fixture(params=["a terminal", "a pipe"])
def written_to(request, monkeypatch):
    """Standard output and standard error, as rich takes them."""
    if request.param == "a terminal":
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "200")
    return request.param


def printed(text: str) -> str:
    """Without the styles that we mean."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


@pytest.mark.usefixtures("written_to")
def test_a_forged_text_cannot_command_the_terminal(capsys):
    table = Table("why", title=escape(FORGED), caption=escape(FORGED))
    table.add_row(escape(FORGED))

    print_out(f"[bold]kept:[/] {escape(FORGED)}", table)
    print_error(StrongroomError(FORGED, expected=FORGED, found=FORGED, hint="Nothing was done."))

    outputs = [printed(text) for text in capsys.readouterr()]
    for text in outputs:
        assert SAID in text
        assert not {character for character in text if not character.isprintable()} - {"\n"}
    assert outputs[0].count(SAID) == 4


def test_lines_and_columns_of_a_text_stay(capsys):
    print_out("one\n\ttwo")

    assert capsys.readouterr().out.split() == ["one", "two"]


def test_json_keeps_each_character_and_writes_none_that_a_terminal_obeys(capsys):
    print_json({"why": FORGED})

    out = capsys.readouterr().out
    assert json.loads(out)["why"] == FORGED
    assert "\x1b" not in out
