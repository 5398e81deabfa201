"""A unit in its second copy, after a recovery from an empty machine, and in restore drills."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from strongroom.drill.begin import begin_drills
from strongroom.errors import IntegrityError
from strongroom.ledger.manifests import require_manifest
from strongroom.records import RunIdentity
from strongroom.recovery.check import survey_store
from strongroom.recovery.fill import fill_store
from strongroom.recovery.kit import describe_store
from strongroom.retention.certificate import Approval
from strongroom.retention.decide import judge
from strongroom.retention.purge import PurgeResult, purge_archive
from strongroom.retention.second_copy import SecondCopy
from strongroom.settings import Replica
from strongroom.settings.units import UnitSettings
from strongroom.storage.purge_store import PurgeStore
from strongroom.storage.store import Store
from tests.support.chain import NOW
from tests.support.database import a_database, execute
from tests.support.drilling import drill, drill_role
from tests.support.logs import AUTHOR, with_log
from tests.support.restoring import restore
from tests.support.second_copy import TwoCopies
from tests.support.units import ORDERS, TABLES, UnitChain, archive_named, rows_of, rows_of_may, unit_settings

FORMATS = {"orders": "jsonl", "order_lines": "parquet", "line_notes": "parquet", "order_alerts": "jsonl"}
LATE = datetime(2036, 1, 1, tzinfo=timezone.utc)
EVERY = {f"public.{table}.2026-05.0001" for table in TABLES}


@pytest.fixture
def copied(source, object_store, coming_buckets, tmp_path) -> Any:
    """A unit whose rows are in their archives alone, each of which has a second copy; and what the tables held before.

    Two of the members have a format of their own.
    """
    bucket, replica_bucket = (next(coming_buckets).result() for _ in range(2))
    execute(source, ORDERS)
    replica = Replica(filled_by="strongroom", bucket=replica_bucket)
    settings = [
        with_log(one)
        .model_copy(update={"replica": replica, "format": FORMATS[one.table]})
        .in_unit(UnitSettings(TABLES))
        for one in unit_settings(bucket, tmp_path)
    ]
    unit = UnitChain(source, object_store.client("archiver"), settings)
    before = rows_of(source)
    unit.run()
    second = Store(unit.client, settings[0].replica_store)
    serve_from(unit, Store(unit.client, settings[0].store, author=AUTHOR, connect_replica=lambda: second))
    copies = TwoCopies.of(object_store, unit.store, second, settings[0])
    copies.copy_all()
    return unit, copies, before


def serve_from(unit: UnitChain, store: Store) -> None:
    for chain in unit.chains.values():
        chain.store = store


def remove(client: Any, bucket: str, prefix: str) -> None:
    listed = client.list_object_versions(Bucket=bucket, Prefix=prefix)["Versions"]
    assert listed
    for one in listed:
        client.delete_object(Bucket=bucket, Key=one["Key"], VersionId=one["VersionId"])


def test_a_unit_comes_back_whole_where_one_table_lies_in_the_second_copy_alone(copied, object_store):
    unit, _, before = copied
    gone = archive_named("order_lines")
    for prefix in (gone.archive_prefix, gone.manifest_key):
        remove(object_store.client("admin"), unit.store.settings.bucket, prefix)

    report = restore(unit.root)

    assert rows_of(unit.conninfo) == before
    assert {part.archive_id for part in report.parts if part.from_replica} == {str(gone)}


def test_a_unit_is_a_unit_after_a_recovery_from_nothing(copied, coming_buckets, postgres):
    """Bucket and database are gone. As the runbook says it: the table's own name is the target, and tables are created."""
    unit, copies, before = copied
    left = rows_of(unit.conninfo)
    kit = describe_store(unit.store, unit.settings)
    settings = unit.store.settings.model_copy(update={"bucket": next(coming_buckets).result()})
    empty = Store(unit.client, settings, author=AUTHOR, connect_replica=lambda: copies.replica)

    filled = fill_store(empty, copies.replica, kit, who="ada", now=NOW)

    state, _ = survey_store(empty, kit)
    assert ({*filled.archives}, {one.archive_id for one in state.restorable}) == (EVERY, EVERY)
    assert (state.whole, state.parted) == (True, ())
    assert {one.archive_id for one in require_manifest(empty, archive_named("orders")).unit} == EVERY
    with a_database(postgres) as conninfo:
        recovered = UnitChain(conninfo, unit.client, unit.settings)
        serve_from(recovered, empty)
        report = restore(recovered.root, target="public.orders", create_target=True)
        found = rows_of(conninfo)
    of_may = {table: [row for row in rows if row not in left[table]] for table, rows in before.items()}
    assert (report.inserted, found) == (520, of_may)


def test_a_recovery_says_which_archives_lost_one_of_their_unit_and_no_half_comes_back(
    copied, object_store, coming_buckets
):
    unit, copies, _ = copied
    kit = describe_store(unit.store, unit.settings)
    gone = archive_named("order_lines")
    remove(object_store.client("admin"), copies.replica.settings.bucket, gone.manifest_key)
    settings = unit.store.settings.model_copy(update={"bucket": next(coming_buckets).result()})
    empty = Store(unit.client, settings, author=AUTHOR, connect_replica=lambda: copies.replica)

    fill_store(empty, copies.replica, kit, who="ada", now=NOW)

    state, _ = survey_store(empty, kit)
    assert ([one.archive_id for one in state.damaged], state.lost) == ([str(gone)], ())
    assert {*state.parted} == EVERY - {str(gone)}
    serve_from(unit, empty)
    with pytest.raises(IntegrityError, match=str(gone)):
        restore(unit.root)
    assert not any(rows_of_may(unit.conninfo).values())
    assert restore(unit.root, "restore-2", archives=["public.orders.2026-05.0001"]).inserted == 100


def test_a_lock_on_one_archive_in_the_second_copy_keeps_the_others(copied, object_store):
    """In both copies: a lawyer may know of either alone."""
    unit, copies, _ = copied
    buckets = (unit.store.settings.bucket, copies.replica.settings.bucket)
    key = next(copies.replica.keys(archive_named("order_alerts").archive_prefix))
    object_store.client("admin").put_object_legal_hold(Bucket=buckets[1], Key=key, LegalHold={"Status": "ON"})
    purge_stores = [PurgeStore(copies.purger, one.settings) for one in (unit.store, copies.replica)]
    second = SecondCopy(copies.replica, purge_stores[1], filled_by_us=True)
    [root] = [one for one in judge(unit.store, now=LATE) if one.archive.table_name == "orders"]

    def purge() -> PurgeResult:
        approval = Approval(approved=True, by="ada", at=LATE)
        run = RunIdentity(dag_id="retention_purge", run_id="1")
        ttl = timedelta(hours=1)
        return purge_archive(
            unit.store, purge_stores[0], root, approval, run=run, now=LATE, claim_ttl=ttl, second=second
        )

    tried = purge()

    object_store.client("admin").put_object_legal_hold(Bucket=buckets[1], Key=key, LegalHold={"Status": "OFF"})
    assert tried.result == "locked"
    assert "public.order_alerts.2026-05.0001 was sealed together with it, and in the replica" in tried.detail
    assert purge().result == "purged"


def test_each_archive_of_a_unit_is_drilled_with_the_others(copied):
    unit, *_ = copied

    _, run = begin_drills(unit.store, {}, run_id="drills", who="ada", now=NOW)

    assert {one.archive_id: {*one.unit} for one in run.candidates} == {one: EVERY - {one} for one in EVERY}
    with drill_role(unit.conninfo) as role:
        drilled = {table: drill(unit.root, role, archive_named(table)) for table in TABLES}
    assert {(one.result, one.reason) for one in drilled.values()} == {("sound", "")}
    assert {table: one.rows for table, one in drilled.items()} == dict(zip(TABLES, (100, 270, 120, 30), strict=True))
    assert not any(rows_of_may(unit.conninfo).values())
