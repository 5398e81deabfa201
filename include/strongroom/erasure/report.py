"""What is held about a person, for the person (GDPR 15): every row, where it is, why it is kept and until when, and who was given it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import AwareDatetime

from strongroom.database.session import Connection
from strongroom.erasure.cases import keep
from strongroom.erasure.find import rows_in_archive
from strongroom.erasure.rows import Wanted, columns_of
from strongroom.erasure.tables import rows_in_table, targets_of
from strongroom.formats.line_writer import LineWriter
from strongroom.formats.row_texts import read_copy
from strongroom.ledger.entries import Act
from strongroom.ledger.index import survey_manifests
from strongroom.object_keys.records import case_key
from strongroom.records import Record
from strongroom.settings import TableSettings
from strongroom.storage.store import Store


class Reported(Record):
    """That somebody wrote down what is held about a person."""

    case_id: str
    rows: int
    places: int
    who: str
    reported_at: AwareDatetime


def keep_report(store: Store, case_id: str, *, who: str, now: datetime, rows: int, places: int) -> None:
    """Put on record that a report was written. What it says is in no record."""
    reported = Reported(case_id=case_id, rows=rows, places=places, who=who, reported_at=now)
    act = Act(kind="case answered", who=who, facts={"case": case_id, "answer": "report", "rows": rows})
    keep(store, case_key(case_id, "reported", now), reported, act)


def report_table(
    connection: Connection, store: Store, settings: TableSettings, wanted: Wanted, *, folder: Path | None
) -> Iterator[dict[str, Any]]:
    """What is held about a person in one table and its archives.

    Yields:
        For each place, where it is, its purpose and term, and the rows as JSON objects. A place that cannot be read says why.

    Raises:
        IntegrityError: An archive is not what was archived, so the report would not be complete.
    """
    about = {
        "table": settings.qualified_name,
        "legal_basis": settings.legal_basis,
        "recipients": list(settings.subjects.recipients),
    }
    for target in targets_of(connection, store, settings):
        rows = [json.loads(row) for row in rows_in_table(connection, target, settings, wanted)]
        if rows:
            yield {
                **about,
                "place": str(target),
                "kind": target.kind,
                "kept": settings.cold_retention.in_words,
                "rows": rows,
            }
    survey = survey_manifests(store, settings.schema_name, settings.table_name)
    for damaged in survey.damaged:
        yield {**about, "place": damaged.archive_id, "kind": "archive", "unreadable": damaged.problem, "rows": []}
    for manifest in survey.manifests:
        if not columns_of(settings, manifest.table):
            continue
        writer, width = LineWriter(manifest.table), len(manifest.table.columns)
        found = rows_in_archive(store, settings, manifest, wanted, folder)
        rows = [json.loads(writer.lines(read_copy(width, row, 1))) for row in found]
        if rows:
            until = f"{manifest.retention_until:%Y-%m-%d}"
            yield {**about, "place": manifest.archive_id, "kind": "archive", "kept": f"until {until}", "rows": rows}
