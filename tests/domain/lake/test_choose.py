"""Archives that a reader would not find as they were sealed, or that hold rows of a person who was erased, are left out."""

from __future__ import annotations

import pytest

from tests.domain.lake.test_lake import JUNE, MAY
from tests.support.erasing import ADA, CARL, fill_erased_store
from tests.support.lakes import a_lakeside, archive


def test_frozen_and_overwritten_parts_take_their_archives_out(chain, lakeside, object_store):
    archive(chain, "2026-05", "2026-06")
    lakeside.reconcile()
    admin, bucket = object_store.client("admin"), chain.settings.store.bucket
    place = {"Bucket": bucket, "Key": MAY.part_key(0, "zstd", "parquet")}
    body = admin.get_object(**place)
    rows = body["Body"].read()
    admin.delete_object(**place, VersionId=body["VersionId"])
    admin.put_object(**place, Body=rows, StorageClass="GLACIER")
    admin.put_object(Bucket=bucket, Key=JUNE.part_key(0, "zstd", "parquet"), Body=rows)

    state = lakeside.reconcile()

    assert {one.archive_id: one.reason for one in state.left_out} == {str(MAY): "frozen", str(JUNE): "unreadable"}
    assert (state.removed, state.rows) == ((str(MAY), str(JUNE)), 0)


def test_a_part_that_is_no_parquet_leaves_its_archive_out_alone(chain, lakeside, object_store):
    archive(chain, "2026-05", "2026-06")
    admin, place = object_store.client("admin"), {"Bucket": chain.settings.store.bucket}
    key = MAY.part_key(1, "zstd", "parquet")
    there = admin.head_object(**place, Key=key)
    admin.delete_object(**place, Key=key, VersionId=there["VersionId"])
    admin.put_object(**place, Key=key, Body=bytes(there["ContentLength"]))

    state = lakeside.reconcile()

    assert (state.added, [one.reason for one in state.left_out]) == ((str(JUNE),), ["unreadable"])
    assert "part-00001.parquet" in state.left_out[0].detail


@pytest.mark.thorough
def test_a_person_who_was_erased_is_not_in_the_table(source, object_store, bucket, tmp_path):
    person = fill_erased_store(source, object_store, bucket, tmp_path, "parquet")
    lakeside = a_lakeside(object_store, person.chain.settings, tmp_path)

    state = lakeside.reconcile(now=person.chain.now)

    assert (state.added, [one.reason for one in state.left_out]) == (("public.audit.2026-05.0003",), ["superseded"])
    rows = lakeside.rows()
    assert len(rows) == state.rows == 691
    assert not {row[column] for row in rows for column in ("caller", "callee")} & {ADA, CARL}
