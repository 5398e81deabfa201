"""What a server is told to be, and what somebody hears about it before he archives from it."""

from __future__ import annotations

import psycopg
import pytest

from strongroom.database.server_kind import TRIED, ServerKind, read_banner, server_kind
from strongroom.database.session import open_source
from tests.support.database import execute, scalar
from tests.support.repository import REPOSITORY


def kind(conninfo) -> ServerKind:
    with open_source(conninfo, application_name="kind") as connection:
        return server_kind(connection)


def test_a_plain_server_has_a_name_a_version_and_nothing_to_remark(shared_source):
    told = kind(shared_source)

    version = scalar(shared_source, "SHOW server_version").partition(" ")[0]
    assert (str(told), told.major) == (f"PostgreSQL {version}", int(version.partition(".")[0]))
    assert (told.tried, told.remarks) == (True, ())


@pytest.mark.parametrize(
    ("banner", "told"),
    [
        ("PostgreSQL 18.6 on x86_64-pc-linux-gnu, compiled by gcc (Debian 14.2.0-19) 14.2.0, 64-bit", ("PostgreSQL", "18.6")),
        ("PostgreSQL 15.18 (Debian 15.18-0+deb12u1) on x86_64-pc-linux-gnu, 64-bit", ("PostgreSQL", "15.18")),
        ("PostgreSQL 15.12-YB-2.25.2.0-b0 on x86_64-pc-linux-gnu, compiled by clang version 19.1.0", ("YugabyteDB", "2.25.2.0")),
        ("PostgreSQL 15.12-YB-2025.2.3.2-b0", ("YugabyteDB", "2025.2.3.2")),
        ("CockroachDB CCL v25.4.5 (x86_64-pc-linux-gnu, built 2026/01/02)", ("CockroachDB", "25.4.5")),
        ("PostgreSQL 8.0.2 on i686-pc-linux-gnu, compiled by GCC gcc (GCC) 3.4.2, Redshift 1.0.77467", ("Amazon Redshift", "1.0.77467")),
        ("PostgreSQL 12.12 (Greenplum Database 7.1.0 build commit:e7c2) on x86_64-pc-linux-gnu", ("Greenplum", "7.1.0")),
    ],
)  # fmt: skip
def test_a_server_that_only_speaks_the_protocol_is_known_by_its_banner(banner, told):
    assert read_banner(banner) == told


@pytest.mark.parametrize(
    ("role", "product"),
    [("rds_superuser", "Amazon RDS"), ("cloudsqlsuperuser", "Cloud SQL"), ("neon_superuser", "Neon")],
)
def test_a_hosted_server_is_known_by_the_role_it_comes_with(source, role, product):
    execute(source, f"CREATE ROLE {role}")
    try:
        told = kind(source)
    finally:
        execute(source, f"DROP ROLE {role}")

    assert (told.product, told.tried) == (product, False)
    assert told.remarks == (f"{product}: it was never tried; nothing that is needed is known to be missing",)


def test_aurora_is_known_by_its_function(source):
    execute(source, "CREATE FUNCTION aurora_version() RETURNS text LANGUAGE sql AS $$ SELECT '16.6.1' $$")

    assert kind(source).product == "Amazon Aurora"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("citus", "never tried with distributed tables"),
        ("timescaledb", "plan refuses it"),
        ("pg_partman", "its own retention drops partitions"),
    ],
)
def test_an_extension_that_changes_what_tables_are_is_named(source, name, said):
    """No such extension is installed here, so another one bears its name."""
    with psycopg.connect(source) as connection:
        connection.execute("CREATE EXTENSION citext; SET allow_system_table_mods = on")
        connection.execute("UPDATE pg_extension SET extname = %s, extversion = '9.9' WHERE extname = 'citext'", [name])

    told = kind(source)

    assert str(told).endswith(f" with {name} 9.9")
    [remark] = told.remarks
    assert remark.startswith(f"{name} 9.9: ")
    assert said in remark


def test_an_old_server_and_one_of_another_kind_are_remarked_on():
    assert ServerKind("PostgreSQL", "12.22", 12).remarks == ("PostgreSQL 12: only 13 to 18 were tried",)
    yugabyte = ServerKind("YugabyteDB", "2025.2.3.2", 15)
    assert not yugabyte.tried
    assert "READ COMMITTED" in yugabyte.remarks[0]


def test_the_versions_that_were_tried_are_those_that_the_page_names():
    page = (REPOSITORY / "docs/reference/servers.md").read_text()

    assert f"Sources are PostgreSQL {TRIED[0]} to {TRIED[-1]}." in page
