"""What becomes of the archives of a unit afterwards: holds, statistics, queries, an auditor."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from strongroom.ledger.holds import covered, place_hold
from strongroom.ledger.journal import enter
from strongroom.ledger.manifest_record import faults_of
from strongroom.ledger.manifests import require_manifest
from strongroom.retention.condemn import CondemnError, condemn_archive
from strongroom.retention.decide import judge
from strongroom.settings.units import UnitSettings
from strongroom.statistics.waiting import count_waiting
from tests.support.audited import copy_bucket
from tests.support.chain import NOW
from tests.support.logs import KEY, with_log
from tests.support.querying import ask
from tests.support.tools import verify_evidence
from tests.support.units import TABLES, DiedError, UnitChain, archive_named, die_at_manifest, unit_settings

MUCH_LATER = datetime(2036, 1, 1, tzinfo=timezone.utc)
HOLD = {"who": "ada", "why": "a case", "reference": "Case 4711"}


def test_a_hold_on_one_table_keeps_the_archives_of_all(unit):
    unit.run()
    assert {one.reason for one in judge(unit.store, now=MUCH_LATER)} == {"expired"}

    place_hold(unit.store, covered("public", "line_notes"), **HOLD, now=NOW)

    decisions = judge(unit.store, now=MUCH_LATER)
    assert [(one.reason, one.purge) for one in decisions] == [("held", False)] * len(TABLES)


def test_an_archive_is_not_condemned_under_a_hold_on_another_table_of_its_unit(unit, object_store, bucket):
    [part] = [one for one in unit.seal(unit.plan()) if one.archive.table_name == "order_alerts"]
    object_store.client("admin").delete_object(Bucket=bucket, Key=part.object_key, VersionId=part.version_id)
    place_hold(unit.store, covered("public", "orders"), **HOLD, now=NOW)
    given = {"why": "lost", "who": "ada", "now": NOW, "claim_ttl": timedelta(hours=1)}

    with pytest.raises(CondemnError, match="Case 4711"):
        condemn_archive(unit.store, part.archive, **given)


def test_what_waits_is_counted_in_the_root_alone(unit):
    counts = {}
    for name, chain in unit.chains.items():
        with chain.source() as connection:
            counts[name] = count_waiting(connection, chain.settings, now=unit.now)

    assert sum(one.rows for one in counts["public.orders"].waiting) == 102
    assert [counts[f"public.{name}"].waiting for name in TABLES[1:]] == [(), (), ()]
    assert counts["public.order_lines"].hot_rows > 0


def test_a_query_finds_rows_by_whole_partitions(unit):
    unit.run()
    lines = unit.chains["public.order_lines"]

    whole = ask(lines, since="2026-05-01", before="2026-06-01")
    some = ask(lines, since="2026-05-03", before="2026-06-01", now=NOW + timedelta(minutes=1))

    assert (whole.rows, whole.not_searched) == (270, ())
    [left] = some.not_searched
    assert "rows of public.orders date its rows" in left.detail


@pytest.fixture
def logged(source, bucket, object_store, tmp_path, unit) -> UnitChain:
    """The same unit in a store with a log."""
    of_unit = unit_settings(bucket, tmp_path / "logged")
    settings = [with_log(one).in_unit(UnitSettings(TABLES)) for one in of_unit]
    return UnitChain(source, object_store.client("archiver"), settings)


@pytest.fixture
def audit(bucket, object_store, tmp_path):
    """Audits a copy of the bucket; what is false in it."""

    def false() -> list[str]:
        versions = copy_bucket(object_store.client("admin"), bucket, tmp_path / "copy")
        return verify_evidence(tmp_path / "copy", "--key", str(KEY.verifier), "--versions", versions).of("false")

    return false


def test_an_auditor_proves_a_unit(logged, audit):
    logged.run()

    assert audit() == []


def test_an_auditor_sees_that_rows_went_before_all_of_a_unit_was_sealed(logged, audit, monkeypatch):
    plan = logged.plan()
    die_at_manifest(monkeypatch, logged, 3)
    with pytest.raises(DiedError):
        logged.seal_parts(plan, logged.verified(plan))
    assert audit() == []

    part = plan.all_tables[0].parts[0]
    with logged.root.staging(part.archive_id) as staging:
        act = logged.root.deleting_step(staging).act(part.archive, "delete intended", part=0, rows=1)
    enter(logged.store, act, [])

    said = audit()
    assert any("public.orders.2026-05.0001 of the same unit was never sealed" in text for text in said), said


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"format_version": 3}, "a unit in version 3"),
        ({"unit": ()}, "no unit in version 5"),
        ({"unit": (), "format_version": 3}, "rows that rows of another table date, without a unit"),
        ({"record_count": 1}, "a unit that does not name the archive as it is"),
    ],
)
def test_a_manifest_that_contradicts_itself_about_its_unit_is_not_believed(of_lines, changes, fault):
    assert fault in [*faults_of(of_lines.model_copy(update=changes), archive_named("order_lines"))]


def test_a_unit_of_two_archives_of_one_table_is_none(of_lines):
    twice = of_lines.unit[-1].model_copy(update={"archive_id": "public.order_lines.2026-05.0002"})

    faults = [*faults_of(of_lines.model_copy(update={"unit": (*of_lines.unit, twice)}), archive_named("order_lines"))]

    assert faults == ["a unit of anything but one archive of its partition for each table"]


@pytest.fixture
def of_lines(unit):
    """The manifest of the lines' archive."""
    unit.seal(unit.plan())
    return require_manifest(unit.store, archive_named("order_lines"))
