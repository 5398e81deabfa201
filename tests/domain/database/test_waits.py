"""Which sessions wait for a lock, on a real PostgreSQL."""

from __future__ import annotations

import threading
import time

import psycopg

from strongroom.database.session import open_source
from strongroom.database.waits import waits_for_locks


def test_a_session_that_waits_is_named_with_who_holds_the_lock_and_others_are_not(source):
    with (
        psycopg.connect(source, application_name="a migration") as other,
        psycopg.connect(source, application_name="strongroom audit delete") as mine,
        open_source(source, application_name="test") as looking,
    ):
        other.execute("CREATE TABLE audit (id int)")
        other.commit()
        pid = other.info.backend_pid
        before = waits_for_locks(looking, "strongroom audit ")
        other.execute("LOCK TABLE audit")
        waiting = threading.Thread(target=lambda: mine.execute("SELECT FROM audit"), daemon=True)
        waiting.start()

        found = next(
            (rows for _ in range(1500) if (rows := waits_for_locks(looking, "strongroom audit ")) or time.sleep(0.02)),
            [],
        )
        of_others = waits_for_locks(looking, "strongroom payments ")
        other.rollback()
        waiting.join(timeout=60)

    assert (before, of_others) == ([], [])
    assert found == [("strongroom audit delete", f"waits for a lock of a migration (pid {pid})")]
