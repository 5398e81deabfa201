"""restores, certificates, certificate, verifications and jobs: commands that list what is on record, and what runs next."""

from __future__ import annotations

from airflow.cli.cli_config import ARG_VERBOSE, ActionCommand, Arg, positive_int

from strongroom_airflow.commands.definitions.loading import load_when_called
from strongroom_airflow.commands.definitions.options import AS_JSON


def _listing(name: str, words: str, *options: Arg) -> ActionCommand:
    table = Arg(("table",), nargs="?", help="Name of a table in archive.yaml; default: all tables in all stores")
    return ActionCommand(
        name=name,
        help=words,
        func=load_when_called(f"records.{name}"),
        args=(table, *options, AS_JSON, ARG_VERBOSE),
    )


_LAST = Arg(("--last",), type=positive_int(allow_zero=False), default=50, help="How many; default: 50")

RESTORES = _listing("restores", "List restores: who asked, why, and until when the rows are not archived again")
CERTIFICATES = _listing("certificates", "List the archives that were destroyed")
VERIFICATIONS = _listing("verifications", "List verifications: when, of which archive, the result, by whom", _LAST)

CERTIFICATE = ActionCommand(
    name="certificate",
    help="Show one certificate of destruction, or write it as a page that prints on A4",
    description=(
        "Read the certificate of a destroyed archive, find it in the transparency log of its store, and print it. --output writes it as a "
        "page with its proof, the limits of the method, and how to verify it without Strongroom."
    ),
    func=load_when_called("certificate.certificate"),
    args=(
        Arg(("what",), help="A certificate's number, an archive id, or a table of archive.yaml with its partition"),
        Arg(("partition",), nargs="?", help="Partition key, such as 2018-01, if a table was given"),
        Arg(("-o", "--output"), metavar="FILE", help="Write the page to a file .html, or .pdf, which needs Chromium"),
        AS_JSON,
        ARG_VERBOSE,
    ),
    epilog="Exit code: 0, or 1 when there is no such certificate or it is not to be relied on. The page says why.",
)

JOBS = ActionCommand(
    name="jobs",
    help="List Strongroom's DAGs: when each runs next, and whether it is paused",
    func=load_when_called("jobs.jobs"),
    args=(AS_JSON, ARG_VERBOSE),
)
