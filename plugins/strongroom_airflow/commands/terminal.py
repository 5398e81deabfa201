"""How the `airflow strongroom` commands answer: tables and text for people, JSON for programs, an exit code for both."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Callable
from functools import cache, wraps
from typing import Any

from airflow.utils.cli import suppress_logs_and_warning
from airflow.utils.platform import is_tty
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, ProgressColumn
from rich.table import Column, Table
from rich.text import Text

from strongroom.errors import StrongroomError
from strongroom.settings import Settings, load_settings
from strongroom_airflow.stored_connections import find_stored_connections

INTERRUPTED = 130
"""Exit code of a command that Ctrl-C ended."""

_PIPE_WIDTH = 200
"""Characters in a line where there is no terminal: what Airflow's own commands take."""

_CONTROLS = dict.fromkeys({*range(0x20), *range(0x7F, 0xA0)} - {ord("\n"), ord("\t")}, "\N{REPLACEMENT CHARACTER}")
"""The C0 and C1 control characters, which a terminal may obey, for example to clear the screen."""


def printable(text: str) -> str:
    """A text without control characters: who wrote a manifest or a record must not control the terminal of its reader."""
    return text.translate(_CONTROLS)


class _SafeConsole(Console):
    """A console that removes control characters from every text, in tables too."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text), **options)


def output_console() -> Console:
    """Console for standard output."""
    return _SafeConsole(width=None if is_tty() else _PIPE_WIDTH, highlight=False, emoji=False)


def error_console() -> Console:
    """Console for standard error."""
    return _SafeConsole(stderr=True, highlight=False, emoji=False)


class Stopped(KeyboardInterrupt):
    """Ctrl-C, with a message about what still goes on."""


def command(function: Callable[[Namespace], int | None]) -> Callable[[Namespace], None]:
    """Print an error with its hint on standard error, and end with an exit code.

    The code is what the function returns (None counts as 0), 1 after an error, and 130 after Ctrl-C.
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
            words = str(stop) or "Interrupted. Runs that were already started continue."
            error_console().print(escape(words), soft_wrap=True)
            status = INTERRUPTED
        sys.exit(status or 0)

    return run


def read_settings() -> Settings:
    """Read the settings; a warning on standard error names each table that is left out."""
    settings = load_settings()
    for fault in settings.left_out.values():
        warn(f"{fault}\nThis table is left out. The others are not affected.")
    return settings


@cache
def warn(text: str) -> None:
    """Print a warning on standard error, once in each process."""
    error_console().print(f"[bold yellow]warning:[/] {escape(text)}", soft_wrap=True)


def print_out(*things: Any) -> None:
    """Print text with rich markup, or tables, on standard output. Text is never wrapped."""
    console = output_console()
    for thing in things:
        console.print(thing, soft_wrap=isinstance(thing, str))


def print_facts(*facts: tuple[str, str]) -> None:
    """Print names and values, which are plain text, in two columns on standard output."""
    table = Table.grid(Column(no_wrap=True), Column(overflow="fold"), padding=(0, 2))
    for name, value in facts:
        table.add_row(f"[bold]{name}[/]", escape(value))
    print_out(table)


def progress_bar(*columns: ProgressColumn, console: Console, shown: bool) -> Progress:
    """A bar that disappears at the end. Lines that are printed meanwhile do not break it, nor it them."""
    # On a terminal, lines on standard output must go through the bar's console, or they would break the bar.
    return Progress(*columns, console=console, transient=True, disable=not shown, redirect_stdout=sys.stdout.isatty())


def print_json(value: Any) -> None:
    """Print one JSON document on standard output, without wrapping or colours."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def print_error(error: StrongroomError) -> None:
    """Print an error with its hint on standard error."""
    error_console().print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True)
