"""Begin a run of drills: read which archives a store has, choose some, and record the choice before anything is restored."""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Iterable, Mapping
from datetime import datetime

from strongroom.drill.choose import choose
from strongroom.drill.records import Candidate, Choice, DrillLane, DrillRun, Skip
from strongroom.ledger.entries import Act
from strongroom.ledger.index import Survey, survey_manifests
from strongroom.ledger.journal import log_of, record
from strongroom.ledger.manifest_record import Manifest
from strongroom.ledger.units import ids_of_unit
from strongroom.object_keys.archives import ArchiveId
from strongroom.object_keys.layout import EVIDENCE
from strongroom.object_keys.reports import drill_run_key
from strongroom.settings import DrillSettings
from strongroom.storage.store import Store

MOST_LANES = 1000
"""Airflow maps a task over at most 1,024 values."""

_DAMAGED = "its manifest is not sound"
_CONDEMNED = "it was condemned"


def begin_drills(
    store: Store, settings: Mapping[str, DrillSettings], *, run_id: str, who: str, now: datetime
) -> tuple[str, DrillRun]:
    """Choose archives of a store and record the choice.

    An archive without a sound manifest is chosen in any case: it cannot come back, and its drill says so.

    Args:
        store: Where they lie.
        settings: By table (``schema.table``).
        run_id: Of the run that asks.
        who: Who has the archives drilled.
        now: Aware UTC instant.

    Returns:
        The key of the record, and the record.

    Raises:
        IdentityError: The store is unclaimed, or its log is gone.
    """
    log = log_of(store)
    head = None if log is None else log.head()
    seed = secrets.token_bytes(32) if head is None else head.checkpoint.root
    survey, condemned = survey_manifests(store), _condemned(store)
    candidates = [_candidate(one) for one in survey.manifests if one.archive_id not in condemned]
    choices, skips = choose(candidates, seed, settings)
    run = DrillRun(
        run_id=run_id,
        seed=base64.b64encode(seed).decode(),
        checkpoint=None if head is None else head.note.to_bytes().decode(),
        candidates=tuple(candidates),
        choices=(*choices, *_damaged(survey, condemned)),
        skips=(*skips, *(Skip(archive_id=one, reason=_CONDEMNED) for one in sorted(condemned))),
        who=who,
        chosen_at=now,
    )
    key = drill_run_key(run_id, now)
    facts = {"candidates": len(run.candidates), "choices": len(run.choices), "skips": len(run.skips)}
    record(store, key, run.to_bytes(), Act(kind="drills chosen", who=who, facts={**facts, "seed": run.seed}))
    return key, run


def cut_lanes(chosen: Iterable[tuple[str, str, DrillRun]]) -> list[DrillLane]:
    """Group choices for tasks, one archive each; where they are too many for that, several of one store.

    Args:
        chosen: For each store, a configured table whose settings open it, the key of its record, and the record.
    """
    runs = list(chosen)
    size = 1
    while sum(-(-len(run.choices) // size) for _, _, run in runs) > MOST_LANES:
        size += 1
    return [
        DrillLane(store_table=table, chosen_in=key, choices=run.choices[start : start + size])
        for table, key, run in runs
        for start in range(0, len(run.choices), size)
    ]


def _candidate(manifest: Manifest) -> Candidate:
    major = re.match(r"[0-9]+", manifest.source.server_version)
    return Candidate(
        archive_id=manifest.archive_id,
        table=manifest.table_name,
        window_end=manifest.window_end,
        original_size_bytes=manifest.original_size,
        format=manifest.format,
        server_version=major[0] if major else manifest.source.server_version,
        unit=tuple(ids_of_unit(manifest)[1:]),
    )


def _condemned(store: Store) -> set[str]:
    """Archives that were given up, and are still there."""
    found = set()
    for key in store.keys(EVIDENCE):
        folder, _, _ = key.rpartition("/")
        archive = ArchiveId.parse_or_none(folder.rpartition("/")[2])
        if archive is not None and key == archive.condemnation_key and store.head(archive.manifest_key) is not None:
            found.add(str(archive))
    return found


def _damaged(survey: Survey, condemned: set[str]) -> list[Choice]:
    return [
        Choice(archive_id=one.archive_id, reasons=(_DAMAGED,))
        for one in survey.damaged
        if one.archive_id not in condemned
    ]
