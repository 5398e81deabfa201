"""A partitioned table for the tests of detach and drop, and ways to inspect it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from psycopg import errors

from strongroom.archive import detach
from strongroom.ledger.evidence import DetachEvidence
from tests.support.chain import NOW, Chain
from tests.support.database import execute, scalar

COOLED = NOW + timedelta(days=1, minutes=1)
HELD = "strongroom_detached"

TABLE = """
CREATE TABLE audit (id bigint, at timestamptz NOT NULL, who text, cost numeric, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE INDEX ON audit (at);
CREATE TABLE audit_2026_04 PARTITION OF audit FOR VALUES FROM ('2026-04-01+00') TO ('2026-05-01+00');
CREATE TABLE audit_2026_05 PARTITION OF audit FOR VALUES FROM ('2026-05-01+00') TO ('2026-06-01+00');
CREATE TABLE audit_2026_06 PARTITION OF audit FOR VALUES FROM ('2026-06-01+00') TO ('2026-07-01+00');
"""
ROWS = """
INSERT INTO audit SELECT n, '2026-04-30 22:00+00'::timestamptz + n * interval '1 hour', 'agent ' || n || E' \\\\ "x" \t', n / 7.0
FROM generate_series(1, 800) AS n;
"""
DEFAULT = "CREATE TABLE audit_rest PARTITION OF audit DEFAULT;"
WEEKS = """
CREATE TABLE audit (id bigint, at timestamptz NOT NULL, who text, cost numeric, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE w17 PARTITION OF audit FOR VALUES FROM ('2026-04-20+00') TO ('2026-05-04+00');
CREATE TABLE w19 PARTITION OF audit FOR VALUES FROM ('2026-05-04+00') TO ('2026-05-11+00');
CREATE TABLE w20 PARTITION OF audit FOR VALUES FROM ('2026-05-11+00') TO ('2026-05-18+00');
CREATE TABLE w21 PARTITION OF audit FOR VALUES FROM ('2026-05-18+00') TO ('2026-06-08+00');
"""


def owning(chain: Chain) -> Chain:
    """The same chain with the owner's rights, for restores."""
    return replace(chain, conninfo=chain.owner)


def tables(chain: Chain) -> dict[str, list[str]]:
    """The table's partitions, and the detached ones that wait to be dropped."""
    return scalar(
        chain.owner,
        "SELECT json_build_object('partitions', (SELECT json_agg(relid::regclass::text ORDER BY 1) FROM "
        "(SELECT relid::regclass::text AS relid FROM pg_partition_tree('audit') WHERE isleaf) AS p), 'detached', (SELECT "
        "coalesce(json_agg(relname ORDER BY relname), '[]') FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace "
        "WHERE nspname = %s AND relkind = 'r'))",
        HELD,
    )


def left(evidence: DetachEvidence) -> dict[str, str]:
    return {one.partition.removeprefix("public."): one.reason for one in evidence.left}


def remove(object_store: Any, chain: Chain, key: str) -> None:
    """Remove an object with all its versions."""
    admin, where = object_store.client("admin"), chain.settings.store
    named = {"Bucket": where.bucket, "Key": f"{where.prefix}/{key}"}
    for version in chain.store.versions(key):
        admin.delete_object(**named, VersionId=version.version_id)


def guards(chain: Chain) -> int:
    """The number of enabled guard triggers."""
    return scalar(
        chain.owner, "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'strongroom_guard%%' AND tgenabled <> 'D'"
    )


def is_refused(conninfo: str, statement: str) -> bool:
    try:
        execute(conninfo, statement)
    except errors.ObjectNotInPrerequisiteState as error:
        return "are archived as public.audit.2026-05.0001 and are about to be deleted" in str(error)
    return False


class Dead(BaseException):
    """The process is killed here."""


def die(*_: object, **__: object) -> Any:
    raise Dead


def dying_after(function: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(*arguments: Any, **named: Any) -> Any:
        function(*arguments, **named)
        raise Dead

    return wrapped


def leave_guard(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kill a run between guard and comparison, so that it leaves the guard behind."""
    sealed = chain.seal(chain.plan())
    with monkeypatch.context() as dying:
        dying.setattr(detach, "compare_with_archive", die)
        dying.setattr(detach, "lift_guard", lambda *_: None)
        with pytest.raises(Dead):
            chain.detach(sealed.parts)
