"""The reference of commands has each command and each option that `airflow` offers, and no page gives another one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from airflow.cli import cli_parser
from airflow.cli.cli_config import GroupCommand

from strongroom_airflow.provider import get_cli_commands
from tests.support.repository import REPOSITORY

PAGE = (REPOSITORY / "docs" / "reference" / "commands.md").read_text()


def commands(words: str, command: Any) -> Iterator[tuple[str, Any]]:
    """Each command of a group, with the words that call it."""
    if isinstance(command, GroupCommand):
        for one in command.subcommands:
            yield from commands(f"{words} {one.name}", one)
    else:
        yield words, command


def offered() -> dict[str, set[str]]:
    """The long options of each command, and `-h` and `-v`, which all have, left out; hidden options are refused ones."""
    [dags] = [group for group in cli_parser.airflow_commands if group.name == "dags"]
    found = [pair for group in get_cli_commands() for pair in commands(f"airflow {group.name}", group)]
    found += [pair for pair in commands("airflow dags", dags) if pair[0] == "airflow dags backfill"]
    return {
        words: {
            flag
            for arg in command.args
            for flag in arg.flags
            if flag.startswith("--") and arg.kwargs.get("help") != "==SUPPRESS=="
        }
        for words, command in found
    }


def test_the_reference_names_each_command() -> None:
    """Those of the group `strongroom`, and the one in Airflow's group `dags`."""
    assert len(offered()) > 20
    assert [words for words in offered() if words not in PAGE] == []


def test_the_reference_names_each_option() -> None:
    """In the section of its command, or in what all sections have in common."""
    general, *sections = PAGE.split("\n### ")

    missing = {
        words: sorted(
            option
            for option in options - {"--verbose"}
            if not any(option in part for part in (general, *(one for one in sections if words in one)))
        )
        for words, options in offered().items()
    }

    assert {words: options for words, options in missing.items() if options} == {}


def test_no_page_gives_an_option_that_its_command_does_not_have() -> None:
    """In examples and within sentences; the changelog also names options that are gone."""
    known = offered()
    pages = [
        page for page in (*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md")) if page.name != "CHANGELOG.md"
    ]
    given = [
        (page.name, command)
        for page in pages
        for command in re.findall(r"airflow strongroom [^\n`|;#)]+", page.read_text().replace("\\\n", " "))
    ]

    wrong = [
        (page, option, words)
        for page, command in given
        for words in [max((one for one in known if f"{command} ".startswith(f"{one} ")), key=len, default="")]
        for option in re.findall(r"(?<=\s)--[a-z][\w-]*", command.removeprefix(words))
        if words and option not in known[words]
    ]

    assert len(given) > 100
    assert wrong == []
