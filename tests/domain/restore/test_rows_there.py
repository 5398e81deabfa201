"""Rows that are in the table already are compared, counted and left as they are."""

from __future__ import annotations

from datetime import timedelta

import pytest

from strongroom.errors import RestoreError
from strongroom.restore import load as restore_part_module
from tests.support.chain import NOW
from tests.support.database import ask, digest, execute
from tests.support.restoring import restore

SPOILING = """
CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.who := 'spoilt'; RETURN NEW; END $$;
CREATE FUNCTION spoil_all() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE public.audit SET who = 'spoilt'; RETURN NULL; END $$;
"""


class TestRowsThatAreThere:
    def test_identical_ones_are_counted_and_different_ones_listed_and_kept(self, archived):
        execute(
            archived.conninfo,
            "INSERT INTO audit (id, at, who, cost, badge) OVERRIDING SYSTEM VALUE "
            "VALUES (10, '2026-05-01', 'somebody else', 1, 10), (9999, '2026-07-01', 'thief of a badge', 0, 20)",
        )

        report = restore(archived)
        again = restore(archived, "restore-2")

        assert (report.outcome, report.inserted, report.different) == ("different", 742, 2)
        listed = [(row.key, row.why) for part in report.parts for row in part.listed]
        assert listed == [(("10",), "changed"), (("20",), "taken")]
        assert (again.inserted, again.unchanged, again.different) == (0, 742, 2)
        assert ask(archived.conninfo, "SELECT who FROM audit WHERE id = 10") == [("somebody else",)]

    def test_more_than_can_be_listed_are_counted(self, archived, monkeypatch):
        monkeypatch.setattr(restore_part_module, "LISTED_KEYS", 5)
        restore(archived)
        execute(archived.conninfo, "UPDATE audit SET who = 'changed'")

        report = restore(archived, "restore-2")

        assert (report.different, [len(part.listed) for part in report.parts]) == (744, [5, 5, 5])

    def test_the_newest_archive_of_a_row_wins(self, archived):
        """Restored, changed and archived again, a row is in two archives; the later one is what the table had last."""
        restore(archived, keep_days=1)
        execute(archived.conninfo, "UPDATE audit SET who = 'corrected' WHERE id = 100")
        archived.now = NOW + timedelta(days=2)
        assert archived.run().archive_id == "public.audit.2026-05.0002"

        report = restore(archived, "restore-2", now=archived.now)

        assert ask(archived.conninfo, "SELECT who FROM audit WHERE id = 100") == [("corrected",)]
        assert (report.inserted, report.unchanged, report.different) == (744, 743, 1)

    @pytest.mark.parametrize(
        "hook",
        [
            "CREATE TRIGGER spoil BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION spoil()",
            "CREATE TRIGGER spoil AFTER INSERT ON audit FOR EACH STATEMENT EXECUTE FUNCTION spoil_all()",
        ],
        ids=["each row", "each statement"],
    )
    def test_what_changes_rows_on_their_way_stops_the_part(self, archived, hook):
        execute(archived.conninfo, SPOILING + hook)

        with pytest.raises(RestoreError, match="not what was archived once they are in"):
            restore(archived)

        assert digest(archived.conninfo)[0] == 56

    @pytest.mark.parametrize(
        ("triggered", "target"),
        [("parted_all", "parted"), ("parted", "parted_all")],
        ids=["of a partition", "of the table it is a partition of"],
    )
    def test_a_trigger_that_changes_rows_of_partitions_stops_the_part(self, archived, triggered, target):
        """PostgreSQL 13 and 14 call the trigger that a partition has from its table an internal one."""
        execute(
            archived.conninfo,
            SPOILING + "CREATE TABLE parted (LIKE audit INCLUDING DEFAULTS, PRIMARY KEY (id)) PARTITION BY RANGE (id);"
            "CREATE TABLE parted_all PARTITION OF parted DEFAULT;"
            f"CREATE TRIGGER spoil BEFORE INSERT ON {triggered} FOR EACH ROW EXECUTE FUNCTION spoil();",
        )

        with pytest.raises(RestoreError, match="not what was archived once they are in"):
            restore(archived, target=f"public.{target}")

        assert ask(archived.conninfo, "SELECT count(*) FROM parted") == [(0,)]

    def test_rows_without_what_they_refer_to_name_the_foreign_key_and_its_table(self, archived):
        execute(
            archived.conninfo,
            "CREATE TABLE badges (badge integer PRIMARY KEY);"
            "ALTER TABLE audit ADD CONSTRAINT known_badge FOREIGN KEY (badge) REFERENCES badges NOT VALID;",
        )

        with pytest.raises(
            RestoreError, match=r"rows of public\.badges that are not there \(foreign key known_badge\)"
        ):
            restore(archived)

    def test_a_check_that_came_later_is_named_and_no_value_is(self, archived):
        execute(archived.conninfo, "ALTER TABLE audit ADD CONSTRAINT cheap CHECK (cost < 50) NOT VALID")

        with pytest.raises(RestoreError, match="CheckViolation of cheap") as caught:
            restore(archived)

        assert "agent" not in str(caught.value)


@pytest.mark.parametrize(
    ("read_first", "moved", "to"), [(0, 10, "2026-05-30 10:30+00"), (2, 700, "2026-05-01 10:30+00")]
)
def test_a_row_that_two_parts_hold_comes_back_in_its_later_form(chain, read_first, moved, to):
    """Later is what was read later, whatever the parts' order: the row moved in time between the two."""
    planned = chain.plan()
    parts = {part.number: part for part in planned.parts}
    verified = [chain.verified(planned, parts.pop(read_first))]
    execute(chain.conninfo, f"UPDATE audit SET at = '{to}', who = 'later' WHERE id = {moved}")
    verified += [chain.verified(planned, part) for part in parts.values()]
    deleted = [chain.delete(part) for part in chain.seal_parts(planned, verified).parts]

    report = restore(chain)

    assert (sum(one.rows for one in deleted), sum(one.deleted for one in deleted)) == (745, 744), "both parts have it"
    assert (report.inserted, report.different) == (744, 1)
    assert ask(chain.conninfo, f"SELECT at = '{to}', who FROM audit WHERE id = {moved}") == [(True, "later")]
    assert digest(chain.conninfo)[0] == 800
