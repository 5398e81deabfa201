"""A store in which everything was done that an auditor may ask about, made by the code that does it, and copies of it to tamper with."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from strongroom.archive.report import report_run
from strongroom.drill.begin import begin_drills
from strongroom.drill.choose import choose
from strongroom.drill.records import DrillRun
from strongroom.ledger.holds import covered, place_hold, release_hold
from strongroom.object_keys.archives import ArchiveId
from strongroom.records import RunIdentity
from strongroom.retention.approve import keep_answer, keep_question
from strongroom.retention.certificate import Approval
from strongroom.retention.decide import judge
from strongroom.retention.purge import purge_archive
from strongroom.settings import DrillSettings
from strongroom.statistics.proofs import verify_and_record
from strongroom.storage.purge_store import PurgeStore
from strongroom.tlog.checkpoints import Checkpoint, EntryProof
from strongroom.tlog.merkle import hash_leaf, prove_inclusion, root_of
from strongroom.tlog.notes import Note, SignerKey
from strongroom.tlog.tiles import Tile, pack_entries, subtree_hashes, unpack_entries
from strongroom_local.servers.s3 import ObjectStore
from tests.support.chain import Chain, some_settings
from tests.support.database import execute
from tests.support.drilling import drill_role, drilling
from tests.support.logs import KEY, with_log
from tests.support.querying import ask
from tests.support.restoring import restore

PURGED = ArchiveId("public", "calls", "2018-01", 1)
CALLS = ArchiveId("public", "calls", "2018-02", 1)
EMPTY_MONTH = "2018-03"
CHANGED = ("2018-01", "2018-02")
"""Months of which one row stayed in the table."""
DELETED = ArchiveId("public", "calls", "2018-04", 1)
TEXTS = ArchiveId("public", "texts", "2018-05", 1)
RELEASED, IN_FORCE = "20260101T000000Z-00000001", "20260101T000000Z-00000002"
PURGE = RunIdentity(dag_id="retention_purge", run_id="scheduled__today")

DRILLS = {table: DrillSettings(random=9) for table in ("public.calls", "public.texts")}
"""So many that all archives are drilled."""

_ROWS = """
CREATE TABLE {table} (id bigint PRIMARY KEY, at timestamptz NOT NULL, who text, cost numeric(8, 2));
CREATE INDEX ON {table} (at);
INSERT INTO {table} SELECT n, timestamptz '{first}' + n * interval '12 hours', 'agent ' || n, n / 7.0
FROM generate_series(0, {last}) AS n;
"""


def fill_audited_store(source: str, object_store: ObjectStore, bucket: str, folder: Path, prefix: str = "") -> Chain:
    """Archive two tables, delete, verify, query, restore, drill and hold. Returns the chain of the table `calls`.

    Args:
        source: A database for the two tables.
        bucket: Empty, with versions.
        folder: For staging.
        prefix: Of the store inside the bucket.
    """
    now = datetime.now(timezone.utc)
    execute(source, _ROWS.format(table="calls", first="2018-01-01 00:00+00", last=239))
    execute(source, "DELETE FROM calls WHERE at >= '2018-03-01' AND at < '2018-04-01'")
    execute(source, _ROWS.format(table="texts", first="2018-05-01 00:00+00", last=100))

    def chain_of(table: str, key: str, **changes: Any) -> Chain:
        settings = with_log(some_settings(bucket, folder, table, cold_retention="P5Y", **changes))
        store = settings.store.model_copy(update={"prefix": prefix})
        settings = settings.model_copy(update={"store": store})
        return Chain(source, object_store.client("archiver"), settings, key=key, now=now)

    for key in ("2018-01", "2018-02", EMPTY_MONTH, "2018-04"):
        calls = chain_of("calls", key, part_rows=30)
        _run_while_a_row_changes(calls) if key in CHANGED else calls.run()
    for key in ("2018-05", "2018-06"):
        chain_of("texts", key, format="parquet").run()

    store = calls.store
    verify_and_record(store, CALLS, who="grace", now=now)
    ask(calls, now=now, limit=10)
    restore(calls, now=now, archives=[str(DELETED)])
    _, chosen = begin_drills(store, DRILLS, run_id="scheduled__drill", who="ada", now=now)
    with drill_role(source) as role, drilling(calls, role) as session:
        for choice in chosen.choices:
            session.restore_and_record(choice, now=now)
    place_hold(store, str(PURGED), why="case 1", who="eve", reference="R/1", now=now, hold_id=RELEASED)
    release_hold(store, RELEASED, who="frank", reason="closed", now=now)
    place_hold(store, covered("public", "texts"), why="case 2", who="eve", reference="R/2", now=now, hold_id=IN_FORCE)
    return calls


def _run_while_a_row_changes(chain: Chain) -> None:
    """Run all steps; the application changes a row of the second part before it is deleted, so that it stays."""
    plan = chain.plan()
    sealed = chain.seal(plan)
    when = f"at >= '{sealed.parts[1].start_at}' AND at < '{sealed.parts[1].end_at}'"
    execute(chain.conninfo, f"UPDATE calls SET who = who || '!' WHERE id = (SELECT min(id) FROM calls WHERE {when})")
    deleted = [chain.delete(part) for part in sealed.parts]
    with chain.staging(str(plan.archive_id)) as staging:
        report_run(chain.store, staging, plan, sealed.parts, deleted, now=chain.now)


def purge_one(chain: Chain, object_store: ObjectStore) -> None:
    """Destroy the oldest archive, with a person's yes."""
    now = datetime.now(timezone.utc)
    [decision] = [one for one in judge(chain.store, now=now) if one.archive == PURGED]
    yes = Approval(approved=True, by="ada", at=now)
    keep_question(chain.store, [decision], run=PURGE, now=now)
    keep_answer(chain.store, yes, run=PURGE)
    purger = PurgeStore(object_store.client("purger"), chain.settings.store)
    result = purge_archive(chain.store, purger, decision, yes, run=PURGE, now=now, claim_ttl=timedelta(hours=1))
    assert result.result == "purged", result.detail


def copy_bucket(admin: Any, bucket: str, folder: Path) -> Path:
    """Copy the newest version of each object into a folder, as an auditor does with `aws s3 sync`.

    Returns:
        A file beside the folder, with what `aws s3api list-object-versions` prints.
    """
    listing: dict[str, list[Any]] = {"Versions": [], "DeleteMarkers": []}
    for page in admin.get_paginator("list_object_versions").paginate(Bucket=bucket):
        for kind, entries in listing.items():
            entries += page.get(kind, [])
    for version in listing["Versions"]:
        if version["IsLatest"]:
            target = folder / version["Key"]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(admin.get_object(Bucket=bucket, Key=version["Key"])["Body"].read())
    versions = folder.with_suffix(".versions.json")
    versions.write_text(json.dumps(listing, default=str))
    return versions


class Copy:
    """A copy of a store in a folder, which shares its files with the one that it was made of until they are changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def of(cls, source: Path, folder: Path) -> Copy:
        """A new copy of a copy."""
        shutil.copytree(source, folder, copy_function=os.link)
        return cls(folder)

    def names(self, beginning: str = "") -> list[str]:
        """The keys that begin with a text."""
        files = (path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file())
        return sorted(key for key in files if key.startswith(beginning))

    def read(self, key: str) -> bytes:
        return (self.folder / key).read_bytes()

    def write(self, key: str, body: bytes) -> None:
        """Write an object in place of what is there; never into the file that other copies share."""
        target = self.folder / key
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        target.write_bytes(body)

    def remove(self, *beginnings: str) -> None:
        """Remove all objects whose keys begin with one of some texts."""
        for beginning in beginnings:
            keys = self.names(beginning)
            assert keys, beginning
            for key in keys:
                (self.folder / key).unlink()

    def edit(self, key: str, **fields: Any) -> None:
        """Change fields of a JSON object."""
        self.write(key, json.dumps(json.loads(self.read(key)) | fields, indent=2).encode() + b"\n")

    def lines(self) -> list[bytes]:
        """The entries of the log, which must be fewer than 257."""
        size = int(self.read("log/checkpoint").split(b"\n")[1])
        return unpack_entries("entries", self.read(f"log/{Tile(None, 0, size).path}"))

    def rewrite(self, change: Callable[[list[Statement]], object], key: SignerKey = KEY) -> None:
        """What somebody can do who has the log's key: change entries, and make tiles, head and proofs that fit.

        Args:
            change: Gets all entries as JSON; may edit, drop, move and add them. What it keeps of an entry keeps its proof.
        """
        statements = [json.loads(line) | {"place": place} for place, line in enumerate(self.lines())]
        change(statements)
        places = {one.pop("place", None): index for index, one in enumerate(statements)}
        self.write_log([line_of(one) for one in statements], key)
        for name in [name for name in self.names() if name.endswith(".tlog-proof")]:
            index = places.get(EntryProof.parse(name, self.read(name)).index)
            if index is not None:
                self.write(name, self.proof(index).to_bytes())

    def rewrite_all(self, change: Callable[[list[Statement]], object]) -> None:
        """:meth:`rewrite`, and each head that is printed in a record, and what was drawn by one, so that nothing is left of the old log."""
        statements = [json.loads(line) | {"place": place} for place, line in enumerate(self.lines())]
        change(statements)
        kept = [one.pop("place") for one in statements]
        lines: list[bytes] = []

        def reprint(name: str) -> bytes | None:
            """A record with the head that the new log had when the old one had the head that is printed in it."""
            record = json.loads(self.read(name)) if name.startswith(("reports/", "evidence/")) else {}
            if "checkpoint" not in record:
                return None
            before = int(record["checkpoint"].split("\n")[1])
            note = _signed(lines[: sum(place < before for place in kept[: len(lines)])])
            record["checkpoint"] = note.to_bytes().decode()
            if "seed" in record:
                record["seed"] = note.text.split("\n")[2]
                sealed = {one["predicate"].get("archive_id") for one in those(statements, "archived")}
                record["candidates"] = [one for one in record["candidates"] if one["archive_id"] in sealed]
                run = DrillRun.model_validate_json(json.dumps(record))
                choices, _ = choose(run.candidates, base64.b64decode(record["seed"]), DRILLS)
                record["choices"] = [json.loads(choice.model_dump_json()) for choice in choices]
            self.write(name, json.dumps(record, indent=2).encode())
            return self.read(name)

        for statement in statements:
            for subject in statement["subject"]:
                if (self.folder / subject["name"]).exists() and (body := reprint(subject["name"])) is not None:
                    subject["digest"]["sha256"] = hashlib.sha256(body).hexdigest()
            lines.append(line_of(statement))
        for name in (*self.names("reports/"), *self.names("evidence/")):
            if name.endswith(".json") and f'"{name}"'.encode() not in b"".join(lines):
                reprint(name)
        self.write_log(lines)
        for name in [name for name in self.names() if name.endswith(".tlog-proof")]:
            place = EntryProof.parse(name, self.read(name)).index
            if place in kept:
                self.write(name, self.proof(kept.index(place)).to_bytes())

    def write_log(self, lines: list[bytes], key: SignerKey = KEY) -> None:
        """Write a log of some entries, under a head that a key signs."""
        for name in self.names("log/"):
            if not name.startswith("log/witness/"):
                (self.folder / name).unlink()
        hashes = list(map(hash_leaf, lines))
        for tile in (Tile(None, 0, len(lines)), Tile(0, 0, len(lines))):
            self.write(f"log/{tile.path}", pack_entries(lines) if tile.level is None else b"".join(hashes))
        self.write("log/checkpoint", _signed(lines, key).to_bytes())

    def proof(self, index: int) -> EntryProof:
        """A proof that the log, as it is now, has an entry."""
        lines = self.lines()
        subtree = subtree_hashes(lambda tile: self.read(f"log/{tile.path}"), len(lines))
        note = Note.parse("checkpoint", self.read("log/checkpoint"))
        return EntryProof(index, tuple(prove_inclusion(subtree, index, len(lines))), note, lines[index])


def _signed(lines: list[bytes], key: SignerKey = KEY) -> Note:
    """The head of a log of some entries, which must be fewer than 256."""
    hashes = b"".join(map(hash_leaf, lines))
    root = root_of(subtree_hashes(lambda _: hashes, len(lines)), len(lines))
    return Note(Checkpoint(key.name, len(lines), root).text, ()).signed(key)


Statement = dict[str, Any]
"""An entry of the log as JSON."""


def line_of(statement: Statement) -> bytes:
    """An entry as the log has it."""
    return json.dumps(statement, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def those(statements: list[Statement], kind: str, archive: ArchiveId | None = None) -> list[Statement]:
    """The entries of one kind, of one archive or of all."""
    acts = [one for one in statements if one["predicate"]["kind"] == kind]
    return [one for one in acts if archive is None or one["predicate"].get("archive_id") == str(archive)]
