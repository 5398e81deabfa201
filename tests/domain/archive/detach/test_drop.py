"""The drop itself: what may come between its proofs and its end."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg import errors

from strongroom.ledger.holds import EVERYTHING, place_hold
from strongroom.object_keys.archives import ArchiveId
from strongroom.object_keys.records import claim_key
from strongroom.retention import drop_detached as detached_purge
from strongroom.storage.store import Store
from tests.support.chain import NOW, Chain
from tests.support.database import execute, scalar
from tests.support.partitions import (
    COOLED,
    HELD,
    Dead,
    die,
    tables,
)


def meanwhile(
    monkeypatch: pytest.MonkeyPatch, function: str, do: Callable[[], object], *, before: bool = False
) -> list[object]:
    """Do something once while a drop is under way, before or after a function of it; the calls that came to an end."""
    original, to_do, ended = getattr(detached_purge, function), [do], []

    def wrapped(*arguments: Any, **named: Any) -> Any:
        if before and to_do:
            to_do.pop()()
        result = original(*arguments, **named)
        ended.append(result)
        if to_do:
            to_do.pop()()
        return result

    monkeypatch.setattr(detached_purge, function, wrapped)
    return ended


def lose_claim(chain: Chain) -> None:
    """Somebody else has it."""
    key = claim_key("public", "audit", "2026-05")
    body, etag = chain.store.read(key)
    chain.store.swap(key, json.dumps(json.loads(body) | {"owner": "somebody"}).encode(), etag=etag)


def dropped_evidence(chain: Chain) -> list[str]:
    return [key for key in chain.store.keys("evidence/") if "/dropped-" in key]


def scratch_of_drops(chain: Chain) -> list[str]:
    folder, _ = chain.settings.working_folder
    return [str(path) for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]


@pytest.mark.parametrize(
    ("function", "before", "calls"),
    [
        ("blocks_read_back", False, 1),
        ("ArchivedRows", False, 1),
        ("compare_with_archive", True, 0),
        ("compare_with_archive", False, 1),
    ],
    ids=[
        "while it reads the first part back",
        "when it has read all back",
        "before it compares",
        "when it has compared",
    ],
)
def test_a_drop_that_loses_its_claim_goes_no_further(chain, monkeypatch, function, before, calls):
    chain.run()
    ended = meanwhile(monkeypatch, function, lambda: lose_claim(chain), before=before)

    [stays] = chain.drop_detached(now=COOLED)

    assert (stays.result, len(ended)) == ("contended", calls)
    assert (tables(chain)["detached"], dropped_evidence(chain), scratch_of_drops(chain)) == (["audit_2026_05"], [], [])


def test_a_drop_that_a_hold_on_everything_meets_goes_no_further(chain, monkeypatch):
    chain.run()
    ended = meanwhile(
        monkeypatch,
        "compare_with_archive",
        lambda: place_hold(chain.store, EVERYTHING, why="a case", who="counsel", reference="17", now=NOW),
        before=True,
    )

    [stays] = chain.drop_detached(now=COOLED)

    assert (stays.result, ended) == ("held", [])
    assert "all deletion in" in stays.detail


@pytest.mark.parametrize("what", [EVERYTHING, "public.audit"])
def test_the_archive_of_what_is_held_is_not_even_read(chain, monkeypatch, what):
    chain.run()
    place_hold(chain.store, what, why="a case", who="counsel", reference="17", now=NOW)
    monkeypatch.setattr(detached_purge, "ArchivedKeys", die)

    [stays] = chain.drop_detached(now=COOLED)

    assert stays.result == "held"


def test_the_cooling_off_is_over_at_its_very_end(chain):
    evidence = chain.detach(chain.seal(chain.plan()).parts)

    [kept] = chain.drop_detached(now=evidence.drop_after - timedelta(microseconds=1))
    [dropped] = chain.drop_detached(now=evidence.drop_after)

    assert (kept.result, dropped.result) == ("kept", "dropped")


def test_a_drop_lets_nobody_open_the_guard_behind_its_comparison(chain, monkeypatch, source):
    chain.run()
    refused = []

    def open_guard() -> None:
        try:
            execute(source, f"SET lock_timeout = '200ms'; ALTER TABLE {HELD}.audit_2026_05 DISABLE TRIGGER ALL")
        except errors.LockNotAvailable as error:
            refused.append(error)

    meanwhile(monkeypatch, "compare_with_archive", open_guard)

    [dropped] = chain.drop_detached(now=COOLED)

    assert (dropped.result, len(refused)) == ("dropped", 1)


def test_somebody_who_may_yet_write_the_detached_table_puts_the_drop_off(chain):
    chain.run()
    with psycopg.connect(chain.owner) as other:
        other.execute(f"LOCK TABLE {HELD}.audit_2026_05 IN ROW EXCLUSIVE MODE")

        [stays] = chain.drop_detached(now=COOLED)

    assert (stays.result, stays.detail) == ("contended", "another session's lock on it was in the way")


SWAPPED = {
    "another table has its name": (
        "ALTER TABLE {0} RENAME TO kept; CREATE TABLE {0} (LIKE {1}.kept INCLUDING ALL); INSERT INTO {0} SELECT * FROM {1}.kept",
        "it is not the table that was detached",
    ),
    "it is gone and another has its name": (
        "CREATE TABLE {1}.kept (LIKE {0} INCLUDING ALL); INSERT INTO {1}.kept SELECT * FROM {0}; DROP TABLE {0};"
        "ALTER TABLE {1}.kept RENAME TO audit_2026_05",
        "it is not the table that was detached",
    ),
    "its guard is for another archive": (
        "DROP TRIGGER strongroom_guard ON {0}; DROP TRIGGER strongroom_guard_truncate ON {0};"
        "CREATE TRIGGER strongroom_guard BEFORE INSERT OR UPDATE OR DELETE ON {0} FOR EACH ROW EXECUTE FUNCTION {1}.refuse_changes({2});"
        "CREATE TRIGGER strongroom_guard_truncate BEFORE TRUNCATE ON {0} FOR EACH STATEMENT EXECUTE FUNCTION {1}.refuse_changes({2});"
        "ALTER TABLE {0} ENABLE ALWAYS TRIGGER strongroom_guard, ENABLE ALWAYS TRIGGER strongroom_guard_truncate",
        "it is not the table that was detached",
    ),
    "it is a partition again": (
        "ALTER TABLE audit ATTACH PARTITION {0} FOR VALUES FROM ('2026-05-01+00') TO ('2026-06-01+00')",
        "its guard was opened",
    ),
}


@pytest.mark.parametrize(("statements", "detail"), SWAPPED.values(), ids=SWAPPED)
def test_a_table_that_becomes_another_while_the_archive_is_read_back_is_not_dropped(
    chain, monkeypatch, source, statements, detail
):
    chain.run()
    words = scalar(
        source,
        "SELECT quote_literal(replace(encode(rtrim(tgargs, '\\000'), 'escape'), '.0001', '.0002')) FROM pg_trigger "
        "WHERE tgname = 'strongroom_guard'",
    )
    change = statements.format(f"{HELD}.audit_2026_05", HELD, words)
    meanwhile(monkeypatch, "ArchivedRows", lambda: execute(chain.owner, change))

    [stays] = chain.drop_detached(now=COOLED)

    assert (stays.result, stays.detail.startswith(detail)) == ("unverifiable", True)
    assert scalar(chain.owner, f"SELECT count(*) FROM {HELD}.audit_2026_05") == 744
    assert (dropped_evidence(chain), scratch_of_drops(chain)) == ([], [])


def test_a_partition_whose_evidence_tells_another_number_of_rows_stays(chain, object_store):
    archive, where = ArchiveId.parse(chain.run().archive_id), chain.settings.store
    evidence = json.loads(chain.store.read(archive.detach_evidence_key)[0])
    evidence["detached"][0]["rows"] = 743
    object_store.client("admin").put_object(
        Bucket=where.bucket,
        Key=f"{where.prefix}/{archive.detach_evidence_key}",
        Body=json.dumps(evidence).encode(),
    )

    [stays] = chain.drop_detached(now=COOLED)

    assert stays.result == "unverifiable"
    assert "744 rows there, 744 in the archive, 744 equal, 743 detached" in stays.detail


def test_a_drop_reads_all_of_the_archive_back_and_a_try_that_dies_leaves_nothing(chain, monkeypatch):
    chain.run()
    with monkeypatch.context() as killed:
        killed.setattr(detached_purge, "compare_with_archive", die)
        with pytest.raises(Dead):
            chain.drop_detached(now=COOLED)
    assert scratch_of_drops(chain) == []
    read, original = [], Store.chunks

    def chunks(self: Store, key: str, *arguments: Any) -> Any:
        read.append(key)
        return original(self, key, *arguments)

    monkeypatch.setattr(Store, "chunks", chunks)

    [dropped] = chain.drop_detached(now=COOLED + timedelta(days=1))

    keys = [ArchiveId.parse(dropped.archive_id).part_key(number, "zstd") for number in (0, 1)]
    assert (dropped.result, read) == ("dropped", [*keys, *keys]), "once for their sums, once for their keys"
    assert scratch_of_drops(chain) == []


def test_a_reader_of_the_detached_table_puts_the_drop_off(chain):
    chain.run()
    with psycopg.connect(chain.owner) as other:
        other.execute(f"SELECT count(*) FROM {HELD}.audit_2026_05")
        [stays] = chain.drop_detached(now=COOLED)
        other.commit()

    assert (stays.result, stays.detail) == ("contended", "another session's lock on it was in the way")
    assert [one.result for one in chain.drop_detached(now=COOLED + timedelta(days=1))] == ["dropped"]
