"""A restored row is compared with its archived form before it is committed, whatever changed about the table meanwhile."""

from __future__ import annotations

import pytest
from psycopg.conninfo import make_conninfo

from strongroom.errors import RestoreError
from tests.support.chain import NOW
from tests.support.database import ask, execute
from tests.support.restoring import TEN_ROWS, load, plan, restore

ALTERING = "CREATE FUNCTION alter_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} RETURN NEW; END $$;"
BEFORE_EACH_ROW = "CREATE TRIGGER spoiler BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION alter_it();"


class TestWhatHappensOnTheWay:
    def test_a_generated_column_with_another_expression_is_named_and_nothing_is_committed(self, make):
        chain = make(
            """
            CREATE TABLE audit (id integer PRIMARY KEY, at date, cost numeric, tax numeric GENERATED ALWAYS AS (cost * 0.05) STORED);
            INSERT INTO audit VALUES (1, '2026-05-01', 10);
            """
        )
        execute(
            chain.conninfo,
            "ALTER TABLE audit DROP tax, ADD tax numeric GENERATED ALWAYS AS (cost * 0.075) STORED",
        )

        with pytest.raises(RestoreError, match=r"its column tax \(archived as numeric, numeric now, generated\)"):
            restore(chain)

        assert ask(chain.conninfo, "SELECT count(*) FROM audit") == [(0,)]

    @pytest.mark.parametrize(
        ("there", "indexed"), [(False, False), (False, True), (True, False)], ids=["by key", "by range", "compared"]
    )
    @pytest.mark.parametrize(
        ("body", "trigger"),
        [
            pytest.param(
                "NEW.who := 'altered'; CREATE TEMP TABLE IF NOT EXISTS pg_trigger AS "
                "SELECT * FROM pg_catalog.pg_trigger WHERE false;",
                BEFORE_EACH_ROW,
                id="behind-a-table-named-pg_trigger",
            ),
            pytest.param(
                "NEW.weight := 0.10000000000000002; PERFORM set_config('extra_float_digits', '0', false);",
                BEFORE_EACH_ROW,
                id="behind-fewer-digits",
            ),
            pytest.param(
                "NEW.who := 'altered'; PERFORM set_config('search_path', 'public, pg_catalog', false);",
                "CREATE FUNCTION concat(record) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN regexp_replace("
                r"""pg_catalog.concat($1), '^\((\d+),(.*),altered,', '(\1,\2,"agent \1",'); END $$;"""
                + BEFORE_EACH_ROW,
                id="behind-another-search_path",
            ),
            pytest.param(
                "UPDATE public.audit SET who = 'altered'; DELETE FROM pg_temp.strongroom_added;",
                "CREATE TRIGGER spoiler AFTER INSERT ON audit FOR EACH STATEMENT EXECUTE FUNCTION alter_it();",
                id="behind-a-table-of-ours",
            ),
            pytest.param(
                "UPDATE public.audit SET who = 'altered' WHERE id = NEW.id;",
                "CREATE CONSTRAINT TRIGGER spoiler AFTER INSERT ON audit DEFERRABLE INITIALLY DEFERRED "
                "FOR EACH ROW EXECUTE FUNCTION alter_it();",
                id="at-the-end-of-the-transaction",
            ),
        ],
    )
    def test_no_trigger_hides_what_it_altered(self, make, body, trigger, there, indexed):
        chain = make(TEN_ROWS + ("CREATE INDEX ON audit (at);" if indexed else ""))
        execute(
            chain.conninfo,
            ("INSERT INTO audit VALUES (5, '2026-05-02', 'agent 5', 5, 0.1);" if there else "")
            + ALTERING.format(body=body)
            + trigger,
        )

        with pytest.raises(RestoreError, match="not what was archived once they are in") as caught:
            restore(chain)

        assert "spoiler" in str(caught.value)
        assert ask(chain.conninfo, "SELECT id, who FROM audit") == ([(5, "agent 5")] if there else [])

    def test_a_trigger_that_leaves_rows_as_they_are_fires_and_stops_nothing(self, make):
        chain = make()
        execute(
            chain.conninfo,
            "CREATE TABLE log (id bigint);"
            + ALTERING.format(body="INSERT INTO public.log VALUES (NEW.id);")
            + BEFORE_EACH_ROW,
        )

        assert restore(chain).inserted == 10
        assert ask(chain.conninfo, "SELECT count(*) FROM log") == [(10,)]

    @pytest.mark.parametrize("there", [False, True], ids=["copied", "compared"])
    def test_a_trigger_that_raises_is_named_and_its_words_are_not(self, make, there):
        chain = make()
        execute(
            chain.conninfo,
            ("INSERT INTO audit VALUES (5, '2026-05-02', 'agent 5', 5, 0.1);" if there else "")
            + ALTERING.format(body="RAISE EXCEPTION 'not %', NEW.who;")
            + BEFORE_EACH_ROW,
        )

        with pytest.raises(
            RestoreError, match=r"a trigger of public\.audit raised an error.*found spoiler: RaiseException"
        ) as caught:
            restore(chain)

        assert "agent" not in str(caught.value)

    def test_a_trigger_that_keeps_rows_out_is_named_and_no_row_is_called_taken(self, make):
        chain = make()
        execute(
            chain.conninfo,
            ALTERING.format(body="IF NEW.id % 2 = 0 THEN RETURN NULL; END IF;") + BEFORE_EACH_ROW,
        )

        with pytest.raises(RestoreError, match=r"a trigger kept 5 rows out of public\.audit: found spoiler"):
            restore(chain)

        assert ask(chain.conninfo, "SELECT count(*) FROM audit") == [(0,)]

    def test_a_row_that_meets_another_is_called_taken_beside_such_a_trigger_too(self, make):
        chain = make(TEN_ROWS + "CREATE UNIQUE INDEX one_badge ON audit (badge);")
        execute(
            chain.conninfo,
            "INSERT INTO audit VALUES (99, '2026-06-01', 'thief of a badge', 7, 0);"
            + ALTERING.format(body="IF NEW.id < 0 THEN RETURN NULL; END IF;")
            + BEFORE_EACH_ROW,
        )

        report = restore(chain)

        assert (report.inserted, report.different) == (9, 1)
        assert [(row.key, row.why) for part in report.parts for row in part.listed] == [(("7",), "taken")]

    def test_what_was_put_aside_is_compared_too(self, make):
        chain = make()
        execute(
            chain.conninfo,
            "ALTER TABLE audit DROP who, ADD strongroom_dropped jsonb;"
            + ALTERING.format(body="NEW.strongroom_dropped := NEW.strongroom_dropped || '{\"who\": 1}';")
            + BEFORE_EACH_ROW,
        )

        with pytest.raises(RestoreError, match=r"10 rows are not what was archived.* its column strongroom_dropped"):
            restore(chain, dropped_columns="keep")

    @pytest.mark.parametrize("event", ["INSERT", "UPDATE"])
    def test_a_rule_that_would_rewrite_the_insert_is_named_before_anything_is_loaded(self, make, event):
        chain = make()
        execute(chain.conninfo, f"CREATE RULE elsewhere AS ON {event} TO audit DO ALSO NOTHING")

        with pytest.raises(RestoreError, match=f"its rule elsewhere on {event} would rewrite what is loaded"):
            plan(chain)

    def test_a_domain_that_takes_no_null_any_more_is_named(self, make):
        chain = make(
            """
            CREATE DOMAIN person AS text; CREATE TABLE audit (id integer PRIMARY KEY, at date, who person);
            INSERT INTO audit VALUES (1, '2026-05-01', NULL);
            """
        )
        execute(chain.conninfo, "ALTER DOMAIN person SET NOT NULL")

        with pytest.raises(RestoreError, match="does not take an archived row: found NotNullViolation of person"):
            restore(chain)


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("session_replication_role=replica", "would check no foreign key of restored rows"),
        ("default_transaction_read_only=on", "takes no writes: found read-only transactions"),
    ],
)
def test_a_session_that_cannot_restore_says_why(make, setting, told):
    chain = make()
    planned = plan(chain)
    chain.conninfo = make_conninfo(chain.conninfo, options=f"-c {setting}")

    with pytest.raises(RestoreError, match=told):
        plan(chain, "restore-2", now=NOW)
    with pytest.raises(RestoreError, match=told):
        load(chain, planned)
