"""A small table for the tests of delete, and ways to inspect its rows."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from strongroom.errors import StrongroomError
from strongroom.ledger.evidence import DeleteEvidence, KeptRow, KeptRows
from strongroom.records import DeletedPart, VerifiedPart
from strongroom.storage.store import Store
from strongroom.tables.archived_rows import ArchivedKeys
from tests.support.chain import Chain
from tests.support.database import scalar

TABLE = """
CREATE TABLE audit (id bigint, branch text COLLATE "C", at timestamptz NOT NULL, who text, PRIMARY KEY (id, branch));
INSERT INTO audit SELECT n, b, '2026-05-02 00:00+00', 'agent ' || n || b FROM generate_series(1, 5) AS n, unnest(ARRAY['a', 'b']) AS b;
"""
"""Ten rows with a two-column key. Several rows share each value of either column."""


def left(chain: Chain) -> list[str]:
    """Keys of the rows in the table."""
    with psycopg.connect(chain.conninfo) as connection:
        return [row[0] for row in connection.execute("SELECT id || branch FROM audit ORDER BY 1").fetchall()]


def keys_of(chain: Chain, part: VerifiedPart) -> list[list[str]]:
    """Keys of the archived rows, in the order in which a delete comes to them."""
    with ArchivedKeys(chain.store, chain.plan().shape, None) as archived:
        return [line.decode().split("\t")[:-1] for line in archived.of(part)]


def sealed(chain: Chain) -> VerifiedPart:
    """The one part of a sealed archive of all rows."""
    [part] = chain.seal(chain.plan()).parts
    return part


def counts(deleted: DeletedPart) -> tuple[int, int, int, int]:
    """Rows deleted, those of them by range, rows gone and rows changed."""
    return deleted.deleted, deleted.by_range, deleted.gone, deleted.changed


def evidence_of(chain: Chain, part: VerifiedPart) -> DeleteEvidence:
    present = chain.store.read(part.archive.delete_evidence_key(part.number))
    assert present is not None
    return DeleteEvidence.model_validate_json(present[0])


def kept_of(store: Store, evidence: DeleteEvidence) -> tuple[KeptRow, ...]:
    """The rows that stayed, as the annex lists them. The evidence itself lists none."""
    assert evidence.kept == ()
    if evidence.annex is None:
        return ()
    body = store.read(evidence.annex.key)[0]
    assert hashlib.sha256(body).hexdigest() == evidence.annex.sha256
    listed = KeptRows.model_validate_json(body)
    assert (listed.archive_id, listed.number) == (evidence.archive_id, evidence.number)
    assert len(listed.kept) == evidence.annex.listed
    return listed.kept


def require_refused(chain: Chain, part: VerifiedPart, kind: type[StrongroomError], expected: str) -> StrongroomError:
    """The delete ends in one of our errors, which says what is safe. No row is deleted, and no evidence claims that."""
    before = left(chain)

    with pytest.raises(kind, match=expected) as caught:
        chain.delete(part)

    assert left(chain) == before
    assert chain.store.read(part.archive.delete_evidence_key(part.number)) is None
    return caught.value


def waits_for(chain: Chain, pid: int) -> bool:
    """Whether another session waits for a lock of this one."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE %s = ANY (pg_blocking_pids(pid))"
    return any(scalar(chain.conninfo, query, pid) or time.sleep(0.02) for _ in range(1500))


def delete_while(chain: Chain, part: VerifiedPart, statement: str, then: Callable[[Any], object]) -> list[Any]:
    """Delete while another session has an uncommitted change. Return the delete's result or its error."""
    outcomes: list[Any] = []

    def work() -> None:
        try:
            outcomes.append(chain.delete(part))
        except StrongroomError as error:
            outcomes.append(error)

    with psycopg.connect(chain.conninfo) as other:
        other.execute(statement)
        deleting = threading.Thread(target=work)
        deleting.start()
        assert waits_for(chain, other.info.backend_pid)
        then(other)
        other.commit()
        deleting.join(timeout=60)
    return outcomes


def nothing_more(_: Any) -> None:
    """The other session only commits."""


class Moved:
    """A store that has lost the evidence of deletes."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def read(self, key: str, *more: Any, **others: Any) -> Any:
        return None if "/delete-part" in key else self._store.read(key, *more, **others)

    def put_first(self, key: str, body: bytes, **others: Any) -> bytes:
        return body if "/delete-part" in key else self._store.put_first(key, body, **others)


def database_of(chain: Chain) -> str:
    """The name of the source database."""
    return str(psycopg.conninfo.conninfo_to_dict(chain.conninfo)["dbname"])
