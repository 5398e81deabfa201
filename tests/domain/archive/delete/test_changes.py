"""What changes in the catalogue between two batches, or inside one, after its DELETE: it stops the delete if it must."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from strongroom.archive import delete
from strongroom.database.inspect import inspect_again
from strongroom.errors import SourceAccessError, UnarchivableError
from strongroom.records import VerifiedPart
from strongroom.tables.delete_batch import BatchDelete
from tests.support.chain import Chain
from tests.support.database import execute, scalar
from tests.support.deleting import database_of, left

BEFORE = """
CREATE TABLE notes (id bigint, branch text COLLATE "C");
CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END';
CREATE TYPE mood AS ENUM ('calm');
CREATE FUNCTION as_json(mood) RETURNS json LANGUAGE sql AS 'SELECT NULL::json';
"""

FOREIGN_KEY = "ALTER TABLE notes ADD FOREIGN KEY (id, branch) REFERENCES audit"

BETWEEN = {
    "a column added": ("ALTER TABLE audit ADD more text", "changed its columns or key"),
    "a column dropped": ("ALTER TABLE audit DROP who", "changed its columns or key"),
    "a column renamed": ("ALTER TABLE audit RENAME who TO what", "changed its columns or key"),
    "a column retyped": ("ALTER TABLE audit ALTER who TYPE varchar", "changed its columns or key"),
    "the key dropped": ("ALTER TABLE audit DROP CONSTRAINT audit_pkey", "it has no primary key"),
    "a trigger": (
        "CREATE TRIGGER act AFTER DELETE ON audit FOR EACH ROW EXECUTE FUNCTION act()",
        "a DELETE fires its trigger act",
    ),
    "a rule": ("CREATE RULE also AS ON DELETE TO audit DO ALSO SELECT 1", r"it has rules on DELETE \(also\)"),
    "a cascade": (FOREIGN_KEY + " ON DELETE CASCADE", "a DELETE would also delete rows of public.notes"),
}
"""Changes that wait for a DELETE, so they come between two of them."""

ANY_TIME = {
    "a child": ("CREATE TABLE child () INHERITS (audit)", "other tables inherit from it"),
    "a child that was there": ("ALTER TABLE audit_child INHERIT audit", "other tables inherit from it"),
    "a type renamed": ("ALTER TYPE mood RENAME TO temper", "changed its columns or key"),
    "a cast to json": ("CREATE CAST (mood AS json) WITH FUNCTION as_json(mood)", "changed its columns or key"),
}
"""Changes that no DELETE holds up."""


@pytest.fixture
def part(chain) -> VerifiedPart:
    """Three batches: of 4, 4 and 2 rows. Nobody refers to any."""
    execute(chain.conninfo, BEFORE + "ALTER TABLE audit ADD how mood; CREATE TABLE audit_child (LIKE audit)")
    [part] = chain.seal(chain.plan()).parts
    return part


def in_the_second_batch(chain: Chain, monkeypatch: pytest.MonkeyPatch, when: str, statement: str) -> None:
    """Have the owner run a statement when the second batch begins, or after its DELETE and before the look at the catalogue."""
    batches, owner = itertools.count(1), chain.conninfo
    real: Callable[..., Any] = BatchDelete.delete

    def act() -> None:
        if next(batches) == 2:
            execute(owner, statement)

    def delete_rows(self: BatchDelete, batch: list[bytes]) -> Any:
        result = real(self, batch)
        act()
        return result

    if when == "before":
        chain.keep_claim = act
    else:
        monkeypatch.setattr(BatchDelete, "delete", delete_rows)


@pytest.mark.parametrize(
    ("when", "statement", "expected"),
    [
        *(("before", *one) for one in (BETWEEN | ANY_TIME).values()),
        *(("after", *one) for one in ANY_TIME.values()),
    ],
    ids=[*BETWEEN, *ANY_TIME, *(f"{name} after the DELETE" for name in ANY_TIME)],
)
def test_a_change_takes_the_batch_back(chain, part, monkeypatch, when, statement, expected):
    """In the words of an inspection."""
    in_the_second_batch(chain, monkeypatch, when, statement)

    with pytest.raises(UnarchivableError, match=expected) as caught:
        chain.delete(part)

    assert scalar(chain.conninfo, "SELECT count(*) FROM audit") == 10 - 4
    assert chain.store.read(part.archive.delete_evidence_key(part.number)) is None
    with chain.source() as connection, pytest.raises(UnarchivableError) as inspected:
        inspect_again(connection, chain.settings, part)
    assert str(caught.value) == str(inspected.value)


@pytest.fixture
def archiver(chain) -> Iterator[str]:
    """How a role connects that may do just what it must."""
    database = database_of(chain)
    execute(
        chain.conninfo,
        f"CREATE ROLE guard_archiver LOGIN PASSWORD 'x'; GRANT TEMPORARY ON DATABASE {database} TO guard_archiver;"
        "GRANT USAGE ON SCHEMA public TO guard_archiver; GRANT SELECT, DELETE ON audit TO guard_archiver",
    )
    yield psycopg.conninfo.make_conninfo(chain.conninfo, user="guard_archiver", password="x")
    execute(chain.conninfo, "DROP OWNED BY guard_archiver; DROP ROLE guard_archiver")


@pytest.mark.parametrize("right", ["SELECT on public.audit", "DELETE on public.audit", "USAGE on schema public"])
def test_a_right_that_is_taken_away_inside_a_batch_takes_it_back(chain, part, archiver, monkeypatch, right):
    in_the_second_batch(chain, monkeypatch, "after", f"REVOKE {right} FROM guard_archiver")
    owner, chain.conninfo = chain.conninfo, archiver
    try:
        with pytest.raises(SourceAccessError, match=f"lacks rights for public.audit: found no {right}"):
            chain.delete(part)
    finally:
        chain.conninfo = owner

    assert len(left(chain)) == 10 - 4


@pytest.mark.parametrize(
    ("statement", "inspections"),
    [("COMMENT ON TABLE audit IS 'x'", 1), ("CREATE UNIQUE INDEX ON audit (branch, id)", 2), (FOREIGN_KEY, 2)],
    ids=["a comment", "another unique index", "a foreign key that no row uses"],
)
def test_a_change_that_does_no_harm_is_inspected_once_if_at_all(chain, part, monkeypatch, statement, inspections):
    """Two batches follow it. The first inspection is before all of them."""
    seen: list[VerifiedPart] = []
    real = delete.inspect_again
    monkeypatch.setattr(delete, "inspect_again", lambda *given: seen.append(given[2]) or real(*given))
    in_the_second_batch(chain, monkeypatch, "before", statement)

    assert (chain.delete(part).deleted, left(chain)) == (10, [])
    assert len(seen) == inspections
