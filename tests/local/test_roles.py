"""The roles of the sample database: each does its own work and nothing else."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import errors, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from strongroom.errors import ConfigurationError
from strongroom_local.demo.sample import ROLES, create_roles, load
from strongroom_local.servers.postgres import PostgresServer
from strongroom_local.servers.stack import Stack
from tests.support.telecom import DATE_COLUMNS, NAMES, NOW, PASSWORDS, ask, rows_by_month


def test_the_archiver_reads_and_deletes_and_does_nothing_else(telecom: str):
    load(telecom, call_records_per_month=100, months=2, now=NOW)
    create_roles(telecom, PASSWORDS)
    archiver = make_conninfo(telecom, user="strongroom_archiver", password=PASSWORDS["strongroom_archiver"])

    with psycopg.connect(archiver, autocommit=True) as connection:
        connection.execute("CREATE TEMPORARY TABLE doomed (id bigint)")
        for name in reversed(NAMES):
            assert connection.execute(f"SELECT count(*) FROM {name}").fetchone() > (0,)
            assert connection.execute(f"DELETE FROM {name}").rowcount > 0
        for statement in (
            "INSERT INTO {} DEFAULT VALUES",
            "UPDATE {0} SET {1} = now()",
            "TRUNCATE {} CASCADE",
            "ALTER TABLE {} ADD COLUMN extra text",
            "ALTER TABLE {} DISABLE TRIGGER ALL",
            "CREATE INDEX ON {} ({1})",
            "DROP TABLE {} CASCADE",
            "SELECT 1 FROM {} FOR UPDATE",
        ):
            for name, column in DATE_COLUMNS.items():
                with pytest.raises(errors.InsufficientPrivilege):
                    connection.execute(statement.replace("{}", "{0}").format(name, column))
        for statement in (
            "CREATE TABLE public.mine (id int)",
            "CREATE SCHEMA mine",
            "CREATE ROLE mine",
            "SELECT * FROM strongroom_sample.progress",
            "SET ROLE telecom_app",
            "COPY acm_alerts TO '/dev/null'",
        ):
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute(statement)


def test_the_restorer_reads_inserts_moves_sequences_and_does_nothing_else(telecom: str):
    load(telecom, call_records_per_month=100, months=2, now=NOW)
    create_roles(telecom, PASSWORDS)
    restorer = make_conninfo(telecom, user="strongroom_restorer", password=PASSWORDS["strongroom_restorer"])

    with psycopg.connect(restorer, autocommit=True) as connection:
        connection.execute("CREATE TEMPORARY TABLE lines (line text)")
        connection.execute("CREATE TABLE restored.mine (id int)")
        for name in NAMES:
            connection.execute(f"SELECT count(*) FROM {name}")
            with pytest.raises(errors.NotNullViolation):
                connection.execute(f"INSERT INTO {name} DEFAULT VALUES")
        sequences = connection.execute(
            "SELECT c.oid::regclass::text FROM pg_class c WHERE c.relkind = 'S' AND c.relnamespace = 'public'::regnamespace"
        ).fetchall()
        for (sequence,) in sequences:
            connection.execute(f"SELECT setval('{sequence}', last_value) FROM {sequence}")
        for statement in (
            "DELETE FROM {}",
            "TRUNCATE {} CASCADE",
            "ALTER TABLE {} ADD extra text",
            "SELECT 1 FROM {} FOR UPDATE",
        ):
            for name in NAMES:
                with pytest.raises(errors.InsufficientPrivilege):
                    connection.execute(statement.format(name))
        for statement in ("CREATE TABLE public.mine (id int)", "CREATE SCHEMA mine", "SET ROLE telecom_app"):
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute(statement)


def test_the_role_of_drills_makes_tables_of_its_own_and_does_nothing_else(telecom: str):
    load(telecom, call_records_per_month=100, months=2, now=NOW)
    create_roles(telecom, PASSWORDS)
    create_roles(telecom, PASSWORDS)
    drill = make_conninfo(telecom, user="strongroom_drill", password=PASSWORDS["strongroom_drill"])

    with psycopg.connect(drill, autocommit=True) as connection:
        connection.execute("CREATE TABLE strongroom_drill.mine (id int); DROP TABLE strongroom_drill.mine")
        for statement in ("SELECT 1 FROM {}", "INSERT INTO {} DEFAULT VALUES", "DELETE FROM {}", "DROP TABLE {}"):
            for name in NAMES:
                with pytest.raises(errors.InsufficientPrivilege):
                    connection.execute(statement.format(name))
        for statement in ("CREATE TABLE public.mine (id int)", "CREATE SCHEMA mine", "SET ROLE telecom_app"):
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute(statement)


def test_the_role_that_erases_changes_rows_and_copies_and_does_nothing_else(telecom: str):
    load(telecom, call_records_per_month=100, months=2, now=NOW)
    create_roles(telecom, PASSWORDS)
    create_roles(telecom, PASSWORDS)
    eraser = make_conninfo(telecom, user="strongroom_eraser", password=PASSWORDS["strongroom_eraser"])
    restorer = make_conninfo(telecom, user="strongroom_restorer", password=PASSWORDS["strongroom_restorer"])
    with psycopg.connect(restorer, autocommit=True) as connection:
        connection.execute("CREATE TABLE restored.calls AS SELECT * FROM call_detail_records")

    with psycopg.connect(eraser, autocommit=True) as connection:
        for name in (*NAMES, "restored.calls"):
            connection.execute(f"DELETE FROM {name} WHERE false")
        connection.execute("UPDATE acm_alerts SET called_number = called_number WHERE false")
        for statement in ("INSERT INTO {} DEFAULT VALUES", "TRUNCATE {} CASCADE", "ALTER TABLE {} ADD extra text"):
            for name in NAMES:
                with pytest.raises(errors.InsufficientPrivilege):
                    connection.execute(statement.format(name))
        for statement in ("CREATE TABLE public.mine (id int)", "CREATE SCHEMA mine", "SET ROLE telecom_app"):
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute(statement)


def test_the_platform_owns_its_tables_and_can_make_its_own_sample(telecom: str):
    create_roles(telecom, PASSWORDS)
    app = make_conninfo(telecom, user="telecom_app", password=PASSWORDS["telecom_app"])

    load(app, call_records_per_month=100, months=2, now=NOW)
    with psycopg.connect(app) as connection:
        connection.execute("UPDATE acm_alerts SET remark = 'seen'")
        connection.execute("ALTER TABLE audit_events ADD COLUMN extra text")

    assert rows_by_month(telecom, "call_detail_records")["2026-10"] == 100


def test_a_repeat_gives_rights_on_further_tables_and_takes_none_away(telecom: str):
    """`make up` passes the tables of archive.yaml. Rights granted by hand on another table stay."""
    with psycopg.connect(telecom, autocommit=True) as connection:
        connection.execute('CREATE SCHEMA billing; CREATE TABLE billing."Invoices" (id serial PRIMARY KEY)')
        connection.execute("CREATE TABLE public.payments (id bigint); CREATE VIEW public.totals AS SELECT 1")
    create_roles(telecom, PASSWORDS)
    with psycopg.connect(telecom, autocommit=True) as connection:
        connection.execute("GRANT SELECT, DELETE ON public.payments TO strongroom_archiver")

    create_roles(
        telecom,
        PASSWORDS,
        further=[("billing", "Invoices"), ("public", "totals"), ("public", "not_there"), ("public", "acm_alerts")],
    )

    for role, rights in (("archiver", "DELETE"), ("restorer", "INSERT"), ("reader", "SELECT")):
        worker = make_conninfo(telecom, user=f"strongroom_{role}", password=PASSWORDS[f"strongroom_{role}"])
        assert ask(worker, f"""SELECT has_table_privilege('billing."Invoices"', '{rights}')""") == [(True,)]
    archiver = make_conninfo(telecom, user="strongroom_archiver", password=PASSWORDS["strongroom_archiver"])
    assert ask(archiver, "SELECT has_table_privilege('public.payments', 'DELETE')") == [(True,)]


def test_the_local_stack_grants_what_archive_yaml_lists_and_takes_nothing_away(session_folder, tmp_path, monkeypatch):
    """`make up` does this each time. If the file cannot be read it does not fail: Airflow reports what is wrong with it."""
    config = tmp_path / "archive.yaml"
    monkeypatch.setenv("STRONGROOM_CONFIG", str(config))
    config.write_text("tables: [")
    stack = Stack(session_folder / "granted")
    may = "SELECT has_table_privilege('strongroom_archiver', %s, 'DELETE')"
    try:
        stack.start_source()
        with psycopg.connect(stack.source_conninfo(), autocommit=True) as connection:
            connection.execute("CREATE TABLE payments (id bigint); CREATE TABLE notes (id bigint)")
            connection.execute("GRANT DELETE ON notes TO strongroom_archiver")
            config.write_text(
                "legal_basis: a test\ndate_column: at\ntables: {payments: , wrong: {part_row: 1}, gone: }"
            )

            stack.start_source()

            granted = [connection.execute(may, [table]).fetchone() for table in ("payments", "notes", "acm_alerts")]
            assert granted == [(True,)] * 3
    finally:
        stack.down()


def test_rights_that_are_not_a_roles_own_end_in_one_error_with_a_hint(telecom: str):
    with psycopg.connect(telecom, autocommit=True) as connection:
        connection.execute("CREATE TABLE public.payments (id bigint); GRANT UPDATE ON public.payments TO PUBLIC")

    with pytest.raises(ConfigurationError, match=r"may UPDATE public\.payments") as refused:
        create_roles(telecom, PASSWORDS, further=[("public", "payments")])

    assert refused.value.hint.startswith("Nothing was changed.")


def test_a_repeat_sets_new_passwords_and_takes_excess_rights_away(telecom: str):
    create_roles(telecom, PASSWORDS)
    with psycopg.connect(telecom, autocommit=True) as connection:
        connection.execute("GRANT INSERT, UPDATE ON acm_alerts TO strongroom_archiver")
        connection.execute("ALTER ROLE strongroom_archiver CREATEDB")

    create_roles(telecom, {role: f"new {role}" for role in ROLES})

    archiver = make_conninfo(telecom, user="strongroom_archiver", password="new strongroom_archiver")
    assert ask(archiver, "SELECT has_table_privilege('acm_alerts', 'INSERT, UPDATE')") == [(False,)]
    assert ask(archiver, "SELECT has_table_privilege('acm_alerts', 'DELETE')") == [(True,)]
    assert ask(archiver, "SELECT rolcreatedb FROM pg_roles WHERE rolname = current_user") == [(False,)]
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        ask(make_conninfo(archiver, password=PASSWORDS["strongroom_archiver"]), "SELECT 1")


def test_passwords_reach_neither_the_catalogue_nor_the_server_log(telecom: str, postgres: PostgresServer):
    with psycopg.connect(telecom, autocommit=True) as connection:
        connection.execute(
            sql.SQL("ALTER DATABASE {} SET log_statement = 'all'").format(
                sql.Identifier(conninfo_to_dict(telecom)["dbname"])
            )
        )

    create_roles(telecom, dict.fromkeys(ROLES, "correct horse battery staple"))

    server_log = postgres.log.read_text(encoding="utf-8", errors="replace")
    assert "ALTER ROLE" in server_log
    assert "correct horse" not in server_log


@pytest.mark.parametrize(
    "passwords",
    [{}, {"telecom_app": "a"}, {**PASSWORDS, "strongroom_archiver": ""}, {**PASSWORDS, "postgres": "mine"}],
)
def test_roles_without_exactly_their_passwords_are_refused(passwords: dict[str, str]):
    with pytest.raises(ConfigurationError, match="HINT: Nothing was changed"):
        create_roles("host=127.0.0.1 port=1", passwords)
