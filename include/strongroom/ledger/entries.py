"""What an entry of the transparency log says: one line of JSON in the shape of an in-toto statement.

It names objects by key and SHA-256 and says what was done with them, when, by which run or person. It holds no row, no key of a
row and no words about a person: those are in the object that it names.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import datetime, timezone
from functools import lru_cache
from importlib.metadata import version
from typing import Any, Literal

from pydantic import Field, ValidationError

from strongroom.errors import IntegrityError
from strongroom.object_keys.archives import ArchiveId
from strongroom.records import Record, Sha256
from strongroom.storage.author import Author

STATEMENT = "https://in-toto.io/Statement/v1"

ACT = "urn:strongroom:act:v1"
"""What kind of statement an entry is. Another shape gets another version."""

Kind = Literal[
    "log begun",
    "archived",
    "adopted",
    "empty",
    "delete intended",
    "deleted",
    "detach intended",
    "detached",
    "drop intended",
    "dropped",
    "verified",
    "drills chosen",
    "drilled",
    "replicated",
    "restore begun",
    "restored",
    "queried",
    "held",
    "released",
    "condemned",
    "approval asked",
    "approval answered",
    "purge intended",
    "purged",
    "purge reported",
    "sweep intended",
    "recorded late",
    "adoption reported",
    "audit reported",
    "refused",
    "configuration changed",
    "key changed",
    "owner changed",
    "recovered",
    "case opened",
    "case found",
    "case answered",
    "erasure intended",
    "erased",
    "superseded",
    "case closed",
]
"""What was done. `adopted` are archives that are older than the log; `recorded late` is an object whose writer died before it
entered it."""

Facts = dict[str, int | str | None]
"""What an entry tells without its object: counts, terms and instants."""

OF_MANIFESTS: tuple[Kind, ...] = ("archived", "adopted")
"""The kinds that make the log vouch for a manifest."""


class Subject(Record):
    """An object that an entry is about."""

    key: str
    sha256: Sha256
    version_id: str | None = None


class Act(Record):
    """What was done, without who did it: that is known of the store's author."""

    kind: Kind
    archive_id: str | None = None
    table: str | None = Field(default=None, description="Schema and name.")
    partition_key: str | None = None
    who: str | None = Field(default=None, description="The person behind it, if it is another than the author.")
    legal_basis: str | None = None
    settings_sha256: Sha256 | None = Field(
        default=None, description="Of the table's settings as they were in force, as JSON."
    )
    facts: Facts = Field(default_factory=dict)


class Entry(Record):
    """An entry of the log, read again."""

    act: Act
    at: datetime
    subjects: tuple[Subject, ...]
    dag_id: str | None = None
    run_id: str | None = None
    triggered_by: str | None = None
    task_id: str | None = None
    try_number: int | None = None
    person: str | None = None
    software: str

    def vouches_for(self, key: str, sha256: str) -> bool:
        """Whether it is about an object with just this content."""
        return any((one.key, one.sha256) == (key, sha256) for one in self.subjects)


def subject_of(key: str, body: bytes, version_id: str | None = None) -> Subject:
    """An object as a subject."""
    return Subject(key=key, sha256=hashlib.sha256(body).hexdigest(), version_id=version_id)


def of_archive(archive: ArchiveId, kind: Kind, **more: Any) -> Act:
    """An act on one archive."""
    return Act(
        kind=kind,
        archive_id=str(archive),
        table=f"{archive.schema_name}.{archive.table_name}",
        partition_key=archive.partition_key,
        **more,
    )


def parse_entry(where: str, line: bytes) -> Entry:
    """Read an entry.

    Raises:
        IntegrityError: It is none of ours.
    """
    try:
        statement = json.loads(line)
        if (statement["_type"], statement["predicateType"]) != (STATEMENT, ACT):
            raise ValueError("another kind of statement")
        subjects = [
            {"key": one["name"], "sha256": one["digest"]["sha256"], **one.get("annotations", {})}
            for one in statement["subject"]
        ]
        told = dict(statement["predicate"])
        act = {name: told.pop(name) for name in [*told] if name in Act.model_fields}
        return Entry.model_validate({"act": act, "subjects": subjects, **told})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, ValidationError):
        raise IntegrityError(
            f"{where} is not an entry of a Strongroom log",
            expected=f"an in-toto statement with predicate {ACT}",
            hint="Nothing was changed. A newer version may have written it; if not, somebody holds the log's key.",
        ) from None


def write_entry(author: Author | None, act: Act, subjects: Sequence[Subject]) -> bytes:
    """An entry as its line, without a line break, dated now."""
    run = author.run if author is not None else None
    told = {
        **act.model_dump(mode="json", exclude_none=True, exclude={"facts"}),
        **({"facts": act.facts} if act.facts else {}),
        "at": f"{datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%S.%fZ}",
        **(run.model_dump(exclude_none=True) if run is not None else {}),
        **_of_author(author),
        "software": software(),
    }
    statement = {
        "_type": STATEMENT,
        "predicateType": ACT,
        "subject": [
            {
                "name": one.key,
                "digest": {"sha256": one.sha256},
                **({"annotations": {"version_id": one.version_id}} if one.version_id else {}),
            }
            for one in subjects
        ],
        "predicate": told,
    }
    return json.dumps(statement, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def _of_author(author: Author | None) -> dict[str, Any]:
    if author is None:
        return {}
    told = {"task_id": author.task_id, "try_number": author.try_number, "person": author.person}
    return {name: value for name, value in told.items() if value is not None}


@lru_cache(maxsize=1)
def software() -> str:
    """Name and version of what does the work."""
    return f"strongroom {version('strongroom')}"
