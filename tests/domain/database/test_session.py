"""Which connections to the source are allowed to be plain, and what its errors tell."""

from __future__ import annotations

import psycopg
import pytest

from strongroom.database.session import open_source, translated_errors
from strongroom.errors import ConfigurationError, SourceAccessError, SourceError
from strongroom_local.servers.ports import choose_ports


def attempt(conninfo: str) -> str:
    """What becomes of a connection that is attempted with no server at its end."""
    try:
        with open_source(conninfo, application_name="test", connect_timeout_seconds=2):
            raise AssertionError("somebody answered")
    except (ConfigurationError, SourceError, SourceAccessError) as error:
        return f"{type(error).__name__}: {error}"


@pytest.mark.parametrize("sslmode", ["disable", "allow", "prefer", "require", "verify-ca"])
@pytest.mark.parametrize(
    "where", ["host=db.example.invalid", "hostaddr=192.0.2.1", "host=127.0.0.1,db.example.invalid"]
)
def test_a_plain_connection_to_another_host_is_refused_before_anything_is_sent(where, sslmode):
    assert attempt(f"{where} sslmode={sslmode}").startswith("ConfigurationError: the connection to")


def test_a_mode_that_only_the_environment_names_counts_too(monkeypatch):
    monkeypatch.setenv("PGSSLMODE", "require")

    told = attempt("host=192.0.2.1 dbname=x")

    assert "expected sslmode verify-full, found sslmode require" in told
    assert "Set sslmode to verify-full in the connection's extra, and sslrootcert" in told


def test_a_connection_string_that_cannot_be_read_is_not_quoted():
    """libpq would say which piece it does not understand."""
    told = attempt("host=127.0.0.1 password= marked secret")

    assert told.startswith("ConfigurationError: the source connection cannot be read")
    assert "marked" not in told


@pytest.mark.parametrize("variable", ["PGHOST", "PGHOSTADDR", "PGSERVICE"])
def test_a_host_that_only_the_environment_names_counts_too(monkeypatch, variable):
    monkeypatch.setenv(variable, "192.0.2.1")

    assert attempt("dbname=x sslmode=disable").startswith("ConfigurationError: the connection to")


def test_this_machine_may_be_talked_to_plainly():
    [port] = choose_ports(1)

    told = attempt(f"host=127.0.0.1 port={port} dbname=x user=u password=marked-secret sslmode=disable")

    assert told.startswith(f"SourceError: the source database u@127.0.0.1:{port}/x failed")
    assert "HINT:" in told
    assert "marked-secret" not in told


def test_what_the_server_says_about_a_row_is_not_passed_on():
    with pytest.raises(SourceError) as raised, translated_errors("u@h/d"):
        raise psycopg.errors.UniqueViolation("Key (phone)=(+2348012345678) already exists")

    assert "+2348012345678" not in str(raised.value)
    assert "UniqueViolation" in str(raised.value)
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__


@pytest.mark.parametrize(
    "where",
    [
        'host="db.example.invalid,db.example.invalid" hostaddr=","',
        "host=127.0.0.1,db.example.invalid hostaddr=127.0.0.1,",
        "host=db.example.invalid hostaddr=''",
    ],
)
def test_a_name_behind_an_empty_address_counts(monkeypatch, where):
    """libpq takes it where the address in its place is empty, and the environment's address where none was given."""
    monkeypatch.setenv("PGHOSTADDR", "127.0.0.1")

    assert attempt(f"{where} sslmode=disable".replace('"', "'")).startswith("ConfigurationError: the connection to")


def test_an_address_of_this_machine_counts_before_the_name_in_its_place():
    [port] = choose_ports(1)

    told = attempt(f"host=db.example.invalid,b hostaddr=127.0.0.1,::1 port={port} sslmode=disable dbname=x user=u")

    assert told.startswith("SourceError: the source database u@db.example.invalid,b")
