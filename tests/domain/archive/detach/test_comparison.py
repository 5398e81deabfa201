"""The comparison of a partition with the archive, by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from strongroom.archive import detach
from strongroom.database.session import qualified
from strongroom.ledger.manifests import read_manifest
from strongroom.records import VerifiedPart
from strongroom.tables import compare as comparing
from strongroom.tables.archived_rows import ArchivedKeys, read_blocks
from tests.support.partitions import (
    COOLED,
    ROWS,
    WEEKS,
)


def test_a_comparison_in_many_batches_counts_each_row_once_and_asks_before_each(make_chain, monkeypatch):
    """Also where parts and partitions lie across one another."""
    monkeypatch.setattr(comparing, "BATCH_ROWS", 50)
    chain = make_chain(WEEKS + ROWS)
    asked, original = [], detach.compare_with_archive

    def compare(*arguments: Any, before_batch: Callable[[], None], **named: Any) -> Any:
        def ask() -> None:
            asked.append(True)
            before_batch()

        return original(*arguments, before_batch=ask, **named)

    monkeypatch.setattr(detach, "compare_with_archive", compare)

    report = chain.run()

    assert (report.detached_rows, report.deleted_rows, report.gone_rows) == (336, 408, 0)
    assert len(asked) == 8 + 2 * 8, "the first week lies in one part, the second in both"
    assert [one.result for one in chain.drop_detached(now=COOLED)] == ["dropped", "dropped"]


@pytest.mark.parametrize("as_blocks", [True, False], ids=["as blocks", "by key"])
def test_settings_that_somebody_changed_in_the_session_change_no_comparison(chain, as_blocks):
    sealed = chain.seal(chain.plan())
    manifest = read_manifest(chain.store, sealed.parts[0].archive)
    with (
        chain.owning() as connection,
        chain.staging(sealed.archive_id) as staging,
        ArchivedKeys(chain.store, manifest.table, None) as keys,
    ):
        connection.execute("SET timezone = 'Asia/Tokyo'")

        found = comparing.compare_with_archive(
            connection,
            qualified("public", "audit_2026_05"),
            chain.partition.window,
            comparing.ArchivedRows(
                manifest.table, sealed.parts, keys, lambda part: (as_blocks and read_blocks(staging, part)) or []
            ),
            transaction=connection.transaction,
            before_batch=lambda: None,
        )

    assert found.proved


def test_only_parts_that_share_an_instant_with_a_table_are_compared_with_it(chain, monkeypatch):
    sealed = chain.seal(chain.plan())
    opened: set[tuple[int, int]] = set()

    class Noted(ArchivedKeys):
        def of(self, part: VerifiedPart) -> Any:
            opened.add((comparing_with, part.number))
            return super().of(part)

    manifest = read_manifest(chain.store, sealed.parts[0].archive)

    for part in sealed.parts:
        comparing_with = part.number
        with chain.owning() as connection, Noted(chain.store, manifest.table, None) as keys:
            found = comparing.compare_with_archive(
                connection,
                qualified("public", "audit_2026_05"),
                part.window,
                comparing.ArchivedRows(manifest.table, sealed.parts, keys, lambda _: []),
                transaction=connection.transaction,
                before_batch=lambda: None,
            )
        assert (found.rows, found.archived, found.equal) == (744, part.rows, part.rows)

    assert opened == {(0, 0), (1, 1)}
