"""A value is restored exactly, or refused, if the type of its column changed."""

from __future__ import annotations

import pytest

from strongroom.errors import RestoreError
from strongroom.restore.fit import fit_columns
from strongroom.restore.target import create_target, find_target
from tests.support.database import ask, execute
from tests.support.restoring import TEN_ROWS, manifest_of, plan, restore

FORMATS = ["jsonl", "parquet"]


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
            TEN_ROWS + "CREATE FUNCTION pwn(text) RETURNS boolean LANGUAGE sql AS 'SELECT true';"
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
