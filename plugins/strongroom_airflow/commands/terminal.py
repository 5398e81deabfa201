"""How each `airflow strongroom` command answers: tables and text for people, JSON for programs, an exit code for both."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Callable
from functools import wraps
from typing import Any

from airflow.cli.simple_table import AirflowConsole
from airflow.utils.cli import suppress_logs_and_warning
from rich.console import Console
from rich.markup import escape

from strongroom.errors import StrongroomError


def command(function: Callable[[Namespace], int | None]) -> Callable[[Namespace], None]:
    """Errors as one message with its hint, on standard error, and an exit code: 0, what the function returns, or 1."""

    @wraps(function)
    @suppress_logs_and_warning
    def run(args: Namespace) -> None:
        try:
            status = function(args)
        except StrongroomError as error:
            print_error(error)
            status = 1
        sys.exit(status or 0)

    return run


def print_out(*things: Any) -> None:
    """Text with rich markup, or tables, on standard output; text is never wrapped."""
    console = AirflowConsole(highlight=False)
    for thing in things:
        console.print(thing, soft_wrap=isinstance(thing, str))


def print_json(value: Any) -> None:
    """One JSON document on standard output, never wrapped or coloured."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def print_error(error: StrongroomError) -> None:
    """The message of an error, with its hint, on standard error."""
    Console(stderr=True, highlight=False).print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True)
