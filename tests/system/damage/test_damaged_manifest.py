"""A manifest that is damaged, hidden, forged or inconsistent is not trusted, and nothing is loaded from it."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.errors import IntegrityError, StrongroomError
from strongroom.ledger.manifests import require_manifest
from strongroom.object_keys.archives import ArchiveId
from tests.support.damaging import (
    A_FEW,
    Damaged,
    flipped,
)


def require_unverifiable(damaged: Damaged, expected: str) -> None:
    """Verify reports that it cannot decide. Restore refuses, and its hint first says what is safe."""
    verdict = damaged.verify()
    assert verdict.result == "unverifiable"
    assert expected in str(verdict.problem)

    with pytest.raises(IntegrityError) as caught:
        damaged.restore(0)

    assert expected in str(caught.value)
    assert caught.value.hint.startswith("Nothing was deleted or loaded.")
    assert damaged.rows() == []


@given(bit=st.integers(0, 1 << 20))
@A_FEW
def test_a_flipped_bit_of_the_manifest_is_found(damaged, bit):
    with damaged.vandal.undone():
        key = damaged.archive.manifest_key
        damaged.vandal.replace(key, flipped(damaged.vandal.read(key), bit))

        require_unverifiable(damaged, "is not a sound manifest")


def test_each_flipped_bit_of_the_copy_of_a_manifest_is_found(damaged):
    key = damaged.archive.seal_key
    whole = damaged.vandal.read(key)
    for bit in range(5, len(whole) * 8, len(whole)):
        damaged.vandal.replace(key, flipped(whole, bit))
        with pytest.raises(IntegrityError, match=r"differs in .* from its copy"):
            require_manifest(damaged.chain.store, damaged.archive)


@pytest.mark.parametrize("length", [0, 1, 100, 2000, -1])
def test_a_truncated_manifest_is_found(damaged, length):
    whole = damaged.vandal.read(damaged.archive.manifest_key)
    damaged.vandal.replace(damaged.archive.manifest_key, whole[:length])

    require_unverifiable(damaged, "is not a sound manifest")


def test_a_manifest_that_was_removed_is_said_to_be_gone(damaged):
    damaged.vandal.replace(damaged.archive.manifest_key, b"")
    damaged.vandal.remove(damaged.archive.manifest_key)

    require_unverifiable(damaged, f"the manifest of {damaged.archive} is gone")


def test_a_manifest_whose_copy_is_gone_is_not_believed(damaged):
    damaged.vandal.replace(damaged.archive.seal_key, b"")
    damaged.vandal.remove(damaged.archive.seal_key)

    require_unverifiable(damaged, "no copy of it at evidence/")


@pytest.mark.parametrize("key", ["manifest_key", "seal_key"])
def test_a_delete_marker_hides_neither_a_manifest_nor_its_copy(damaged, key):
    damaged.vandal.hide(getattr(damaged.archive, key))

    require_unverifiable(damaged, "found a delete marker that hides it")


@pytest.mark.parametrize("key", ["manifest_key", "seal_key"])
def test_a_second_version_of_a_manifest_or_its_copy_is_not_believed_whatever_it_says(damaged, key):
    """Strongroom never overwrites either, so someone else did. Even the same bytes are not accepted."""
    key = getattr(damaged.archive, key)
    [first] = damaged.chain.store.history(key)
    second = damaged.vandal.write(key, damaged.vandal.read(key))

    require_unverifiable(damaged, f"found 2 versions, of which the first is {first.version_id} of 20")

    damaged.vandal.admin.delete_object(Bucket=damaged.vandal.bucket, Key=key, VersionId=second)
    assert damaged.verify().result == "sound"


def test_a_manifest_and_its_copy_that_were_forged_alike_are_not_believed(damaged):
    """An attacker with only the archiver's rights cannot remove versions: T3."""
    forged = damaged.vandal.read(damaged.archive.manifest_key).replace(b"a test", b"no law")
    for key in (damaged.archive.manifest_key, damaged.archive.seal_key):
        damaged.chain.client.put_object(Bucket=damaged.vandal.bucket, Key=key, Body=forged)

    require_unverifiable(damaged, "found 2 versions")


@pytest.mark.parametrize("snapshot", ["nonsense", "1:1", "1:1:2:", f"{'9' * 5000}:1:", "-1:1:", "1:1:,"])
def test_a_snapshot_that_is_none_makes_a_manifest_damaged(damaged, snapshot):
    """The snapshots decide the order of parts in a restore."""
    damaged.vandal.edit(damaged.archive, lambda m: m["parts"][0].update(snapshot=snapshot), copy_too=True)

    require_unverifiable(damaged, "part 0 with a snapshot that is none")


def test_a_manifest_too_large_for_any_memory_is_not_read(damaged, monkeypatch):
    monkeypatch.setattr("strongroom.storage.store.LARGEST_READ_BYTES", 100_000)
    damaged.vandal.replace(damaged.archive.manifest_key, b" " * 100_001)

    require_unverifiable(damaged, "is larger than any object of its kind")


def test_the_manifest_of_another_archive_under_the_same_name_is_found(damaged):
    other = damaged.vandal.read(damaged.archive.manifest_key).replace(b".0001", b".0002")
    for key in (damaged.archive.manifest_key, damaged.archive.seal_key):
        damaged.vandal.replace(key, other)

    require_unverifiable(damaged, "found the manifest of public.audit.2026-05.0002")


def paths_of(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of each single value of a document."""
    if isinstance(value, dict):
        return [found for key, one in value.items() for found in paths_of(one, (*path, key))]
    if isinstance(value, list):
        return [found for key, one in enumerate(value[:1]) for found in paths_of(one, (*path, key))]
    return [path]


def other_than(value: Any) -> Any:
    """A different value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if value is None:
        return "other"
    if value[:4].isdigit() and "T" in value:
        return value.replace("2026", "2025").replace("2033", "2027")
    return "0" * 64 if len(value) == 64 else f"{value}x"


def test_each_field_of_a_manifest_that_is_edited_by_hand_is_found(damaged):
    """Nothing else is changed. The next test also edits the copy."""
    whole = damaged.vandal.read(damaged.archive.manifest_key)
    paths = paths_of(json.loads(whole))
    assert len(paths) > 40
    for *folder, field in paths:

        def change(document: Any, folder: list[Any] = folder, field: Any = field) -> None:
            for key in folder:
                document = document[key]
            document[field] = other_than(document[field])

        damaged.vandal.replace(damaged.archive.manifest_key, whole)
        damaged.vandal.edit(damaged.archive, change)
        with pytest.raises(IntegrityError, match="is not a sound manifest"):
            require_manifest(damaged.chain.store, damaged.archive)


BY_HAND = {
    "another table": (lambda m: m["table"].update(table_name="payments"), "another table in table: public.payments"),
    "another table's name": (lambda m: m.update(table_name="public.payments"), "another table in table_name"),
    "another partition": (lambda m: m.update(partition_key="2026-04"), "another partition in partition_key"),
    "a wider window": (lambda m: m.update(window_start="2020-01-01T00:00:00Z"), "a window that is not that of 2026-05"),
    "a term before its window": (
        lambda m: m.update(retention_until="2026-05-15T00:00:00Z"),
        "a retention_until that is not after its window",
    ),
    "a part of another archive": (
        lambda m: m["parts"][0].update(object_key="archives/public.salaries/partition=2026-05/x/part-00000.jsonl.zst"),
        "part 0 at archives/public.salaries/",
    ),
    "a part outside the prefix": (
        lambda m: m["parts"][0].update(object_key="../../other-bucket/part-00000.jsonl.zst"),
        "part 0 at ../../other-bucket/",
    ),
    "parts in another order": (lambda m: m["parts"].reverse(), "parts that are not numbered 0, 1, 2"),
    "no parts": (lambda m: m.update(parts=[]), "parts that are not numbered 0, 1, 2"),
    "a part less": (lambda m: m["parts"].pop(), "a record_count that is not the sum of its parts"),
    "fewer rows": (lambda m: m["parts"][0].update(record_count=9), "a record_count that is not the sum of its parts"),
    "negative rows": (lambda m: m["parts"][0].update(record_count=-1), "parts.0.record_count"),
    "more rows than there can be": (
        lambda m: m.update(record_count=10**400) or m["parts"][0].update(record_count=10**400),
        "record_count: Input should be less than",
    ),
    "more bytes than there can be": (
        lambda m: m.update(compressed_size=10**400) or m["parts"][0].update(compressed_size=10**400),
        "compressed_size: Input should be less than",
    ),
    "an age that no calendar has": (lambda m: m.update(created_at="0001-01-01T00:00:00Z"), "a created_at that"),
    "a term in another zone": (
        lambda m: m.update(retention_until="9999-12-31T23:59:59-23:00"),
        "a retention_until that is not in UTC",
    ),
    "a slice outside the window": (
        lambda m: m["parts"][0].update(start_at="2026-04-01T00:00:00Z"),
        "part 0 with a slice outside the window",
    ),
    "another sum": (lambda m: m["parts"][0].update(sha256="0" * 64), "sums of parts that do not give its checksum"),
    "a sum that is none": (lambda m: m["parts"][0].update(sha256="0" * 63), "parts.0.sha256"),
    "another column": (lambda m: m["table"]["columns"][2].update(name="whom"), "does not give its shape_sha256"),
    "two columns of one name": (lambda m: m["table"]["columns"][2].update(name="id"), "not each its own"),
    "a key that is no column": (lambda m: m["table"].update(primary_key=["nothing"]), "a primary key or date column"),
    "no key": (lambda m: m["table"].update(primary_key=[]), "a primary key or date column"),
    "another format": (lambda m: m.update(format_version=2), "parts of format jsonl in version 2"),
    "a field that nobody knows": (lambda m: m.update(more=1), "more: Extra inputs are not permitted"),
    "another compression": (lambda m: m.update(compression_type="none"), "part 0 at archives/"),
}


@pytest.mark.parametrize(("change", "expected"), BY_HAND.values(), ids=BY_HAND.keys())
def test_a_manifest_that_contradicts_itself_is_found_even_where_its_copy_was_edited_too(damaged, change, expected):
    damaged.vandal.edit(damaged.archive, change, copy_too=True)

    require_unverifiable(damaged, expected)


HOSTILE = (
    "bigint); DROP TABLE audit; --",
    "bigint, pg_sleep(60)",
    "bigint DEFAULT pg_sleep(60)",
    "bigint CHECK (pg_sleep(60) IS NULL)",
    "numeric(1--2)",
    "bigint /* x */",
    "bigint PRIMARY KEY",
    "(SELECT 1)",
    'text COLLATE "C"',
    '"unclosed',
    "text\0",
    "text\n",
    "a.b.c",
    "BIGINT",
    "",
    "x" * 100_000 + ";",
)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("field", ["type", "base_type"])
def test_a_type_that_is_an_attack_never_reaches_the_server(damaged, text, field):
    """Even if the checksum and the copy were changed to match."""

    def attack(document: Any) -> None:
        document["table"]["columns"][0][field] = text
        fix_shape(document)

    damaged.vandal.edit(damaged.archive, attack, copy_too=True)

    require_unverifiable(damaged, f"no name of a type in the {field} of column 'id'")


def test_nothing_is_restored_from_a_manifest_that_somebody_mended_throughout_but_that_its_rows_do_not_fit(damaged):
    """The rows are read as a type that the table does not have. The restore names the column and loads nothing."""

    def retype(document: Any) -> None:
        document["table"]["columns"][0].update(type="inet", base_type="inet")
        fix_shape(document)

    damaged.vandal.edit(damaged.archive, retype, copy_too=True)

    with pytest.raises(StrongroomError, match="its column id was archived as inet and is bigint now"):
        damaged.restore(0)
    assert damaged.rows() == []


def fix_shape(document: Any) -> None:
    """Make the checksum of the table's shape fit."""
    body = json.dumps(document["table"], separators=(",", ":"), ensure_ascii=False).encode()
    document["shape_sha256"] = sha256(body).hexdigest()


def test_an_archive_id_is_all_that_leads_to_an_archive():
    """Otherwise a name could lead out of its prefix."""
    for text in ("public.audit.2026-05.0001/../x", "../public.audit.2026-05.0001", "public.a%2e.2026-05.0001", "x" * 9):
        with pytest.raises(StrongroomError):
            ArchiveId.parse(text)
