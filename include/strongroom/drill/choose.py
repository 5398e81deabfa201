"""Which archives a drill restores: a stratified sample that anybody can recompute from the record of the choice.

Of each table: the newest, the oldest and the largest, and some at random. Of the store: one of each format, and one of each
version of the server. Those at random, and where several have a format or version, are those with the lowest
SHA-256 of the seed's 32 bytes followed by the archive's id.

With each of them go the archives that it was sealed together with, so that objects are drilled whole.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from strongroom.drill.records import Candidate, Choice, Skip
from strongroom.object_keys.archives import ArchiveId
from strongroom.settings import DrillSettings


def choose(
    candidates: Iterable[Candidate], seed: bytes, settings: Mapping[str, DrillSettings]
) -> tuple[list[Choice], list[Skip]]:
    """Choose archives of one store.

    Args:
        candidates: In any order.
        seed: 32 bytes.
        settings: By table (``schema.table``); other tables get the defaults.

    Returns:
        The choices in the order of their ids, and the archives that are too large to be chosen.
    """
    candidates = list(candidates)
    of = {one.table: settings.get(one.table, DrillSettings()) for one in candidates}
    fitting = [one for one in candidates if one.original_size_bytes <= of[one.table].most_bytes]
    reasons: dict[ArchiveId, list[str]] = defaultdict(list)

    def take(chosen: Iterable[Candidate], reason: str) -> None:
        for one in chosen:
            reasons[ArchiveId.parse(one.archive_id)].append(reason)

    for table, its in sorted(_grouped(fitting, lambda one: one.table).items()):
        by_age = sorted(its, key=lambda one: (one.window_end, ArchiveId.parse(one.archive_id)))
        take(by_age[-1:], "newest")
        take(by_age[:1], "oldest")
        take(sorted(by_age, key=lambda one: one.original_size_bytes)[-1:], "largest")
        take(drawn(its, seed)[: of[table].random], "random")
    for name, its in sorted(_grouped(fitting, lambda one: one.format).items()):
        take(drawn(its, seed)[:1], f"format {name}")
    for name, its in sorted(_grouped(fitting, lambda one: one.server_version).items()):
        take(drawn(its, seed)[:1], f"server {name}")
    together = {one.archive_id: one.unit for one in fitting}
    for archive in sorted(reasons):
        others = [one for one in fitting if one.archive_id in together[str(archive)]]
        take((one for one in others if ArchiveId.parse(one.archive_id) not in reasons), f"unit of {archive}")
    too_large = sorted(
        (one for one in candidates if one not in fitting), key=lambda one: ArchiveId.parse(one.archive_id)
    )
    return (
        [Choice(archive_id=str(archive), reasons=tuple(why)) for archive, why in sorted(reasons.items())],
        [Skip(archive_id=one.archive_id, reason=_too_large(one, of[one.table])) for one in too_large],
    )


def drawn(candidates: Iterable[Candidate], seed: bytes) -> list[Candidate]:
    """Candidates in the order in which the seed draws them."""
    return sorted(candidates, key=lambda one: hashlib.sha256(seed + one.archive_id.encode()).digest())


def _grouped(candidates: Sequence[Candidate], by: Callable[[Candidate], str]) -> dict[str, list[Candidate]]:
    groups: dict[str, list[Candidate]] = defaultdict(list)
    for one in candidates:
        groups[by(one)].append(one)
    return groups


def _too_large(one: Candidate, settings: DrillSettings) -> str:
    return f"it has {one.original_size_bytes:,} bytes before compression, more than drill.most_bytes, {settings.most_bytes:,}"
