"""Create the sample tables and roles in the source database and fill them. Safe to repeat: see docs/start/sample-data.md.

The superuser's connection comes from libpq's own variables (PGHOST, PGUSER, ...); SAMPLE_ROWS is the number of call
records a month.
"""

from __future__ import annotations

import os
from datetime import datetime, timezone
from pathlib import Path

from strongroom_local.demo import sample  # noqa: TID251 (compose is for development too)

CONNINFO = ""
"""Empty: libpq takes everything from the environment."""

RIGHTS = Path(__file__).resolve().parents[1] / "sql" / "roles.sql"
"""In the folder beside this one, in the repository and in the image."""


def fill_source() -> None:
    """Create what is missing, set the roles' passwords, and add the missing rows."""
    sample.create_schema(CONNINFO)
    passwords = {role: os.environ[f"{role.upper()}_PASSWORD"] for role in sample.ROLES}
    sample.create_roles(CONNINFO, passwords, RIGHTS)
    rows = int(os.environ["SAMPLE_ROWS"])
    sample.load(CONNINFO, call_records_per_month=rows, now=datetime.now(timezone.utc))


if __name__ == "__main__":
    fill_source()
