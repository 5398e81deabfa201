"""How each `airflow strongroom` command answers: tables and text for people, JSON for programs, an exit code for both."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Callable
from functools import cache, wraps
from typing import Any

from airflow.cli.simple_table import AirflowConsole
from airflow.utils.cli import suppress_logs_and_warning
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, ProgressColumn
from rich.text import Text

from strongroom.errors import StrongroomError
from strongroom.settings import Settings, load_settings
from strongroom_airflow.stored_connections import find_stored_connections

INTERRUPTED = 130
"""What a shell calls the end by Ctrl-C."""

_CONTROLS = dict.fromkeys({*range(0x20), *range(0x7F, 0xA0)} - {ord("\n"), ord("\t")}, "\N{REPLACEMENT CHARACTER}")
"""The C0 and C1 controls, which a terminal may obey: they would clear the screen, or write what nobody said."""


def printable(text: str) -> str:
    """A text for a terminal: whoever wrote a manifest or a record must not command the terminal of its reader."""
    return text.translate(_CONTROLS)


class _SafeConsole(Console):
    """A console that prints each text as :func:`printable` makes it, in tables too."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text), **options)


class _SafeAirflowConsole(_SafeConsole, AirflowConsole):
    """The same with the width that Airflow's commands have in a pipe."""


def output_console() -> Console:
    """What standard output is written with."""
    return _SafeAirflowConsole(highlight=False, emoji=False)


def error_console() -> Console:
    """What standard error is written with."""
    return _SafeConsole(stderr=True, highlight=False, emoji=False)


class Stopped(KeyboardInterrupt):
    """Ctrl-C, with words about what it left going on."""


def command(function: Callable[[Namespace], int | None]) -> Callable[[Namespace], None]:
    """Errors as one message with its hint, on standard error, and an exit code: 0, what the function returns, or 1.

    Ctrl-C is told in words, too, and ends with 130.
    """

    @wraps(function)
    @suppress_logs_and_warning
    def run(args: Namespace) -> None:
        find_stored_connections()
        try:
            status = function(args)
        except StrongroomError as error:
            print_error(error)
            status = 1
        except KeyboardInterrupt as stop:
            words = str(stop) or "Interrupted. Runs that were started before go on."
            error_console().print(escape(words), soft_wrap=True)
            status = INTERRUPTED
        sys.exit(status or 0)

    return run


def read_settings() -> Settings:
    """The settings; a warning on standard error names each table that they leave out."""
    settings = load_settings()
    for fault in settings.left_out.values():
        _warn(f"{fault}\nThis table is left out; the others are not affected.")
    return settings


@cache
def _warn(text: str) -> None:
    """Say it on standard error, once a process."""
    error_console().print(f"[bold yellow]warning:[/] {escape(text)}", soft_wrap=True)


def print_out(*things: Any) -> None:
    """Text with rich markup, or tables, on standard output; text is never wrapped."""
    console = output_console()
    for thing in things:
        console.print(thing, soft_wrap=isinstance(thing, str))


def progress_bar(*columns: ProgressColumn, console: Console, shown: bool) -> Progress:
    """A bar that goes away when all is done. What is printed meanwhile stays whole, on a terminal or in a file."""
    # Lines on standard output must go through the bar's console to leave the bar whole, unless they go elsewhere.
    return Progress(*columns, console=console, transient=True, disable=not shown, redirect_stdout=sys.stdout.isatty())


def print_json(value: Any) -> None:
    """One JSON document on standard output, never wrapped or coloured."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def print_error(error: StrongroomError) -> None:
    """The message of an error, with its hint, on standard error."""
    error_console().print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True)
