"""``python -m strongroom_local``: the commands behind the Makefile."""

from __future__ import annotations

import argparse
import contextlib
import shlex
import sys
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from strongroom.errors import StrongroomError
from strongroom_local.servers.airflow import VIEWER
from strongroom_local.servers.processes import ServerError
from strongroom_local.servers.stack import SCHEDULED_DAGS, Stack
from strongroom_local.servers.stack_folder import DEFAULT_FOLDER

DEFAULT_ROWS = 50_000

# Messages for people go to stderr; stdout is for output that a shell evaluates (`env`).
_console = Console(stderr=True, highlight=False)
_INTERRUPTED = 130
_COLOURS = {"healthy": "green", "stopped": "dim", "unknown": "yellow"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status. An error becomes one message with a hint."""
    options = _parser().parse_args(arguments)
    command: Callable[[Stack, argparse.Namespace], int] = options.command
    try:
        return command(Stack(options.folder), options)
    except StrongroomError as error:
        what, _, hint = str(error).partition("\nHINT: ")
        _console.print(f"[bold red]error:[/] {escape(what)}", soft_wrap=True)
        _console.print(f"[bold]hint:[/] {escape(hint)}", soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        _console.print("\ninterrupted; 'make status' shows what is running, 'make down' stops it")
        return _INTERRUPTED


def up(stack: Stack, options: argparse.Namespace) -> int:
    """Start the stack and print its addresses."""
    with _console.status("starting") as spinner:
        stack.up(lambda doing: spinner.update(doing), unpaused=options.unpaused)
    show_addresses(stack)
    return 0


def down(stack: Stack, _: argparse.Namespace) -> int:
    """Stop the stack; all data is kept."""
    with _console.status("stopping"):
        stack.down()
    _console.print("stopped; data and archives are kept, 'make up' starts the stack again")
    return 0


def status(stack: Stack, _: argparse.Namespace) -> int:
    """Show every component and which DAGs are paused; exit status 1 if the stack runs but is not all healthy."""
    table = Table("component", "pid", "address", "health")
    parts = stack.status()
    for part in parts:
        colour = _COLOURS.get(part.health, "red")
        table.add_row(part.name, str(part.pid or ""), part.address, f"[{colour}]{part.health}[/]")
    screen = Console(highlight=False)
    screen.print(table)
    if all(part.pid is None for part in parts):
        screen.print("nothing runs; 'make up' starts it")
        return 0
    with contextlib.suppress(ServerError):  # the table already shows that the API does not answer
        for dag_id, is_paused in sorted(stack.paused().items()):
            screen.print(f"{dag_id}: {'paused' if is_paused else 'runs by its schedule'}")
    return 0 if all(part.health == "healthy" for part in parts) else 1


def env(stack: Stack, _: argparse.Namespace) -> int:
    """Print export lines for ``eval``; works while the stack is stopped, once it has been started."""
    for name, value in stack.environment().items():
        sys.stdout.write(f"export {name}={shlex.quote(value)}\n")
    if not stack.running:
        _console.print("the stack is not running; start it with 'make up'")
    return 0


def sample(stack: Stack, options: argparse.Namespace) -> int:
    """Fill the source database up to a volume; starts PostgreSQL if needed and leaves it running."""
    from strongroom_local.demo import sample as sample_data

    stack.start_source()
    with _console.status(f"filling the tables up to {options.rows:,} call records a month"):
        added = sample_data.load(
            stack.source_conninfo(), call_records_per_month=options.rows, now=datetime.now(timezone.utc)
        )
    table = Table("table", "rows added")
    table.columns[1].justify = "right"
    for name, rows in added.items():
        table.add_row(name, f"{rows:,}")
    Console(highlight=False).print(table)
    return 0


def demo(stack: Stack, options: argparse.Namespace) -> int:
    """Run the demo, from sample data to proved deletion."""
    from strongroom_local.demo import run as demonstration

    return demonstration.run(stack, keep=options.keep, rows=options.rows)


def pictures(stack: Stack, options: argparse.Namespace) -> int:
    """Take the pictures of the documentation from the stack that the demo left running."""
    from strongroom_local.demo import pictures as of_the_pages

    with _console.status("starting") as spinner:
        files = of_the_pages.make(stack, lambda doing: spinner.update(doing), only_figures=options.figures)
    for file in files:
        _console.print(f"{file}  {file.stat().st_size:,} bytes", soft_wrap=True)
    return 0


def destroy(stack: Stack, _: argparse.Namespace) -> int:
    """Stop the stack and remove everything it stored."""
    with _console.status("removing"):
        stack.destroy()
    return 0


def show_addresses(stack: Stack) -> None:
    """Print the addresses of the running stack and how to log in."""
    user, password = stack.login
    _console.print(f"Airflow    {stack.api_url}  user {user}, password {escape(password)}", soft_wrap=True)
    _console.print(
        f"           {stack.api_url}  user {VIEWER}, password {escape(stack.password(VIEWER))}: may look",
        soft_wrap=True,
    )
    _console.print(f"Archive    {stack.archive_page}", soft_wrap=True)
    _console.print(f"PostgreSQL {stack.postgres.host}:{stack.postgres.port}")
    _console.print(f"S3         {stack.object_store.endpoint_url}")
    _console.print("""psql, aws and airflow: eval "$(make -s env)\"""")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m strongroom_local", description="The local stack of Strongroom.")
    parser.add_argument(
        "--folder", type=Path, default=DEFAULT_FOLDER, help="where the stack lives (default: .strongroom here)"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for function in (up, down, status, env, sample, demo, pictures, destroy):
        summary = (function.__doc__ or "").splitlines()[0]
        subparser = commands.add_parser(function.__name__, help=summary, description=summary)
        subparser.set_defaults(command=function)
        if function in (sample, demo):
            subparser.add_argument(
                "--rows",
                type=int,
                default=DEFAULT_ROWS,
                help=f"call records a month; the other tables follow in proportion (default: {DEFAULT_ROWS:,})",
            )
        if function is up:
            subparser.add_argument(
                "--unpaused",
                action=argparse.BooleanOptionalAction,
                help=f"let {' and '.join(SCHEDULED_DAGS)} run on schedule, or pause them (default: unchanged; paused at first)",
            )
        if function is demo:
            subparser.add_argument("--keep", action="store_true", help="leave the stack up at the end")
        if function is pictures:
            subparser.add_argument("--figures", action="store_true", help="take those of the figures alone")
    return parser


if __name__ == "__main__":
    sys.exit(main())
