"""A person is erased from a table that once was archived together with others."""

from __future__ import annotations

import pytest

from strongroom.errors import RestoreError
from strongroom.ledger.manifests import require_manifest
from strongroom.settings.units import UnitSettings
from tests.support.chain import Chain, some_settings
from tests.support.database import execute
from tests.support.erasing import LATER, Person
from tests.support.logs import with_log
from tests.support.restoring import restore
from tests.support.units import ORDERS, TABLES, UnitChain, archive_named, rows_of_may, unit_settings


@pytest.fixture
def unit(source, bucket, object_store, tmp_path) -> UnitChain:
    """Archived as a unit, in a store with a log. Its alerts are about persons, the numbers of the orders."""
    execute(source, ORDERS)
    settings = [with_log(one).in_unit(UnitSettings(TABLES)) for one in unit_settings(bucket, tmp_path / "unit")]
    unit = UnitChain(source, object_store.client("archiver"), settings)
    unit.run()
    return unit


@pytest.fixture
def person(unit, bucket, object_store, tmp_path) -> Person:
    """Alerts are a table of their own now, with columns of persons."""
    subjects = {"columns": {"order_id": "customer"}, "obligation": False, "recipients": ["Nobody"]}
    alone = with_log(some_settings(bucket, tmp_path / "alone", "order_alerts", subjects=subjects))
    return Person(Chain(unit.conninfo, unit.client, alone), object_store.client("purger"))


def test_an_archive_of_a_unit_is_named_as_not_erased_and_the_person_does_not_come_back_from_it(unit, person):
    """No archive can take its place in the unit. So it stays as it is, the case says so, and no restore loads it."""
    archive = archive_named("order_alerts")
    before = require_manifest(unit.store, archive)
    person.open("7", of_class="customer")

    found = person.find()
    person.answer()
    _, successors = person.erase()
    closing = person.close()

    [place] = [one for one in found.places if one.name == str(archive)]
    assert "no successor can take its place" in str(place.why)
    assert successors == []
    assert (closing.outcome, [one.name for one in closing.refusals]) == ("refused", [str(archive)])
    assert require_manifest(unit.store, archive) == before
    assert not unit.store.read(archive_named("order_alerts", 2).manifest_key)
    with pytest.raises(RestoreError, match=r"persons were erased from public\.order_alerts"):
        restore(unit.root, now=LATER)
    assert not any(rows_of_may(unit.conninfo)[table] for table in ("orders", "order_lines", "line_notes"))
