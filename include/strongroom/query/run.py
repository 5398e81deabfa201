"""A whole query: locate the archives, search their parts one after the other, put it on record, and let the rows be seen.

The order is the point: the store has the record before anybody can open the rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from strongroom.errors import FrozenError, IntegrityError, QueryError, QueryLimitError, StoreAccessError, StoreError
from strongroom.formats.codecs import Writable
from strongroom.ledger.entries import Act, Facts
from strongroom.ledger.journal import enter, record
from strongroom.ledger.manifest_record import Manifest, ManifestPart
from strongroom.ledger.restore_records import split_table
from strongroom.object_keys.archives import ArchiveId
from strongroom.object_keys.reports import query_record_key
from strongroom.query.conditions import NoColumnError, check_conditions, range_conditions, require_columns
from strongroom.query.locate import Located, cuts_undated_rows, locate_archives, parts_in_range, trusted_manifest
from strongroom.query.records import (
    Condition,
    NotSearched,
    PartJob,
    QueryOutcome,
    QueryRecord,
    QueryRequest,
    Reason,
    ResultColumn,
    SearchedArchive,
    judge,
)
from strongroom.query.result import make_query_id, publish, rows_file, writing_rows
from strongroom.query.searcher import Searcher
from strongroom.records import Column, RunIdentity, VerifiedPart, make_salt
from strongroom.settings import QueryLimits
from strongroom.storage.staging import QUERY_RESULTS_KEPT, Staging
from strongroom.storage.store import Store

_ENOUGH = "the limit of rows was reached before it"


def run_query(
    store: Store,
    staging: Staging,
    request: QueryRequest,
    *,
    run: RunIdentity,
    limits: QueryLimits,
    folder: Path,
    now: datetime,
) -> QueryOutcome:
    """Search archives, and leave the rows in staging for a day. A repeat searches again and replaces them.

    Args:
        staging: That of this query: :func:`strongroom.query.result.make_query_id` names it.
        run: Which Airflow run asks.
        folder: Where the file for parts is made.
        now: Aware instant; the record and the end of the result are counted from it.

    Raises:
        QueryError: The request does not suit the archives, or finds none.
        QueryLimitError: It needs more than it may.
        StoreError, StoreAccessError: The store cannot be listed, or does not take the record.
    """
    try:
        return _run_query(store, staging, request, run=run, limits=limits, folder=folder, now=now)
    except (QueryError, QueryLimitError) as error:
        facts: Facts = {"what": "query", "why": "limit" if isinstance(error, QueryLimitError) else "unsuitable"}
        enter(store, Act(kind="refused", table=request.table, who=request.who, facts=facts))
        raise


def _run_query(
    store: Store,
    staging: Staging,
    request: QueryRequest,
    *,
    run: RunIdentity,
    limits: QueryLimits,
    folder: Path,
    now: datetime,
) -> QueryOutcome:
    started = time.monotonic()
    _require_few(request, limits)
    located = locate_archives(store, request)
    columns = _fit_columns(located, request)
    with writing_rows(staging) as target, Searcher(limits, folder) as searcher:
        searching = _Searching(store, searcher, request, columns, _limited(target, limits))
        searching.search(located)
    rows_sha256, rows_bytes = rows_file(staging)
    not_searched = (*located.not_searched, *searching.not_searched)
    outcome = QueryOutcome(
        outcome=judge(not_searched, limited=searching.limited),
        query_id=make_query_id(run.run_id),
        run_id=run.run_id,
        request=request,
        columns=tuple(columns),
        rows=searching.rows,
        searched=tuple(searching.searched),
        not_searched=not_searched,
        bytes_read=searching.bytes_read,
        seconds=round(time.monotonic() - started, 3),
        searched_at=now,
        expires_at=now + QUERY_RESULTS_KEPT,
        record_key=query_record_key(*split_table(request.table), run.run_id, now),
        rows_sha256=rows_sha256,
        rows_bytes=rows_bytes,
    )
    act = Act(
        kind="queried",
        table=request.table,
        who=request.who,
        facts={"rows": outcome.rows, "archives": len(outcome.searched)},
    )
    record(store, outcome.record_key, _record(run, outcome).to_bytes(), act)
    publish(staging, outcome)
    return outcome


def _record(run: RunIdentity, outcome: QueryOutcome) -> QueryRecord:
    return QueryRecord(
        dag_id=run.dag_id,
        salt=make_salt(),
        **{name: getattr(outcome, name) for name in QueryRecord.model_fields if name not in ("dag_id", "salt")},
    )


def _require_few(request: QueryRequest, limits: QueryLimits) -> None:
    if request.limit > limits.most_rows:
        raise QueryError(
            "the query asks for too many rows",
            expected=f"at most {limits.most_rows}",
            found=request.limit,
            hint="Nothing was read. Ask for fewer, or raise `query.most_rows`. To get whole archives back, restore them.",
        )
    if request.since is not None and request.before is not None and request.since >= request.before:
        raise QueryError(
            "the query's range ends before it begins",
            found=f"{request.since:%Y-%m-%d %H:%M} to {request.before:%Y-%m-%d %H:%M} UTC",
            hint="Nothing was read. Swap the two; the end is not part of the range.",
        )


def _limited(target: Writable, limits: QueryLimits) -> Callable[[bytes], None]:
    written = 0

    def write(line: bytes) -> None:
        nonlocal written
        written += len(line)
        if written > limits.most_result_bytes:
            raise QueryLimitError(
                f"the result is larger than {limits.most_result_bytes} bytes",
                hint="Nothing was shown, and the archives are untouched. Ask for fewer rows or columns, or raise "
                "`query.most_result_bytes`.",
            )
        target.write(line)

    return write


def _fit_columns(located: Located, request: QueryRequest) -> list[ResultColumn]:
    """The columns of the result, each with its newest type. All names and conditions must suit at least one archive."""
    newest_first = list({manifest.shape_sha256: manifest.table for manifest in reversed(located.manifests)}.values())
    if not newest_first:
        return [ResultColumn(name=name, type="unknown") for name in request.columns]
    known = {column.name: column for shape in reversed(newest_first) for column in shape.columns}
    in_order = dict.fromkeys(column.name for shape in newest_first for column in shape.columns)
    all_columns = [known[name] for name in in_order]
    require_columns(request.columns, all_columns)
    for condition in request.conditions:
        _require_one_fits(condition, [shape.columns for shape in newest_first])
    names = tuple(dict.fromkeys(request.columns)) or tuple(in_order)
    return [ResultColumn(name=name, type=known[name].type) for name in names]


def _require_one_fits(condition: Condition, shapes: Sequence[Sequence[Column]]) -> None:
    """Raise what the newest shape that has the column says, unless the condition suits one of them."""
    first: QueryError | None = None
    for columns in shapes:
        try:
            check_conditions([condition], columns)
            return
        except QueryError as error:
            if first is None or isinstance(first, NoColumnError):
                first = error
    if first is not None:
        raise first


class _Searching:
    """Searches archives in turn, and keeps account of what was searched and what was not."""

    def __init__(
        self,
        store: Store,
        searcher: Searcher,
        request: QueryRequest,
        columns: Sequence[ResultColumn],
        write: Callable[[bytes], None],
    ) -> None:
        self._store, self._searcher, self._request = store, searcher, request
        self._selected = tuple(column.name for column in columns)
        self._write = write
        self.searched: list[SearchedArchive] = []
        self.not_searched: list[NotSearched] = []
        self.rows = self.bytes_read = 0
        self.limited = False
        self._from_replica: list[int] = []

    def search(self, located: Located) -> None:
        """Search all archives, until there are more rows than the limit."""
        for listed in located.manifests:
            archive = ArchiveId.parse(listed.archive_id)
            if self._full(listed.archive_id, None):
                continue
            manifest = self._trusted(archive)
            if isinstance(manifest, NotSearched):
                self.not_searched.append(manifest)
            elif (unfit := self._unfit(manifest)) is not None:
                self.not_searched.append(unfit)
            else:
                self._search_archive(manifest)

    def _trusted(self, archive: ArchiveId) -> Manifest | NotSearched:
        try:
            return trusted_manifest(self._store, archive)
        except (StoreError, StoreAccessError) as error:
            return NotSearched(archive_id=str(archive), reason="no_answer", detail=error.what)

    def _unfit(self, manifest: Manifest) -> NotSearched | None:
        """Why the conditions cannot be decided in an archive: its table was another one then, or other rows date its rows."""
        if (why := cuts_undated_rows(self._request, manifest)) is not None:
            return NotSearched(archive_id=manifest.archive_id, reason="no_column", detail=why)
        try:
            check_conditions(self._request.conditions, manifest.table.columns)
        except NoColumnError as error:
            return NotSearched(archive_id=manifest.archive_id, reason="no_column", detail=error.what)
        except QueryError as error:
            return NotSearched(archive_id=manifest.archive_id, reason="other_type", detail=error.what)
        return None

    def _search_archive(self, manifest: Manifest) -> None:
        conditions = (*range_conditions(self._request, manifest.table), *self._request.conditions)
        before, scanned, parts = self.rows, 0, 0
        self._from_replica = []
        for entry in parts_in_range(manifest, self._request):
            if self._full(manifest.archive_id, entry.number):
                continue
            if self._fetched(manifest, entry) and self._search_part(manifest, entry, conditions):
                scanned += entry.record_count
                parts += 1
        if parts:
            self.searched.append(
                SearchedArchive(
                    archive_id=manifest.archive_id,
                    parts=parts,
                    scanned=scanned,
                    matched=self.rows - before,
                    from_replica=tuple(self._from_replica),
                )
            )

    def _fetched(self, manifest: Manifest, entry: ManifestPart) -> bool:
        part = manifest.verified_part(entry.number)
        try:
            fallback = self._searcher.fetch(self._store, part)
        except FrozenError as error:
            self._leave(manifest.archive_id, entry.number, "frozen", error.what)
        except (StoreError, StoreAccessError) as error:
            self._leave(manifest.archive_id, entry.number, "no_answer", error.what)
        except IntegrityError as error:
            self._leave(manifest.archive_id, entry.number, self._what_is_wrong(part), error.what)
        else:
            self.bytes_read += part.compressed_size_bytes
            self._from_replica += [entry.number] if fallback is not None else []
            return True
        return False

    def _what_is_wrong(self, part: VerifiedPart) -> Reason:
        try:
            return "missing" if self._store.head(part.object_key, part.version_id) is None else "corrupted"
        except (StoreError, StoreAccessError):
            return "no_answer"

    def _search_part(self, manifest: Manifest, entry: ManifestPart, conditions: Sequence[Condition]) -> bool:
        job = PartJob(
            archive_id=manifest.archive_id,
            format=manifest.format,
            compression_type=manifest.compression_type,
            columns=manifest.table.columns,
            conditions=tuple(conditions),
            selected=self._selected,
            limit=self._request.limit - self.rows,
            memory_bytes=self._searcher.memory_bytes,
        )
        answer = self._searcher.search(job, self._write)
        self.rows += answer.matched
        if answer.result != "done":
            after = f"{answer.found}, after {answer.matched} rows of it"
            self._leave(manifest.archive_id, entry.number, "unreadable", after)
            return False
        self.limited = self.limited or answer.more
        return True

    def _full(self, archive_id: str, part: int | None) -> bool:
        """Whether there are enough rows already, so that this archive or part is left alone."""
        if self.rows < self._request.limit:
            return False
        self.limited = True
        self._leave(archive_id, part, "row_limit", _ENOUGH)
        return True

    def _leave(self, archive_id: str, part: int | None, reason: Reason, detail: str) -> None:
        self.not_searched.append(NotSearched(archive_id=archive_id, part=part, reason=reason, detail=detail))
