"""While a partition is compared, and after it was detached, its guard lets nobody change its rows."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from strongroom.archive import detach
from strongroom.errors import IntegrityError, SourceError
from tests.support.database import execute, scalar
from tests.support.partitions import (
    HELD,
    guards,
    is_refused,
    leave_guard,
)

REFUSED = (
    "INSERT INTO audit VALUES (9000, '2026-05-20 10:30+00', 'late', 1)",
    "INSERT INTO audit_2026_05 VALUES (9000, '2026-05-20 10:30+00', 'late', 1)",
    "UPDATE audit SET cost = 0 WHERE id = 10",
    "UPDATE audit SET at = '2026-05-20 10:30+00' WHERE id = 795",
    "UPDATE audit SET at = '2026-06-20 10:30+00' WHERE id = 10",
    "DELETE FROM audit WHERE id = 10",
    "TRUNCATE audit",
    "TRUNCATE audit_2026_05",
    "SET session_replication_role = replica; UPDATE audit SET cost = 0 WHERE id = 10",
)


def test_while_a_partition_is_compared_nothing_changes_its_rows(chain, monkeypatch, source):
    """Through the table, past it, and as logical replication would."""
    sealed = chain.seal(chain.plan())
    original, refused = detach.compare_with_archive, []

    def compare(*arguments: Any, **named: Any) -> Any:
        refused.extend(is_refused(source, statement) for statement in REFUSED)
        return original(*arguments, **named)

    monkeypatch.setattr(detach, "compare_with_archive", compare)

    evidence = chain.detach(sealed.parts)

    assert refused == [True] * len(REFUSED)
    assert evidence.rows == 744


def test_other_partitions_can_be_written_while_one_is_compared(chain, monkeypatch):
    sealed = chain.seal(chain.plan())
    original = detach.compare_with_archive

    def compare(*arguments: Any, **named: Any) -> Any:
        execute(chain.owner, "INSERT INTO audit VALUES (9000, '2026-06-20 10:30+00', 'new', 1)")
        execute(chain.owner, "UPDATE audit SET cost = 1 WHERE id = 9000; DELETE FROM audit WHERE id = 799")
        return original(*arguments, **named)

    monkeypatch.setattr(detach, "compare_with_archive", compare)

    assert chain.detach(sealed.parts).rows == 744


def test_a_detached_partition_takes_no_change_either(chain, source):
    chain.run()

    assert is_refused(source, f"DELETE FROM {HELD}.audit_2026_05")
    assert is_refused(source, f"TRUNCATE {HELD}.audit_2026_05")


def test_a_guard_that_somebody_opened_during_the_comparison_is_not_relied_on(chain, monkeypatch, source):
    """It is closed again before the detach; the table is compared once more, and found changed."""
    sealed = chain.seal(chain.plan())
    original, calls = detach.compare_with_archive, []

    def compare(*arguments: Any, **named: Any) -> Any:
        comparison = original(*arguments, **named)
        if not calls:
            execute(source, "ALTER TABLE audit_2026_05 DISABLE TRIGGER ALL")
            execute(source, "UPDATE audit SET cost = 0 WHERE id = 10")
            execute(source, "ALTER TABLE audit_2026_05 ENABLE ALWAYS TRIGGER strongroom_guard")
            execute(source, "ALTER TABLE audit_2026_05 ENABLE ALWAYS TRIGGER strongroom_guard_truncate")
        calls.append(comparison)
        return comparison

    monkeypatch.setattr(detach, "compare_with_archive", compare)

    with pytest.raises(IntegrityError, match="744 rows there, 744 in the archive, 743 equal") as caught:
        chain.detach(sealed.parts)

    assert len(calls) == 2
    execute(chain.owner, caught.value.hint[caught.value.hint.index("BEGIN") :])
    assert scalar(chain.owner, "SELECT count(*) FROM audit") == 800


def test_a_guard_that_cannot_be_lifted_fails_the_task_and_a_repeat_lifts_it(chain, monkeypatch):
    sealed = chain.seal(chain.plan())
    original, others = detach.compare_with_archive, []

    def compare(*arguments: Any, **named: Any) -> Any:
        if not others:
            others.append(psycopg.connect(chain.owner))
            others[0].execute("LOCK TABLE audit_2026_05 IN SHARE ROW EXCLUSIVE MODE")
        comparison = original(*arguments, **named)
        return comparison.__class__(comparison.rows, comparison.archived, 0)

    monkeypatch.setattr(detach, "compare_with_archive", compare)
    with pytest.raises(SourceError, match="could not be lifted"):
        chain.detach(sealed.parts)
    assert guards(chain) == 2
    others[0].close()

    evidence = chain.detach(sealed.parts)

    assert (guards(chain), evidence.detached) == (0, ())
    assert sum(chain.delete(part).deleted for part in sealed.parts) == 744


def test_a_guard_that_a_broken_run_left_is_lifted_by_the_purge(chain, monkeypatch):
    leave_guard(chain, monkeypatch)
    assert guards(chain) == 2

    [lifted] = chain.drop_detached()

    assert (lifted.result, guards(chain)) == ("lifted", 0)
    assert chain.drop_detached() == []


def test_a_guard_that_the_purge_cannot_lift_is_tried_again_the_next_day(chain, monkeypatch):
    leave_guard(chain, monkeypatch)
    with psycopg.connect(chain.owner) as other:
        other.execute("LOCK TABLE audit_2026_05 IN SHARE ROW EXCLUSIVE MODE")
        [stays] = chain.drop_detached()

    [lifted] = chain.drop_detached()

    assert (stays.result, lifted.result, guards(chain)) == ("contended", "lifted", 0)
