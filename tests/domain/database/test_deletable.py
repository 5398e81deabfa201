"""A source from which no row could be deleted is refused by plan, before anything is read or written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from strongroom.database.session import open_source
from strongroom.errors import ConfigurationError, SourceAccessError, UnarchivableError
from strongroom.object_keys.layout import SOURCE_IDENTITY
from tests.support.chain import Chain, some_settings
from tests.support.database import AUDIT, execute, scalar
from tests.support.database_proxy import MADE_UP_PROCESS, Pooler
from tests.support.standby import Standby


@pytest.fixture
def chain(source, object_store, bucket, tmp_path) -> Chain:
    execute(source, AUDIT)
    return Chain(source, object_store.client("archiver"), some_settings(bucket, tmp_path))


@pytest.fixture(scope="module")
def standby(postgres, session_folder) -> Iterator[Standby]:
    server = Standby(session_folder / "standby-as-source", postgres)
    try:
        server.start()
        yield server
    finally:
        server.destroy()


def refusal(chain: Chain, kind: type[Exception]) -> Any:
    """Plan's error; nothing but the owner's record lies in the store."""
    with pytest.raises(kind) as caught:
        chain.plan()
    assert list(chain.store.keys("")) == [SOURCE_IDENTITY]
    assert caught.value.hint.startswith("Nothing was read and no row was deleted.")
    return caught.value


def test_a_standby_is_refused_and_named(chain, source, standby):
    lsn = scalar(source, "SELECT pg_current_wal_lsn()::text")
    chain.conninfo = make_conninfo(source, port=standby.port)
    while not scalar(standby.conninfo(), "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", lsn):
        pass

    error = refusal(chain, SourceAccessError)

    assert error.what == "the source connection strongroom_source leads to a standby, where no row can be deleted"
    assert "`replica_conn_id`" in error.hint


def test_sessions_that_are_read_only_are_refused(chain, source):
    execute(source, f"ALTER DATABASE {conninfo_to_dict(source)['dbname']} SET default_transaction_read_only = on")

    error = refusal(chain, SourceAccessError)

    assert "sessions of the source connection strongroom_source are read-only" in error.what
    assert "default_transaction_read_only = off" in error.hint


PARTITIONED = """
DROP TABLE audit;
CREATE TABLE audit (id bigint NOT NULL, at timestamptz NOT NULL, UNIQUE (id, at)) PARTITION BY RANGE (at);
CREATE TABLE may PARTITION OF audit FOR VALUES FROM ('2026-05-01') TO ('2026-06-01');
"""
PLAIN = "DROP TABLE audit; CREATE TABLE audit (id bigint NOT NULL UNIQUE, at timestamptz NOT NULL);"


@pytest.mark.parametrize(
    ("made", "named"),
    [
        (PLAIN + "CREATE PUBLICATION all_of_it FOR ALL TABLES", "public.audit (publication all_of_it)"),
        (PLAIN + "CREATE PUBLICATION p FOR TABLE audit; CREATE PUBLICATION q FOR TABLE audit", "public.audit (publication p, q)"),
        (PARTITIONED + "CREATE PUBLICATION p FOR TABLE audit", "public.may (publication p)"),
        (PARTITIONED + "CREATE PUBLICATION p FOR TABLE audit WITH (publish_via_partition_root)", "public.may (publication p)"),
        (PARTITIONED + "CREATE PUBLICATION p FOR TABLE may", "public.may (publication p)"),
        ("ALTER TABLE audit REPLICA IDENTITY NOTHING; CREATE PUBLICATION p FOR TABLE audit", "public.audit (publication p)"),
    ],
)  # fmt: skip
def test_a_published_table_without_a_replica_identity_is_refused_with_its_publications(chain, source, made, named):
    """The server would refuse the first DELETE, after the upload."""
    execute(source, made)

    error = refusal(chain, UnarchivableError)

    assert "is published with its deletes and has no replica identity" in error.what
    assert error.found == named


@pytest.mark.parametrize(
    "made",
    [
        "CREATE PUBLICATION p FOR TABLE audit",
        PLAIN + "CREATE PUBLICATION p FOR TABLE audit WITH (publish = 'insert, update')",
        PLAIN + "ALTER TABLE audit REPLICA IDENTITY FULL; CREATE PUBLICATION p FOR TABLE audit",
        PLAIN + "ALTER TABLE audit REPLICA IDENTITY USING INDEX audit_id_key; CREATE PUBLICATION p FOR ALL TABLES",
    ],
)
def test_a_published_table_from_which_rows_can_be_deleted_is_archived(chain, source, made):
    execute(source, made)
    execute(source, "INSERT INTO audit (id, at) OVERRIDING SYSTEM VALUE VALUES (999999, '2026-05-02')")

    assert chain.run().deleted_rows > 0


def test_a_pooler_that_gives_each_transaction_another_session_is_refused(postgres, source):
    with Pooler((postgres.host, postgres.port), shared=True) as pooler:
        with (
            pytest.raises(ConfigurationError, match="goes through a pooler that gives each transaction") as caught,
            open_source(pooler.conninfo(source), application_name="test"),
        ):
            raise AssertionError("the session was opened")
        assert caught.value.hint.startswith("Nothing was read and no row was deleted.")


def test_a_pooler_that_keeps_a_session_for_us_is_fine(postgres, source):
    with (
        Pooler((postgres.host, postgres.port), shared=False) as pooler,
        open_source(pooler.conninfo(source), application_name="test") as connection,
    ):
        assert connection.info.backend_pid == MADE_UP_PROCESS
        assert connection.execute("SHOW search_path").fetchone() == ("pg_catalog, pg_temp",)
