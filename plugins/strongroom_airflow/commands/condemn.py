"""`airflow strongroom condemn`: give up an archive that has lost a part for good."""

from __future__ import annotations

from argparse import Namespace
from datetime import datetime, timezone

from airflow.utils.platform import getuser
from rich.markup import escape

from strongroom.retention.condemn import condemn_archive
from strongroom_airflow.commands.terminal import command, print_json, print_out, read_settings
from strongroom_airflow.connections import find_archive


@command
def condemn(args: Namespace) -> int:
    """Verify an archive. If a part is missing or corrupted, record that the archive is given up."""
    settings = read_settings()
    _, store, archive = find_archive(settings, args.archive_id)
    ttl = max(table.claim_ttl for table in settings.tables.values())
    who = args.who or getuser()
    found = condemn_archive(store, archive, why=args.why, who=who, now=datetime.now(timezone.utc), claim_ttl=ttl)
    if args.json:
        print_json(found.model_dump(mode="json"))
        return 0
    print_out(
        escape(
            f"Condemned {found.archive_id} ({found.verdict.result}) at {found.condemned_at:%Y-%m-%d %H:%M} UTC by {found.who}: "
            f"{found.why}. Nothing was removed. The next run of its partition archives those of its rows that are still in the table."
        )
    )
    if found.lost_rows:
        print_out(
            escape(
                f"{found.lost_rows:,} rows of the damaged parts had been deleted from the table. Look for them in earlier "
                "versions of the objects, in a replica or in a backup."
            )
        )
    return 0
