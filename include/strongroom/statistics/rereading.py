"""Read many archives again in one run: find them, group them for tasks, and sum up what was found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from fractions import Fraction

from pydantic import AwareDatetime

from strongroom.calendar import EPOCH
from strongroom.errors import FrozenError, IntegrityError, StrongroomError
from strongroom.ledger.index import Survey
from strongroom.ledger.manifests import archive_ids, in_range
from strongroom.ledger.owner import require_owned
from strongroom.ledger.reread import ArchiveVerdict
from strongroom.object_keys.archives import ArchiveId, sealed_and_kept
from strongroom.object_keys.layout import EVIDENCE
from strongroom.object_keys.records import evidence_prefix
from strongroom.records import Record
from strongroom.statistics.proofs import choose_sample, read_proofs, verify_and_record
from strongroom.storage.store import Store

MOST_LANES = 1000
"""Airflow maps a task over at most 1,024 values."""

UNSOUND = (
    "Delete nothing before you know what happened. Earlier versions of a damaged object may still be in the bucket; "
    "`aws s3api list-object-versions` lists them. docs/howto/when-a-task-fails.md says how to repair a manifest."
)
"""What to do about an archive that is not sound."""

_FROZEN = "frozen"
_NAMED = 10


class VerificationError(StrongroomError):
    """The archives of a verification cannot be found as requested."""

    code = "SR-402"


class Lane(Record):
    """Archives of one store that one task reads again, one after the other."""

    store_table: str
    """A configured table whose settings open the store."""
    archives: tuple[str, ...]


class Reread(Record):
    """What was found in one archive. ``result`` is as in a verdict, or ``frozen``: it lies in a Glacier class and was not read."""

    archive_id: str
    result: str
    rows: int = 0
    objects: int = 0
    detail: str = ""

    @property
    def sound(self) -> bool:
        """Whether each object was read back and matched."""
        return self.result == "sound"

    def sentence(self) -> str:
        """The archive and what is wrong with it."""
        return f"{self.archive_id} is {self.result}" + (f": {self.detail}" if self.detail else "")


class RereadReport(Record):
    """What one run of verifications found."""

    archives: int
    """How many were to be read."""
    rows: int
    results: dict[str, int]
    """How many archives had which result; ``unfinished`` ones were not read."""
    unsound: tuple[Reread, ...]
    who: str
    why: str | None
    finished_at: AwareDatetime

    def sentence(self) -> str:
        """The one line that a reader of the log needs."""
        counted = ", ".join(f"{number:,} {result}" for result, number in sorted(self.results.items()))
        named = "; ".join(one.sentence() for one in self.unsound[:_NAMED])
        more = f" and {len(self.unsound) - _NAMED:,} more" if len(self.unsound) > _NAMED else ""
        read = f"read {self.rows:,} rows of {self.archives:,} archives again: {counted}"
        return f"{read}. {named}{more}" if named else read


def find_archives(
    store: Store, schema_name: str, table_name: str, first_partition: str | None, last_partition: str | None
) -> list[ArchiveId]:
    """The sealed archives of a table between two partitions, both included, sorted.

    One whose manifest is gone or hidden is among them: a verification must name it.

    Raises:
        VerificationError: There are none.
        IdentityError: The store is unclaimed.
        PartitionError: A key names no partition.
    """
    require_owned(store)
    sealed = sealed_and_kept(store.keys(evidence_prefix(schema_name, table_name)))
    known = {*sealed, *archive_ids(store, schema_name, table_name)}
    found = sorted(in_range(known, first_partition, last_partition))
    if not found:
        raise VerificationError(
            f"no archive of {schema_name}.{table_name} is in the range {first_partition or '…'} to {last_partition or '…'}",
            hint="Nothing was read. `airflow strongroom list` prints the archives that exist.",
        )
    return found


def find_sample(store: Store, survey: Survey, share: Fraction) -> list[ArchiveId]:
    """The archives of a store that were not read for longest, as many as a share asks for.

    One whose manifest is damaged or gone comes first: a verification must name it.

    Args:
        survey: Of the store.
        share: From :func:`strongroom.statistics.proofs.parse_sample`.
    """
    sealed = {ArchiveId.parse(one.archive_id): one.created_at for one in survey.manifests}
    never = dict.fromkeys((ArchiveId.parse(one.archive_id) for one in survey.damaged), EPOCH)
    # An archive whose manifest is gone is not in the survey.
    gone = {archive: EPOCH for archive in sealed_and_kept(store.keys(EVIDENCE)) if archive not in sealed | never}
    return choose_sample(sealed | never | gone, read_proofs(store).verified, share)


def cut_lanes(archives: Sequence[tuple[str, ArchiveId]]) -> list[Lane]:
    """Group archives for tasks, one archive each; where they are too many for that, several of one store.

    Args:
        archives: Each with the configured table whose settings open its store.
    """
    by_table: dict[str, list[str]] = {}
    for store_table, archive in archives:
        by_table.setdefault(store_table, []).append(str(archive))
    size = 1
    while sum(-(-len(ids) // size) for ids in by_table.values()) > MOST_LANES:
        size += 1
    return [
        Lane(store_table=store_table, archives=tuple(ids[start : start + size]))
        for store_table, ids in by_table.items()
        for start in range(0, len(ids), size)
    ]


def reread(store: Store, lane: Lane, *, who: str, why: str | None, now: Callable[[], datetime]) -> list[Reread]:
    """Read the archives of a lane again and record each; an archive that is not sound does not keep the others from being read.

    Args:
        store: That of the lane.
        lane: The archives.
        who: Who has them read, for the records.
        why: The reason, for the records.
        now: The time now, aware, in UTC.
    """
    found = []
    for archive in map(ArchiveId.parse, lane.archives):
        try:
            found.append(_summarize(verify_and_record(store, archive, who=who, why=why, now=now())))
        except FrozenError as error:
            found.append(Reread(archive_id=str(archive), result=_FROZEN, detail=error.what))
    return found


def _summarize(verdict: ArchiveVerdict) -> Reread:
    bad = [
        f"{one.object_key.rpartition('/')[2]} {one.result}{'' if one.replica is None else f', its copy is {one.replica}'}"
        for one in verdict.objects
        if one.result != "sound"
    ]
    return Reread(
        archive_id=verdict.archive_id,
        result=verdict.result,
        rows=verdict.record_count,
        objects=len(verdict.objects),
        detail=verdict.problem or ", ".join(bad),
    )


def sum_up(wanted: int, found: Iterable[Reread], *, who: str, why: str | None, now: datetime) -> RereadReport:
    """Sum up a run.

    Args:
        wanted: How many archives were to be read.
        found: What the tasks that ended found.
        who: Who had them read.
        why: The reason.
        now: Aware UTC instant.
    """
    found = sorted(found, key=lambda one: one.archive_id)
    results = Counter(one.result for one in found)
    results["unfinished"] = wanted - len(found)
    return RereadReport(
        archives=wanted,
        rows=sum(one.rows for one in found if one.result != _FROZEN),
        results={result: number for result, number in results.items() if number},
        unsound=tuple(one for one in found if not one.sound),
        who=who,
        why=why,
        finished_at=now,
    )


def require_sound(found: Sequence[Reread]) -> None:
    """Check that each archive was read and is sound.

    Raises:
        FrozenError: One lies in a Glacier class, and each of the others is sound.
        IntegrityError: Names those that are not sound.
    """
    unsound = [one for one in found if not one.sound]
    if not unsound:
        return
    what = "; ".join(one.sentence() for one in unsound[:_NAMED])
    more = f" and {len(unsound) - _NAMED} more" if len(unsound) > _NAMED else ""
    if all(one.result == _FROZEN for one in unsound):
        raise FrozenError(
            f"{what}{more}",
            hint="Nothing is wrong with an archive only because it cannot be read at once. Let S3 restore its objects for some days, then "
            "clear this task.",
        )
    raise IntegrityError(f"{what}{more}", hint=UNSOUND)


def require_complete(report: RereadReport) -> None:
    """Check that each archive of a run was read and is sound.

    Raises:
        IntegrityError: Says how many are not, and names them.
    """
    if set(report.results) <= {"sound"}:
        return
    raise IntegrityError(
        f"{report.archives - report.results.get('sound', 0):,} of {report.archives:,} archives were not proved",
        expected=f"{report.archives:,} sound",
        found=report.sentence(),
        hint=f"{UNSOUND} Clear the failed tasks to read their archives again.",
    )
