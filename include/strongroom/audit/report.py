"""The acts of a period, table by table, the gaps, and the log's signed head."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from pydantic import AwareDatetime, Field

from strongroom.audit.cases import CaseAudit, read_cases
from strongroom.calendar import Partition, Window, newest_due, partitions_between
from strongroom.errors import ConfigurationError
from strongroom.ledger.entries import Entry, parse_entry, software
from strongroom.ledger.journal import log_of
from strongroom.ledger.witnesses import cosignatures
from strongroom.records import Record
from strongroom.settings import TableSettings
from strongroom.storage.store import Store

MOST_LISTED = 1000
"""Acts of one kind that a report lists for one table; it always counts them all."""


class ListedAct(Record):
    """One entry of the log, as a report lists it."""

    index: int = Field(description="Of the entry in the log, from 0.")
    at: AwareDatetime
    kind: str
    of: str = Field(description="Archive, partition, or what else it is about.")
    by: str = Field(description="The run or person, and who stands behind it.")
    facts: str
    objects: tuple[str, ...] = Field(description="Keys of the objects that it names.")


class TableAudit(Record):
    """What was done with one table's archives in the period."""

    table: str
    policy: str | None = Field(
        description="Terms and legal basis as the settings have them now; None if it is not configured."
    )
    counts: dict[str, int] = Field(description="How often each kind of act was entered.")
    rows: dict[str, int] = Field(
        description="Rows archived, deleted, restored, erased for persons, and destroyed. What one archive takes over from another "
        "that it supersedes is neither archived nor destroyed by that."
    )
    acts: tuple[ListedAct, ...]
    left_out: int = Field(description="Acts that are counted and not listed.")
    gaps: tuple[str, ...] = Field(
        description="Calendar partitions that are due and neither archived nor entered as empty, from the first that is."
    )
    for_persons: int = Field(default=0, description="Archives destroyed because another one supersedes them.")
    names_persons: bool = Field(default=False, description="Whether the settings name columns of persons.")


class StoreAudit(Record):
    """One store's log in the period."""

    store: str
    origin: str
    size: int
    root: str = Field(description="Of the whole log, as hex.")
    checkpoint: str = Field(
        description="The log's signed head. Its first three lines are what to keep for the next audit."
    )
    witnessed: tuple[str, ...] = Field(description="Witnesses that cosigned, over how many entries, and when.")
    first: int | None = Field(description="Index of the first entry of the period; None if there is none.")
    last: int | None
    tables: tuple[TableAudit, ...]
    other: TableAudit = Field(
        description="What is about no table: holds on everything, sweeps, keys, cases of persons, the purge's reports."
    )
    cases: tuple[CaseAudit, ...] = Field(default=(), description="Requests of persons that were open in the period.")


class AuditReport(Record):
    """What an auditor is handed."""

    report_version: int = 1
    organisation: str | None
    environment: str | None
    begin: AwareDatetime
    end: AwareDatetime
    made_at: AwareDatetime
    tool: str
    stores: tuple[StoreAudit, ...]

    @property
    def tables(self) -> Iterator[TableAudit]:
        """Those of all stores."""
        return (table for store in self.stores for table in (*store.tables, store.other))

    @property
    def cases(self) -> dict[str, tuple[CaseAudit, ...]]:
        """Those of all stores by their ids: a case whose tables lie in several stores is recorded in each."""
        found: dict[str, tuple[CaseAudit, ...]] = {}
        for store in self.stores:
            for case in store.cases:
                found[case.case_id] = (*found.get(case.case_id, ()), case)
        return found

    @property
    def purged_for_persons(self) -> int:
        """Archives destroyed in the period because another one supersedes them."""
        return sum(table.for_persons for table in self.tables)

    def count(self, *kinds: str) -> int:
        """How many acts of some kinds there are in all stores."""
        return sum(table.counts.get(kind, 0) for table in self.tables for kind in kinds)

    def entries(self, *kinds: str) -> list[tuple[str, int]]:
        """Store and index of the listed acts of some kinds."""
        return [
            (store.store, act.index)
            for store in self.stores
            for table in (*store.tables, store.other)
            for act in table.acts
            if act.kind in kinds
        ]


def make_report(
    stores: Iterable[tuple[Store, Sequence[TableSettings]]],
    window: Window,
    *,
    only: TableSettings | None = None,
    now: datetime,
) -> AuditReport:
    """Read the logs of some stores and report a period.

    Args:
        stores: Each with the configured tables whose archives lie in it.
        window: The period; its end is excluded.
        only: The one table that is asked for.
        now: Aware UTC instant.

    Raises:
        ConfigurationError: None of the stores has a log.
        IntegrityError: A log is damaged.
    """
    told, issuer = [], only
    for store, tables in stores:
        issuer = issuer or next(iter(tables), None)
        if log_of(store) is not None:
            told.append(_read_store(store, tables, window, only, now))
    if not told:
        raise ConfigurationError(
            "there is no transparency log to report from",
            expected="a store with `store.log_keys`",
            hint="Nothing was written. `airflow strongroom log key NAME` makes a key and says where its halves belong.",
        )
    return AuditReport(
        organisation=issuer.organisation if issuer else None,
        environment=issuer.environment if issuer else None,
        begin=window.start,
        end=window.end,
        made_at=now,
        tool=software(),
        stores=tuple(told),
    )


def _read_store(
    store: Store, tables: Sequence[TableSettings], window: Window, only: TableSettings | None, now: datetime
) -> StoreAudit:
    log = log_of(store)
    assert log is not None  # noqa: S101 - the caller asked
    head = log.head()
    lines = log.entries(0, head.checkpoint.size)
    entries = [(index, parse_entry(f"entry {index} of {store}", line)) for index, line in enumerate(lines)]
    inside = [(index, entry) for index, entry in entries if entry.at in window]
    configured = {table.qualified_name: table for table in tables}
    names = [only.qualified_name] if only else sorted({*configured, *(_table_of(entry) for _, entry in inside)} - {""})
    covered = _covered(entry for _, entry in entries)
    superseded = {str(one.act.facts["supersedes"]) for _, one in entries if "supersedes" in one.act.facts}
    return StoreAudit(
        store=str(store),
        origin=head.checkpoint.origin,
        size=head.checkpoint.size,
        root=head.checkpoint.root.hex(),
        checkpoint=head.note.to_bytes().decode(),
        witnessed=tuple(
            f"{one.witness.name} over {one.checkpoint.size} entries, {one.at:%Y-%m-%d %H:%M} UTC"
            for one in cosignatures(store)
        ),
        first=inside[0][0] if inside else None,
        last=inside[-1][0] if inside else None,
        tables=tuple(
            _audit(
                name,
                configured.get(name),
                [one for one in inside if _table_of(one[1]) == name],
                covered,
                superseded,
                window,
                now,
            )
            for name in names
        ),
        other=_audit("", None, [one for one in inside if not _table_of(one[1])], covered, superseded, window, now),
        cases=read_cases(store, entries, window, now),
    )


def _audit(
    name: str,
    settings: TableSettings | None,
    inside: Sequence[tuple[int, Entry]],
    covered: Mapping[str, set[str]],
    superseded: set[str],
    window: Window,
    now: datetime,
) -> TableAudit:
    listed = [_listed(index, entry) for index, entry in inside]
    return TableAudit(
        table=name,
        policy=_policy(settings) if settings is not None else None,
        counts=dict(sorted(Counter(entry.act.kind for _, entry in inside).items())),
        rows=_rows([entry for _, entry in inside], superseded),
        for_persons=sum(entry.act.kind == "purged" and entry.act.archive_id in superseded for _, entry in inside),
        acts=tuple(listed[:MOST_LISTED]),
        left_out=max(0, len(listed) - MOST_LISTED),
        gaps=tuple(_gaps(settings, covered.get(name, set()), window, now)) if settings is not None else (),
        names_persons=settings is not None and bool(settings.subjects.columns),
    )


def _policy(settings: TableSettings) -> str:
    warm = f", {settings.warm_retention.in_words} warm" if settings.warm else ""
    return (
        f"{settings.hot_retention.in_words} in the table{warm}, {settings.cold_retention.in_words} in archives, then destroyed; "
        f"{settings.legal_basis}"
    )


_ROWS = {
    "archived": "rows",
    "adopted": "rows",
    "deleted": "deleted",
    "restored": "inserted",
    "erased": "removed_rows",
    "superseded": "removed_rows",
    "purged": "rows",
}
"""The fact of each kind that counts rows."""


def _rows(entries: Sequence[Entry], superseded: set[str]) -> dict[str, int]:
    """Sums of what the entries say of rows. Repeated entries of one act count once, and rows that a successor takes over not at all."""
    counted: dict[tuple[str, tuple[str, ...]], int] = {}
    for entry in entries:
        fact = entry.act.facts.get(_ROWS.get(entry.act.kind, ""))
        taken_over = (
            "supersedes" in entry.act.facts if entry.act.kind == "archived" else entry.act.archive_id in superseded
        )
        if isinstance(fact, int) and not (taken_over and entry.act.kind in ("archived", "purged")):
            counted[entry.act.kind, tuple(one.key for one in entry.subjects)] = fact
    sums: Counter[str] = Counter()
    for (kind, _), rows in counted.items():
        sums[kind] += rows
    return dict(sums)


def _listed(index: int, entry: Entry) -> ListedAct:
    act = entry.act
    run = " ".join(filter(None, (entry.dag_id, entry.run_id)))
    people = [f"started by {entry.triggered_by}" if entry.triggered_by else "", f"for {act.who}" if act.who else ""]
    return ListedAct(
        index=index,
        at=entry.at,
        kind=act.kind,
        of=act.archive_id
        or " ".join(filter(None, (act.table, act.partition_key)))
        or str(act.facts.get("what", act.facts.get("case", ""))),
        by=", ".join(filter(None, [run or str(entry.person or "unknown"), *people])),
        facts=", ".join(
            f"{name.replace('_', ' ')} {value}"
            for name, value in act.facts.items()
            if value not in (0, None) and not name.endswith("sha256") and name not in ("what", "case")
        ),
        objects=tuple(subject.key for subject in entry.subjects),
    )


def _table_of(entry: Entry) -> str:
    return entry.act.table or ""


def _covered(entries: Iterable[Entry]) -> dict[str, set[str]]:
    """By table, the calendar partitions that were archived, or entered as empty, at any time."""
    found: dict[str, set[str]] = {}
    for entry in entries:
        if entry.act.kind in ("archived", "adopted", "empty") and entry.act.table and entry.act.partition_key:
            found.setdefault(entry.act.table, set()).add(entry.act.partition_key)
    return found


def _gaps(settings: TableSettings, covered: set[str], window: Window, now: datetime) -> Iterator[str]:
    """Partitions between the first that is covered and the newest that was due at the end of the period."""
    newest = newest_due(settings.frequency, settings.hot_retention, min(now, window.end))
    known = sorted(
        (partition for key in covered if (partition := Partition.named(key)).frequency is settings.frequency),
        key=lambda partition: partition.window.start,
    )
    if newest is None or not known:
        return
    for partition in partitions_between(settings.frequency, known[0].window.start, newest.window.start):
        if partition.key not in covered:
            yield partition.key
