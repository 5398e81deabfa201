"""`airflow strongroom init`: look at a database, and write a first archive.yaml."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict, make_conninfo
from rich.box import SIMPLE
from rich.markup import escape
from rich.table import Column, Table

from strongroom.calendar import Term
from strongroom.database.server_kind import server_kind
from strongroom.database.session import open_source
from strongroom.errors import ConfigurationError
from strongroom.proposal.choose import Proposal, propose
from strongroom.proposal.look import look
from strongroom.proposal.write import Choices, next_commands, size_in_words, write_settings
from strongroom_airflow.commands.terminal import command, print_json, print_out
from strongroom_airflow.database_connections import source_conninfo

_SECRET = ("password", "passfile", "sslkey", "sslpassword", "oauth_client_secret")
_COLOURS = {"archive": "green", "ask": "yellow", "leave": "dim"}


@command
def init(args: Namespace) -> int:
    """Propose, write, and say what to do next."""
    target = Path(args.output)
    if target.exists() and not args.force:
        raise ConfigurationError(
            f"{target} already exists",
            hint="Nothing was written and no database was asked. Name another file with --output, or write over this one with --force.",
        )
    choices = Choices(Term.parse(args.hot), Term.parse(args.cold), args.legal_basis, args.bucket, args.endpoint_url)
    conninfo = args.dsn if "=" in args.dsn or "://" in args.dsn else source_conninfo(args.dsn)
    now = datetime.now(timezone.utc)
    with open_source(
        conninfo, application_name="strongroom init", tls_required=not args.no_tls, statement_timeout_seconds=300
    ) as connection:
        server = str(server_kind(connection))
        info = connection.info
        where = f"database {info.dbname} on {info.host}:{info.port}, {server}"
        connection.execute("SET default_transaction_read_only = on")
        proposals = propose(connection, look(connection, args.schema or ()), hot=choices.hot, now=now)
    if not proposals:
        raise ConfigurationError(
            f"{where} has no table that this role can see" + (f" in {', '.join(args.schema)}" if args.schema else ""),
            hint="Nothing was written. Look at the database's name, the role and --schema.",
        )
    target.write_text(write_settings(proposals, choices, where=where, now=now))
    commands = next_commands(proposals, file=str(target.absolute()), conninfo=_without_secrets(conninfo))
    if args.json:
        print_json(
            {
                "file": str(target.absolute()),
                "server": server,
                "tables": list(map(_as_json, proposals)),
                "next": commands,
            }
        )
        return 0
    print_out(_table_of(where, proposals))
    print_out(f"Wrote [bold]{escape(str(target.absolute()))}[/].")
    begin = "Read it" if choices.legal_basis else "Fill in [bold]legal_basis[/] there: nothing starts before. Then"
    print_out(f"{begin}, in the folder of Strongroom's repository, after the connections of docs/start/install.md:")
    for one in commands:
        print_out(escape(f"  {one}"))
    print_out("Name in --set=tables each table that you keep or add in the file, those of `with:` too.")
    return 0


def _without_secrets(conninfo: str) -> str:
    return make_conninfo("", **{key: value for key, value in conninfo_to_dict(conninfo).items() if key not in _SECRET})


def _table_of(where: str, proposals: Sequence[Proposal]) -> Table:
    names = ("table", "size", "rows", "date column", "due", "proposal")
    columns = [
        Column(name, overflow="fold", justify="right" if name in ("size", "rows", "due") else "left") for name in names
    ]
    table = Table(*columns, title=escape(where), title_justify="left", box=SIMPLE)
    for one in proposals:
        what = {"archive": "archive", "ask": "decide", "leave": "leave"}[one.verdict]
        told = f"{what}: {'; '.join(one.reasons)}" if one.reasons else what
        table.add_row(
            escape(one.table.name),
            size_in_words(one.table.size_bytes),
            "?" if one.table.rows is None else f"{one.table.rows:,}",
            escape(one.date.name if one.date else "none"),
            "?" if one.due_rows is None else f"{one.due_rows:,}",
            f"[{_COLOURS[one.verdict]}]{escape(told)}[/]",
        )
    return table


def _as_json(one: Proposal) -> dict[str, object]:
    return {
        "table": one.table.name,
        "proposal": one.verdict,
        "reasons": list(one.reasons),
        "size_bytes": one.table.size_bytes,
        "estimated_rows": one.table.rows,
        "estimated_due_rows": one.due_rows,
        "oldest": one.oldest.isoformat() if one.oldest else None,
        "date_column": one.date.name if one.date else None,
        "other_date_columns": [other.name for other in one.others],
        "primary_key": list(one.key),
        "frequency": one.frequency.value,
        "referenced_by": list(one.table.referenced_by),
    }
