"""A restore is on record before its first row, and keeps other runs away."""

from __future__ import annotations

from datetime import timedelta

import pytest

from strongroom.errors import ContendedError, RestoreError
from strongroom.ledger.restore_records import active_restores
from tests.support.chain import NOW
from tests.support.database import digest
from tests.support.restoring import load, plan, restore


class TestRecord:
    def test_it_lies_in_the_store_before_the_first_row_and_keeps_every_run_away_until_it_runs_out(self, archived):
        planned = plan(archived, keep_days=10)
        assert digest(archived.conninfo)[0] == 56
        [record] = active_restores(archived.store, "public.audit", NOW)
        assert (record.who, record.why, record.partition_keys) == ("ada", "a test", ("2026-05",))
        load(archived, planned)

        held = archived.run()
        archived.now = NOW + timedelta(days=10)
        later = archived.run()

        assert (held.outcome, held.archive_id, held.deleted_rows) == ("restored", None, 0)
        assert "left alone for restore-1, until 2026-12-03 12:00 UTC, by ada: a test" in held.sentence()
        assert (later.outcome, later.archive_id, later.deleted_rows) == ("archived", "public.audit.2026-05.0002", 744)
        assert active_restores(archived.store, "public.audit", archived.now) == []

    def test_other_partitions_and_other_tables_are_archived_as_ever(self, archived):
        restore(archived)
        archived.key = "2026-06"

        assert archived.run().outcome == "archived"

    def test_a_repeat_keeps_its_date_and_is_refused_once_it_ran_out(self, archived):
        first = plan(archived)

        second = plan(archived, now=NOW + timedelta(days=3))

        assert second.until == first.until
        with pytest.raises(RestoreError, match="ran out at 2026-12-23"):
            plan(archived, now=NOW + timedelta(days=31))

    def test_who_asked_for_it_and_who_started_it_are_both_on_record(self, archived):
        """Somebody may start a restore in another's name, and cannot hide that it was them."""
        report = restore(archived, who="the auditor", triggered_by="grace")

        [record] = active_restores(archived.store, "public.audit", NOW)
        assert {(one.who, one.triggered_by) for one in (record, report)} == {("the auditor", "grace")}
        assert "by the auditor (started by grace): a test" in str(record)

    def test_a_record_that_does_not_say_who_started_it_is_found_again(self, archived):
        """Earlier versions wrote such records; a task may be cleared after an upgrade."""
        plan(archived)

        repeated = plan(archived, triggered_by="grace")

        [record] = active_restores(archived.store, "public.audit", NOW)
        assert (record.triggered_by, record.until) == (None, repeated.until)

    def test_a_run_that_works_on_the_partition_keeps_a_restore_away(self, archived):
        plan(archived, "restore-1")

        with pytest.raises(ContendedError, match="is held by restore-1"):
            plan(archived, "restore-2")

        assert [one.restore_id for one in active_restores(archived.store, "public.audit", NOW)] == ["restore-1"]
