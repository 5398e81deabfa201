"""Keys lie where DESIGN says, and no name leads out of its prefix."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.object_keys.archives import ArchiveId, ArchiveIdError, manifest_archive_id
from strongroom.object_keys.layout import table_folder
from strongroom.object_keys.records import claim_key

names = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1, max_size=30)
archive_ids = st.builds(
    ArchiveId, names, names, st.sampled_from(["2026-07", "2026-W31", "2026-07-31"]), st.integers(1, 99_999)
)


def test_an_archive_lies_where_the_format_says():
    archive = ArchiveId("public", "audit_events", "2026-07", 1)

    assert str(archive) == "public.audit_events.2026-07.0001"
    assert archive.manifest_key == "metadata/public.audit_events/2026-07/public.audit_events.2026-07.0001.json"
    assert archive.part_key(0, "zstd") == (
        "archives/public.audit_events/partition=2026-07/public.audit_events.2026-07.0001/part-00000.jsonl.zst"
    )


@given(archive_ids)
def test_what_is_written_is_read_back(archive):
    assert ArchiveId.parse(str(archive)) == archive
    assert manifest_archive_id(archive.manifest_key) == archive


@given(names, names)
def test_a_name_is_one_harmless_segment(schema_name, table_name):
    """Whatever a table is called, its folder holds no slash, no dot but the one between the names, and plain ASCII."""
    folder = table_folder(schema_name, table_name)

    assert folder.isascii()
    assert folder.count(".") == 1
    assert not set(folder) & set("/\\ \n'\"?*")
    assert claim_key(schema_name, table_name, "2026-07").count("/") == 2


@given(names, names, names, names)
def test_two_tables_never_share_a_folder(schema_one, table_one, schema_two, table_two):
    same = (schema_one, table_one) == (schema_two, table_two)

    assert (table_folder(schema_one, table_one) == table_folder(schema_two, table_two)) == same


@pytest.mark.parametrize(
    "text",
    ["", "audit", "public.audit_events.2026-07", "../x.y.2026-07.0001", "public.audit.2026-07.0001/../..", "a.b.c.1"],
)
def test_anything_else_is_not_an_archive_id(text):
    with pytest.raises(ArchiveIdError, match="is not an archive id"):
        ArchiveId.parse(text)


@pytest.mark.parametrize(
    "key", ["metadata/source.json", "metadata/a.b/2026-07/a.c.2026-07.0001.json", "a.b.2026-07.0001.json", "metadata/x"]
)
def test_other_objects_below_metadata_are_not_manifests(key):
    assert manifest_archive_id(key) is None
