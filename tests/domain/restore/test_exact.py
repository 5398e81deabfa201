"""A restored row is compared with its archived form before it is committed, whatever changed about the table meanwhile."""

from __future__ import annotations

from datetime import timedelta

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from strongroom.errors import IntegrityError, RestoreError
from strongroom.ledger.manifest_record import Manifest
from strongroom.ledger.manifests import require_manifest
from strongroom.object_keys import ArchiveId
from strongroom.restore.fit import fit_columns
from strongroom.restore.target import create_target, find_target
from tests.support.chain import NOW, Chain, some_settings
from tests.support.restoring import load, plan, restore

FORMATS = ["jsonl", "parquet"]
AUDIT = """
CREATE TABLE audit (id bigint PRIMARY KEY, at timestamptz NOT NULL, who text, badge integer, weight float8);
INSERT INTO audit SELECT n, '2026-05-02', 'agent ' || n, n, 0.1 FROM generate_series(1, 10) AS n;
"""
ALTERING = "CREATE FUNCTION alter_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} RETURN NEW; END $$;"
BEFORE_EACH_ROW = "CREATE TRIGGER spoiler BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION alter_it();"


def execute(conninfo, statements):
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(statements)


def ask(conninfo, query):
    with psycopg.connect(conninfo) as connection:
        return connection.execute(query).fetchall()


@pytest.fixture
def make(source, object_store, bucket, tmp_path):
    """Archive May of the table `audit` that some statements create, and delete it."""

    def archived(statements=AUDIT, **changes) -> Chain:
        execute(source, statements)
        chain = Chain(source, object_store.client("archiver"), some_settings(bucket, tmp_path, **changes))
        assert chain.run().outcome == "archived"
        return chain

    return archived


def manifest_of(chain: Chain, sequence: int = 1) -> Manifest:
    return require_manifest(chain.store, ArchiveId("public", "audit", "2026-05", sequence))


class TestTypes:
    @pytest.mark.parametrize(
        ("wide", "narrow", "value"),
        [
            ("numeric(12,4)", "numeric(12,2)", "1.2345"),
            ("timestamp with time zone", "timestamp(0) with time zone", "2026-05-01 12:00:00.4+00"),
            ("character varying(9)", "character(3)", "ab"),
        ],
    )
    def test_a_domain_over_another_type_is_refused_and_both_types_are_named(self, make, wide, narrow, value):
        chain = make(
            f"CREATE DOMAIN kind AS {wide}; CREATE TABLE audit (id integer PRIMARY KEY, at date, v kind);"
            f"INSERT INTO audit VALUES (1, '2026-05-01', '{value}');"
        )
        execute(
            chain.conninfo,
            f"ALTER TABLE audit DROP v; DROP DOMAIN kind; CREATE DOMAIN kind AS {narrow}; ALTER TABLE audit ADD v kind",
        )

        with pytest.raises(RestoreError) as caught:
            plan(chain)

        assert f"its column v was archived as public.kind over {wide} and is public.kind over {narrow} now" in str(
            caught.value
        )

    @pytest.mark.parametrize("format", FORMATS)
    @pytest.mark.parametrize("there", [False, True], ids=["copied", "compared"])
    def test_what_a_type_rounds_deep_inside_is_not_committed(self, make, format, there):
        """The composite looks as it did; only what one of its domains stands on is another."""
        chain = make(
            """
            CREATE DOMAIN amount AS numeric(12,4); CREATE TYPE price AS (amount amount, currency text);
            CREATE TABLE audit (id integer PRIMARY KEY, at date, price price);
            INSERT INTO audit VALUES (1, '2026-05-01', '(1.2345,NGN)'), (2, '2026-05-01', '(2.00,NGN)');
            """,
            format=format,
        )
        execute(
            chain.conninfo,
            "ALTER TABLE audit DROP price; DROP TYPE price; DROP DOMAIN amount; CREATE DOMAIN amount AS numeric(12,2);"
            "CREATE TYPE price AS (amount amount, currency text); ALTER TABLE audit ADD price price;"
            + ("INSERT INTO audit VALUES (2, '2026-05-01', '(2,NGN)')" if there else ""),
        )

        with pytest.raises(RestoreError) as caught:
            restore(chain)

        assert "rows are not what was archived once they are in public.audit" in str(caught.value)
        assert "its column price (archived as public.price, public.price now)" in str(caught.value)
        assert "1.2345" not in str(caught.value)
        assert ask(chain.conninfo, "SELECT id FROM audit") == ([(2,)] if there else [])

    def test_a_composite_type_whose_attributes_changed_places_is_refused(self, make):
        """The text of such a value says nothing of which is which."""
        chain = make(
            """
            CREATE TYPE address AS (street text, city text);
            CREATE TABLE audit (id integer PRIMARY KEY, at date, homes address[]);
            INSERT INTO audit VALUES (1, '2026-05-01', ARRAY[ROW('Broad Street', 'Lagos')::address]);
            """
        )
        execute(
            chain.conninfo,
            "ALTER TABLE audit DROP homes; DROP TYPE address; CREATE TYPE address AS (city text, street text);"
            "ALTER TABLE audit ADD homes address[]",
        )

        with pytest.raises(RestoreError) as caught:
            plan(chain)

        assert (
            "its column homes was archived as public.address of street text, city text and is public.address of "
            "city text, street text now"
        ) in str(caught.value)

    def test_a_column_without_composites_has_the_shape_that_it_had_before_they_were_noted(self, make):
        """Or no manifest of an older version would give its own shape_sha256 any more."""
        manifest = manifest_of(make())

        assert b"composites" not in manifest.to_json()

    def test_a_type_that_only_a_manifest_speaks_of_is_never_used(self, make):
        """Whoever can write a manifest could name a domain whose check runs what they like as the restoring role."""
        chain = make(
            AUDIT + "CREATE FUNCTION pwn(text) RETURNS boolean LANGUAGE sql AS 'SELECT true';"
            "CREATE DOMAIN trap AS text CHECK (pwn(VALUE));"
        )
        shape = manifest_of(chain).table
        columns = tuple(
            one.model_copy(update={"base_type": "public.trap"} if one.name == "who" else {}) for one in shape.columns
        )
        forged = shape.model_copy(update={"columns": columns})

        with chain.source() as connection:
            target = find_target(connection, "public", "audit")
            with pytest.raises(RestoreError, match=r"column who was archived as text over public\.trap and is text"):
                fit_columns(connection, forged, target)
            create_target(connection, forged, "public", "own")
            created = find_target(connection, "public", "own")

        assert {column.type for column in created.columns.values()} == {
            "bigint", "timestamp with time zone", "text", "integer", "double precision"
        }  # fmt: skip


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

    @pytest.mark.parametrize("there", [False, True], ids=["copied", "compared"])
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
    def test_no_trigger_hides_what_it_altered(self, make, body, trigger, there):
        chain = make()
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
        chain = make(AUDIT + "CREATE UNIQUE INDEX one_badge ON audit (badge);")
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


class TestConstraintsAndSequences:
    @pytest.mark.parametrize(
        "column", ["code text DEFAULT 'INV-' || nextval('s')", "code numeric DEFAULT nextval('s')"]
    )
    @pytest.mark.parametrize("asked", [{}, {"keys": [1, 2]}], ids=["all", "some"])
    def test_a_sequence_of_a_column_that_is_no_integer_stays_where_it_is(self, make, column, asked):
        chain = make(
            f"CREATE SEQUENCE s; CREATE TABLE audit (id integer PRIMARY KEY, at date, {column}); ALTER SEQUENCE s OWNED BY audit.code;"
            "INSERT INTO audit SELECT n, '2026-05-01' FROM generate_series(1, 3) AS n;"
        )

        report = restore(chain, **asked)

        assert (report.inserted, report.moved_sequences) == (len(asked.get("keys", (1, 2, 3))), ())

    def test_a_sequence_that_ends_before_what_was_restored_is_named(self, make):
        chain = make(
            "CREATE TABLE audit (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, at date);"
            "INSERT INTO audit VALUES (300, '2026-05-01');"
        )
        execute(chain.conninfo, "ALTER SEQUENCE audit_id_seq MAXVALUE 200")

        with pytest.raises(RestoreError, match=r"audit_id_seq.* a maximum of at least 300, found 200"):
            restore(chain)

        assert ask(chain.conninfo, "SELECT id FROM audit") == [(300,)]
        execute(chain.conninfo, "ALTER SEQUENCE audit_id_seq MAXVALUE 1000")
        assert restore(chain).moved_sequences == ("public.audit_id_seq",)

    @pytest.mark.parametrize(
        "constraint",
        [
            "UNIQUE (badge) DEFERRABLE",
            "UNIQUE (badge) DEFERRABLE INITIALLY DEFERRED",
            "EXCLUDE (badge WITH =) DEFERRABLE",
        ],
    )
    def test_rows_come_back_beside_a_deferrable_constraint_and_it_is_named_where_it_is_in_the_way(
        self, make, constraint
    ):
        chain = make(AUDIT + f"ALTER TABLE audit ADD CONSTRAINT one_badge {constraint};")
        execute(chain.conninfo, "INSERT INTO audit VALUES (5, '2026-05-02', 'agent 5', 5, 0.1)")

        assert restore(chain).inserted == 9
        assert restore(chain, "restore-2").unchanged == 10
        execute(
            chain.conninfo, "DELETE FROM audit WHERE id = 7; INSERT INTO audit VALUES (99, '2026-06-01', 'thief', 7, 0)"
        )

        with pytest.raises(RestoreError, match="a value of an archived row that must be unique: found one_badge"):
            restore(chain, "restore-3")


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
