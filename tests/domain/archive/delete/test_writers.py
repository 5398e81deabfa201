"""Whatever writers do at any moment of a delete by range: a row that is missing is in the archive, and no other went.

A seed decides everything but how fast the machine is.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from strongroom.archive import delete
from strongroom.calendar import Window
from strongroom.database import retry
from strongroom.errors import SourceError
from strongroom.formats import blocks
from strongroom.records import DeletedPart, VerifiedPart
from strongroom.tables import delete_range
from strongroom.tables.delete_batch import BatchDelete
from strongroom.tables.pace import Pace
from tests.support.chain import Chain
from tests.support.deleting import evidence_of, kept_of
from tests.support.meddling import Writers, archived_rows

_TRIES = 20


@pytest.fixture(autouse=True)
def _quick(monkeypatch) -> None:
    """Blocks of few rows, and no breaks between tries."""
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 4)
    monkeypatch.setattr(retry, "time", SimpleNamespace(sleep=lambda _: None))


class Moments:
    """Lets writers in at each moment of a delete, and breaks it off at some."""

    def __init__(self, writers: Writers, monkeypatch: pytest.MonkeyPatch) -> None:
        self._writers = writers
        self.rolled_back: list[Window] = []
        monkeypatch.setattr(delete, "delete_range", self._noting(delete.delete_range))
        for owner, name, may_stay_open in (
            (delete_range, "due_rows", True),  # before the DELETE of a block
            (delete_range, "digest", False),  # between the DELETE and its digest
            (BatchDelete, "delete", True),  # before rows go one by one
            (Pace, "before_commit", False),
        ):
            monkeypatch.setattr(owner, name, self._ahead_of(getattr(owner, name), may_stay_open))

    def _ahead_of(self, real: Callable[..., Any], may_stay_open: bool) -> Callable[..., Any]:
        def reached(*given: Any, **named: Any) -> Any:
            self.reach(may_stay_open=may_stay_open)
            return real(*given, **named)

        return reached

    def _noting(self, real: Callable[..., bool]) -> Callable[..., bool]:
        def noting(*given: Any) -> bool:
            try:
                equal = real(*given)
            except psycopg.IntegrityError:
                self.rolled_back.append(given[-1].window)
                raise
            if not equal:
                self.rolled_back.append(given[-1].window)
            return equal

        return noting

    def reach(self, *, may_stay_open: bool = False) -> None:
        self._writers.work(may_stay_open=may_stay_open)
        if self._writers.chance.random() < 0.02:
            raise psycopg.OperationalError("broke off")


def delete_to_the_end(chain: Chain, part: VerifiedPart) -> DeletedPart:
    """Delete a part, again and again until no try breaks off."""
    for _ in range(_TRIES):
        try:
            return chain.delete(part)
        except SourceError:
            continue
    raise AssertionError(f"the delete broke off {_TRIES} times")


def require_adds_up(chain: Chain, parts: Sequence[VerifiedPart], results: Sequence[DeletedPart], taken: int) -> None:
    """The evidence counts each row of the archive once, and as deleted what the delete took."""
    assert sum(one.deleted for one in results) == taken
    for part, result in zip(parts, results, strict=True):
        counted = result.deleted + result.gone + result.changed + result.referenced
        assert (counted, result.by_range + sum(result.one_by_one.values())) == (part.rows, part.rows)
        kept = kept_of(chain.store, evidence_of(chain, part))
        assert len(kept) == result.changed + result.referenced


def another(chain: Chain, name: str, **changes: Any) -> Chain:
    """The same database, with staging and a place in the store of its own."""
    settings = chain.settings
    store = settings.store.model_copy(update={"prefix": f"{settings.store.prefix}-{name}"})
    changes |= {"store": store, "staging": f"{settings.staging}/{name}"}
    return Chain(chain.conninfo, chain.client, settings.model_copy(update=changes))


def run(chain: Chain, monkeypatch: pytest.MonkeyPatch, seed: int) -> int:
    """One table, from its first row to the evidence of its delete, among writers. Returns how many rows went by range."""
    chance = random.Random(seed)
    chain = another(chain, str(seed), part_rows=16, delete_batch_rows=chance.choice([4, 8, 12]))
    with Writers(chain, chance) as writers:
        parts = archive(chain, writers)
        results = delete_among(chain, writers, parts, monkeypatch)
        require_right(chain, writers, parts, results)
    return sum(one.by_range for one in results)


def archive(chain: Chain, writers: Writers) -> Sequence[VerifiedPart]:
    """The parts of an archive of all rows but those that others refer to."""
    referred = writers.refer_to_some()
    writers.account.begin()
    sealed = chain.seal(chain.plan())
    archived = writers.account.archived = archived_rows(chain, sealed)
    assert sorted([*archived, *referred]) == sorted(writers.account.expected.values())
    return sealed.parts


def delete_among(
    chain: Chain, writers: Writers, parts: Sequence[VerifiedPart], monkeypatch: pytest.MonkeyPatch
) -> list[DeletedPart]:
    results = []
    with monkeypatch.context() as patched:
        moments = Moments(writers, patched)
        chain.keep_claim = moments.reach  # between two transactions
        for part in parts:
            writers.work(may_stay_open=True)
            results.append(delete_to_the_end(chain, part))
    writers.end()
    dates = writers.account.dates
    undisturbed = [one for one in moments.rolled_back if not any(one.start <= date < one.end for date in dates)]
    assert undisturbed == [], "blocks were rolled back that no writer came near"
    return results


def require_right(
    chain: Chain, writers: Writers, parts: Sequence[VerifiedPart], results: Sequence[DeletedPart]
) -> None:
    table, account = writers.table(), writers.account
    account.require_sound(table)
    require_adds_up(chain, parts, results, len(account.all_taken(table)))
    untouched = [row for row in account.archived if row.key not in account.touched]
    assert [row for row in untouched if row in table] == [], "rows that nobody touched stayed"


def test_no_row_is_lost_whatever_writers_do_in_the_midst_of_a_delete(chain, monkeypatch):
    assert sum(run(chain, monkeypatch, seed) for seed in range(8)) > 0


@pytest.mark.exhaustive
@pytest.mark.parametrize("hundred", range(1, 6))
def test_no_row_is_lost_whatever_writers_do_in_500_deletes(chain, monkeypatch, hundred):
    assert sum(run(chain, monkeypatch, seed) for seed in range(100 * hundred, 100 * hundred + 100)) > 0
