"""What a hold covers, and what can be held at all."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.ledger.holds import EVERYTHING, Hold, HoldError, covered, covering, on_everything, parse_coverage
from strongroom.object_keys.archives import ArchiveId

NOW = datetime(2026, 11, 23, tzinfo=timezone.utc)
MAY = ArchiveId("public", "audit", "2026-05", 1)
names = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1, max_size=30)


def a_hold(what: str) -> Hold:
    return Hold(hold_id="20261123T000000Z-00000000", what=what, why="w", who="ada", reference="r", placed_at=NOW)


@pytest.mark.parametrize("what", ["public.audit", "public.audit.2026-05", "public.audit.2026-05.0001"])
def test_a_hold_covers_the_archives_of_its_table_its_partition_or_one(what):
    assert covering([a_hold(what)], MAY) == [a_hold(what)]


def test_a_hold_on_everything_covers_every_archive_and_no_other_hold_is_one():
    everything, table = a_hold(EVERYTHING), a_hold("public.audit")

    assert covering([everything], MAY) == [everything]
    assert on_everything([table, everything]) == [everything]
    assert str(everything) == "hold 20261123T000000Z-00000000 on everything by ada (r: w)"


@pytest.mark.parametrize(
    "what",
    [
        "public.audi",
        "public.audit_events",
        "audit.public",
        "public.audit.2026-0",
        "public.audit.2026-04",
        "public.audit.2026-05-01",
        "public.audit.2026-05.000",
        "public.audit.2026-05.0002",
    ],
)
def test_a_hold_covers_nothing_that_only_begins_like_it(what):
    assert covering([a_hold(what)], MAY) == []


@given(names, names)
def test_whatever_a_table_is_called_its_hold_covers_its_archives(schema_name, table_name):
    archive = ArchiveId(schema_name, table_name, "2026-05", 1)

    for what in (covered(schema_name, table_name), covered(schema_name, table_name, "2026-05"), str(archive)):
        assert a_hold(what).covers(archive)
        assert parse_coverage(what) == (schema_name, table_name, what)


def test_a_name_is_put_into_the_form_that_archives_have():
    """A hold that covers nothing because of how it is spelt would be worse than none."""
    assert parse_coverage("public.my%2dtable")[2] == "public.my-table"
    assert parse_coverage("public.audit.2026-05.00001")[2] == "public.audit.2026-05.0001"


@pytest.mark.parametrize(
    "what",
    [
        "",
        EVERYTHING,
        "audit",
        "public.audit.2026",
        "public.audit.2026-13",
        "public.audit.2026-05.1",
        "public.a b",
        "a.b/c",
    ],
)
def test_anything_else_cannot_be_held(what):
    with pytest.raises(HoldError, match="is nothing that can be held"):
        parse_coverage(what)
