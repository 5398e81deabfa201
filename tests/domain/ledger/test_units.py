"""Archives of a unit as the ledger knows them: which rows go first, what a hold covers, and what makes a unit whole."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from strongroom.errors import ChildrenLeftError
from strongroom.ledger.holds import Hold
from strongroom.ledger.manifest_record import Manifest, UnitArchive
from strongroom.ledger.manifests import Attested
from strongroom.ledger.units import children_left, covering_unit, require_children_gone
from strongroom.object_keys.archives import ArchiveId
from strongroom.records import ForeignKey
from tests.support.synthetic import a_manifest

PARENTS = {"orders": None, "lines": "orders", "alerts": "orders", "notes": "lines"}


def a_unit() -> dict[str, Manifest]:
    """The manifests of orders, of lines and alerts one level below, and of notes on lines."""
    found = {}
    for table in PARENTS:
        manifest, path, place = a_manifest(table), [], table
        while (parent := PARENTS[place]) is not None:
            path.append(ForeignKey(name="up", columns=("up",), parent=f"public.{parent}", parent_columns=("id",)))
            place = parent
        shape = manifest.table.model_copy(update={"dated_through": tuple(path)})
        found[table] = manifest.model_copy(update={"table": shape})
    named = tuple(
        UnitArchive(archive_id=one.archive_id, record_count=one.record_count, checksum=one.checksum)
        for one in found.values()
    )
    return {table: manifest.model_copy(update={"unit": named}) for table, manifest in found.items()}


UNIT = a_unit()
OTHERS = {table: [UNIT[each] for each in PARENTS if each != table] for table in PARENTS}


def attested(manifest: Manifest, deleted_parts: int) -> Attested:
    archive = ArchiveId.parse(manifest.archive_id)
    return Attested(manifest, frozenset(map(archive.delete_evidence_key, range(deleted_parts))))


def left(table: str, *, deleted_parts: int) -> set[str]:
    """The tables that a table waits for, while each of the others has lost the rows of so many of its two parts."""
    ids = children_left(UNIT[table], [attested(each, deleted_parts) for each in OTHERS[table]])
    return {ArchiveId.parse(one).table_name for one in ids}


@pytest.mark.parametrize(
    ("table", "waits_for"),
    [("orders", {"lines", "alerts", "notes"}), ("lines", {"notes"}), ("alerts", {"notes"}), ("notes", set())],
)
def test_rows_wait_for_all_parts_of_the_tables_further_from_the_root(table, waits_for):
    """Not for those of their own level, and not for those above them."""
    assert left(table, deleted_parts=0) == waits_for
    assert left(table, deleted_parts=1) == waits_for
    assert left(table, deleted_parts=2) == set()


def test_whoever_must_wait_is_told_for_what():
    with pytest.raises(ChildrenLeftError) as refused:
        require_children_gone(UNIT["lines"], [attested(each, 0) for each in OTHERS["lines"]])

    assert "public.notes.2026-05.0001" in str(refused.value.found)
    require_children_gone(UNIT["lines"], [attested(each, 2) for each in OTHERS["lines"]])


@pytest.mark.parametrize(
    ("what", "covers"),
    [
        ("public.orders", True),
        ("public.notes", True),
        ("public.notes.2026-06", False),
        ("public.other", False),
        ("*", True),
    ],
)
def test_a_hold_on_one_table_covers_all_archives_of_the_unit(what, covers):
    hold = Hold(
        hold_id="1",
        what=what,
        why="a case",
        who="ada",
        reference="17",
        placed_at=datetime(2026, 1, 1, tzinfo=timezone.utc),
    )

    for manifest in UNIT.values():
        assert covering_unit([hold], manifest) == ([hold] if covers else [])
    alone = a_manifest("alone")
    assert covering_unit([hold], alone) == ([hold] if what == "*" else [])
