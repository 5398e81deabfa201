"""What stands between a DELETE and a row that must stay: each condition of it, one at a time.

``make mutants`` breaks these conditions one by one and runs this file, so it is kept quick: one database and one bucket
for all of it, and a small table for each test.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from functools import partial
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from strongroom.archive import delete
from strongroom.archive.delete import DeleteProgress, PendingBatch, delete_part
from strongroom.calendar import Frequency, Partition
from strongroom.database.session import open_source, read_life
from strongroom.errors import (
    ContendedError,
    HeldError,
    IdentityError,
    IntegrityError,
    NeededError,
    OutOfTimeError,
    PartitionError,
    SourceError,
    StrongroomError,
    UnarchivableError,
)
from strongroom.ledger.evidence import DeleteEvidence, DetachedPartition, DetachEvidence
from strongroom.ledger.holds import EVERYTHING, place_hold, release_hold
from strongroom.ledger.restores import keep_record
from strongroom.records import DeletedPart, RestoreRecord, VerifiedPart
from strongroom.settings import StoreSettings
from strongroom.tables import pace
from strongroom.tables.warm import warm_script
from tests.support.chain import NOW, RUN, Chain, some_settings
from tests.support.database import execute, scalar

TABLE = """
CREATE TABLE audit (id bigint, branch text COLLATE "C", at timestamptz NOT NULL, who text, PRIMARY KEY (id, branch));
INSERT INTO audit SELECT n, b, '2026-05-02 00:00+00', 'agent ' || n || b FROM generate_series(1, 5) AS n, unnest(ARRAY['a', 'b']) AS b;
"""
"""Ten rows whose keys have two columns, so that each column alone is shared by several rows."""

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def room(postgres, object_store) -> Iterator[tuple[str, str]]:
    """A database and a bucket for all tests of this module."""
    name = f"guard_{os.getpid()}"
    execute(postgres.conninfo(), f"CREATE DATABASE {name}")
    object_store.create_bucket("guard")
    yield postgres.conninfo(name), "guard"
    execute(postgres.conninfo(), f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def chain(room, object_store, tmp_path) -> Chain:
    """The table above, and a prefix of its own in the store."""
    source, bucket = room
    execute(source, "DROP SCHEMA IF EXISTS warm, public CASCADE; CREATE SCHEMA public")
    execute(source, TABLE)
    store = StoreSettings(bucket=bucket, prefix=f"{os.getpid()}/{next(_numbers)}")
    changes: dict[str, Any] = {"delete_batch_rows": 4, "store": store}
    return Chain(source, object_store.client("archiver"), some_settings(bucket, tmp_path, **changes))


@pytest.fixture
def part(chain) -> VerifiedPart:
    """The one part of a sealed archive of all ten rows."""
    [part] = chain.seal(chain.plan()).parts
    return part


def left(chain: Chain) -> list[str]:
    """Keys of the rows in the table."""
    with psycopg.connect(chain.conninfo) as connection:
        return [row[0] for row in connection.execute("SELECT id || branch FROM audit ORDER BY 1").fetchall()]


def evidence_of(chain: Chain, part: VerifiedPart) -> DeleteEvidence:
    present = chain.store.read(part.archive.delete_evidence_key(part.number))
    assert present is not None
    return DeleteEvidence.model_validate_json(present[0])


def require_refused(chain: Chain, part: VerifiedPart, kind: type[StrongroomError], expected: str) -> StrongroomError:
    """The delete ends in an error of ours that says what is safe, no row is deleted and no evidence says so."""
    before = left(chain)

    with pytest.raises(kind, match=expected) as caught:
        chain.delete(part)

    assert left(chain) == before
    assert chain.store.read(part.archive.delete_evidence_key(part.number)) is None
    return caught.value


def waits_for(chain: Chain, pid: int) -> bool:
    """Whether another session waits for a lock of this one."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE %s = ANY (pg_blocking_pids(pid))"
    return any(scalar(chain.conninfo, query, pid) or time.sleep(0.02) for _ in range(1500))


def delete_while(chain: Chain, part: VerifiedPart, statement: str, then: Callable[[Any], object]) -> list[Any]:
    """Delete while another session has done something that it has yet to commit; what the delete gave, or its error."""
    outcomes: list[Any] = []

    def work() -> None:
        try:
            outcomes.append(chain.delete(part))
        except StrongroomError as error:
            outcomes.append(error)

    with psycopg.connect(chain.conninfo) as other:
        other.execute(statement)
        deleting = threading.Thread(target=work)
        deleting.start()
        assert waits_for(chain, other.info.backend_pid)
        then(other)
        other.commit()
        deleting.join(timeout=60)
    return outcomes


def nothing_more(_: Any) -> None:
    """The other session only commits."""


# ------------------------------------------------------------------------------------------------------ what it deletes


def test_all_rows_that_are_as_archived_go_and_the_evidence_says_so(chain, part):
    deleted = chain.delete(part)

    assert left(chain) == []
    assert (deleted.deleted, deleted.gone, deleted.changed, deleted.referenced, deleted.rows) == (10, 0, 0, 0, 10)
    assert (deleted.batches, deleted.deleted_at, deleted.evidence_key) == (
        3,
        NOW,
        part.archive.delete_evidence_key(0),
    )
    assert deleted.longest_batch_seconds > 0
    evidence = evidence_of(chain, part)
    assert (evidence.kept, evidence.warm_table, evidence.dag_id, evidence.run_id) == ((), None, RUN.dag_id, RUN.run_id)
    assert (evidence.object_key, evidence.version_id, evidence.sha256) == (
        part.object_key,
        part.version_id,
        part.sha256,
    )
    assert DeletedPart.model_validate(evidence.model_dump(include=set(DeletedPart.model_fields))) == deleted


def test_rows_that_changed_are_gone_or_are_referred_to_stay_and_are_told_apart(chain, part):
    execute(
        chain.conninfo,
        """
        UPDATE audit SET who = who || '!' WHERE id = 2;
        DELETE FROM audit WHERE id = 3 AND branch = 'a';
        CREATE TABLE notes (id bigint, branch text COLLATE "C", FOREIGN KEY (id, branch) REFERENCES audit);
        INSERT INTO notes VALUES (4, 'b');
        CREATE TABLE more (id bigint, branch text COLLATE "POSIX", FOREIGN KEY (id, branch) REFERENCES audit);
        INSERT INTO more VALUES (5, 'a'), (1, NULL);
        """,
    )

    deleted = chain.delete(part)

    assert left(chain) == ["2a", "2b", "4b", "5a"]
    assert (deleted.deleted, deleted.gone, deleted.changed, deleted.referenced) == (5, 1, 2, 2)
    kept = {("".join(row.key), row.reason) for row in evidence_of(chain, part).kept}
    assert kept == {("2a", "changed"), ("2b", "changed"), ("4b", "referenced"), ("5a", "referenced")}


@pytest.mark.parametrize("change", ["who = NULL", "who = ''", "at = at + interval '1 us'", "at = '2030-01-01'"])
def test_a_row_with_any_difference_stays(chain, part, change):
    execute(chain.conninfo, f"UPDATE audit SET {change} WHERE id = 1 AND branch = 'b'")

    assert (chain.delete(part).changed, left(chain)) == (1, ["1b"])


def test_rows_of_no_archive_stay(chain, part):
    """Also those that share a column of their key with an archived row, or all their other columns."""
    execute(chain.conninfo, "INSERT INTO audit SELECT id, 'c', at, who FROM audit WHERE branch = 'a'")

    assert chain.delete(part).deleted == 10
    assert left(chain) == ["1c", "2c", "3c", "4c", "5c"]


def test_a_row_that_changes_while_the_delete_waits_for_it_stays(chain, part):
    [deleted] = delete_while(chain, part, "UPDATE audit SET who = 'new' WHERE id = 1 AND branch = 'a'", nothing_more)

    assert (deleted.deleted, deleted.changed, left(chain)) == (9, 1, ["1a"])


def test_only_so_many_keys_are_listed_and_all_are_counted(chain, part, monkeypatch):
    monkeypatch.setattr(delete, "LISTED_KEYS", 5)
    execute(chain.conninfo, "UPDATE audit SET who = 'new'")

    assert chain.delete(part).changed == 10
    assert len(evidence_of(chain, part).kept) == 5


def test_a_second_part_in_the_same_session_finds_an_empty_batch(chain, part):
    """The temporary table is there already."""
    chain.store = Moved(chain.store)
    with chain.source() as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        for _ in range(2):
            deleted = delete_part(
                connection, chain.store, chain.staging(part.archive_id), chain.settings, chain.partition, part,
                run=RUN, keep_claim=chain.keep_claim, now=NOW,
            )  # fmt: skip
            chain.staging(part.archive_id).clear()
        assert connection.isolation_level == psycopg.IsolationLevel.READ_COMMITTED
    assert (deleted.deleted, deleted.gone) == (0, 10)


class Moved:
    """A store that has lost the evidence of deletes."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def read(self, key: str, version_id: str | None = None) -> Any:
        return None if "/delete-part" in key else self._store.read(key, version_id)

    def put_first(self, key: str, body: bytes, **others: Any) -> bytes:
        return body if "/delete-part" in key else self._store.put_first(key, body, **others)


# ------------------------------------------------------------------------------------------------------ what it refuses


def test_nothing_inside_hot_retention_is_deleted(chain, part):
    chain.now = datetime(2026, 6, 20, tzinfo=timezone.utc)

    require_refused(chain, part, PartitionError, "inside hot retention")


def test_nothing_is_deleted_without_a_manifest(chain):
    plan = chain.plan()
    [unsealed] = [chain.verified(plan, one) for one in plan.parts]

    require_refused(chain, unsealed, IntegrityError, "there is no archive")


@pytest.mark.parametrize(
    "change",
    [
        {"sha256": "0" * 64},
        {"original_sha256": "0" * 64},
        {"keys_sha256": "0" * 64},
        {"version_id": "other"},
        {"object_key": "other"},
        {"rows": 11},
        {"etag": "other"},
        {"number": 1},
        {"start_at": datetime(2026, 5, 3, tzinfo=timezone.utc)},
    ],
    ids=str,
)
def test_nothing_is_deleted_by_a_record_that_its_manifest_does_not_bear_out(chain, part, change):
    error = require_refused(chain, part.model_copy(update=change), IntegrityError, "does not agree with its manifest")

    assert error.hint.startswith("No row was deleted.")


def test_a_verification_made_again_later_is_the_same_part(chain, part):
    again = part.model_copy(update={"verified_at": datetime(2030, 1, 1, tzinfo=timezone.utc), "proved_rows": 1})

    assert chain.delete(again).deleted == 10


@pytest.mark.parametrize("what", ["gone", "other bytes", "other size"])
def test_nothing_is_deleted_when_the_object_is_no_longer_the_one_that_was_verified(chain, part, what):
    class Changed(Moved):
        def head(self, key: str, version_id: str | None = None) -> Any:
            found = self._store.head(key, version_id)
            if found is None or what == "gone" or not key.endswith(".zst"):
                return None if key.endswith(".zst") else found
            change = {"etag": "other"} if what == "other bytes" else {"size_bytes": found.size_bytes + 1}
            return type(found)(**found.__dict__ | change)

    chain.store = Changed(chain.store)

    with pytest.raises(IntegrityError, match="is no longer the object that was verified"):
        chain.delete(part)
    assert len(left(chain)) == 10


def test_nothing_is_deleted_by_an_archive_that_was_condemned(chain, part):
    chain.store.put_bytes(part.archive.condemnation_key, b"{}")

    require_refused(chain, part, IntegrityError, "was condemned")


def test_nothing_is_deleted_of_rows_that_were_restored_and_are_needed(chain, part):
    record = RestoreRecord(
        restore_id="r", archive_ids=(part.archive_id,), table="public.audit", partition_keys=("2026-05",), who="ada",
        why="a case", restored_at=NOW, until=NOW + timedelta(days=1),
    )  # fmt: skip
    keep_record(chain.store, record, now=NOW)

    require_refused(chain, part, NeededError, "its rows are needed in the table")


def test_nothing_is_deleted_from_another_database(chain, part, postgres):
    other = f"other_{os.getpid()}"
    execute(postgres.conninfo(), f"CREATE DATABASE {other}")
    execute(postgres.conninfo(other), TABLE)
    chain.conninfo = postgres.conninfo(other)
    try:
        require_refused(chain, part, IdentityError, "belongs to another database")
    finally:
        execute(postgres.conninfo(), f"DROP DATABASE {other} WITH (FORCE)")


def test_nothing_is_deleted_from_a_table_with_other_columns(chain, part):
    execute(chain.conninfo, "ALTER TABLE audit ADD note text")

    error = require_refused(chain, part, UnarchivableError, "changed its columns")

    assert error.hint.startswith("No row was deleted that is not in a verified archive")


def test_nothing_is_deleted_by_keys_that_the_archive_does_not_give(chain, part):
    """Keys in staging are made anew from the archive when they are not what was extracted."""
    keys = chain.staging(part.archive_id).keys(0)
    execute(chain.conninfo, "INSERT INTO audit VALUES (99, 'z', '2026-05-02', 'in no archive')")
    digest = scalar(
        chain.conninfo, "SELECT encode(sha256(convert_to(concat(t.*), 'UTF8')), 'hex') FROM audit t WHERE id = 99"
    )
    keys.write_bytes(keys.read_bytes() + f"99\tz\t{digest}\n".encode())

    assert (chain.delete(part).deleted, left(chain)) == (10, ["99z"])


def test_evidence_that_cannot_be_read_is_named(chain, part):
    chain.store.put_bytes(part.archive.delete_evidence_key(0), b"{}")

    with pytest.raises(IntegrityError, match="is not sound evidence of a delete"):
        chain.delete(part)
    assert len(left(chain)) == 10


# ------------------------------------------------------------------------------------------------------ what comes between


def test_a_trigger_that_comes_while_the_delete_waits_takes_the_batch_back(chain, part):
    """It would carry the DELETE to rows of another table; its transaction began before the batch and ends inside it."""
    execute(
        chain.conninfo,
        "CREATE TABLE other AS SELECT * FROM audit; CREATE FUNCTION spread() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN DELETE FROM public.other WHERE id = OLD.id; RETURN OLD; END'",
    )

    [error] = delete_while(
        chain,
        part,
        "CREATE TRIGGER spread AFTER DELETE ON audit FOR EACH ROW EXECUTE FUNCTION spread()",
        nothing_more,
    )

    assert isinstance(error, UnarchivableError)
    assert "a DELETE fires its trigger spread" in error.what
    assert error.hint.startswith("No row was deleted that is not in a verified archive")
    assert len(left(chain)) == 10
    assert scalar(chain.conninfo, "SELECT count(*) FROM other") == 10


def accept_trigger(chain: Chain, body: str, *, when: str = "BEFORE DELETE", language: str = "plpgsql") -> None:
    """Give the table a trigger that the settings accept."""
    execute(
        chain.conninfo,
        f"CREATE FUNCTION watch() RETURNS trigger LANGUAGE {language} AS $$ {body} $$; "
        f"CREATE TRIGGER watched {when} ON audit FOR EACH ROW EXECUTE FUNCTION watch()",
    )
    chain.settings = chain.settings.model_copy(update={"accepted_delete_triggers": ("watched",)})


def test_rows_that_a_trigger_keeps_are_not_said_to_be_referred_to(chain, part):
    accept_trigger(chain, "BEGIN IF OLD.id = 2 THEN RETURN NULL; END IF; RETURN OLD; END")
    execute(
        chain.conninfo,
        """
        UPDATE audit SET who = 'new' WHERE id = 3 AND branch = 'a';
        CREATE TABLE notes (id bigint, branch text COLLATE "C", FOREIGN KEY (id, branch) REFERENCES audit);
        INSERT INTO notes VALUES (4, 'b');
        """,
    )

    deleted = chain.delete(part)

    assert left(chain) == ["2a", "2b", "3a", "4b"]
    assert (deleted.deleted, deleted.changed, deleted.referenced, deleted.kept_by_trigger) == (6, 1, 1, 2)
    kept = {("".join(row.key), row.reason) for row in evidence_of(chain, part).kept}
    assert kept == {("2a", "trigger"), ("2b", "trigger"), ("3a", "changed"), ("4b", "referenced")}


@pytest.mark.parametrize(
    "body",
    [
        "BEGIN RAISE EXCEPTION 'not %', OLD.who; END",
        "BEGIN RAISE EXCEPTION 'not %', OLD.who USING ERRCODE = 'unique_violation', CONSTRAINT = OLD.who; END",
        "BEGIN PERFORM OLD.who::int; RETURN OLD; END",
        "BEGIN EXECUTE 'SELECT ' || quote_ident(OLD.who); RETURN OLD; END",
    ],
)
@pytest.mark.parametrize("when", ["BEFORE DELETE", "AFTER DELETE"])
def test_a_trigger_that_raises_is_named_and_the_row_is_not(chain, part, when, body):
    accept_trigger(chain, body, when=when)

    error = require_refused(
        chain, part, UnarchivableError, r"refused by trigger watched of public.audit \(function public.watch\(\)\)"
    )

    assert "agent" not in str(error)
    assert f"SQLSTATE {error.found[-6:-1]}" in error.found


def test_a_trigger_of_a_path_of_its_own_and_one_that_fires_at_the_commit_are_named_too(chain, part):
    execute(
        chain.conninfo,
        "CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS 'BEGIN RAISE ''no''; END'; "
        "CREATE CONSTRAINT TRIGGER watched AFTER DELETE ON audit DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION watch()",
    )
    chain.settings = chain.settings.model_copy(update={"accepted_delete_triggers": ("watched",)})

    require_refused(chain, part, UnarchivableError, "refused by trigger watched of public.audit")


def test_a_trigger_that_says_that_it_may_pass_is_tried_again_by_the_task(chain, part):
    accept_trigger(chain, "BEGIN RAISE EXCEPTION 'closed' USING ERRCODE = 'object_not_in_prerequisite_state'; END")

    require_refused(chain, part, SourceError, "refused by trigger watched of public.audit")


@pytest.mark.parametrize("action", ["NO ACTION", "RESTRICT"])
def test_a_row_that_comes_to_be_referred_to_while_the_delete_looks_stays(chain, part, action):
    """The reference is not visible until the DELETE has looked; the batch is taken back and tried again."""
    execute(
        chain.conninfo,
        'CREATE TABLE notes (id bigint, branch text COLLATE "C", FOREIGN KEY (id, branch) REFERENCES audit '
        f"ON DELETE {action})",
    )

    [deleted] = delete_while(chain, part, "INSERT INTO notes VALUES (1, 'a')", nothing_more)

    assert (deleted.deleted, deleted.referenced, left(chain)) == (9, 1, ["1a"])


def test_a_batch_that_loses_a_deadlock_is_tried_again(chain, part):
    """The other session has the last row of the first batch and wants its first one."""
    [keys] = [chain.staging(part.archive_id).keys(0).read_bytes().splitlines()]
    (first, last) = (line.decode().split("\t")[:2] for line in (keys[0], keys[3]))
    execute(chain.conninfo, f"ALTER DATABASE \"{_database(chain)}\" SET deadlock_timeout = '3s'")
    row = "SELECT 1 FROM audit WHERE id = {} AND branch = '{}' FOR UPDATE"

    def want(other: Any) -> None:
        other.execute("SET deadlock_timeout = '60s'")  # the delete looks first, finds it, and gives way
        other.execute(row.format(*first))

    [deleted] = delete_while(chain, part, row.format(*last), want)

    assert (deleted.deleted, left(chain)) == (10, [])


def test_a_batch_that_waits_too_long_for_a_lock_is_tried_again_and_then_given_up(chain, part, monkeypatch):
    """Five tries, with longer and longer breaks between them."""
    breaks: list[float] = []
    with psycopg.connect(chain.conninfo) as other:
        other.execute("LOCK TABLE audit IN SHARE MODE")
        with monkeypatch.context() as patched:
            patched.setattr(delete, "time", SimpleNamespace(monotonic=time.monotonic, sleep=breaks.append))
            with pytest.raises(SourceError, match="lock timeout"):
                impatiently(chain, part)
        assert breaks == pytest.approx([0.2, 0.4, 0.6, 0.8])
        assert len(left(chain)) == 10
        threading.Timer(0.5, other.commit).start()

        assert impatiently(chain, part).deleted == 10


def test_a_row_that_moves_to_another_partition_under_the_delete_is_looked_at_again(chain):
    """PostgreSQL calls that a failed serialization."""
    execute(
        chain.conninfo,
        """
        DROP TABLE audit;
        CREATE TABLE audit (id bigint, branch text, at timestamptz NOT NULL, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
        CREATE TABLE may PARTITION OF audit FOR VALUES FROM ('2026-05-01+00') TO ('2026-06-01+00');
        CREATE TABLE june PARTITION OF audit FOR VALUES FROM ('2026-06-01+00') TO ('2026-07-01+00');
        INSERT INTO audit SELECT n, 'a', '2026-05-02+00' FROM generate_series(1, 10) AS n;
        """,
    )
    [part] = chain.seal(chain.plan()).parts

    [deleted] = delete_while(chain, part, "UPDATE audit SET at = '2026-06-10+00' WHERE id = 1", nothing_more)

    assert (deleted.deleted, deleted.gone, left(chain)) == (9, 1, ["1a"])


def test_a_fault_of_another_kind_is_not_tried_again(chain, part):
    execute(chain.conninfo, "REVOKE ALL ON audit FROM public; CREATE ROLE guard_reader LOGIN PASSWORD 'x'")
    execute(chain.conninfo, f'GRANT TEMPORARY ON DATABASE "{_database(chain)}" TO guard_reader')
    execute(chain.conninfo, "GRANT USAGE ON SCHEMA public TO guard_reader; GRANT SELECT ON audit TO guard_reader")
    owner = chain.conninfo
    chain.conninfo = psycopg.conninfo.make_conninfo(owner, user="guard_reader", password="x")
    try:
        with pytest.raises(StrongroomError, match="DELETE"):
            chain.delete(part)
    finally:
        chain.conninfo = owner
        execute(owner, "DROP OWNED BY guard_reader; DROP ROLE guard_reader")
    assert len(left(chain)) == 10


def impatiently(chain: Chain, part: VerifiedPart) -> DeletedPart:
    """Delete in a session that waits a tenth of a second for each lock."""
    with chain.source() as connection:
        connection.execute("SET lock_timeout = '100ms'")
        return delete_part(
            connection, chain.store, chain.staging(part.archive_id), chain.settings, chain.partition, part,
            run=RUN, keep_claim=chain.keep_claim, now=NOW,
        )  # fmt: skip


def test_nothing_more_is_deleted_once_the_claim_is_lost(chain, part):
    """Another run has had it between two batches."""
    chain.settings = chain.settings.model_copy(update={"delete_batch_rows": 4})
    looks = itertools.count(1)

    def keep_claim() -> None:
        if next(looks) == 2:
            raise ContendedError("lost", hint="a test")

    chain.keep_claim = keep_claim
    with pytest.raises(ContendedError, match="lost"):
        chain.delete(part)

    assert len(left(chain)) == 10 - 4
    assert chain.delete(part).deleted == 10


def test_a_hold_on_everything_takes_a_long_batch_back(chain, part, monkeypatch):
    """Somebody places it while the second batch is under way; once it is released the delete goes on behind the first."""
    monkeypatch.setattr(pace, "LOOK_SECONDS", 0)
    reasons = {"why": "a doubt", "who": "ada", "reference": "17", "now": NOW}
    looks, holds = itertools.count(1), []

    def keep_claim() -> None:
        if next(looks) == 2:
            holds.append(place_hold(chain.store, EVERYTHING, **reasons))

    chain.keep_claim = keep_claim
    with pytest.raises(HeldError, match=r"held: all deletion .* is stopped: found hold .* on everything") as caught:
        chain.delete(part)

    assert len(left(chain)) == 10 - 4
    assert caught.value.hint.startswith("No row is deleted while this hold is in force")
    assert require_refused(chain, part, HeldError, "all deletion")
    release_hold(chain.store, holds[0].hold_id, who="ada", reason="no doubt", now=NOW)
    assert (chain.delete(part).deleted, left(chain)) == (10, [])


def test_a_legal_hold_on_the_table_stops_no_delete(chain, part):
    """What it covers lies in the archive, and stays there."""
    place_hold(chain.store, "public.audit", why="a case", who="ada", reference="17", now=NOW)

    assert (chain.delete(part).deleted, left(chain)) == (10, [])


def test_no_batch_begins_when_the_time_is_over(chain, part, monkeypatch):
    """By the clock that goes on from the store's; the batch that is under way ends."""
    monkeypatch.setattr(pace, "LOOK_SECONDS", 0)
    ticks = itertools.count()
    monkeypatch.setattr(delete, "running_clock", lambda now: lambda: now + timedelta(minutes=next(ticks)))
    chain.stop_at = NOW + timedelta(minutes=2)

    with pytest.raises(OutOfTimeError, match="out of time: the delete stops here") as caught:
        chain.delete(part)

    assert len(left(chain)) == 10 - 4 - 4
    assert caught.value.hint.startswith("Nothing is lost")
    chain.stop_at = NOW
    require_refused(chain, part, OutOfTimeError, "found 2026-11-23 12:03 UTC")
    chain.stop_at = None
    assert (chain.delete(part).deleted, left(chain)) == (10, [])


def test_a_batch_that_kept_somebody_waiting_is_followed_by_a_rest(chain, part, monkeypatch):
    """He is seen at the end of the batch's transaction, and has his turn before the next one."""
    rests: list[float] = []
    monkeypatch.setattr(pace, "time", SimpleNamespace(monotonic=time.monotonic, sleep=rests.append))
    lock = "BEGIN; LOCK TABLE audit IN SHARE MODE; COMMIT"
    real = delete.inspect_again

    def inspect(connection: Any, *arguments: Any) -> Any:
        if connection.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS and not waiters:
            waiters.append(threading.Thread(target=execute, args=(chain.conninfo, lock)))
            waiters[0].start()
            assert waits_for(chain, connection.info.backend_pid)
        return real(connection, *arguments)

    waiters: list[threading.Thread] = []
    monkeypatch.setattr(delete, "inspect_again", inspect)

    assert (chain.delete(part).deleted, left(chain)) == (10, [])

    waiters[0].join(timeout=60)
    assert rests == [0.2]


def _database(chain: Chain) -> str:
    return str(psycopg.conninfo.conninfo_to_dict(chain.conninfo)["dbname"])


# ------------------------------------------------------------------------------------------------------ what is repeated


def begun(chain: Chain, part: VerifiedPart, **counts: Any) -> DeleteProgress:
    """The progress of an earlier try on this database."""
    with chain.source() as connection:
        return DeleteProgress(**part.model_dump(), life=read_life(connection), **counts)


def test_a_repeat_after_success_deletes_nothing_and_says_who_did_and_what_is_there_again(chain, part):
    first = chain.delete(part)
    evidence = chain.store.read(first.evidence_key)
    execute(
        chain.conninfo,
        "INSERT INTO audit VALUES (1, 'a', '2026-05-02 00:00+00', 'agent 1a'), (2, 'b', '2026-05-02', 'new'), (9, 'z', '2026-05-02', 'late')",
    )

    again = chain.delete(part)

    assert again == first.model_copy(update={"deleted_by": f"{RUN.dag_id} {RUN.run_id}", "in_table": 2})
    assert left(chain) == ["1a", "2b", "9z"]
    assert chain.store.read(first.evidence_key) == evidence
    assert b"in_table" not in evidence[0]


@pytest.mark.parametrize(
    ("change", "in_table"),
    [("SELECT 1", 1), ("DELETE FROM audit", 0), ("UPDATE audit SET at = '2027-01-01'", 1), ("DROP TABLE audit", None)],
)
def test_a_repeat_counts_rows_by_their_keys_where_it_can(chain, part, change, in_table):
    execute(chain.conninfo, "UPDATE audit SET who = 'new' WHERE id = 1 AND branch = 'a'")
    assert chain.delete(part).in_table is None
    execute(chain.conninfo, change)

    again = chain.delete(part)

    assert (again.deleted, again.changed, again.in_table) == (9, 1, in_table)


def test_a_repeat_succeeds_where_its_rows_cannot_be_counted_in_time(chain, part, monkeypatch):
    """What was deleted is proved; the count only informs."""
    chain.delete(part)
    impatient = partial(open_source, chain.conninfo, application_name="test", lock_timeout_seconds=1)
    monkeypatch.setattr(chain, "source", impatient)

    with psycopg.connect(chain.conninfo) as other:
        other.execute("LOCK TABLE audit")
        again = chain.delete(part)

    assert (again.deleted, again.in_table) == (10, None)


def test_a_try_that_broke_off_is_gone_on_with_behind_its_last_batch(chain, part, monkeypatch):
    """Rows of the batches before are not looked for again, and their counts are kept."""
    execute(chain.conninfo, "UPDATE audit SET who = 'new' WHERE id = 1 AND branch = 'a'")
    keys = chain.staging(part.archive_id).keys(0).read_bytes().splitlines(keepends=True)
    assert len(keys) == 10
    real, calls = delete._try_batch, itertools.count(1)

    def break_off(*arguments: Any) -> Any:
        if next(calls) == 3:
            raise psycopg.OperationalError("broke off")
        return real(*arguments)

    monkeypatch.setattr(delete, "_try_batch", break_off)
    with pytest.raises(SourceError):
        chain.delete(part)
    progress = chain.staging(part.archive_id).load(DeleteProgress, 0)
    monkeypatch.undo()

    deleted = chain.delete(part)

    assert progress is not None
    assert progress.pending is not None
    assert (progress.done_rows, progress.batches, progress.pending.rows) == (4, 1, 4)
    assert (deleted.deleted, deleted.changed, deleted.gone, deleted.batches) == (9, 1, 0, 3)
    assert deleted.longest_batch_seconds >= progress.longest_batch_seconds


def keep_pending(chain: Chain, part: VerifiedPart, transaction: str) -> None:
    """Let an earlier try have been about to commit its first batch, all of it deleted, when it died."""
    pending = PendingBatch(transaction=transaction, rows=4, deleted=4, gone=0, kept=(), seconds=0.1)
    chain.staging(part.archive_id).save(begun(chain, part, pending=pending))


def current_transaction(connection: Any) -> str:
    return str(connection.execute("SELECT pg_current_xact_id()::text").fetchone()[0])


def test_a_batch_that_an_earlier_try_did_not_commit_is_done_again(chain, part):
    with psycopg.connect(chain.conninfo) as other:
        keep_pending(chain, part, current_transaction(other))
        other.rollback()

    assert (chain.delete(part).deleted, left(chain)) == (10, [])


def test_a_batch_of_which_the_server_knows_nothing_is_looked_at_again(chain, part):
    """A transaction of the future, as after a restore of the whole database."""
    keep_pending(chain, part, "999999999")

    assert (chain.delete(part).deleted, left(chain)) == (10, [])


STAND_IN = (
    "CREATE FUNCTION pg_catalog.pg_xact_status(xid8) RETURNS text LANGUAGE plpgsql AS "
    "'BEGIN RAISE ''not here'' USING ERRCODE = ''feature_not_supported''; END'"
)


@pytest.mark.parametrize("instead", ["", STAND_IN], ids=["no such function", "one that says no"])
def test_a_batch_of_which_the_server_cannot_tell_is_looked_at_again(chain, part, instead):
    """As servers that only speak PostgreSQL's protocol; here it is hidden under another name for a while."""
    keep_pending(chain, part, "3")
    hidden = "pg_catalog.pg_xact_status_hidden"
    with psycopg.connect(chain.conninfo, autocommit=True) as owner:
        owner.execute("SET allow_system_table_mods = on")
        owner.execute("ALTER FUNCTION pg_catalog.pg_xact_status(xid8) RENAME TO pg_xact_status_hidden")
        owner.execute(instead)
        try:
            deleted = chain.delete(part)
        finally:
            owner.execute("DROP FUNCTION IF EXISTS pg_catalog.pg_xact_status(xid8)")
            owner.execute(f"ALTER FUNCTION {hidden}(xid8) RENAME TO pg_xact_status")

    assert (deleted.deleted, left(chain)) == (10, [])


def test_a_batch_that_an_earlier_try_has_yet_to_commit_is_waited_for(chain, part):
    keys = [line.decode().split("\t")[:2] for line in chain.staging(part.archive_id).keys(0).read_bytes().splitlines()]
    with psycopg.connect(chain.conninfo) as other:
        keep_pending(chain, part, current_transaction(other))
        for number, branch in keys[:4]:
            other.execute("DELETE FROM audit WHERE id = %s AND branch = %s", (number, branch))
        threading.Timer(0.5, other.commit).start()

        deleted = chain.delete(part)

    assert (deleted.deleted, deleted.gone, deleted.batches) == (10, 0, 3)


def test_a_batch_that_an_earlier_try_never_commits_stops_the_delete(chain, part, monkeypatch):
    """After five looks, with longer and longer breaks between them."""
    breaks: list[float] = []
    monkeypatch.setattr(delete, "time", SimpleNamespace(monotonic=time.monotonic, sleep=breaks.append))
    with psycopg.connect(chain.conninfo) as other:
        keep_pending(chain, part, current_transaction(other))

        require_refused(chain, part, SourceError, "has not ended in the database")

    assert breaks == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "other",
    [
        {"keys_sha256": "0" * 64},
        {"life": "system 1, database 2, timeline 00000001"},
        {"life": ""},
        {"version_id": "other"},
        {"sha256": "0" * 64},
        {"snapshot": "1:1:"},
    ],
    ids=str,
)
def test_progress_of_other_keys_another_database_or_another_archive_is_not_gone_on_with(chain, part, other):
    """Staging may have outlived them, and an equal part of an earlier database has the same keys and digests."""
    progress = begun(chain, part, done_rows=10, deleted=10).model_copy(update=other)
    chain.staging(part.archive_id).save(progress)

    assert (chain.delete(part).deleted, left(chain)) == (10, [])


@pytest.mark.parametrize(
    "wrong",
    [
        {"done_rows": 4},
        {"done_rows": 4, "deleted": 3},
        {"done_rows": 4, "gone": 5},
        {"done_rows": 4, "changed": 3},
        {"done_rows": 4, "referenced": 5},
        {"done_rows": 4, "kept_by_trigger": 3},
        {"done_rows": 11, "deleted": 10},
        {"deleted": 1},
    ],
    ids=str,
)
def test_progress_that_does_not_add_up_is_named(chain, part, wrong):
    """The rows that it has not counted go, and they were compared; but no evidence is written."""
    chain.staging(part.archive_id).save(begun(chain, part, **wrong))

    with pytest.raises(IntegrityError, match="does not add up: expected 10 rows") as caught:
        chain.delete(part)

    assert caught.value.hint.startswith("Every deleted row was compared with its archived form")
    assert chain.store.read(part.archive.delete_evidence_key(0)) is None


@pytest.mark.parametrize("counted", ["deleted", "gone", "changed", "referenced", "kept_by_trigger"])
def test_progress_of_each_kind_counts(chain, part, counted):
    keys = chain.staging(part.archive_id).keys(0).read_bytes().splitlines(keepends=True)
    progress = begun(chain, part, done_rows=4, longest_batch_seconds=1234.5, batches=1, **{counted: 4})
    chain.staging(part.archive_id).save(progress)

    deleted = chain.delete(part)

    assert getattr(deleted, counted) == (10 if counted == "deleted" else 4)
    assert (deleted.batches, deleted.longest_batch_seconds) == (3, 1234.5)
    assert left(chain) == sorted("".join(line.decode().split("\t")[:2]) for line in keys[:4])


# ------------------------------------------------------------------------------------------------------ the warm tier


@pytest.fixture
def warm(chain, part) -> Chain:
    """The same, with a warm table that the rows move to."""
    chain.settings = chain.settings.model_copy(update={"warm": True})
    with chain.source() as connection:
        script = warm_script(connection, chain.settings, now=NOW, until=Partition.parse(Frequency.MONTHLY, "2027-01"))
    with psycopg.connect(chain.conninfo) as connection:
        for statement in script:
            connection.execute(statement)
    return chain


def test_rows_that_are_as_archived_move_to_the_warm_table_and_others_do_not(warm, part):
    execute(warm.conninfo, "UPDATE audit SET who = 'new' WHERE id = 5")
    before = scalar(warm.conninfo, "SELECT array_agg(t::text ORDER BY id, branch) FROM audit AS t WHERE id < 5")

    deleted = warm.delete(part)

    assert (deleted.deleted, deleted.changed, left(warm)) == (8, 2, ["5a", "5b"])
    assert scalar(warm.conninfo, "SELECT array_agg(t::text ORDER BY id, branch) FROM warm.audit AS t") == before
    assert evidence_of(warm, part).warm_table == "warm.audit"


def test_a_row_that_was_warm_before_is_replaced_as_a_whole(warm, part):
    execute(warm.conninfo, "INSERT INTO warm.audit SELECT id, branch, at, 'older' FROM audit WHERE id = 1")

    warm.delete(part)

    assert scalar(warm.conninfo, "SELECT count(*) FROM warm.audit WHERE who = 'older'") == 0
    assert scalar(warm.conninfo, "SELECT count(*) FROM warm.audit") == 10


def test_a_trigger_that_swallows_rows_on_their_way_to_the_warm_table_takes_the_batch_back(warm, part):
    execute(
        warm.conninfo,
        "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
        "CREATE TRIGGER swallow BEFORE INSERT ON warm.audit FOR EACH ROW WHEN (NEW.branch = 'a') EXECUTE FUNCTION swallow()",
    )

    error = require_refused(
        warm, part, IntegrityError, r"rows did not arrive in warm.audit: expected 4 rows, found [0-3] rows"
    )

    assert error.hint.startswith("The batch was rolled back")


# Rows in partitions that were detached.

BY_DAY = """
DROP TABLE audit;
CREATE TABLE audit (id bigint, branch text, at timestamptz NOT NULL, who text, PRIMARY KEY (id, branch, at));
INSERT INTO audit SELECT n, 'a', '2026-05-01 00:00+00'::timestamptz + (n - 1) * interval '1 day', 'agent' FROM generate_series(1, 9) AS n;
"""


def say_detached(chain: Chain, part: VerifiedPart, *windows: tuple[str, str]) -> None:
    """Leave evidence that partitions were detached, and the rows in the table: nothing may happen to them."""
    evidence = DetachEvidence(
        archive_id=part.archive_id,
        table="public.audit",
        detached=tuple(
            DetachedPartition(
                oid=1, partition="p", held_as="h", bounds="", start_at=start, end_at=end, rows=1, bring_back=""
            )
            for start, end in (map(instant, window) for window in windows)
        ),
        left=(),
        detached_at=NOW,
        drop_after=NOW,
        dag_id=RUN.dag_id,
        run_id=RUN.run_id,
    )
    chain.store.put_bytes(part.archive.detach_evidence_key, evidence.model_dump_json().encode())


def instant(day: str) -> datetime:
    return datetime.fromisoformat(f"2026-{day}T00:00:00+00:00")


def test_rows_in_detached_partitions_are_neither_deleted_nor_called_gone(chain):
    """Two partitions that meet and one that stands alone; a row at the end of a range is not in it."""
    execute(chain.conninfo, BY_DAY)
    [part] = chain.seal(chain.plan()).parts
    say_detached(chain, part, ("05-08", "05-09"), ("05-03", "05-05"), ("05-02", "05-03"))
    execute(chain.conninfo, "DELETE FROM audit WHERE id = 5; UPDATE audit SET who = 'changed' WHERE id = 6")

    deleted = chain.delete(part)

    counts = (deleted.detached, deleted.deleted, deleted.gone, deleted.changed)
    assert counts == (4, 3, 1, 1)
    assert left(chain) == ["2a", "3a", "4a", "6a", "8a"]
    assert evidence_of(chain, part).detached == 4


@pytest.mark.parametrize(
    "windows", [[("05-01", "06-01")], [("04-01", "07-01")], [("05-02", "06-01"), ("05-01", "05-02")]]
)
def test_a_part_that_lies_in_detached_partitions_altogether_takes_no_batch(chain, part, windows):
    """Its keys and the table's form do not matter any more."""
    say_detached(chain, part, *windows)
    execute(chain.conninfo, "ALTER TABLE audit ADD note text")
    before = left(chain)

    deleted = chain.delete(part)

    assert (deleted.detached, deleted.batches, deleted.deleted, deleted.gone) == (10, 0, 0, 0)
    assert left(chain) == before


@pytest.mark.parametrize("window", [("05-02", "06-01"), ("05-01", "05-31"), ("06-01", "07-01")])
def test_a_part_that_lies_only_partly_in_a_detached_partition_is_looked_at_row_by_row(chain, window):
    execute(chain.conninfo, BY_DAY)
    [part] = chain.seal(chain.plan()).parts
    say_detached(chain, part, window)

    deleted = chain.delete(part)

    assert (deleted.batches > 0, deleted.detached + deleted.deleted) == (True, 9)


def test_evidence_of_a_detach_that_is_damaged_stops_the_delete(chain, part):
    chain.store.put_bytes(part.archive.detach_evidence_key, b"{}")

    require_refused(chain, part, IntegrityError, "sound evidence of a detach")
