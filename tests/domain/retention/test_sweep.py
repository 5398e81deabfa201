"""Sweeping leftovers on a real S3 server: what goes, and all that looks like a leftover and must stay."""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from strongroom.checks.result import Checklist
from strongroom.checks.stores import ProbedStore
from strongroom.ledger.claims import release_claim, take_claim
from strongroom.ledger.holds import EVERYTHING, covered, place_hold
from strongroom.object_keys.archives import ArchiveId
from strongroom.object_keys.layout import MANIFEST_INDEX, OVERVIEW, PROBES
from strongroom.object_keys.records import claim_key, orders_key
from strongroom.records import RestoreRecord, RunIdentity
from strongroom.retention.leftovers import find_leftovers
from strongroom.retention.sweep import sweep_query_results, sweep_staging, sweep_store
from strongroom.storage.purge_store import PurgeStore
from strongroom.storage.staging import OF_QUERIES, OF_RESTORES
from strongroom.storage.staging_folder import FolderRoot
from strongroom.storage.store import Store
from tests.support.chain import some_settings
from tests.support.sealing import seal_month, upload_parts

RUN = RunIdentity(dag_id="retention_purge", run_id="today")
GRACE, TTL = timedelta(days=7), timedelta(hours=1)
NOW = datetime.now(timezone.utc)
IN_A_WHILE = NOW + timedelta(days=8)


class Yard:
    """A store in which things lie about."""

    def __init__(self, object_store, settings):
        self.settings = settings
        self.object_store = object_store
        self.bucket = settings.store.bucket
        self.store = Store(object_store.client("archiver"), settings.store)
        self.purge_store = PurgeStore(object_store.client("purger"), settings.store)
        self.admin = object_store.client("admin")

    def sweep(self, now=IN_A_WHILE):
        """Kind, name and result of each leftover."""
        swept = sweep_store(self.store, self.purge_store, run=RUN, now=now, grace=GRACE, claim_ttl=TTL)
        return [(one.kind, one.name, one.result) for one in swept]

    def sweep_staging(self, now=IN_A_WHILE):
        swept = sweep_staging(
            self.store, FolderRoot(self.settings.staging), self.settings, run=RUN, now=now, grace=GRACE
        )
        return [(one.name.rpartition("/")[2], one.result) for one in swept]

    def parts(self, month):
        prefix = ArchiveId("public", "audit", month, 1).archive_prefix
        return [version for version in self.store.versions(prefix) if not version.is_marker]

    def hold(self, month=None):
        return place_hold(self.store, covered("public", "audit", month), why="w", who="ada", reference="r", now=NOW)

    def hold_everything(self):
        place_hold(self.store, EVERYTHING, why="w", who="ada", reference="r", now=NOW)

    def claim(self, month, now=IN_A_WHILE):
        take_claim(self.store, claim_key("public", "audit", month), owner="a run", now=now, ttl=TTL)


@pytest.fixture
def yard(object_store, bucket, tmp_path) -> Yard:
    return Yard(object_store, some_settings(bucket, tmp_path / "staging"))


def test_parts_that_were_never_sealed_go_after_the_grace_age_and_archives_stay(yard):
    upload_parts(yard.store, yard.settings, "2026-05")
    seal_month(yard.store, yard.settings, "2026-04")

    too_early = yard.sweep(now=NOW + timedelta(days=6))
    swept = yard.sweep()

    assert too_early == []
    assert swept == [("unsealed", "public.audit.2026-05.0001", "removed")]
    assert (len(yard.parts("2026-05")), len(yard.parts("2026-04"))) == (0, 4)
    assert [kind for kind, _, _ in yard.sweep()] == ["superseded"], "the sweep's own claim"


def test_parts_under_a_hold_or_a_claim_stay(yard):
    for month in ("2026-04", "2026-05"):
        upload_parts(yard.store, yard.settings, month)
    yard.hold("2026-04")
    yard.claim("2026-05")

    swept = yard.sweep()

    assert swept == [
        ("unsealed", "public.audit.2026-04.0001", "held"),
        ("unsealed", "public.audit.2026-05.0001", "contended"),
    ]
    assert (len(yard.parts("2026-04")), len(yard.parts("2026-05"))) == (3, 3)


def test_parts_whose_manifest_is_only_hidden_are_no_leftovers(yard):
    """A delete marker on a manifest makes an archive look unsealed; its rows were deleted from the table long ago."""
    archive = seal_month(yard.store, yard.settings, "2026-05")
    yard.admin.delete_object(Bucket=yard.bucket, Key=archive.manifest_key)

    assert yard.sweep() == []
    assert len(yard.parts("2026-05")) == 4


def test_parts_of_which_there_is_evidence_are_no_leftovers(yard):
    """Somebody destroyed the manifest for good; the evidence of the delete says that the rows are nowhere else."""
    upload_parts(yard.store, yard.settings, "2026-05")
    archive = ArchiveId("public", "audit", "2026-05", 1)
    yard.store.put_bytes(archive.delete_evidence_key(0), b"{}")

    assert yard.sweep() == [("unsealed", str(archive), "unverifiable")]
    assert len(yard.parts("2026-05")) == 3


def test_a_purge_that_broke_off_is_left_to_the_next_purge(yard):
    upload_parts(yard.store, yard.settings, "2026-05")
    yard.store.put_bytes(ArchiveId("public", "audit", "2026-05", 1).purge_intent_key, b"{}")

    assert yard.sweep() == []


def test_locked_parts_stay(yard):
    upload_parts(yard.store, yard.settings, "2026-05")
    key = ArchiveId("public", "audit", "2026-05", 1).part_key(0, "zstd")
    yard.admin.put_object_legal_hold(Bucket=yard.bucket, Key=key, LegalHold={"Status": "ON"})

    assert yard.sweep() == [("unsealed", "public.audit.2026-05.0001", "locked")]


def test_foreign_objects_below_archives_are_left_alone(yard):
    yard.admin.put_object(Bucket=yard.bucket, Key="archives/readme.txt", Body=b"mine")

    assert yard.sweep() == []


def test_unfinished_uploads_are_given_up_but_not_under_a_hold(yard):
    keys = [ArchiveId("public", "audit", month, 1).part_key(0, "zstd") for month in ("2026-04", "2026-05")]
    for key in keys:
        yard.admin.create_multipart_upload(Bucket=yard.bucket, Key=key)
    yard.hold("2026-04")

    assert yard.sweep(now=NOW + timedelta(days=6)) == []
    assert yard.sweep() == [("upload", keys[0], "held"), ("upload", keys[1], "removed")]
    assert [upload.key for upload in yard.purge_store.unfinished_uploads("")] == keys[:1]


def test_records_of_restores_go_when_their_date_is_past(yard):
    for number, until in enumerate((NOW, IN_A_WHILE + TTL)):
        record = RestoreRecord(
            restore_id=f"restore-{number}",
            archive_ids=("public.audit.2026-05.0001",),
            table="public.audit",
            partition_keys=("2026-05",),
            who="ada",
            why="a test",
            restored_at=NOW,
            until=until,
        )
        yard.store.put_bytes(f"restores/public.audit/restore-{number}.json", record.model_dump_json().encode())
    yard.store.put_bytes("restores/public.audit/broken.json", b"{")

    swept = yard.sweep()

    assert swept == [
        ("restore_record", "restores/public.audit/broken.json", "unverifiable"),
        ("restore_record", "restores/public.audit/restore-0.json", "removed"),
    ]
    assert "restores/public.audit/restore-1.json" in list(yard.store.keys("restores/"))


def test_claims_that_nobody_holds_go_and_of_the_others_only_what_was_overwritten(yard):
    yard.claim("2026-04", now=NOW)
    release_claim(yard.store, claim_key("public", "audit", "2026-04"), owner="a run", now=NOW)
    yard.claim("2026-05", now=NOW)
    yard.claim("2026-05", now=IN_A_WHILE)

    swept = yard.sweep()

    assert swept == [
        ("claim", claim_key("public", "audit", "2026-04"), "removed"),
        ("superseded", claim_key("public", "audit", "2026-05"), "removed"),
    ]
    [left] = yard.store.versions("claims/")
    assert (left.key, left.is_latest) == (claim_key("public", "audit", "2026-05"), True)


@pytest.mark.parametrize("key", [MANIFEST_INDEX, OVERVIEW, orders_key("public", "audit")])
def test_earlier_versions_of_an_index_go(yard, key):
    for body in (b"1", b"2"):
        present = yard.store.read(key)
        assert yard.store.swap(key, body, etag=present[1] if present else None)

    assert yard.sweep() == [("superseded", key, "removed")]
    assert yard.store.read(key)[0] == b"2"


@pytest.mark.parametrize("placed", ["before", "after it looked"])
def test_a_hold_on_everything_keeps_leftovers_of_all_kinds(yard, placed):
    """Also what belongs to no archive, and also where it is placed between the look and the removal."""
    upload_parts(yard.store, yard.settings, "2026-05")
    for body in (b"1", b"2"):
        present = yard.store.read(MANIFEST_INDEX)
        yard.store.swap(MANIFEST_INDEX, body, etag=present[1] if present else None)

    class PlacingAHold(PurgeStore):
        """The sweep lists uploads after it has read the holds, and before it removes anything."""

        def unfinished_uploads(self, prefix):
            yard.hold_everything()
            return super().unfinished_uploads(prefix)

    if placed == "before":
        yard.hold_everything()
    else:
        yard.purge_store = PlacingAHold(yard.object_store.client("purger"), yard.settings.store)

    assert {(kind, result) for kind, _, result in yard.sweep()} == {("unsealed", "held"), ("superseded", "held")}
    assert len(yard.parts("2026-05")) == 3


def test_looking_for_leftovers_removes_nothing(yard):
    upload_parts(yard.store, yard.settings, "2026-05")

    [found] = find_leftovers(yard.store, yard.purge_store, now=IN_A_WHILE, grace=GRACE)

    assert (found.kind, len(found.versions), len(yard.parts("2026-05"))) == ("unsealed", 3, 3)


def test_the_probe_of_a_check_that_was_killed_goes(yard):
    """It looks like a claim that has run out: the sweep needs to know nothing of checks."""
    ProbedStore(Checklist("store"), yard.store, "strongroom_store").check_archiver(NOW)
    [probe] = yard.store.versions(PROBES)

    assert ("claim", probe.key, "removed") in yard.sweep()
    assert list(yard.store.versions(PROBES)) == []


def test_staging_goes_when_its_archive_is_finished_or_it_is_old_and_stays_under_a_hold_or_a_claim(yard):
    finished = seal_month(yard.store, yard.settings, "2026-01")
    for number in range(3):
        yard.store.put_bytes(finished.delete_evidence_key(number), b"{}")
    sealed = seal_month(yard.store, yard.settings, "2026-02")
    others = [ArchiveId("public", "audit", month, 1) for month in ("2026-03", "2026-04", "2026-05")]
    for archive in (finished, sealed, *others):
        folder = FolderRoot(yard.settings.staging).of(str(archive)).folder
        folder.mkdir(parents=True)
        (folder / "part-00000.keys").write_bytes(b"1\tx\n")
    (folder.parent / "another's").mkdir()
    (folder.parent / "public.other.2026-05.0001").mkdir()
    yard.hold("2026-04")
    yard.claim("2026-05")

    soon = yard.sweep_staging(now=NOW + TTL)
    late = yard.sweep_staging()

    assert soon == [(str(finished), "removed")]
    assert late == [
        (str(sealed), "removed"),
        (str(others[0]), "removed"),
        (str(others[1]), "held"),
        (str(others[2]), "contended"),
    ]
    left = {str(others[1]), str(others[2]), "another's", "public.other.2026-05.0001"}
    assert {path.name for path in folder.parent.iterdir()} == left


def test_results_of_queries_go_after_a_day_whatever_holds_there_are(yard, tmp_path):
    """They are copies of personal data. A hold keeps the archives, in which the rows can be found again."""
    root = FolderRoot(tmp_path / "staging")
    with (
        root.of(OF_QUERIES, "manual__1.0123456789abcdef") as staging,
        staging.writing(staging.folder / "rows") as [handle],
    ):
        handle.write(b"rows")
    place_hold(yard.store, EVERYTHING, why="a test", who="ada", reference="1", now=NOW)
    written = datetime.now(timezone.utc)

    early = sweep_query_results(root, now=written + timedelta(hours=23))
    late = sweep_query_results(root, now=written + timedelta(hours=25))

    assert early == []
    assert [(one.kind, one.result) for one in late] == [("query_result", "removed")]
    assert root.children(OF_QUERIES) == []


def lay_out_restore(yard, restore_id, *archives):
    """Scratch space of a restore that broke off; returns its folder."""
    folder = Path(yard.settings.staging) / OF_RESTORES / restore_id
    for archive in archives:
        (folder / archive).mkdir(parents=True)
        (folder / archive / "part-00000.jsonl.zst").write_bytes(b"half of a pa")
    return folder


def test_staging_of_a_restore_that_broke_off_goes_when_nobody_has_touched_it_for_the_grace_age(yard):
    """Its other archives tell how old it is; the staging of another restore, and of other tables, stays."""
    folder = lay_out_restore(yard, "manual__1", "public.audit.2026-04.0001", "public.audit.2026-05.0001")
    lay_out_restore(yard, "manual__2", "public.other.2026-04.0001")
    (lay_out_restore(yard, "manual__3", "public.audit.2026-04.0001") / "notes").mkdir()
    a_while_ago = (NOW - timedelta(days=30)).timestamp()
    for path in (folder, *folder.rglob("*")):
        os.utime(path, (a_while_ago, a_while_ago))
    os.utime(folder / "public.audit.2026-05.0001" / "part-00000.jsonl.zst")

    too_early = yard.sweep_staging(now=NOW + timedelta(days=6))
    swept = yard.sweep_staging()

    assert (too_early, swept) == ([], [("manual__1", "removed")])
    assert {path.name for path in (Path(yard.settings.staging) / OF_RESTORES).iterdir()} == {"manual__2", "manual__3"}
    yard.claim("2026-04")  # the sweep has given its own claims back
    yard.claim("2026-05")


def test_staging_of_a_restore_that_is_under_way_or_under_a_hold_stays_however_old_it_is(yard):
    """A restore holds the claims of its partitions until it is over; a sweep that is refused one gives the others back."""
    months = ("2026-03", "2026-04")
    running = lay_out_restore(yard, "manual__1", *(f"public.audit.{month}.0001" for month in months))
    held = lay_out_restore(yard, "manual__2", "public.audit.2026-06.0001")
    yard.claim("2026-04")
    yard.hold("2026-06")

    assert yard.sweep_staging() == [("manual__1", "contended"), ("manual__2", "held")]
    assert (len(list(running.iterdir())), held.exists()) == (2, True)

    release_claim(yard.store, claim_key("public", "audit", "2026-04"), owner="a run", now=IN_A_WHILE)
    assert yard.sweep_staging() == [("manual__1", "removed"), ("manual__2", "held")]


def test_a_sweep_that_another_run_keeps_from_one_claim_gives_the_others_back(yard):
    """The other run takes its claim after the sweep has looked and taken its own first claim."""
    lay_out_restore(yard, "manual__1", "public.audit.2026-03.0001", "public.audit.2026-04.0001")
    overtaken = []

    class Overtaken(Store):
        def swap(self, key, body, **given):
            swapped = super().swap(key, body, **given)
            if not overtaken:
                overtaken.append(key)
                yard.claim("2026-04")
            return swapped

    yard.store = Overtaken(yard.object_store.client("archiver"), yard.settings.store)

    assert yard.sweep_staging() == [("manual__1", "contended")]
    assert overtaken == [claim_key("public", "audit", "2026-03")]
    yard.claim("2026-03")
