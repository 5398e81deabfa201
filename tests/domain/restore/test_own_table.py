"""A new table takes rows that the archived table no longer takes."""

from __future__ import annotations

from datetime import timedelta

import pytest

from strongroom.errors import IntegrityError, RestoreError
from strongroom.restore.target import create_target, find_target
from tests.support.chain import NOW
from tests.support.database import ask, execute
from tests.support.restoring import manifest_of, plan, restore


class TestTableOfItsOwn:
    def test_it_takes_what_a_renamed_label_keeps_out_of_the_table(self, make):
        chain = make(
            """
            CREATE TYPE mood AS ENUM ('fine', 'so "so"'); CREATE TYPE pair AS (one mood, other text);
            CREATE TABLE audit (id integer PRIMARY KEY, at date, mood mood, moods mood[], pair pair);
            INSERT INTO audit VALUES (1, '2026-05-01', 'fine', '{fine,"so \\"so\\"",NULL}', '(fine,x)'), (2, '2026-05-01', NULL, '{}', NULL);
            """
        )
        execute(chain.conninfo, "ALTER TYPE mood RENAME VALUE 'fine' TO 'good'")
        with pytest.raises(IntegrityError, match="such as an enum without one of its labels"):
            restore(chain)

        report = restore(chain, "restore-2", target="public.own", create_target=True, now=NOW + timedelta(hours=2))
        again = restore(chain, "restore-3", target="public.own", create_target=True, now=NOW + timedelta(hours=2))

        assert (report.inserted, again.unchanged) == (2, 2)
        assert ask(chain.conninfo, "SELECT mood, moods, pair FROM own ORDER BY id") == [
            ("fine", ["fine", 'so "so"', None], "(fine,x)"), (None, [], None)
        ]  # fmt: skip

    def test_it_takes_nulls_that_the_table_takes_no_more(self, make):
        chain = make(
            "CREATE TABLE audit (id integer PRIMARY KEY, at date, who text); INSERT INTO audit VALUES (1, '2026-05-01', NULL);"
        )
        execute(chain.conninfo, "ALTER TABLE audit ALTER who SET NOT NULL")
        with pytest.raises(RestoreError, match="does not take an archived row: found NotNullViolation of who"):
            restore(chain)

        report = restore(chain, "restore-2", target="public.own", create_target=True, now=NOW + timedelta(hours=2))

        assert report.inserted == 1

    def test_a_column_of_it_takes_nulls_that_were_there_before_their_constraint(self, make):
        """As a NOT NULL constraint that is NOT VALID allows, which PostgreSQL 18 has and an older manifest calls NOT NULL."""
        chain = make()
        shape = manifest_of(chain).table
        columns = tuple(one.model_copy(update={"nullable": False}) for one in shape.columns)

        with chain.source() as connection:
            create_target(connection, shape.model_copy(update={"columns": columns}), "public", "own")
            created = find_target(connection, "public", "own")

        assert [column.name for column in created.columns.values() if not column.nullable] == ["id"]

    def test_it_takes_archives_of_different_shapes_together(self, make):
        chain = make()
        execute(
            chain.conninfo,
            "ALTER TABLE audit DROP weight, ADD note text; INSERT INTO audit VALUES (11, '2026-05-03', 'b', 1, 'c')",
        )
        chain.run()

        report = restore(chain, target="public.own", create_target=True)

        assert report.inserted == 11
        assert ask(chain.conninfo, "SELECT id, weight, note FROM own WHERE id IN (1, 11) ORDER BY 1") == [
            (1, 0.1, None), (11, None, "c")
        ]  # fmt: skip

    def test_archives_that_no_one_table_takes_are_named_before_anything_is_created(self, make):
        chain = make()
        execute(
            chain.conninfo,
            "ALTER TABLE audit ALTER badge TYPE bigint; INSERT INTO audit VALUES (11, '2026-05-03', 'b', 1, 0)",
        )
        chain.run()

        with pytest.raises(
            RestoreError,
            match=r"column badge is integer in public\.audit\.2026-05\.0001 and bigint in public\.audit\.2026-05\.0002",
        ):
            plan(chain, target="public.own", create_target=True)
        for number, archive in enumerate(["public.audit.2026-05.0001", "public.audit.2026-05.0002"]):
            report = restore(
                chain, f"restore-{number}", archives=[archive], target=f"public.own_{number}", create_target=True
            )
            assert report.outcome == "restored"

    def test_a_schema_that_is_not_there_is_named_before_the_restore_is_on_record(self, make):
        chain = make()
        before = list(chain.store.keys(""))

        with pytest.raises(RestoreError, match="there is no schema back to create the table in"):
            plan(chain, target="back.audit", create_target=True)

        assert list(chain.store.keys("")) == before
