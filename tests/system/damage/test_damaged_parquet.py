"""Damage to a parquet part is found like damage to JSON lines, even if all checksums of the file were changed to match."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import pyarrow as pa
import pytest
from pyarrow import compute as pc
from pyarrow import parquet as pq

from strongroom.errors import IntegrityError
from strongroom.ledger.manifests import require_manifest
from strongroom_local.servers.postgres import PostgresServer
from strongroom_local.servers.s3 import ObjectStore
from tests.support.damaging import Damaged, fix_part, flipped, require_found_in_part, require_sound, seal_three_parts


@pytest.fixture(scope="module")
def sealed(postgres: PostgresServer, object_store: ObjectStore, tmp_path_factory: pytest.TempPathFactory) -> Damaged:
    staging = tmp_path_factory.mktemp("staging")
    return seal_three_parts(postgres, object_store, staging, "test-damaged-parquet", format="parquet")


@pytest.fixture
def damaged(sealed: Damaged) -> Iterator[Damaged]:
    """The sealed archive. Whatever a test does to the bucket is undone."""
    sealed.empty_table()
    with sealed.vandal.undone():
        yield sealed


def test_an_archive_that_nobody_touched_is_sound_and_comes_back(damaged):
    assert damaged.verify().result == "sound"
    assert damaged.restore(1).result == "restored"
    assert len(damaged.rows()) == 10


def test_flipped_bits_all_over_a_part_and_each_length_are_found_by_its_reader(damaged):
    whole = damaged.vandal.read(damaged.part_key(0))
    part = require_manifest(damaged.chain.store, damaged.archive).verified_part(0)
    require_sound(part, whole)

    for bit in range(0, len(whole) * 8, 37):
        with pytest.raises(IntegrityError):
            require_sound(part, flipped(whole, bit))
    for length in range(0, len(whole), 7):
        with pytest.raises(IntegrityError):
            require_sound(part, whole[:length])


@pytest.mark.parametrize("bit", [3, 5_000, -50_000, -3_000, -5], ids=str)
def test_a_flipped_bit_of_a_stored_part_is_found(damaged, bit):
    whole = damaged.vandal.read(damaged.part_key(0))
    damaged.vandal.rot(damaged.archive, 0, flipped(whole, bit))

    require_found_in_part(damaged, "corrupted", expected="SHA-256")


@pytest.mark.parametrize("share", [0, 0.3, 0.99])
def test_a_truncated_part_is_found(damaged, share):
    whole = damaged.vandal.read(damaged.part_key(0))
    damaged.vandal.rot(damaged.archive, 0, whole[: int(len(whole) * share)])

    require_found_in_part(damaged, "corrupted", expected="compressed size")


def rewritten(body: bytes, rewrite: Callable[[pa.Table], pa.Table], **options: str) -> bytes:
    """The file that an attacker who knows the format would write."""
    metadata = {
        name: value for name, value in pq.read_metadata(io.BytesIO(body)).metadata.items() if name != b"ARROW:schema"
    }
    table, target = rewrite(pq.read_table(io.BytesIO(body))), io.BytesIO()
    pq.write_table(table.replace_schema_metadata(metadata), target, **options)
    return target.getvalue()


def another_value(table: pa.Table) -> pa.Table:
    """The table with one number changed."""
    ids = table["id"].to_pylist()
    return table.set_column(0, "id", pa.array([1000, *ids[1:]]))


REWRITTEN: dict[str, tuple[Callable[[pa.Table], pa.Table], str]] = {
    "another value": (another_value, "original size"),
    "rows in another order": (lambda table: table.take(list(reversed(range(len(table))))), "original SHA-256"),
    "one row fewer": (lambda table: table.slice(1), "original size"),
    "one row more": (lambda table: pa.concat_tables([table, table.slice(0, 1)]), "original size"),
    "a time that is text besides": (
        lambda table: table.set_column(4, "strongroom_exact", pa.array(['{"at": "infinity"}'] + [None] * 9)),
        "original size",
    ),
    "text besides that is no JSON": (
        lambda table: table.set_column(4, "strongroom_exact", pa.array(["{"] + [None] * 9)),
        "a parquet file is damaged",
    ),
    "text besides of no column": (
        lambda table: table.set_column(4, "strongroom_exact", pa.array(['{"nobody": "x"}'] + [None] * 9)),
        "a parquet file is damaged",
    ),
    "text besides that is a list": (
        lambda table: table.set_column(4, "strongroom_exact", pa.array(["[1]"] + [None] * 9)),
        "a parquet file is damaged",
    ),
    "a column fewer": (lambda table: table.drop_columns(["who"]), "a parquet file is damaged"),
    "a column of another type": (
        lambda table: table.set_column(0, "id", pc.cast(table["id"], pa.int32())),
        "a parquet file is damaged",
    ),
}


@pytest.mark.parametrize(("rewrite", "expected"), REWRITTEN.values(), ids=REWRITTEN.keys())
def test_a_part_that_was_written_anew_is_found_though_its_sum_is_right(damaged, rewrite, expected):
    """The checksums of the JSON lines, which the manifest and its copy still have, no longer match."""
    body = rewritten(damaged.vandal.read(damaged.part_key(0)), rewrite)
    damaged.vandal.rot(damaged.archive, 0, body)
    manifest = require_manifest(damaged.chain.store, damaged.archive)
    damaged.vandal.edit(damaged.archive, lambda document: fix_part(document, manifest, body), copy_too=True)

    verdict = damaged.verify()
    restored = damaged.restore(0)

    assert (verdict.objects[0].result, restored.result) == ("corrupted", "corrupted")
    assert expected in verdict.objects[0].detail
    assert expected in restored.detail
    assert damaged.rows() == []


def test_the_same_rows_that_were_written_anew_are_the_part_if_its_sum_is_right(damaged):
    """So the previous test detects changed values, not changed bytes."""
    body = rewritten(damaged.vandal.read(damaged.part_key(0)), lambda table: table, compression="gzip")
    damaged.vandal.rot(damaged.archive, 0, body)
    manifest = require_manifest(damaged.chain.store, damaged.archive)
    damaged.vandal.edit(damaged.archive, lambda document: fix_part(document, manifest, body), copy_too=True)

    assert damaged.verify().objects[0].result == "sound"
