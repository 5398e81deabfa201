"""What can be done from the pages: each action starts runs of a DAG, so Airflow's rights, logs and retries apply."""

from __future__ import annotations

from dataclasses import dataclass

from strongroom_airflow.pages.addresses import ACT, page

VERIFY, RESTORE, HOLD, QUERY_DAG = "verify_archives", "restore_archive", "legal_hold", "query_archive"
"""DAG ids."""


@dataclass(frozen=True)
class Choice:
    """A link to the page that asks before anything is started."""

    words: str
    address: str


def archive_choice(where: str, *, again: bool) -> Choice:
    """The choice to archive a partition."""
    return Choice("Archive what is left" if again else "Archive now", page(ACT, do="archive", cell=where))
