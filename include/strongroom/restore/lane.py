"""The parts of one lane, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from strongroom.object_keys.archives import ArchiveId
from strongroom.restore.records import RestoredPart, RestorePart


def restore_lane(parts: Iterable[RestorePart], restore: Callable[[RestorePart], RestoredPart]) -> list[RestoredPart]:
    """Restore the parts of a lane in their order.

    If a part failed, the other parts of its table come back. Those of other tables of its partition do not: their rows may refer to
    rows that are missing.

    Args:
        parts: Parents before their children.
        restore: Restores one part.

    Returns:
        What became of each part that was tried.
    """
    results: list[RestoredPart] = []
    failed: set[ArchiveId] = set()
    for part in parts:
        archive = ArchiveId.parse(part.archive_id)
        if any(_is_in_the_way(one, archive) for one in failed):
            continue
        results.append(restore(part))
        if results[-1].failed:
            failed.add(archive)
    return results


def _is_in_the_way(failed: ArchiveId, archive: ArchiveId) -> bool:
    return failed.partition_key == archive.partition_key and failed.table_folder != archive.table_folder
