"""`airflow strongroom condemn`: give up an archive of which a part is gone for good."""

from __future__ import annotations

from argparse import Namespace
from datetime import datetime, timezone

from airflow.utils.platform import getuser
from rich.markup import escape

from strongroom.retention.condemn import condemn_archive
from strongroom_airflow.commands.archives import find_archive
from strongroom_airflow.commands.terminal import command, print_json, print_out, read_settings


@command
def condemn(args: Namespace) -> int:
    """Verify an archive and, if a part is missing or corrupted, put on record that it is given up."""
    store, archive = find_archive(args.archive_id)
    settings = read_settings()
    ttl = max(table.claim_ttl for table in settings.tables.values())
    who = args.who or getuser()
    found = condemn_archive(store, archive, why=args.why, who=who, now=datetime.now(timezone.utc), claim_ttl=ttl)
    if args.json:
        print_json(found.model_dump(mode="json"))
        return 0
    print_out(
        escape(
            f"Condemned {found.archive_id} ({found.verdict.result}) at {found.condemned_at:%Y-%m-%d %H:%M} UTC by {found.who}: "
            f"{found.why}. Nothing was removed; the next run of its partition archives what is still in the table."
        )
    )
    if found.lost_rows:
        print_out(
            escape(
                f"{found.lost_rows:,} rows of the damaged parts had been deleted from the table: only an earlier version "
                "of the objects, a replica or a backup brings them back."
            )
        )
    return 0
