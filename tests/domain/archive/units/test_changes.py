"""What changes around a unit between two tries: its settings, its archives in the store, restores of one of its tables."""

from __future__ import annotations

import pytest

from strongroom.errors import IntegrityError, NeededError
from strongroom.ledger.manifests import require_manifest
from strongroom.ledger.units import require_unit
from tests.support.restoring import restore
from tests.support.units import TABLES, UnitChain, archive_named, rows_of, rows_of_may, unit_settings


def test_a_run_is_resumed_when_the_settings_name_the_members_in_another_order(unit, bucket, tmp_path):
    unit.seal(unit.plan())
    root, *members = TABLES
    turned = UnitChain(unit.conninfo, unit.client, unit_settings(bucket, tmp_path, root, *reversed(members)))

    plan = turned.plan()
    sealed = turned.seal_parts(plan, turned.sealed(plan))

    turned.finish(plan, [part for one in sealed for part in one.parts])
    assert not any(rows_of_may(unit.conninfo).values())


@pytest.mark.parametrize("left", [0, 1])
def test_a_plan_stops_at_an_archive_of_a_member_that_is_gone(unit, object_store, bucket, left):
    """Its rows were deleted. Whether or not rows of its siblings are left, nobody may overlook that."""
    parts = unit.seal(unit.plan())
    for part in parts[: len(parts) - left]:
        unit.delete(part)
    remove_manifest(object_store.client("admin"), bucket, archive_named("order_lines").manifest_key)

    with pytest.raises(IntegrityError, match=r"public\.order_lines\.2026-05\.0001"):
        unit.plan()


def remove_manifest(client, bucket, key):
    listed = client.list_object_versions(Bucket=bucket)["Versions"]
    [version] = [one for one in listed if one["Key"].endswith(key)]
    client.delete_object(Bucket=bucket, Key=version["Key"], VersionId=version["VersionId"])


def test_while_one_table_is_restored_no_row_of_the_others_is_deleted(unit):
    """A delete that is cleared goes by the same rule as the plan."""
    parts = unit.seal(unit.plan())
    restore(unit.root, archives=["public.orders.2026-05.0001"])
    before = rows_of(unit.conninfo)

    with pytest.raises(NeededError, match=r"public\.orders 2026-05 was restored"):
        unit.delete(parts[0])

    assert rows_of(unit.conninfo) == before


@pytest.mark.parametrize("what", ["count", "table"])
def test_an_archive_of_another_unit_lets_no_row_go(unit, what):
    """It is sealed and sound, and says of the unit another thing than the archive whose rows are to go."""
    unit.seal(unit.plan())
    manifest = require_manifest(unit.store, archive_named("order_lines"))
    first, *others = manifest.unit
    if what == "count":
        other = (first.model_copy(update={"record_count": first.record_count + 1}), *others)
    else:
        other = tuple(one for one in manifest.unit if "line_notes" not in one.archive_id)

    assert [one.manifest.archive_id for one in require_unit(unit.store, manifest)] == [
        one.archive_id for one in manifest.unit if one.archive_id != manifest.archive_id
    ]
    with pytest.raises(IntegrityError, match="which is not there as it should be") as refused:
        require_unit(unit.store, manifest.model_copy(update={"unit": other}))

    assert refused.value.found == "an archive of another unit"
