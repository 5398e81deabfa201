"""The proposal as an archive.yaml with comments, and what to run next."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from strongroom.calendar import Frequency, Term
from strongroom.proposal.choose import Proposal

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})


@dataclass(frozen=True)
class Choices:
    """What was chosen for all tables.

    Attributes:
        hot, cold: How long rows stay in the table, and archives in the store.
        legal_basis: Why; None leaves the line to be filled in, and nothing starts before.
        bucket: Of the archives.
        endpoint_url: Of the S3 server; None is Amazon's own.
    """

    hot: Term
    cold: Term
    legal_basis: str | None
    bucket: str
    endpoint_url: str | None


def write_settings(proposals: Sequence[Proposal], choices: Choices, *, where: str, now: datetime) -> str:
    """The text of an archive.yaml.

    Args:
        proposals: From :func:`strongroom.proposal.choose.propose`.
        choices: For all tables.
        where: The database, without a password.
        now: Aware instant.
    """
    lines = [
        f"# Proposed by `airflow strongroom init` for {_comment(where)}, {now:%Y-%m-%d}. Every line is a proposal: read it, change it.",
        "# All settings: docs/reference/configuration.md. Passwords and keys belong in Airflow's connections, not here.",
        "",
        "# The law, contract or decision that says how long archives are kept. It goes into each manifest and certificate.",
        f"legal_basis: {_value(choices.legal_basis)}"
        if choices.legal_basis
        else "legal_basis:        # <- FILL IN: nothing starts until you do",
        "",
        "# How long rows stay in the table, and archives in the store, from the end of a partition. P90D are days, P7Y calendar years.",
        f"hot_retention: {choices.hot}",
        f"cold_retention: {choices.cold}",
        "",
        "store:",
        f"  bucket: {_value(choices.bucket)}",
    ]
    if choices.endpoint_url is not None:
        lines.append(f"  endpoint_url: {_value(choices.endpoint_url)}")
    lines += ["", "tables:"]
    chosen = [one for one in proposals if one.verdict == "archive"]
    for one in chosen:
        lines += _section(one)
    if not chosen:
        lines.append("  # No table is proposed without a doubt: take one of those below.")
    for verdict, title in (
        ("ask", "Tables to decide about: take the # away from those that you want."),
        ("leave", "Left out."),
    ):
        others = [one for one in proposals if one.verdict == verdict]
        if others:
            lines += ["", f"  # {title}"]
        for one in others:
            lines += (
                _commented(one)
                if verdict == "ask"
                else [f"  # {_comment(one.table.name)}: {_comment('; '.join(one.reasons))}."]
            )
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines).rstrip()) + "\n"


def _section(one: Proposal) -> list[str]:
    assert one.date is not None  # noqa: S101 - what is proposed has one
    lines = [
        f"  # {_facts(one)}",
        f"  {_value(one.table.name)}:",
        f"    date_column: {_value(one.date.name)}{_others(one)}",
    ]
    if one.frequency is not Frequency.MONTHLY:
        lines.append(
            f"    frequency: {one.frequency.value}        # a month of it has more rows than one run should take"
        )
    return [*lines, ""]


def _commented(one: Proposal) -> list[str]:
    lines = _section(one)[:-1]
    lines.insert(1, f"  # Because {_comment('; '.join(one.reasons))}.")
    if one.members:
        names = ", ".join(map(_value, one.members))
        lines.append(
            f"    with: [{names}]        # their rows go with the rows that they refer to; they need no section then"
        )
    return [line if line.startswith("  #") else f"  # {line.removeprefix('  ')}" for line in lines] + [""]


def _facts(one: Proposal) -> str:
    parts = [size_in_words(one.table.size_bytes)]
    if one.table.rows is not None:
        parts.append(f"about {one.table.rows:,} rows")
    if one.oldest is not None:
        parts.append(f"from {one.oldest:%Y-%m-%d}")
    if one.due_rows is not None:
        parts.append(f"about {one.due_rows:,} of them due")
    return f"{_comment(', '.join(parts))}. Key: {_comment(', '.join(one.key))}."


def _others(one: Proposal) -> str:
    return f"        # or {_comment(', '.join(other.name for other in one.others))}" if one.others else ""


def size_in_words(size_bytes: int) -> str:
    """Bytes in the unit that a person would take: ``3.4 GiB``."""
    size = float(size_bytes)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:,.1f} {unit}"
        size /= 1024
    return f"{size:,.1f} TiB"


def _value(text: str) -> str:
    """A YAML scalar: as it is where that cannot be misread, in JSON's quotes otherwise."""
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return text
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(one if one.isprintable() else f"\\U{ord(one):08x}" for one in quoted)


def _comment(text: str) -> str:
    """A text that stays on its line."""
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())


def next_commands(proposals: Sequence[Proposal], *, file: str, conninfo: str) -> list[str]:
    """What to type next in the folder of the repository: give the roles their rights, try everything, see what would be archived.

    Args:
        file: Path of the settings.
        conninfo: Of the database, without a password.
    """
    wanted = [one for one in proposals if one.verdict == "archive"] or [
        one for one in proposals if one.verdict == "ask"
    ]
    listed = ", ".join(f"{_identifier(one.table.schema_name)}.{_identifier(one.table.table_name)}" for one in wanted)
    tables = listed.replace("'", "'\\''")
    return [
        f"psql {_shell(conninfo)} --single-transaction --set=ON_ERROR_STOP=1 --file=deploy/sql/roles.sql --set=archiver=strongroom_archiver "
        f"--set=restorer=strongroom_restorer --set=reader=strongroom_reader --set=tables='{tables}'",
        f"STRONGROOM_CONFIG={_shell(file)} airflow strongroom check",
        f"STRONGROOM_CONFIG={_shell(file)} airflow strongroom plan",
    ]


def _identifier(name: str) -> str:
    return name if re.fullmatch(r"[a-z_][a-z0-9_]*", name) else '"' + name.replace('"', '""') + '"'


def _shell(text: str) -> str:
    return text if re.fullmatch(r"[A-Za-z0-9_./:@=,+-]+", text) else "'" + text.replace("'", "'\\''") + "'"
