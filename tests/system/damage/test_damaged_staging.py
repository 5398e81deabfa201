"""The next step finds any damage to staging. Nothing is uploaded or deleted because of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from strongroom.archive.checksum import checksum_part
from strongroom.archive.compress import compress_part
from strongroom.archive.extract_to_staging import extract_part
from strongroom.archive.upload import upload_part
from strongroom.archive.verify import verify_part
from strongroom.errors import StoreError, StrongroomError
from strongroom.formats.codecs import choose_codec
from strongroom.object_keys.archives import ArchiveId
from strongroom.records import ArchivePlan, ExtractedPart, PlannedPart
from strongroom.settings import Compression
from tests.support.chain import Chain, some_settings
from tests.support.damaging import ROWS, flipped
from tests.support.database import execute, scalar


class Bench:
    """One part, taken through the steps one by one, and a copy of its staging folder after each of them."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.plan: ArchivePlan = chain.plan()
        self.part: PlannedPart = self.plan.parts[0]
        self.staging = chain.staging(self.part.archive_id)
        self.record: PlannedPart = self.part

    def extract(self) -> None:
        with self.chain.source() as connection:
            self.record = extract_part(connection, self.staging, self.chain.settings, self.part, now=self.chain.now)

    def compress(self) -> None:
        codec = choose_codec(self.chain.settings.compression)
        self.record = compress_part(self.staging, self.record, codec)

    def checksum(self) -> None:
        self.record = checksum_part(self.staging, self.record)

    def upload(self) -> None:
        self.record = upload_part(self.staging, self.chain.store, self.record)

    def verify(self) -> None:
        with self.chain.source() as connection:
            self.record = verify_part(
                self.chain.store,
                self.staging,
                connection,
                self.plan.shape,
                self.record,
                proof_rows="all",
                now=self.chain.now,
            )

    def run_to(self, step: str) -> None:
        """Run all steps up to and including this one."""
        for name in ("extract", "compress", "checksum", "upload", "verify"):
            getattr(self, name)()
            if name == step:
                return

    def run_from(self, step: str) -> None:
        """Run all steps after this one."""
        names = ("extract", "compress", "checksum", "upload", "verify")
        for name in names[names.index(step) + 1 :]:
            getattr(self, name)()

    def damages(self, path: Path, change: Callable[[bytes], bytes]) -> Iterator[None]:
        """Damage a file for one iteration of a loop, then put the folder and the record back."""
        kept, record = self.staging.folder.with_name("kept"), self.record
        shutil.copytree(self.staging.folder, kept)
        path.write_bytes(change(path.read_bytes()))
        yield
        shutil.rmtree(self.staging.folder)
        kept.rename(self.staging.folder)
        self.record = record


@pytest.fixture
def bench(source, object_store, bucket, tmp_path) -> Bench:
    execute(source, ROWS)
    chain = Chain(source, object_store.client("archiver"), some_settings(bucket, tmp_path / "staging", part_rows=10))
    return Bench(chain)


FILES: dict[str, Any] = {
    "lines, before they are compressed": ("extract", "part-00000.lines.zst"),
    "lines, before they are passed on": ("extract", "part-00000.lines.zst", 1),
    "lines that were passed on, before they are summed": ("compress", "part-00000.lines.zst", 1),
    "lines that were passed on, after they were summed": ("checksum", "part-00000.lines.zst", 1),
    "the compressed file, before it is summed": ("compress", "part-00000.jsonl.zst"),
    "the compressed file, after it was summed": ("checksum", "part-00000.jsonl.zst"),
    "the parquet file, before it is passed on": ("extract", "part-00000.parquet"),
    "the parquet file, before it is summed": ("compress", "part-00000.parquet"),
    "the parquet file, after it was summed": ("checksum", "part-00000.parquet"),
    "the list of blocks": ("upload", "part-00000.blocks"),
}
"""A file, the step behind which it is damaged, and the level of compression if not 3. Level 1 is what lines are extracted with."""


@pytest.mark.parametrize("file", FILES)
def test_damage_to_a_file_of_staging_is_found_before_anything_is_deleted(bench, file):
    """Flipped bits, a cut, an empty file, extra bytes: each ends in one named error whose hint first says what is safe."""
    step, name, *level = FILES[file]
    format_ = "parquet" if name.endswith(".parquet") else "jsonl"
    changes = {"format": format_, "compression": Compression(level=level[0] if level else 3)}
    bench.chain.settings = bench.chain.settings.model_copy(update=changes)
    bench.run_to(step)
    path = bench.staging.folder / name
    size = path.stat().st_size
    damages = [
        *((lambda body, bit=bit: flipped(body, bit)) for bit in range(3, size * 8, size * 8 // 12)),
        lambda body: body[:-1],
        lambda body: body[: len(body) // 2],
        lambda _: b"",
        lambda body: body + b"x",
    ]
    stored = list(bench.chain.store.keys("archives/"))

    for damage in damages:
        for _ in bench.damages(path, damage):
            with pytest.raises(StrongroomError) as caught:
                bench.run_from(step)
            assert "No row was deleted" in caught.value.hint or isinstance(caught.value, StoreError)
    assert list(bench.chain.store.keys("archives/")) == stored
    assert scalar(bench.chain.conninfo, "SELECT count(*) FROM audit") == 30

    bench.run_from(step)
    assert bench.record.proved_rows == 10


@pytest.mark.parametrize("step", ["extract", "compress", "checksum", "upload"])
def test_a_damaged_record_of_a_step_is_named_put_aside_and_made_anew(bench, step):
    bench.run_to(step)
    [path] = bench.staging.folder.glob(f"part-00000.{type(bench.record).__name__.removesuffix('Part').lower()}.json")
    size = path.stat().st_size
    changes = [
        *((lambda body, bit=bit: flipped(body, bit)) for bit in range(5, size * 8, size * 8 // 9)),
        lambda body: body[: len(body) // 2],
        lambda _: b"",
    ]

    for change in changes:
        for _ in bench.damages(path, change):
            with pytest.raises(StrongroomError, match="is damaged") as caught:
                bench.staging.load(type(bench.record), 0)
            assert caught.value.hint.startswith("Nothing was uploaded or deleted because of it")
            assert bench.staging.load(type(bench.record), 0) is None
            assert path.with_name(f"{path.name}.damaged").exists()


def test_rows_that_do_not_come_back_as_they_were_are_found_although_each_byte_is_right(bench):
    """A column's type does not hold its values exactly. Checksums of bytes cannot show that."""
    columns = tuple(
        column.model_copy(update={"base_type": "numeric(8,1)"}) if column.name == "cost" else column
        for column in bench.plan.shape.columns
    )
    bench.run_to("upload")
    bench.plan = bench.plan.model_copy(update={"shape": bench.plan.shape.model_copy(update={"columns": columns})})

    with pytest.raises(
        StrongroomError, match=r"part 0 does not give its rows back.*expected block 0, of 10 rows"
    ) as caught:
        bench.verify()

    assert caught.value.hint.startswith("No row was deleted.")


def test_a_record_that_another_version_wrote_is_named(bench):
    bench.run_to("extract")
    written = bench.record

    class ExtractedPartOfOld(ExtractedPart):
        more: int = 1

    ExtractedPartOfOld.__name__ = "ExtractedPart"
    bench.staging.save(ExtractedPartOfOld(**written.model_dump()))

    with pytest.raises(StrongroomError, match=r"is not a record of this version.*more: Extra inputs"):
        bench.extract()


@pytest.mark.parametrize("name", ["..", ".", "", "../../etc", "a/b", "/etc", "a\0b"])
def test_staging_lies_in_its_own_folder_and_nowhere_else(bench, name):
    with pytest.raises(StrongroomError, match="is not a valid name for a staging folder"):
        bench.chain.staging(name)


def test_blocks_that_were_damaged_after_the_seal_are_made_anew_from_the_archive(source, object_store, bucket, tmp_path):
    """The delete then uses those and nothing else."""
    execute(source, ROWS)
    execute(source, "CREATE INDEX ON audit (at)")
    chain = Chain(source, object_store.client("archiver"), some_settings(bucket, tmp_path, part_rows=10))
    [first, *_] = chain.seal(chain.plan()).parts
    blocks = chain.staging(first.archive_id).blocks(0)
    blocks.write_bytes(flipped(blocks.read_bytes(), 100))
    execute(source, "UPDATE audit SET who = 'changed' WHERE id = 3")

    deleted = chain.delete(first)

    assert (deleted.deleted, deleted.changed) == (first.rows - 1, 1)
    with psycopg.connect(source) as connection:
        assert connection.execute("SELECT min(id) FROM audit").fetchone() == (3,)


def test_progress_of_a_delete_that_was_damaged_loses_no_row_and_is_told(source, object_store, bucket, tmp_path):
    execute(source, ROWS)
    chain = Chain(source, object_store.client("archiver"), some_settings(bucket, tmp_path, part_rows=10))
    [first, *_] = chain.seal(chain.plan()).parts
    chain.delete(first)
    path = chain.staging(first.archive_id).folder / "part-00000.deleteprogress.json"
    path.write_bytes(flipped(path.read_bytes(), 4000))
    evidence = ArchiveId.parse(first.archive_id).delete_evidence_key(0)
    admin = object_store.client("admin")
    admin.delete_object(Bucket=bucket, Key=evidence)

    with pytest.raises(StrongroomError, match=r"deleteprogress.json is damaged"):
        chain.delete(first)
    again = chain.delete(first)

    assert (again.deleted, again.gone) == (0, first.rows)
