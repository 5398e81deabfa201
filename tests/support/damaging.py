"""An administrator who damages an archive store, and can undo the damage."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import psycopg
from hypothesis import HealthCheck, settings

from strongroom.database.session import Connection
from strongroom.formats.codecs import Codec
from strongroom.formats.reading_back import ReadingBack, require_equal
from strongroom.ledger.manifest_record import Manifest, sha256_sums
from strongroom.ledger.manifests import require_manifest
from strongroom.ledger.reread import ArchiveVerdict
from strongroom.object_keys.archives import ArchiveId
from strongroom.restore.claims import release_claims
from strongroom.restore.records import RestoredPart, RestorePlan
from strongroom.statistics.proofs import verify_and_record
from strongroom.storage.store import Store
from strongroom_local.servers.postgres import PostgresServer
from strongroom_local.servers.s3 import ObjectStore
from tests.support import restoring
from tests.support.chain import NOW, Chain, some_settings

Document = dict[str, Any]

ROWS = """
DROP TABLE IF EXISTS audit;
CREATE TABLE audit (id bigint PRIMARY KEY, at timestamptz NOT NULL, who text, cost numeric);
INSERT INTO audit SELECT n, '2026-05-01 00:00+00'::timestamptz + n * interval '6 hours', 'agent ' || n, n / 7.0
FROM generate_series(1, 30) AS n;
"""


def flipped(body: bytes, bit: int) -> bytes:
    """The same bytes with one bit flipped."""
    at, mask = divmod(bit % (len(body) * 8), 8)
    return body[:at] + bytes([body[at] ^ 1 << mask]) + body[at + 1 :]


class Vandal:
    """An administrator of the bucket, careless or malicious."""

    def __init__(self, admin: Any, store: Store, bucket: str) -> None:
        self.admin, self.store, self.bucket = admin, store, bucket
        self._replaced: list[dict[str, bytes]] = []

    def read(self, key: str) -> bytes:
        """The content of the newest version."""
        return self.admin.get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def write(self, key: str, body: bytes) -> str:
        """Write a new version of an object and return its id."""
        return self.admin.put_object(Bucket=self.bucket, Key=key, Body=body)["VersionId"]

    def replace(self, key: str, body: bytes) -> None:
        """Replace an object's bytes and remove its other versions, as a bad disk or a thorough attacker would."""
        for replaced in self._replaced:
            replaced.setdefault(key, self.read(key))
        self.remove(key)
        self.write(key, body)

    def hide(self, key: str) -> None:
        """Put a delete marker over an object."""
        self.admin.delete_object(Bucket=self.bucket, Key=key)

    def remove(self, key: str) -> None:
        """Remove every version of an object."""
        for version in self._versions(key):
            self.admin.delete_object(Bucket=self.bucket, Key=key, VersionId=version)

    def rot(self, archive: ArchiveId, number: int, body: bytes) -> None:
        """Give the version that was verified other bytes, as a bad disk would.

        No server allows that. So the damaged version is a new one, and the manifest and its copy name it.
        """
        [key] = (key for key in self.store.keys(archive.archive_prefix) if f"part-{number:05d}." in key)
        version = self.write(key, body)

        def name(document: Document) -> None:
            document["parts"][number]["version_id"] = version

        self.edit(archive, name, copy_too=True)

    def edit(self, archive: ArchiveId, change: Callable[[Document], object], *, copy_too: bool = False) -> None:
        """Change a manifest by hand and leave no earlier version. ``copy_too`` changes its copy as well."""
        document = json.loads(self.read(archive.manifest_key))
        change(document)
        for key in (archive.manifest_key, *([archive.seal_key] if copy_too else [])):
            self.replace(key, json.dumps(document).encode())

    @contextmanager
    def undone(self) -> Iterator[None]:
        """Undo at the end of the block whatever was written, replaced or hidden in it."""
        before = set(self._all())
        self._replaced.append({})
        try:
            yield
        finally:
            for key, version in set(self._all()) - before:
                self.admin.delete_object(Bucket=self.bucket, Key=key, VersionId=version)
            for key, body in self._replaced.pop().items():
                self.write(key, body)

    def _versions(self, key: str) -> list[str]:
        return [version for found, version in self._all(key) if found == key]

    def _all(self, prefix: str = "") -> Iterator[tuple[str, str]]:
        pages = self.admin.get_paginator("list_object_versions").paginate(Bucket=self.bucket, Prefix=prefix)
        for page in pages:
            for entry in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
                yield entry["Key"], entry["VersionId"]


@dataclass
class Damaged:
    """A sealed archive of three parts of ten rows, all deleted from the table, and ways to inspect it."""

    chain: Chain
    vandal: Vandal
    archive: ArchiveId
    plan: RestorePlan

    def part_key(self, number: int) -> str:
        settings = self.chain.settings
        return self.archive.part_key(number, settings.compression.type, settings.format)

    def verify(self) -> ArchiveVerdict:
        return verify_and_record(self.chain.store, self.archive, who="ada", now=NOW)

    def restore(self, number: int) -> RestoredPart:
        """Try to restore one part, starting from an empty table and empty scratch space."""
        self.empty_table()
        part = next(part for part in self.plan.parts if part.number == number)
        try:
            return restoring.load(self.chain, self.plan.model_copy(update={"lanes": ((part,),)}))[0]
        finally:
            restoring.staging_of(self.chain, self.plan, part).clear()

    def rows(self) -> list[int]:
        """Ids in the table."""
        with self._connect() as connection:
            return [row[0] for row in connection.execute("SELECT id FROM audit ORDER BY id").fetchall()]

    def empty_table(self) -> None:
        with self._connect() as connection:
            connection.execute("DELETE FROM audit")

    def _connect(self) -> Connection:
        return psycopg.connect(self.chain.conninfo, autocommit=True)


def seal_three_parts(
    postgres: PostgresServer, object_store: ObjectStore, staging: Path, name: str, **settings: Any
) -> Damaged:
    """Archive thirty rows, in a new database and a new bucket.

    Args:
        name: The name of both.
        settings: Table settings that differ from the defaults.
    """
    with psycopg.connect(postgres.conninfo(), autocommit=True) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{name}"')
        connection.execute(f'CREATE DATABASE "{name}"')
    with psycopg.connect(postgres.conninfo(name), autocommit=True) as connection:
        connection.execute(ROWS)
    object_store.create_bucket(name)
    table = some_settings(name, staging, part_rows=10, **settings)
    chain = Chain(postgres.conninfo(name), object_store.client("archiver"), table)
    report = chain.run()
    assert (report.parts, report.deleted_rows) == (3, 30)
    plan = restoring.plan(chain)
    release_claims(chain.store, plan, owner=plan.restore_id, now=NOW)
    vandal = Vandal(object_store.client("admin"), chain.store, name)
    return Damaged(chain, vandal, ArchiveId.parse(str(report.archive_id)), plan)


def require_found_in_part(damaged: Damaged, result: str, *, number: int = 0, expected: str = "") -> None:
    """Verify and restore both name the part and say what is wrong with it, and restore loads none of it."""
    verdict = damaged.verify()
    one = next(one for one in verdict.objects if one.object_key == damaged.part_key(number))
    assert (verdict.result, one.result) == (result, result)
    assert expected in one.detail

    restored = damaged.restore(number)

    assert (restored.result, restored.inserted) == (result, 0)
    assert f"part-{number:05d}" in restored.detail or f"part {number}" in restored.detail or "stream" in restored.detail
    assert damaged.rows() == []


def require_sound(part: Any, packed: bytes) -> None:
    reading = ReadingBack(part, iter([packed]))
    for _ in reading.blocks():
        pass
    require_equal(part, reading.result())


def fix_part(document: Any, manifest: Manifest, body: bytes) -> None:
    """Make the compressed size and checksums of part 0 fit other bytes."""
    parts = list(manifest.parts)
    parts[0] = parts[0].model_copy(update={"compressed_size": len(body), "sha256": sha256(body).hexdigest()})
    document["parts"][0].update(compressed_size=len(body), sha256=parts[0].sha256)
    document["compressed_size"] = sum(part.compressed_size for part in parts)
    document["checksum"] = sha256(sha256_sums(tuple(parts))).hexdigest()


A_FEW = settings(
    max_examples=12, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def a_part_of(damaged: Damaged, codec: Codec, original: bytes, packed: bytes) -> Any:
    part = require_manifest(damaged.chain.store, damaged.archive).verified_part(0)
    return part.model_copy(
        update={
            "compression_type": codec.type,
            "rows": original.count(b"\n"),
            "original_size_bytes": len(original),
            "compressed_size_bytes": len(packed),
            "original_sha256": sha256(original).hexdigest(),
            "compressed_sha256": sha256(packed).hexdigest(),
            "sha256": sha256(packed).hexdigest(),
        }
    )
