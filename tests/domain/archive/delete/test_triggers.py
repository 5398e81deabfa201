"""Triggers of the table: they may keep rows, raise, or come while the delete waits."""

from __future__ import annotations

import pytest

from strongroom.errors import (
    SourceError,
    UnarchivableError,
)
from tests.support.chain import Chain
from tests.support.database import execute, scalar
from tests.support.deleting import (
    delete_while,
    evidence_of,
    kept_of,
    left,
    nothing_more,
    require_refused,
)


def test_a_trigger_that_comes_while_the_delete_waits_takes_the_batch_back(chain, part):
    """It would carry the DELETE to rows of another table; its transaction began before the batch and ends inside it."""
    execute(
        chain.conninfo,
        "CREATE TABLE other AS SELECT * FROM audit; CREATE FUNCTION spread() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN DELETE FROM public.other WHERE id = OLD.id; RETURN OLD; END'",
    )

    [error] = delete_while(
        chain,
        part,
        "CREATE TRIGGER spread AFTER DELETE ON audit FOR EACH ROW EXECUTE FUNCTION spread()",
        nothing_more,
    )

    assert isinstance(error, UnarchivableError)
    assert "a DELETE fires its trigger spread" in error.what
    assert error.hint.startswith("No row was deleted that is not in a verified archive")
    assert len(left(chain)) == 10
    assert scalar(chain.conninfo, "SELECT count(*) FROM other") == 10


def accept_trigger(chain: Chain, body: str, *, when: str = "BEFORE DELETE", language: str = "plpgsql") -> None:
    """Give the table a trigger that the settings accept."""
    execute(
        chain.conninfo,
        f"CREATE FUNCTION watch() RETURNS trigger LANGUAGE {language} AS $$ {body} $$; "
        f"CREATE TRIGGER watched {when} ON audit FOR EACH ROW EXECUTE FUNCTION watch()",
    )
    chain.settings = chain.settings.model_copy(update={"accepted_delete_triggers": ("watched",)})


def test_rows_that_a_trigger_keeps_are_not_said_to_be_referred_to(chain, part):
    accept_trigger(chain, "BEGIN IF OLD.id = 2 THEN RETURN NULL; END IF; RETURN OLD; END")
    execute(
        chain.conninfo,
        """
        UPDATE audit SET who = 'new' WHERE id = 3 AND branch = 'a';
        CREATE TABLE notes (id bigint, branch text COLLATE "C", FOREIGN KEY (id, branch) REFERENCES audit);
        INSERT INTO notes VALUES (4, 'b');
        """,
    )

    deleted = chain.delete(part)

    assert left(chain) == ["2a", "2b", "3a", "4b"]
    assert (deleted.deleted, deleted.changed, deleted.referenced, deleted.kept_by_trigger) == (6, 1, 1, 2)
    kept = {("".join(row.key), row.reason) for row in kept_of(chain.store, evidence_of(chain, part))}
    assert kept == {("2a", "trigger"), ("2b", "trigger"), ("3a", "changed"), ("4b", "referenced")}


@pytest.mark.parametrize(
    "body",
    [
        "BEGIN RAISE EXCEPTION 'not %', OLD.who; END",
        "BEGIN RAISE EXCEPTION 'not %', OLD.who USING ERRCODE = 'unique_violation', CONSTRAINT = OLD.who; END",
        "BEGIN PERFORM OLD.who::int; RETURN OLD; END",
        "BEGIN EXECUTE 'SELECT ' || quote_ident(OLD.who); RETURN OLD; END",
    ],
)
@pytest.mark.parametrize("when", ["BEFORE DELETE", "AFTER DELETE"])
def test_a_trigger_that_raises_is_named_and_the_row_is_not(chain, part, when, body):
    accept_trigger(chain, body, when=when)

    error = require_refused(
        chain, part, UnarchivableError, r"refused by trigger watched of public.audit \(function public.watch\(\)\)"
    )

    assert "agent" not in str(error)
    assert f"SQLSTATE {error.found[-6:-1]}" in error.found


def test_a_trigger_of_a_path_of_its_own_and_one_that_fires_at_the_commit_are_named_too(chain, part):
    execute(
        chain.conninfo,
        "CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS 'BEGIN RAISE ''no''; END'; "
        "CREATE CONSTRAINT TRIGGER watched AFTER DELETE ON audit DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION watch()",
    )
    chain.settings = chain.settings.model_copy(update={"accepted_delete_triggers": ("watched",)})

    require_refused(chain, part, UnarchivableError, "refused by trigger watched of public.audit")


def test_a_trigger_that_says_that_it_may_pass_is_tried_again_by_the_task(chain, part):
    accept_trigger(chain, "BEGIN RAISE EXCEPTION 'closed' USING ERRCODE = 'object_not_in_prerequisite_state'; END")

    require_refused(chain, part, SourceError, "refused by trigger watched of public.audit")
