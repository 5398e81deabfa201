"""catalog, list, show, verify and condemn: commands about archives that exist."""

from __future__ import annotations

from airflow.cli.cli_config import ARG_VERBOSE, ActionCommand, Arg

from strongroom_airflow.commands.definitions.loading import load_when_called
from strongroom_airflow.commands.definitions.options import ARCHIVE_ID, ARCHIVE_ID_EXAMPLE, AS_JSON, who

_CATALOG_OPTIONS = (
    Arg(("table",), nargs="?", help="Name of a table in archive.yaml; default: all archives in all stores"),
    Arg(("--prefix",), help="Only archive ids that begin with this, such as public.audit"),
    Arg(("--partition",), help="Only partition keys that begin with this, such as 2026 or 2026-07"),
    Arg(("--older-than",), metavar="TERM", help="Only windows that ended longer ago than this, such as P1Y6M or P90D"),
    Arg(("--younger-than",), metavar="TERM", help="Only windows that ended more recently than this"),
    Arg(
        ("--rebuild-index",),
        help="Read every manifest and all evidence, and write both indexes again",
        action="store_true",
    ),
    AS_JSON,
    ARG_VERBOSE,
)


def _catalog(name: str, words: str) -> ActionCommand:
    return ActionCommand(
        name=name,
        help=words,
        func=load_when_called("catalog.catalog"),
        args=_CATALOG_OPTIONS,
        epilog="Exit code: 0, or 1 when a manifest is damaged. The list names it.",
    )


CATALOG = _catalog("catalog", "List all archives, or some of them")
LIST = _catalog("list", "The same as catalog")

SHOW = ActionCommand(
    name="show",
    help="Show an archive, its parts, and what happened to its rows; for a destroyed archive, its certificate",
    func=load_when_called("archives.show_archive"),
    args=(ARCHIVE_ID, AS_JSON, ARG_VERBOSE),
)

VERIFY = ActionCommand(
    name="verify",
    help="Download archives, compare each object with its manifest, and record the result",
    func=load_when_called("archives.verify"),
    args=(
        Arg(("archive_id",), nargs="?", help=ARCHIVE_ID_EXAMPLE),
        Arg(("--all",), help="Read all archives", action="store_true"),
        Arg(("--sample",), metavar="N/T", help="Read n of every t archives, such as 1/10, least recently read first"),
        who("Person who asked for it, for the record"),
        AS_JSON,
        ARG_VERBOSE,
    ),
    epilog="Exit code: 0 when every object is sound, 1 otherwise.",
)

CONDEMN = ActionCommand(
    name="condemn",
    help="Give up an archive that has lost a part, and record why",
    description=(
        "Verify an archive. If a part of it is missing or corrupted, record that the archive is given up. Nothing is removed. "
        "The next run archives those of its rows that are still in the table."
    ),
    func=load_when_called("condemn.condemn"),
    args=(
        ARCHIVE_ID,
        Arg(("--why",), required=True, help="The reason, for the record"),
        who("Person who decided it, for the record"),
        AS_JSON,
        ARG_VERBOSE,
    ),
)
