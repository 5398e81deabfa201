"""Many archives read again in one run: which, in which lanes, and what is said about them."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import pytest

from strongroom.errors import FrozenError, IdentityError, IntegrityError, PartitionError
from strongroom.object_keys.archives import ArchiveId
from strongroom.settings import TableSettings
from strongroom.statistics.rereading import (
    MOST_LANES,
    Lane,
    Reread,
    VerificationError,
    cut_lanes,
    find_archives,
    require_complete,
    require_sound,
    reread,
    sum_up,
)
from strongroom.storage.store import Store
from tests.support.chain import some_settings
from tests.support.frozen import Frozen
from tests.support.sealing import seal_month

NOW = datetime(2026, 11, 23, 12, tzinfo=timezone.utc)
MONTHS = ("2026-03", "2026-04", "2026-05")


@pytest.fixture
def settings(bucket, tmp_path) -> TableSettings:
    return some_settings(bucket, tmp_path)


@pytest.fixture
def store(object_store, settings) -> Store:
    """Three months of two parts with twenty rows each."""
    store = Store(object_store.client("archiver"), settings.store)
    for month in MONTHS:
        seal_month(store, settings, month, parts=2)
    return store


def archive(month: str, table: str = "audit") -> ArchiveId:
    return ArchiveId("public", table, month, 1)


def read_again(store: Store, *months: str) -> list[Reread]:
    lane = Lane(store_table="audit", archives=tuple(str(archive(month)) for month in months))
    return reread(store, lane, who="ada", why="a case", now=lambda: NOW)


@pytest.mark.parametrize(
    ("first", "last", "months"),
    [
        (None, None, MONTHS),
        ("2026-04", None, ("2026-04", "2026-05")),
        (None, "2026-04", ("2026-03", "2026-04")),
        ("2026-04", "2026-04", ("2026-04",)),
    ],
)
def test_the_archives_of_a_range_are_found_with_both_its_ends(store, first, last, months):
    found = find_archives(store, "public", "audit", first, last)

    assert found == [archive(month) for month in months]


def test_an_archive_whose_manifest_somebody_hid_is_found_all_the_same(store, object_store, bucket):
    """A verification must name it; leaving it out would call the rest complete."""
    object_store.client("admin").delete_object(Bucket=bucket, Key=archive("2026-04").manifest_key)

    found = find_archives(store, "public", "audit", None, None)

    assert archive("2026-04") in found
    assert [one.result for one in read_again(store, "2026-04")] == ["unverifiable"]


def test_a_range_without_an_archive_is_an_error_and_so_is_a_key_that_names_no_month(store):
    with pytest.raises(VerificationError, match=r"no archive of public.audit is in the range 2027-01 to …"):
        find_archives(store, "public", "audit", "2027-01", None)
    with pytest.raises(PartitionError):
        find_archives(store, "public", "audit", "2026-13", None)


def test_a_store_without_an_owner_is_not_read(object_store, settings):
    with pytest.raises(IdentityError):
        find_archives(Store(object_store.client("archiver"), settings.store), "public", "audit", None, None)


def test_each_archive_has_a_lane_of_its_own_until_airflow_could_not_map_over_them():
    some = [("audit", archive(month)) for month in MONTHS]
    many = [
        (table, ArchiveId("public", table, f"{2000 + number // 12}-{number % 12 + 1:02d}", 1))
        for table, count in (("audit", 1500), ("calls", 700))
        for number in range(count)
    ]

    assert [lane.archives for lane in cut_lanes(some)] == [(str(one),) for _, one in some]
    lanes = cut_lanes(many)
    assert len(lanes) <= MOST_LANES
    assert [(lane.store_table, one) for lane in lanes for one in lane.archives] == [
        (table, str(one)) for table, one in many
    ]


def test_an_unsound_archive_is_recorded_and_the_others_of_its_lane_are_read(store, object_store, bucket):
    object_store.client("admin").put_object(Bucket=bucket, Key=archive("2026-03").sums_key, Body=b"slip")

    found = read_again(store, *MONTHS)

    assert [(one.result, one.rows, one.objects) for one in found] == [
        ("corrupted", 20, 3),
        ("sound", 20, 3),
        ("sound", 20, 3),
    ]
    assert found[0].detail == "SHA256SUMS corrupted"
    records = [json.loads(store.read(key)[0]) for key in store.keys("reports/verifications/")]
    assert [(one["verified_by"], one["why"], one["problem"]) for one in records] == [("ada", "a case", None)] * 3


def test_an_archive_in_a_glacier_class_is_named_and_leaves_no_record(store, object_store, settings):
    """It was not read, so nothing is proved and nothing is wrong."""
    cold = Store(Frozen(object_store.client("archiver"), archive("2026-03")), settings.store)

    found = read_again(cold, "2026-03", "2026-04")

    assert [one.result for one in found] == ["frozen", "sound"]
    assert [key for key in store.keys("reports/verifications/") if "2026-03" in key] == []
    with pytest.raises(FrozenError, match=r"public.audit.2026-03.0001 is frozen"):
        require_sound(found)


SOUND = Reread(archive_id="a.b.2026-01.0001", result="sound", rows=10, objects=2)
DAMAGED = Reread(archive_id="a.b.2026-02.0001", result="corrupted", rows=10, objects=2, detail="part-00000 corrupted")
COLD = Reread(archive_id="a.b.2026-03.0001", result="frozen", detail="it is cold")


def test_a_lane_fails_with_the_name_and_the_damage_of_each_unsound_archive():
    require_sound([SOUND])

    with pytest.raises(IntegrityError, match=r"a\.b\.2026-02\.0001 is corrupted: part-00000 corrupted; .* is frozen"):
        require_sound([SOUND, DAMAGED, COLD])


def test_a_run_is_summed_up_in_one_line_and_is_complete_only_when_each_archive_is_sound():
    whole = sum_up(1, [SOUND], who="ada", why=None, now=NOW)
    broken = sum_up(4, [COLD, DAMAGED, SOUND], who="ada", why="a case", now=NOW + timedelta(seconds=1))

    require_complete(whole)
    assert whole.sentence() == "read 10 rows of 1 archives again: 1 sound"
    assert broken.sentence() == (
        "read 20 rows of 4 archives again: 1 corrupted, 1 frozen, 1 sound, 1 unfinished. "
        "a.b.2026-02.0001 is corrupted: part-00000 corrupted; a.b.2026-03.0001 is frozen: it is cold"
    )
    with pytest.raises(IntegrityError, match="3 of 4 archives were not proved"):
        require_complete(broken)


def test_a_run_with_many_damaged_archives_names_the_first_ten():
    many = [DAMAGED.model_copy(update={"archive_id": f"a.b.2026-02.{number:04d}"}) for number in range(1, 13)]

    said = sum_up(12, many, who="ada", why=None, now=NOW).sentence()

    assert "a.b.2026-02.0010" in said
    assert "a.b.2026-02.0011" not in said
    assert said.endswith("and 2 more")
