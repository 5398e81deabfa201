"""Whatever happens in mid-run, no row is lost, no other row is touched, and the evidence tells the truth."""

from __future__ import annotations

import threading
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import psycopg
import pyarrow as pa
import pytest

from strongroom.archive import delete
from strongroom.archive.extract_to_staging import extract_part
from strongroom.archive.report import report_run
from strongroom.archive.seal import seal_archive
from strongroom.errors import (
    IdentityError,
    IntegrityError,
    NeededError,
    StoreAccessError,
    UnarchivableError,
)
from strongroom.object_keys.archives import ArchiveId
from strongroom.settings import StoreSettings
from strongroom.storage.store import Store
from tests.support import restoring
from tests.support.chain import RUN, Chain, some_settings
from tests.support.database import AUDIT, execute, scalar

IN_MAY = "at >= '2026-05-01+00' AND at < '2026-06-01+00'"


@pytest.fixture
def chain(source, object_store, bucket, tmp_path) -> Chain:
    execute(source, AUDIT)
    changes: dict[str, Any] = {"part_rows": 300, "delete_batch_rows": 50}
    return Chain(source, object_store.client("archiver"), some_settings(bucket, tmp_path, **changes))


@pytest.fixture
def after_the_look(monkeypatch) -> Callable[[Callable[[], object]], None]:
    """Let something happen once the delete has inspected the table, before its first batch."""

    def arrange(act: Callable[[], object]) -> None:
        original = delete.warm_table

        def warm_table(*arguments: Any) -> Any:
            found = original(*arguments)
            act()
            return found

        monkeypatch.setattr(delete, "warm_table", warm_table)

    return arrange


# The table changes under the delete.


CHANGES = {
    "a foreign key that cascades": (
        "CREATE TABLE notes (audit bigint REFERENCES audit ON DELETE CASCADE); INSERT INTO notes SELECT id FROM audit",
        "SELECT count(*) FROM notes",
        "also delete rows of public.notes",
    ),
    "a foreign key that sets null": (
        "CREATE TABLE notes (audit bigint REFERENCES audit ON DELETE SET NULL); INSERT INTO notes SELECT id FROM audit",
        "SELECT count(audit) FROM notes",
        "set columns to NULL in rows of public.notes",
    ),
    "a child table": (
        "CREATE TABLE child (more text) INHERITS (audit); INSERT INTO child SELECT *, 'nowhere else' FROM ONLY audit",
        "SELECT count(*) FROM child",
        "other tables inherit from it",
    ),
    "the loss of its key": (
        "ALTER TABLE audit DROP CONSTRAINT audit_pkey; "
        "INSERT INTO audit OVERRIDING SYSTEM VALUE SELECT * FROM audit WHERE id = 1; DELETE FROM audit WHERE id > 800",
        "SELECT count(*) - 1 FROM audit",
        "no primary key",
    ),
    "a trigger": (
        "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
        "CREATE TRIGGER keep BEFORE DELETE ON audit FOR EACH ROW EXECUTE FUNCTION keep()",
        "SELECT count(*) FROM audit",
        "a DELETE fires its trigger keep",
    ),
    "another column": (
        "ALTER TABLE audit ADD note text DEFAULT 'nowhere else'",
        "SELECT count(*) FROM audit",
        "changed its columns",
    ),
}


@pytest.mark.parametrize(("statements", "counted", "expected"), CHANGES.values(), ids=CHANGES.keys())
def test_a_change_that_comes_after_the_look_takes_the_batch_back(chain, after_the_look, statements, counted, expected):
    sealed = chain.seal(chain.plan())
    after_the_look(lambda: execute(chain.conninfo, statements))

    with pytest.raises(UnarchivableError, match=expected) as caught:
        chain.delete(sealed.parts[0])

    assert scalar(chain.conninfo, counted) == 800
    assert chain.store.read(ArchiveId.parse(sealed.archive_id).delete_evidence_key(0)) is None
    assert caught.value.hint.startswith("No row was deleted that is not in a verified archive")


def test_nothing_is_deleted_by_blocks_that_another_run_puts_in_place(chain, after_the_look):
    """A second run whose claim outlived this one's may read the same part again, late rows included."""
    plan = chain.plan()
    sealed = chain.seal(plan)
    staging = chain.staging(sealed.archive_id)

    def read_again() -> None:
        execute(chain.conninfo, "INSERT INTO audit (at, who) VALUES ('2026-05-01 01:30+00', 'in no archive')")
        with chain.source() as connection:
            staging.clear()
            extract_part(connection, staging, chain.settings, plan.parts[0], now=chain.now)

    after_the_look(read_again)

    deleted = chain.delete(sealed.parts[0])

    assert deleted.deleted == sealed.parts[0].rows
    assert scalar(chain.conninfo, "SELECT count(*) FROM audit WHERE who = 'in no archive'") == 1
    assert scalar(chain.conninfo, "SELECT count(*) FROM audit") == 801 - deleted.deleted


def test_a_reference_that_restricts_and_is_not_yet_visible_is_waited_for(chain):
    """PostgreSQL 18 has a code of its own for it; the delete looks again and leaves the row."""
    execute(chain.conninfo, "CREATE TABLE notes (audit bigint REFERENCES audit ON DELETE RESTRICT)")
    sealed = chain.seal(chain.plan())
    outcomes = []
    with psycopg.connect(chain.conninfo) as other:
        other.execute("INSERT INTO notes VALUES (10)")
        deleting = threading.Thread(target=lambda: outcomes.append(chain.delete(sealed.parts[0])))
        deleting.start()
        for _ in range(300):
            blocked = "SELECT count(*) FROM pg_stat_activity WHERE %s = ANY (pg_blocking_pids(pid))"
            if scalar(chain.conninfo, blocked, other.info.backend_pid):
                break
            time.sleep(0.05)
        other.commit()
        deleting.join(timeout=30)

    [deleted] = outcomes
    assert (deleted.deleted, deleted.referenced) == (sealed.parts[0].rows - 1, 1)


def test_rows_are_found_changed_or_moved_in_a_partitioned_table_too(source, object_store, bucket, tmp_path):
    """The partition has its columns in another order; an open transaction changes one row and moves another."""
    execute(
        source,
        """
        CREATE TABLE audit (id bigint, at timestamptz NOT NULL, who text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
        CREATE TABLE may (who text, gone integer, at timestamptz NOT NULL, id bigint NOT NULL);
        ALTER TABLE may DROP gone;
        ALTER TABLE audit ATTACH PARTITION may FOR VALUES FROM ('2026-05-01+00') TO ('2026-06-01+00');
        CREATE TABLE june PARTITION OF audit FOR VALUES FROM ('2026-06-01+00') TO ('2026-07-01+00');
        INSERT INTO audit SELECT n, '2026-05-01+00'::timestamptz + n * interval '1 hour', n FROM generate_series(1, 100) AS n;
        """,
    )
    chain = Chain(source, object_store.client("archiver"), some_settings(bucket, tmp_path))
    [part] = chain.seal(chain.plan()).parts
    outcomes = []
    with psycopg.connect(source) as other:
        other.execute("UPDATE audit SET who = 'changed' WHERE id = 5")
        other.execute("UPDATE audit SET at = '2026-06-10+00' WHERE id = 6")
        other.execute("UPDATE audit SET who = who WHERE id = 7")
        deleting = threading.Thread(target=lambda: outcomes.append(chain.delete(part)))
        deleting.start()
        time.sleep(1)
        other.commit()
        deleting.join(timeout=30)

    [deleted] = outcomes
    assert (deleted.deleted, deleted.changed, deleted.gone) == (98, 1, 1)
    assert scalar(source, "SELECT array_agg(id ORDER BY id) FROM audit") == [5, 6]


# A run that is cleared, or taken up again elsewhere.


def test_a_clone_of_the_database_deletes_nothing_by_its_originals_archive(chain, postgres):
    """Else the evidence would say of the original's rows that they were deleted."""
    sealed = chain.seal(chain.plan())
    execute(chain.conninfo, 'CREATE DATABASE "a clone"')
    chain.conninfo = postgres.conninfo("a clone")
    execute(chain.conninfo, AUDIT)

    with pytest.raises(IdentityError, match="belongs to another database"):
        chain.delete(sealed.parts[0])

    assert scalar(chain.conninfo, "SELECT count(*) FROM audit") == 800


def test_a_delete_that_is_cleared_alone_leaves_rows_that_were_restored_since(chain):
    """Its plan would say `restored`; who clears only the delete must not take them away again."""
    sealed = chain.seal(chain.plan())
    chain.delete(sealed.parts[0])
    restoring.restore(chain)

    with pytest.raises(
        NeededError, match=r"2026-05 was restored and its rows are needed in the table: found restore-1"
    ):
        chain.delete(sealed.parts[1])

    assert scalar(chain.conninfo, "SELECT count(*) FROM audit") == 800


def test_a_table_that_changed_before_its_rows_were_deleted_can_be_archived_as_it_is_now(chain):
    sealed = chain.seal(chain.plan())
    chain.delete(sealed.parts[0])
    execute(chain.conninfo, "ALTER TABLE audit ADD note text")

    report = chain.run()

    assert (report.archive_id, report.deleted_rows) == ("public.audit.2026-05.0002", 744 - sealed.parts[0].rows)
    assert scalar(chain.conninfo, f"SELECT count(*) FROM audit WHERE {IN_MAY}") == 0


def test_a_report_counts_nothing_that_an_earlier_try_of_the_run_has_done(chain):
    """Airflow keeps the results of tasks that a second try skips."""
    first = chain.plan()
    sealed = chain.seal(first)
    deleted = [chain.delete(part) for part in sealed.parts]

    report = report_run(chain.store, None, chain.plan(), sealed.parts, deleted, now=chain.now)

    assert (report.outcome, report.archived_rows, report.deleted_rows, report.parts) == ("nothing_due", 0, 0, 0)


def test_seal_passes_over_parts_of_an_earlier_try_of_the_run(chain, bucket, tmp_path):
    """A second plan with fewer parts leaves results of the first one's last parts behind."""
    first = chain.plan()
    stale = [chain.verified(first, part) for part in first.parts]
    chain.settings = some_settings(bucket, tmp_path)
    plan = chain.plan()
    fresh = [chain.verified(plan, part) for part in plan.parts]

    sealed = seal_archive(chain.store, chain.settings, plan, [*fresh, *stale[1:]], run=RUN, now=chain.now)

    assert (sealed.archive_id, len(sealed.parts)) == ("public.audit.2026-05.0002", 1)


def test_parts_that_were_swept_away_before_seal_are_not_sealed(chain, object_store, bucket):
    """Else the store would hold the manifest of an archive that is not there."""
    plan = chain.plan()
    parts = [chain.verified(plan, part) for part in plan.parts]
    object_store.client("purger").delete_object(Bucket=bucket, Key=parts[1].object_key, VersionId=parts[1].version_id)

    with pytest.raises(IntegrityError, match=r"part-00001.* is no longer the object that was verified"):
        seal_archive(chain.store, chain.settings, plan, parts, run=RUN, now=chain.now)

    assert chain.run().outcome == "archived"


def test_a_manifest_never_tells_of_other_columns_than_its_parts_hold(chain):
    """A plan that was cleared alone, after a column was renamed, while its parts had been read before."""
    plan = chain.plan()
    parts = [chain.verified(plan, part) for part in plan.parts]
    execute(chain.conninfo, "ALTER TABLE audit RENAME who TO whoever")
    later = plan.model_copy(update={"shape": chain.plan().shape})

    with pytest.raises(IntegrityError, match="are not complete"):
        seal_archive(chain.store, chain.settings, later, parts, run=RUN, now=chain.now)

    assert chain.store.read(parts[0].archive.manifest_key) is None


# What the platforms do.


@pytest.mark.parametrize("status", ["off", "Suspended"])
def test_a_bucket_that_keeps_no_versions_is_refused(chain, object_store, status):
    admin = object_store.client("admin")
    admin.create_bucket(Bucket=f"without-versions-{status.lower()}")
    if status != "off":
        for each in ("Enabled", status):
            admin.put_bucket_versioning(
                Bucket=f"without-versions-{status.lower()}", VersioningConfiguration={"Status": each}
            )
    chain.store = Store(chain.client, StoreSettings(bucket=f"without-versions-{status.lower()}"))

    with pytest.raises(StoreAccessError, match=f"keeps no versions: expected versioning Enabled, found {status}"):
        chain.plan()


def test_a_store_that_writes_over_what_is_there_is_refused(chain):
    """A server that ignores If-None-Match, and says nothing."""

    def forget_the_condition(request: Any, **_: Any) -> None:
        del request.headers["If-None-Match"]

    chain.client.meta.events.register("before-sign.s3.PutObject", forget_the_condition)

    with pytest.raises(StoreAccessError, match="does not know conditional writes"):
        chain.plan()


@pytest.mark.parametrize(("format", "rows"), [("jsonl", 60), ("parquet", 100)])
def test_large_rows_do_not_fill_the_memory(source, object_store, bucket, tmp_path, format, rows):
    """So many rows of 1 MB take no more than a few of them at once; Arrow's most is that of all tests until here."""
    execute(
        source,
        f"""
        CREATE TABLE audit (id bigint PRIMARY KEY, at date NOT NULL, document text NOT NULL);
        INSERT INTO audit SELECT n, '2026-05-05', repeat('x', 1000000) FROM generate_series(1, {rows}) AS n;
        """,
    )
    chain = Chain(
        source, object_store.client("archiver"), some_settings(bucket, tmp_path, proof_rows="all", format=format)
    )
    chain.plan()
    tracemalloc.start()
    try:
        report = chain.run()
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert report.deleted_rows == rows
    assert most_bytes < 50_000_000
    assert pa.default_memory_pool().max_memory() < 80_000_000
