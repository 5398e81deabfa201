"""A right that the role lacks is named, with the GRANT that gives it."""

from __future__ import annotations

import re

import pytest
from psycopg.conninfo import make_conninfo

from strongroom.errors import SourceAccessError
from tests.support.chain import grants_of
from tests.support.database import execute
from tests.support.odd_tables import ODD, REFERRING, refusal

GRANTED = ODD + "GRANT USAGE ON SCHEMA {schema} TO {role}; GRANT SELECT, DELETE ON odd TO {role};"


@pytest.mark.parametrize(
    ("statements", "missing"),
    [
        (GRANTED + "REVOKE SELECT ON odd FROM {role};", "no SELECT on"),
        (GRANTED + "REVOKE DELETE ON odd FROM {role};", "no DELETE on"),
        (GRANTED + REFERRING + ");", r"no SELECT on case_\d+\.referring, which refers to"),
        (
            GRANTED
            + REFERRING
            + "); ALTER TABLE referring ENABLE ROW LEVEL SECURITY; GRANT SELECT ON referring TO {role};",
            r"no sight of all rows of case_\d+\.referring, which refers to",
        ),
    ],
)
def test_a_missing_right_is_named(case_as_role, statements, missing):
    chain = case_as_role(statements)

    assert re.search(missing, refusal(chain, SourceAccessError))


def test_what_a_missing_right_prints_can_be_pasted_and_is_enough(case_as_role, role, database):
    """A role that holds nothing: the schema, the table and one that refers to it are named, each quoted as it must be."""
    chain = case_as_role(ODD + REFERRING + '); ALTER TABLE odd RENAME TO "Odd";', table="Odd")

    with pytest.raises(SourceAccessError) as refused:
        chain.plan()

    grants = grants_of(refused.value)
    assert len(grants) == 3
    assert all(grant.startswith("GRANT ") and grant.endswith(f" TO {role[0]};") for grant in grants)
    assert refused.value.what.startswith(f"the role {role[0]} lacks rights for ")
    execute(database, "".join(grants))
    assert chain.run().deleted_rows == 1


def test_the_right_to_make_temporary_tables_is_needed_too(case_as_role, database):
    chain = case_as_role(GRANTED)
    execute(database, "REVOKE TEMPORARY ON DATABASE refusals FROM PUBLIC")

    try:
        assert "no TEMPORARY on the database" in refusal(chain, SourceAccessError)
    finally:
        execute(database, "GRANT TEMPORARY ON DATABASE refusals TO PUBLIC")


def test_row_level_security_that_hides_rows_is_refused(case_as_role):
    chain = case_as_role(
        GRANTED + "ALTER TABLE odd ENABLE ROW LEVEL SECURITY; CREATE POLICY all_of_it ON odd USING (true);"
    )

    assert "row-level security hides rows of it from this role" in refusal(chain)


def test_a_session_that_enforces_no_foreign_keys_is_refused(case):
    chain = case(ODD)
    chain.conninfo = make_conninfo(chain.conninfo, options="-c session_replication_role=replica")

    assert "session_replication_role is replica" in refusal(chain)


def test_a_role_with_just_these_rights_can_do_all_of_it(case_as_role):
    chain = case_as_role(GRANTED + REFERRING + "); GRANT SELECT ON referring TO {role};")

    assert chain.run().deleted_rows == 1
