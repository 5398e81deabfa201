"""While a detached partition waits: what keeps it from being dropped."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from strongroom.errors import HeldError
from strongroom.ledger.evidence import DetachEvidence
from strongroom.ledger.holds import EVERYTHING, place_hold, release_hold
from strongroom.object_keys.archives import ArchiveId
from strongroom.retention import drop_detached as detached_purge
from strongroom.retention.condemn import condemn_archive
from tests.support import restoring
from tests.support.chain import NOW
from tests.support.database import execute, scalar
from tests.support.partitions import (
    COOLED,
    HELD,
    guards,
    owning,
    remove,
    tables,
)


def test_a_detached_partition_is_brought_back_by_one_command(chain):
    chain.run()
    archive = ArchiveId("public", "audit", "2026-05", 1)
    [waiting] = DetachEvidence.model_validate_json(chain.store.read(archive.detach_evidence_key)[0]).detached

    execute(chain.owner, waiting.bring_back)

    assert scalar(chain.owner, "SELECT count(*) FROM audit") == 800
    assert chain.drop_detached(now=COOLED) == []
    execute(chain.owner, "UPDATE audit SET cost = 0 WHERE id = 10")
    assert chain.run().archive_id == "public.audit.2026-05.0002"


def test_a_hold_that_comes_while_a_partition_waits_keeps_it_until_it_is_released(chain):
    chain.run()
    found = []
    for what in (EVERYTHING, "public.audit", "public.audit.2026-05", "public.audit.2026-05.0001"):
        hold = place_hold(chain.store, what, why="a case", who="counsel", reference="17", now=NOW)
        found += [one.result for one in chain.drop_detached(now=COOLED)]
        release_hold(chain.store, hold.hold_id, who="counsel", reason="closed", now=NOW)
    place_hold(chain.store, "public.audit.2026-04", why="another case", who="counsel", reference="18", now=NOW)

    [dropped] = chain.drop_detached(now=COOLED)

    assert (found, dropped.result) == (["held"] * 4, "dropped")


def test_a_hold_that_comes_in_the_middle_of_the_comparison_keeps_it(chain, monkeypatch):
    chain.run()
    original = detached_purge.compare_with_archive

    def compare(*arguments: Any, **named: Any) -> Any:
        comparison = original(*arguments, **named)
        place_hold(chain.store, "public.audit", why="a case", who="counsel", reference="17", now=NOW)
        return comparison

    monkeypatch.setattr(detached_purge, "compare_with_archive", compare)

    assert [one.result for one in chain.drop_detached(now=COOLED)] == ["held"]
    assert tables(chain)["detached"] == ["audit_2026_05"]


def test_a_hold_on_everything_stops_the_detach(chain):
    sealed = chain.seal(chain.plan())
    place_hold(chain.store, EVERYTHING, why="a case", who="counsel", reference="17", now=NOW)

    with pytest.raises(HeldError):
        chain.detach(sealed.parts)

    assert (guards(chain), len(tables(chain)["partitions"])) == (0, 3)


def test_a_partition_whose_rows_were_restored_stays_until_they_are_needed_no_more(chain):
    """Restored into a partition that somebody made in its place, so the rows are there twice."""
    chain.run()
    execute(
        chain.owner,
        "CREATE TABLE audit_2026_05 PARTITION OF audit FOR VALUES FROM ('2026-05-01+00') TO ('2026-06-01+00')",
    )
    restoring.restore(owning(chain), keep_days=2)

    [stays] = chain.drop_detached(now=COOLED)
    [dropped] = chain.drop_detached(now=COOLED + timedelta(days=2))

    assert (stays.result, stays.detail.startswith("its rows were restored: restore-1")) == ("contended", True)
    assert dropped.result == "dropped"
    assert scalar(chain.owner, "SELECT count(*) FROM audit") == 800


def test_a_partition_whose_archive_was_condemned_stays(chain, object_store):
    archive = ArchiveId.parse(chain.run().archive_id)
    remove(object_store, chain, archive.part_key(1, "zstd"))
    condemn_archive(chain.store, archive, why="lost", who="an operator", now=NOW, claim_ttl=timedelta(hours=1))

    [stays] = chain.drop_detached(now=COOLED)

    assert (stays.result, stays.detail) == ("unverifiable", "public.audit.2026-05.0001 was condemned")
    assert tables(chain)["detached"] == ["audit_2026_05"]


TAMPERED = {
    "a row that changed": (
        "ALTER TABLE {0} DISABLE TRIGGER ALL; UPDATE {0} SET cost = 0 WHERE id = 10;"
        "ALTER TABLE {0} ENABLE ALWAYS TRIGGER strongroom_guard, ENABLE ALWAYS TRIGGER strongroom_guard_truncate",
        "744 in the archive, 743 equal",
    ),
    "a row that came": (
        "ALTER TABLE {0} DISABLE TRIGGER ALL; INSERT INTO {0} VALUES (9000, '2026-05-20 10:30+00', 'late', 1);"
        "ALTER TABLE {0} ENABLE ALWAYS TRIGGER strongroom_guard, ENABLE ALWAYS TRIGGER strongroom_guard_truncate",
        "745 rows there",
    ),
    "a row that went": (
        "ALTER TABLE {0} DISABLE TRIGGER ALL; DELETE FROM {0} WHERE id = 10;"
        "ALTER TABLE {0} ENABLE ALWAYS TRIGGER strongroom_guard, ENABLE ALWAYS TRIGGER strongroom_guard_truncate",
        "743 rows there",
    ),
    "an open guard": ("ALTER TABLE {0} DISABLE TRIGGER strongroom_guard_truncate", "its guard was opened"),
    "a guard that logical replication passes": (
        "ALTER TABLE {0} ENABLE TRIGGER strongroom_guard",
        "its guard was opened",
    ),
    "another column": (
        "ALTER TABLE {0} ADD note text DEFAULT 'nowhere else'",
        "its columns are not those that were archived: note",
    ),
    "another type": (
        "ALTER TABLE {0} ALTER who TYPE varchar(99)",
        "its columns are not those that were archived: who",
    ),
    "a table that depends on it": (
        "CREATE TABLE notes (id bigint, at timestamptz, FOREIGN KEY (id, at) REFERENCES {0})",
        "something else in the database depends on it",
    ),
}


@pytest.mark.parametrize(("change", "detail"), TAMPERED.values(), ids=TAMPERED)
def test_a_detached_table_that_is_not_what_was_proved_stays(chain, change, detail):
    chain.run()
    execute(chain.owner, change.format(f"{HELD}.audit_2026_05"))

    [stays] = chain.drop_detached(now=COOLED)

    assert stays.result in ("unverifiable", "contended")
    assert detail in stays.detail
    assert tables(chain)["detached"] == ["audit_2026_05"]


def test_a_purge_that_finds_nothing_detached_leaves_no_trace_in_the_store(chain):
    """Not even whose store it is: a database with nothing to drop has no business with it."""
    assert chain.drop_detached() == []

    assert list(chain.store.keys("")) == []


def test_another_table_under_the_name_is_not_dropped(chain):
    """A copy that somebody put in its place, guard included, is no table of the evidence."""
    chain.run()
    name = f"{HELD}.audit_2026_05"
    definition = scalar(
        chain.owner,
        f"SELECT string_agg(pg_get_triggerdef(oid), ';') FROM pg_trigger WHERE tgrelid = '{name}'::regclass",
    )
    execute(chain.owner, f"CREATE TABLE copied (LIKE {name} INCLUDING ALL); INSERT INTO copied SELECT * FROM {name}")
    execute(chain.owner, f"DROP TABLE {name}; ALTER TABLE copied RENAME TO audit_2026_05")
    execute(chain.owner, f"ALTER TABLE audit_2026_05 SET SCHEMA {HELD}; {definition}")
    execute(
        chain.owner,
        f"ALTER TABLE {name} ENABLE ALWAYS TRIGGER strongroom_guard, ENABLE ALWAYS TRIGGER strongroom_guard_truncate",
    )

    [stays] = chain.drop_detached(now=COOLED)

    assert stays.result == "unfinished"
    assert tables(chain)["detached"] == ["audit_2026_05"]


def test_a_partition_whose_archive_is_damaged_stays(chain, object_store):
    report = chain.run()
    remove(object_store, chain, ArchiveId.parse(report.archive_id).part_key(1, "zstd"))

    [stays] = chain.drop_detached(now=COOLED)

    assert (stays.result, "is missing" in stays.detail) == ("unverifiable", True)
    assert tables(chain)["detached"] == ["audit_2026_05"]


@pytest.mark.parametrize(("dropped", "lost"), [(True, 744 // 2), (False, 0)])
def test_a_condemned_archive_counts_rows_as_lost_only_when_their_partition_was_dropped(
    chain, object_store, dropped, lost
):
    archive = ArchiveId.parse(chain.run().archive_id)
    if dropped:
        chain.drop_detached(now=COOLED)
    remove(object_store, chain, archive.part_key(1, "zstd"))

    found = condemn_archive(chain.store, archive, why="lost", who="ada", now=NOW, claim_ttl=timedelta(hours=1))

    assert found.lost_rows == lost
