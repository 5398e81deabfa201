"""A real standby beside the source: parts are read from it, and a delete heeds how far it is behind."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from strongroom.archive.extract_to_staging import extract_part
from strongroom.database import replica
from strongroom.database.replica import read_source
from strongroom.database.session import Connection, open_source
from strongroom.errors import ConfigurationError, SourceAccessError, SourceError
from strongroom.records import ExtractedPart, PlannedPart
from strongroom.settings import DeleteLimits
from strongroom.tables import delete_batch
from strongroom.tables.pace import Neighbours
from strongroom_local.servers.postgres import PostgresServer
from tests.support.chain import Chain, some_settings
from tests.support.database import execute, scalar
from tests.support.standby import Standby

TABLE = """
CREATE TABLE audit (id bigint PRIMARY KEY, at timestamptz NOT NULL);
INSERT INTO audit SELECT n, '2026-05-02 00:00+00' FROM generate_series(1, 100) AS n;
"""


@pytest.fixture(scope="module")
def standby(postgres: PostgresServer, session_folder) -> Iterator[Standby]:
    server = Standby(session_folder / "standby", postgres)
    try:
        server.start()
        yield server
    finally:
        server.destroy()


@pytest.fixture
def on_standby(standby, source) -> str:
    """The same database on the standby."""
    return make_conninfo(source, port=standby.port)


def opened(conninfo: str, name: str) -> Callable[[], AbstractContextManager[Connection]]:
    return partial(open_source, conninfo, application_name=name)


class FromReplica(Chain):
    """Reads its parts as the extract operator does where a replica is configured."""

    replica_conninfo: str

    def extract(self, part: PlannedPart) -> ExtractedPart:
        staging = self.staging(part.archive_id)
        with read_source(opened(self.conninfo, "test"), opened(self.replica_conninfo, "test replica")) as connection:
            self.read_from = scalar_of(connection, "SELECT pg_is_in_recovery()")
            return extract_part(connection, staging, self.settings, part, now=self.now, stop_at=self.stop_at)


def scalar_of(connection: Any, query: str) -> Any:
    return connection.execute(query).fetchone()[0]


@pytest.fixture
def chain(source, on_standby, object_store, bucket, tmp_path, caplog) -> FromReplica:
    caplog.set_level(logging.INFO, logger="strongroom.database.replica")
    execute(source, TABLE)
    chain = FromReplica(source, object_store.client("archiver"), some_settings(bucket, tmp_path, delete_batch_rows=40))
    chain.replica_conninfo = on_standby
    return chain


def rows(chain: Chain) -> int:
    return int(scalar(chain.conninfo, "SELECT count(*) FROM audit"))


@pytest.fixture
def paused(source, standby) -> Iterator[Callable[[], None]]:
    """The standby has replayed all, and replays nothing more; a function that lets it go on."""
    admin = standby.conninfo()
    lsn = scalar(source, "SELECT pg_current_wal_lsn()::text")
    assert soon(lambda: scalar(admin, "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", lsn))
    execute(admin, "SELECT pg_wal_replay_pause()")
    assert soon(lambda: scalar(admin, "SELECT pg_get_wal_replay_pause_state()") == "paused")
    yield lambda: execute(admin, "SELECT pg_wal_replay_resume()")
    execute(admin, "SELECT pg_wal_replay_resume()")


def soon(condition: Callable[[], object]) -> bool:
    return any(condition() or time.sleep(0.05) for _ in range(1200))


# ------------------------------------------------------------------------------------------------- reading from it


@pytest.mark.parametrize("format_", ["jsonl", "parquet"])
def test_rows_that_are_read_from_a_replica_are_proved_and_deleted_on_the_primary(chain, caplog, format_):
    """A row that changes after it was read stays, as ever."""
    chain.settings = chain.settings.model_copy(update={"format": format_})
    plan = chain.plan()
    verified = [chain.verified(plan, part) for part in plan.parts]
    execute(chain.conninfo, "UPDATE audit SET at = at + interval '1 s' WHERE id = 7")
    [part] = chain.seal_parts(plan, verified).parts

    deleted = chain.delete(part)

    assert chain.read_from is True, "in recovery"
    assert (part.rows, deleted.deleted, deleted.changed, rows(chain)) == (100, 99, 1, 1)
    assert caplog.messages[0].startswith("Reads from the replica, which has replayed 0/")


def test_a_replica_that_is_behind_is_waited_for(chain, paused):
    """It lacks the newest row when it is asked."""
    execute(chain.conninfo, "INSERT INTO audit VALUES (101, '2026-05-02')")
    [part] = chain.plan().parts
    threading.Timer(0.5, paused).start()

    assert chain.extract(part).rows == 101
    assert chain.read_from is True


def test_a_replica_that_stays_behind_is_not_read_from(chain, paused, monkeypatch, caplog):
    monkeypatch.setattr(replica.find_problem, "__kwdefaults__", {"wait_seconds": 0.3})
    execute(chain.conninfo, "INSERT INTO audit VALUES (101, '2026-05-02')")

    [part] = chain.plan().parts

    assert chain.extract(part).rows == 101
    assert chain.read_from is False
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "Reads from the primary, not from the replica: it has replayed 0/" in caplog.text
    assert "within 0.3 seconds" in caplog.text


def test_the_primary_itself_is_no_replica(chain, caplog):
    chain.replica_conninfo = chain.conninfo
    [part] = chain.plan().parts

    assert chain.extract(part).rows == 100
    assert "it is not a standby" in caplog.text


def test_another_database_of_the_standby_is_not_read_from(chain, standby, caplog):
    """It has a table of the same name, even."""
    chain.replica_conninfo = standby.conninfo()
    [part] = chain.plan().parts

    assert chain.extract(part).rows == 100
    assert "it is a standby of another database: postgres (" in caplog.text


def test_a_standby_of_another_server_is_not_read_from(chain, caplog, monkeypatch):
    """Which the system's identifier says; where that cannot be read, name and number of the database must do."""
    real = replica.read_identity
    told = iter(["7001", "7002", "7001", None])
    monkeypatch.setattr(
        replica, "read_identity", lambda session: real(session).model_copy(update={"system_identifier": next(told)})
    )
    [part] = chain.plan().parts

    with read_source(opened(chain.conninfo, "test"), opened(chain.replica_conninfo, "test")) as first:
        assert scalar_of(first, "SELECT pg_is_in_recovery()") is False
    with read_source(opened(chain.conninfo, "test"), opened(chain.replica_conninfo, "test")) as second:
        assert scalar_of(second, "SELECT pg_is_in_recovery()") is True

    assert part.expected_rows == 100
    assert "of system 7002 and not" in caplog.text


@pytest.mark.parametrize("silent", ["pg_current_wal_lsn", "pg_last_wal_replay_lsn"])
def test_servers_that_do_not_tell_how_far_they_are_are_not_compared(chain, caplog, silent):
    """As servers that only speak PostgreSQL's protocol; here the function is hidden, or one that says nothing stands in."""
    [part] = chain.plan().parts
    with psycopg.connect(chain.conninfo, autocommit=True) as owner:
        owner.execute("SET allow_system_table_mods = on")
        owner.execute(f"ALTER FUNCTION pg_catalog.{silent}() RENAME TO hidden")
        if silent == "pg_last_wal_replay_lsn":
            owner.execute(f"CREATE FUNCTION pg_catalog.{silent}() RETURNS pg_lsn LANGUAGE sql AS 'SELECT NULL::pg_lsn'")
        extracted = chain.extract(part)

    assert (extracted.rows, chain.read_from) == (100, False)
    who = (
        "the primary does not tell its position"
        if silent == "pg_current_wal_lsn"
        else "it does not tell its replay position"
    )
    assert who in caplog.text


@pytest.mark.parametrize("change", [{"port": 1}, {"user": "nobody"}, {"dbname": "nowhere"}], ids=str)
def test_a_replica_that_lets_nobody_in_is_not_read_from(chain, caplog, change):
    chain.replica_conninfo = make_conninfo(chain.replica_conninfo, **change)
    [part] = chain.plan().parts

    assert chain.extract(part).rows == 100
    assert "Reads from the primary, not from the replica: the source database" in caplog.text
    assert str(conninfo_to_dict(chain.conninfo)["password"]) not in caplog.text


def test_a_primary_that_cannot_be_reached_is_no_reason_to_read_from_its_replica(chain):
    with (
        pytest.raises((SourceError, SourceAccessError)),
        read_source(opened(make_conninfo(chain.conninfo, port=1), "test"), opened(chain.replica_conninfo, "test")),
    ):
        raise AssertionError


def test_a_replica_that_would_be_spoken_to_in_the_clear_is_an_error(chain):
    with (
        pytest.raises(ConfigurationError, match="would not be encrypted"),
        read_source(opened(chain.conninfo, "test"), opened("host=192.0.2.1 dbname=audit sslmode=disable", "test")),
    ):
        raise AssertionError


def test_an_error_while_reading_from_a_replica_is_one_of_the_source(chain):
    """As when the standby cancels a query that keeps it from replaying; the next try reads anew."""
    with (
        pytest.raises(SourceError, match=r"failed: found canceling statement due to statement timeout"),
        read_source(opened(chain.conninfo, "test"), opened(chain.replica_conninfo, "test")) as connection,
    ):
        connection.execute("SET statement_timeout = '100ms'; SELECT pg_sleep(60)")


# ------------------------------------------------------------------------------------------------- how far it is behind


def neighbours(connection: Connection, tmp_path, **limits: Any) -> Neighbours:
    unlimited = dict.fromkeys(
        ("replication_lag_seconds", "replication_lag_bytes", "waiting_sessions", "commit_seconds")
    )
    return Neighbours(connection, some_settings("bucket", tmp_path, delete_limits=DeleteLimits(**unlimited | limits)))


def test_a_delete_heeds_how_many_bytes_a_standby_has_yet_to_replay(source, paused, tmp_path):
    with open_source(source, application_name="test") as connection:
        watched = neighbours(connection, tmp_path, replication_lag_bytes=100_000)
        unheeded = neighbours(connection, tmp_path, replication_lag_bytes=10**12, replication_lag_seconds=3600)
        assert soon(lambda: not watched.worries())
        execute(source, "CREATE TABLE much AS SELECT n FROM generate_series(1, 100000) AS n")

        assert soon(watched.worries)
        [worry] = watched.worries()
        assert worry.startswith("a standby is ")
        assert worry.endswith(" bytes behind (limit 100,000)")
        assert unheeded.worries() == []
        paused()
        assert soon(lambda: not watched.worries())


def test_a_delete_heeds_how_many_seconds_a_standby_is_behind(source, standby, tmp_path):
    """It is told to replay commits late; what it says of its lag while it is idle does not count."""
    over, found = threading.Event(), []

    def write() -> None:
        with psycopg.connect(source, autocommit=True) as session:
            session.execute("CREATE TABLE ticks (n int)")
            while not over.wait(0.05):
                session.execute("INSERT INTO ticks VALUES (1)")

    admin = standby.conninfo()
    execute(admin, "ALTER SYSTEM SET recovery_min_apply_delay = '1s'")
    execute(admin, "SELECT pg_reload_conf()")
    writer = threading.Thread(target=write)
    writer.start()
    try:
        with open_source(source, application_name="test") as connection:
            watched = neighbours(connection, tmp_path, replication_lag_seconds=0.5)
            assert soon(lambda: found.extend(watched.worries()) or found)
            over.set()
            writer.join()
            execute(admin, "ALTER SYSTEM RESET recovery_min_apply_delay")
            execute(admin, "SELECT pg_reload_conf()")
            assert soon(lambda: not watched.worries())
    finally:
        over.set()
        writer.join()
    assert found[0].endswith(" seconds behind (limit 0.5)")


def test_a_role_that_may_not_see_the_lag_is_told_so_once_and_goes_on(source, paused, tmp_path, caplog):
    execute(source, "CREATE ROLE lag_reader LOGIN PASSWORD 'x'")
    try:
        conninfo = make_conninfo(source, user="lag_reader", password="x")
        with open_source(conninfo, application_name="test") as connection:
            watched = neighbours(connection, tmp_path, replication_lag_bytes=1)
            found = [watched.worries() for _ in range(3)]
    finally:
        execute(source, "DROP ROLE lag_reader")

    assert found == [[], [], []]
    [message] = caplog.messages
    assert message == "The delete cannot watch replication lag of 1 standbys: the role has no pg_read_all_stats"


# ------------------------------------------------------------------------------------------------- in its place


def test_progress_that_a_standby_never_saw_is_not_believed_when_it_takes_over(
    postgres, session_folder, source, object_store, bucket, tmp_path, monkeypatch
):
    """As after a restore to an earlier moment: the rows that were deleted are there again."""
    execute(source, TABLE)
    chain = Chain(source, object_store.client("archiver"), some_settings(bucket, tmp_path, delete_batch_rows=40))
    [part] = chain.seal(chain.plan()).parts
    heir = Standby(session_folder / "heir", postgres)
    try:
        heir.start()
        follows_no_more(heir, scalar(source, "SELECT pg_current_wal_lsn()::text"))
        real, calls = delete_batch.fill_batch, itertools.count(1)

        def break_off(*arguments: Any) -> Any:
            if next(calls) == 3:
                raise psycopg.OperationalError("broke off")
            return real(*arguments)

        with monkeypatch.context() as patched:
            patched.setattr(delete_batch, "fill_batch", break_off)
            with pytest.raises(SourceError):
                chain.delete(part)
        assert rows(chain) == 20
        execute(heir.conninfo(), "SELECT pg_promote()")
        chain.conninfo = make_conninfo(source, port=heir.port)
        assert rows(chain) == 100

        deleted = chain.delete(part)

        assert (deleted.deleted, deleted.gone, rows(chain)) == (100, 0, 0)
    finally:
        heir.destroy()


def follows_no_more(heir: Standby, lsn: str) -> None:
    """Let a standby have replayed all up to there, and hear nothing more of its primary."""
    admin = heir.conninfo()
    assert soon(lambda: scalar(admin, "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", lsn))
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET primary_conninfo = ''")
        connection.execute("SELECT pg_reload_conf()")
    assert soon(lambda: scalar(admin, "SELECT count(*) = 0 FROM pg_stat_wal_receiver"))
