"""Whole partitions leave the table: proved, detached, cooled off, proved again, dropped, by an owner who is no superuser."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from strongroom.archive import detach
from strongroom.errors import NeededError
from strongroom.ledger.evidence import DeleteEvidence, DetachEvidence
from strongroom.object_keys.archives import ArchiveId
from strongroom.retention.drop_detached import DropEvidence
from tests.support import restoring
from tests.support.database import execute, scalar
from tests.support.partitions import (
    COOLED,
    HELD,
    ROWS,
    WEEKS,
    guards,
    left,
    owning,
    tables,
)


def test_a_partition_that_is_just_what_was_archived_is_detached_waits_and_is_dropped(chain):
    before = scalar(chain.owner, "SELECT md5(string_agg(t::text, '|' ORDER BY id)) FROM audit_2026_05 AS t")

    report = chain.run()

    assert (report.archived_rows, report.deleted_rows, report.gone_rows, report.detached_rows) == (744, 0, 0, 744)
    assert report.sentence().endswith("744 wait in detached partitions until 2026-11-24 12:00 UTC")
    assert tables(chain) == {"partitions": ["audit_2026_04", "audit_2026_06"], "detached": ["audit_2026_05"]}
    waiting = scalar(chain.owner, f"SELECT md5(string_agg(t::text, '|' ORDER BY id)) FROM {HELD}.audit_2026_05 AS t")
    assert waiting == before
    assert scalar(chain.owner, "SELECT count(*) FROM audit") == 56

    [early] = chain.drop_detached(now=COOLED - timedelta(minutes=2))
    [dropped] = chain.drop_detached(now=COOLED)

    assert (early.result, early.rows, early.detail) == ("kept", 0, "its cooling-off runs until 2026-11-24 12:00 UTC")
    assert (dropped.result, dropped.rows) == ("dropped", 744)
    assert tables(chain)["detached"] == []
    evidence = DropEvidence.model_validate_json(chain.store.read(dropped.evidence_key)[0])
    assert (evidence.partition, evidence.rows, evidence.record_count) == ("public.audit_2026_05", 744, 744)
    assert chain.drop_detached(now=COOLED) == []
    restoring.restore(owning(chain), now=COOLED, target="public.audit_back", create_target=True)
    assert scalar(chain.owner, "SELECT md5(string_agg(t::text, '|' ORDER BY id)) FROM audit_back AS t") == before


def test_without_the_setting_rows_of_a_partition_go_by_key_as_before(make_chain):
    chain = make_chain(partition_delete={})

    report = chain.run()

    assert (report.deleted_rows, report.detached_rows) == (744, 0)
    assert len(tables(chain)["partitions"]) == 3
    assert chain.store.read(ArchiveId.parse(report.archive_id).detach_evidence_key) is None


def test_a_window_takes_the_partitions_that_it_covers_and_deletes_the_other_rows_by_key(make_chain):
    """Parts lie across partitions, and partitions across the window: all counts must still add up."""
    chain = make_chain(WEEKS + ROWS)

    report = chain.run()

    assert (report.archived_rows, report.detached_rows, report.deleted_rows, report.gone_rows) == (744, 336, 408, 0)
    assert tables(chain) == {"partitions": ["w17", "w21"], "detached": ["w19", "w20"]}
    archive = ArchiveId.parse(report.archive_id)
    evidence = DetachEvidence.model_validate_json(chain.store.read(archive.detach_evidence_key)[0])
    assert [(one.partition, one.rows) for one in evidence.detached] == [("public.w19", 168), ("public.w20", 168)]
    assert set(left(evidence).values()) == {"the window covers only a part of it"}
    for number in range(report.parts):
        part = DeleteEvidence.model_validate_json(chain.store.read(archive.delete_evidence_key(number))[0])
        assert part.deleted + part.detached == part.rows
    assert scalar(chain.conninfo, "SELECT count(*) FROM audit") == 56
    assert [one.result for one in chain.drop_detached(now=COOLED)] == ["dropped", "dropped"]
    assert tables(chain) == {"partitions": ["w17", "w21"], "detached": []}


def test_a_repeat_after_success_changes_nothing_and_says_the_same(chain):
    sealed = chain.seal(chain.plan())

    first, second = chain.detach(sealed.parts), chain.detach(sealed.parts)

    assert first == second
    assert tables(chain)["detached"] == ["audit_2026_05"]


@pytest.mark.parametrize("date_type", ["date", "timestamp"])
def test_columns_in_another_order_dropped_columns_and_other_date_types_are_compared_as_archived(make_chain, date_type):
    chain = make_chain(
        f"""
        CREATE TABLE audit (id bigint, at {date_type} NOT NULL, who text, cost numeric, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
        CREATE TABLE audit_2026_05 (who text, gone integer, at {date_type} NOT NULL, cost numeric, id bigint NOT NULL);
        ALTER TABLE audit_2026_05 DROP gone;
        ALTER TABLE audit ATTACH PARTITION audit_2026_05 FOR VALUES FROM ('2026-05-01') TO ('2026-06-01');
        INSERT INTO audit SELECT n, '2026-05-01'::timestamp + n * interval '1 hour', n, n FROM generate_series(1, 700) AS n;
        """
    )

    report = chain.run()

    assert (report.detached_rows, report.deleted_rows) == (700, 0)
    assert [one.result for one in chain.drop_detached(now=COOLED)] == ["dropped"]


MISMATCHES = {
    "a changed row": ("UPDATE audit SET cost = 0 WHERE id = 10", (0, 743, 1, 0), 57),
    "a late row": ("INSERT INTO audit VALUES (9000, '2026-05-20 10:30+00', 'late', 1)", (0, 744, 0, 0), 57),
    "a missing row": ("DELETE FROM audit WHERE id = 10", (0, 743, 0, 1), 56),
    "a row in place of another": (
        "DELETE FROM audit WHERE id = 10; INSERT INTO audit VALUES (9000, '2026-05-20 10:30+00', 'late', 1)",
        (0, 743, 0, 1),
        57,
    ),
}


@pytest.mark.parametrize(("change", "counts", "rows"), MISMATCHES.values(), ids=MISMATCHES)
def test_a_partition_that_differs_from_the_archive_stays_and_its_rows_go_by_key(chain, change, counts, rows):
    sealed = chain.seal(chain.plan())
    execute(chain.owner, change)

    evidence = chain.detach(sealed.parts)

    assert left(evidence)["audit_2026_05"].startswith("it is not what was archived: ")
    assert guards(chain) == 0
    deleted = [chain.delete(part) for part in sealed.parts]
    found = [sum(getattr(one, name) for one in deleted) for name in ("detached", "deleted", "changed", "gone")]
    assert tuple(found) == counts
    assert scalar(chain.owner, "SELECT count(*) FROM audit") == rows


BETWEEN = {
    "a row that changes": ("UPDATE audit SET who = 'changed at the last moment' WHERE id = 10", (744, 743)),
    "a row that comes": ("INSERT INTO audit VALUES (9000, '2026-05-20 10:30+00', 'late', 1)", (745, 744)),
    "a row that goes": ("DELETE FROM audit WHERE id = 10", (743, 743)),
}


@pytest.mark.parametrize(("change", "counts"), BETWEEN.values(), ids=BETWEEN)
def test_what_happens_between_the_look_and_the_guard_is_noticed(chain, monkeypatch, change, counts):
    """The look counted the rows before it, so only the comparison under the guard can tell."""
    sealed = chain.seal(chain.plan())
    original = detach.count_rows

    def count_rows(*arguments: Any) -> int:
        rows = original(*arguments)
        execute(chain.owner, change)
        return rows

    monkeypatch.setattr(detach, "count_rows", count_rows)

    evidence = chain.detach(sealed.parts)

    there, equal = counts
    assert left(evidence)["audit_2026_05"] == (
        f"it is not what was archived: {there} rows there, 744 in the archive, {equal} equal"
    )
    assert (guards(chain), len(tables(chain)["partitions"])) == (0, 3)


def test_a_restore_into_the_table_is_told_that_a_partition_is_missing(chain):
    chain.run()

    with pytest.raises(Exception, match="has no partition for an archived row"):
        restoring.restore(owning(chain))


def test_rows_that_were_restored_are_not_detached(chain):
    sealed = chain.seal(chain.plan())
    restoring.restore(owning(chain))

    with pytest.raises(NeededError):
        chain.detach(sealed.parts)


def test_the_evidence_is_plain_json_that_says_what_waits_and_until_when(chain):
    chain.run()

    body = json.loads(chain.store.read(ArchiveId("public", "audit", "2026-05", 1).detach_evidence_key)[0])

    assert (body["drop_after"][:16], body["detached"][0]["rows"]) == ("2026-11-24T12:00", 744)
