"""Archived rows fit a table whose schema changed, or the restore is refused before a row is loaded."""

from __future__ import annotations

import pytest

from strongroom.errors import RestoreError
from tests.support.database import ask, execute
from tests.support.restoring import load, plan, restore


class TestSchemaDrift:
    def test_added_columns_take_their_default(self, archived):
        execute(archived.conninfo, "ALTER TABLE audit ADD note text DEFAULT 'none', ADD seen timestamptz")

        planned = plan(archived)
        load(archived, planned)

        assert planned.added == ("note", "seen")
        assert ask(archived.conninfo, "SELECT DISTINCT note, seen FROM audit") == [("none", None)]

    def test_an_added_column_that_takes_no_null_is_named(self, archived):
        execute(
            archived.conninfo,
            "ALTER TABLE audit ADD n integer NOT NULL DEFAULT 1; ALTER TABLE audit ALTER n DROP DEFAULT",
        )

        with pytest.raises(RestoreError, match=r"column n \(integer\) was added, takes no NULL and has no default"):
            plan(archived)

    def test_a_dropped_column_is_refused_or_kept_aside_as_the_caller_chooses(self, archived):
        execute(archived.conninfo, "ALTER TABLE audit DROP cost CASCADE")
        with pytest.raises(
            RestoreError, match=r"column cost \(numeric\) was dropped.*column tax \(numeric\) was dropped"
        ):
            plan(archived)
        with pytest.raises(RestoreError, match=r"ADD COLUMN .strongroom_dropped. jsonb"):
            plan(archived, dropped_columns="keep")
        execute(archived.conninfo, "ALTER TABLE audit ADD strongroom_dropped jsonb")

        report = restore(archived, dropped_columns="keep")
        again = restore(archived, "restore-2", dropped_columns="keep")

        assert (report.inserted, again.inserted, again.unchanged) == (744, 0, 744)
        kept = "SELECT strongroom_dropped::text FROM audit WHERE id = 7"
        assert ask(archived.conninfo, kept) == [('{"tax": 0.07500000000000000000000, "cost": 1.00000000000000000000}',)]

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            ("ALTER TABLE audit RENAME who TO whom", r"column who \(text\) is gone and looks renamed to whom"),
            ("ALTER TABLE audit ALTER badge TYPE bigint", "column badge was archived as integer and is bigint now"),
            ("ALTER TABLE audit DROP CONSTRAINT audit_pkey", "no unique index on just id"),
            ("ALTER TABLE audit DROP id", "column id .* is gone, and rows are identified by it"),
        ],
    )
    def test_what_does_not_fit_is_named_before_anything_is_loaded(self, archived, change, told):
        execute(archived.conninfo, change)
        before = list(archived.store.keys(""))

        with pytest.raises(RestoreError, match=told):
            plan(archived, dropped_columns="keep")

        assert list(archived.store.keys("")) == before
