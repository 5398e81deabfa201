"""Which sessions wait for a lock, and what they wait for."""

from __future__ import annotations

from strongroom.database.session import Session, fetch_rows

_WAITING = """
SELECT a.application_name,
       (SELECT string_agg(coalesce(nullif(b.application_name, ''), 'a session') || ' (pid ' || b.pid || ')', ', ' ORDER BY b.pid)
        FROM pg_stat_activity b WHERE b.pid = ANY (pg_blocking_pids(a.pid)))
FROM pg_stat_activity a
WHERE a.datname = current_database() AND a.wait_event_type = 'Lock' AND starts_with(a.application_name, %s)
ORDER BY a.pid
"""


def waits_for_locks(connection: Session, prefix: str) -> list[tuple[str, str]]:
    """Sessions that wait for a lock now: the name of each, and who holds the lock, in words.

    A role sees what sessions of other roles do only with ``pg_read_all_stats``.

    Args:
        prefix: How the names of the sessions begin (``application_name``).
    """
    rows = fetch_rows(connection, _WAITING, prefix)
    return [(str(name), f"waits for a lock of {holders or 'another session'}") for name, holders in rows]
