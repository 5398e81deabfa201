"""Rows in partitions that were detached are left alone, and counted."""

from __future__ import annotations

from datetime import datetime

import pytest

from strongroom.errors import (
    IntegrityError,
)
from strongroom.ledger.evidence import DetachedPartition, DetachEvidence
from strongroom.records import VerifiedPart
from tests.support.chain import NOW, RUN, Chain
from tests.support.database import execute
from tests.support.deleting import (
    evidence_of,
    left,
    require_refused,
)

BY_DAY = """
DROP TABLE audit;
CREATE TABLE audit (id bigint, branch text, at timestamptz NOT NULL, who text, PRIMARY KEY (id, branch, at));
INSERT INTO audit SELECT n, 'a', '2026-05-01 00:00+00'::timestamptz + (n - 1) * interval '1 day', 'agent' FROM generate_series(1, 9) AS n;
"""


def say_detached(chain: Chain, part: VerifiedPart, *windows: tuple[str, str]) -> None:
    """Leave evidence that partitions were detached, and the rows in the table: nothing may happen to them."""
    evidence = DetachEvidence(
        archive_id=part.archive_id,
        table="public.audit",
        detached=tuple(
            DetachedPartition(
                oid=1, partition="p", held_as="h", bounds="", start_at=start, end_at=end, rows=1, bring_back=""
            )
            for start, end in (map(instant, window) for window in windows)
        ),
        left=(),
        detached_at=NOW,
        drop_after=NOW,
        dag_id=RUN.dag_id,
        run_id=RUN.run_id,
    )
    chain.store.put_bytes(part.archive.detach_evidence_key, evidence.model_dump_json().encode())


def instant(day: str) -> datetime:
    return datetime.fromisoformat(f"2026-{day}T00:00:00+00:00")


def test_rows_in_detached_partitions_are_neither_deleted_nor_called_gone(chain):
    """Two partitions that meet and one that stands alone; a row at the end of a range is not in it."""
    execute(chain.conninfo, BY_DAY)
    [part] = chain.seal(chain.plan()).parts
    say_detached(chain, part, ("05-08", "05-09"), ("05-03", "05-05"), ("05-02", "05-03"))
    execute(chain.conninfo, "DELETE FROM audit WHERE id = 5; UPDATE audit SET who = 'changed' WHERE id = 6")

    deleted = chain.delete(part)

    counts = (deleted.detached, deleted.deleted, deleted.gone, deleted.changed)
    assert counts == (4, 3, 1, 1)
    assert left(chain) == ["2a", "3a", "4a", "6a", "8a"]
    assert evidence_of(chain, part).detached == 4


@pytest.mark.parametrize(
    "windows", [[("05-01", "06-01")], [("04-01", "07-01")], [("05-02", "06-01"), ("05-01", "05-02")]]
)
def test_a_part_that_lies_in_detached_partitions_altogether_takes_no_batch(chain, part, windows):
    """Its keys and the table's form do not matter any more."""
    say_detached(chain, part, *windows)
    execute(chain.conninfo, "ALTER TABLE audit ADD note text")
    before = left(chain)

    deleted = chain.delete(part)

    assert (deleted.detached, deleted.batches, deleted.deleted, deleted.gone) == (10, 0, 0, 0)
    assert left(chain) == before


@pytest.mark.parametrize("window", [("05-02", "06-01"), ("05-01", "05-31"), ("06-01", "07-01")])
def test_a_part_that_lies_only_partly_in_a_detached_partition_is_looked_at_row_by_row(chain, window):
    execute(chain.conninfo, BY_DAY)
    [part] = chain.seal(chain.plan()).parts
    say_detached(chain, part, window)

    deleted = chain.delete(part)

    assert (deleted.batches > 0, deleted.detached + deleted.deleted) == (True, 9)


def test_evidence_of_a_detach_that_is_damaged_stops_the_delete(chain, part):
    chain.store.put_bytes(part.archive.detach_evidence_key, b"{}")

    require_refused(chain, part, IntegrityError, "sound evidence of a detach")
