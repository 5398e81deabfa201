"""What somebody may do to a store in which persons were erased, and what finds it: each kind by name.

The page docs/howto/verify-evidence.md has the same list.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
import zstandard

from strongroom.object_keys.archives import ArchiveId
from strongroom.object_keys.layout import CASES, EVIDENCE
from strongroom.object_keys.records import case_key, subject_key
from tests.support.audited import Copy, copy_bucket, those
from tests.support.damaging import flipped
from tests.support.erasing import fill_erased_store
from tests.support.logs import KEY
from tests.support.repository import REPOSITORY
from tests.support.tools import verifier, verify_evidence

FIRST, SECOND, THIRD = (ArchiveId("public", "audit", "2026-05", sequence) for sequence in (1, 2, 3))
"""The first was destroyed; the third supersedes the second, which waits to be removed."""

CLOSED, OPEN = "DSR-1", "DSR-2"
LIST = f"{EVIDENCE}suppressed/public.audit/"

Tampering = Callable[[Copy], object]
FOUND: list[Any] = []


def found_as(words: str) -> Callable[[Tampering], Tampering]:
    """Tampering that is found in the store itself."""

    def keep(tampering: Tampering) -> Tampering:
        FOUND.append(pytest.param(tampering, words, id=tampering.__name__))
        return tampering

    return keep


@pytest.fixture
def copy(erased, tmp_path) -> Copy:
    """A copy of the store to tamper with."""
    return Copy.of(erased.good.folder, tmp_path / "copy")


def one(copy: Copy, case_id: str, name: str) -> str:
    """The key of a record of a case."""
    [key] = [key for key in copy.names(f"{CASES}{case_id}/{name}") if key.endswith(".json")]
    return key


def enter_again(copy: Copy, *keys: str) -> None:
    """Let the log have objects as they are now, as somebody can who has its key."""

    def change(acts: list[Any]) -> None:
        for act in acts:
            for subject in act["subject"]:
                if subject["name"] in keys:
                    subject["digest"]["sha256"] = sha256(copy.read(subject["name"]))

    copy.rewrite(change)


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


# By somebody who can write everything in the bucket, but has not the log's key


@found_as("the locator locator-00000.zst was changed")
def a_locator_changed(copy: Copy) -> None:
    key = THIRD.locator_key(0)
    copy.write(key, flipped(copy.read(key), 20))


@found_as("the locator locator-00001.zst is gone")
def a_locator_removed(copy: Copy) -> None:
    copy.remove(THIRD.locator_key(1))


@found_as("received.json was changed: entry")
def the_record_of_a_case_edited(copy: Copy) -> None:
    copy.edit(case_key(CLOSED, "received"), recorded_by="somebody else")


@found_as("received.json has no entry")
def a_case_planted(copy: Copy) -> None:
    copy.write(case_key("DSR-9", "received"), copy.read(case_key(OPEN, "received")).replace(b"DSR-2", b"DSR-9"))


@found_as("json has no entry")
def an_answer_planted(copy: Copy) -> None:
    key = one(copy, OPEN, "answered")
    copy.write(key.replace("answered-20", "answered-21"), copy.read(key))


@found_as("succession.json was changed: entry")
def the_proof_of_a_successor_edited(copy: Copy) -> None:
    copy.edit(THIRD.succession_key, case_id=CLOSED)


@found_as("the list of the erased has 2 values")
def a_value_planted_in_the_list_of_the_erased(copy: Copy) -> None:
    [key] = [key for key in copy.names(LIST) if OPEN in key]
    token = key.split("/")[4]
    copy.write(key.replace(token, token[::-1]), copy.read(key))


@found_as("no erasure began at that instant")
def a_later_instant_in_the_list_of_the_erased(copy: Copy) -> None:
    [key] = [key for key in copy.names(LIST) if OPEN in key]
    instant = key.split("/")[5].partition("-")[0]
    copy.write(key.replace(instant, "29991231T000000.000000Z"), copy.read(key))


@found_as("the log has no such case")
def a_person_planted_in_the_list_of_the_erased(copy: Copy) -> None:
    [key] = [key for key in copy.names(LIST) if OPEN in key]
    copy.write(key.replace(OPEN, "DSR-9"), copy.read(key))


@found_as("the list of the erased has nobody of case DSR-1")
def a_person_removed_from_the_list_of_the_erased(copy: Copy) -> None:
    copy.remove(*(key for key in copy.names(LIST) if CLOSED in key))


@found_as("still tells who the person is")
def a_forgotten_person_put_back(copy: Copy) -> None:
    copy.write(subject_key(CLOSED), copy.read(subject_key(OPEN)))


@found_as("is not the record of the person that it was opened with")
def another_person_put_into_an_open_case(copy: Copy) -> None:
    copy.write(subject_key(OPEN), flipped(copy.read(subject_key(OPEN)), 30))


@found_as("which tells who the person is, is gone")
def the_person_of_an_open_case_removed(copy: Copy) -> None:
    copy.remove(subject_key(OPEN))


# By somebody who has the log's key too


def repack(copy: Copy, change: Callable[[list[bytes]], object], **counts: int) -> None:
    """Other rows in the first part of the last successor, with all that names them, and with its proof and all entries."""
    key = THIRD.part_key(0, "zstd")
    lines = zstandard.decompress(copy.read(key), max_output_size=1 << 20).splitlines(keepends=True)
    change(lines)
    text = b"".join(lines)
    packed = zstandard.compress(text)
    manifest = json.loads(copy.read(THIRD.manifest_key))
    part = manifest["parts"][0]
    sums = copy.read(THIRD.sums_key).replace(part["sha256"].encode(), sha256(packed).encode())
    part |= {
        "sha256": sha256(packed),
        "original_sha256": sha256(text),
        "compressed_size": len(packed),
        "original_size": len(text),
        "record_count": len(lines),
    }
    for name in ("compressed_size", "original_size", "record_count"):
        manifest[name] = sum(each[name] for each in manifest["parts"])
    manifest["checksum"] = sha256(sums)
    manifest["supersedes"] |= counts
    copy.write(key, packed)
    copy.write(THIRD.sums_key, sums)
    for key in (THIRD.manifest_key, THIRD.seal_key):
        copy.write(key, json.dumps(manifest, indent=2).encode())
    proof = json.loads(copy.read(THIRD.succession_key))
    told = proof["parts"][0]
    told |= {"sha256": sha256(packed), "kept": len(lines), "removed": told["earlier_rows"] - len(lines)}
    copy.edit(THIRD.succession_key, parts=proof["parts"], manifest_sha256=sha256(copy.read(THIRD.manifest_key)))
    enter_again(copy, THIRD.manifest_key, THIRD.succession_key)

    def count(acts: list[Any]) -> None:
        those(acts, "archived", THIRD)[0]["predicate"]["facts"]["rows"] = manifest["record_count"]
        those(acts, "superseded", THIRD)[0]["predicate"]["facts"].update(counts)

    copy.rewrite(count)


@found_as("removed ones are not its")
def a_row_too_many_dropped_by_the_key(copy: Copy) -> None:
    repack(copy, lambda lines: lines.pop(5))


@found_as("changed otherwise than by blanking it")
def a_row_changed_in_a_successor_by_the_key(copy: Copy) -> None:
    def change(lines: list[bytes]) -> None:
        lines[5] = lines[5].replace(b"+23481", b"+23499")
        assert b"+23499" in lines[5]

    repack(copy, change)


@found_as("has a row that the archive does not have")
def a_row_put_into_a_successor_by_the_key(copy: Copy) -> None:
    told = json.loads(copy.read(THIRD.manifest_key))["supersedes"]["removed_rows"]
    repack(copy, lambda lines: lines.append(lines[-1].replace(b'{"id":', b'{"id":9')), removed_rows=told - 1)


@found_as("is before the end of its term")
def an_archive_destroyed_before_its_term_without_a_case_by_the_key(copy: Copy) -> None:
    certificate = json.loads(copy.read(FIRST.destruction_key))
    del certificate["erasure"]
    copy.write(FIRST.destruction_key, json.dumps(certificate).encode())
    enter_again(copy, FIRST.destruction_key)


@found_as("of which the log knows nothing")
def a_certificate_with_a_successor_that_does_not_exist_by_the_key(copy: Copy) -> None:
    copy.edit(FIRST.destruction_key, erasure={"case_id": CLOSED, "superseded_by": "public.audit.2026-05.0009"})
    enter_again(copy, FIRST.destruction_key)


@found_as("it was destroyed before it was proved")
def an_archive_destroyed_before_its_successor_was_proved_by_the_key(copy: Copy) -> None:
    def change(acts: list[Any]) -> None:
        [proved] = those(acts, "superseded", SECOND)
        acts.remove(proved)
        acts.insert(acts.index(those(acts, "purged", FIRST)[0]) + 1, proved)

    copy.rewrite(change)


@found_as("who recorded the case or started the run")
def an_answer_forged_by_who_recorded_the_case_by_the_key(copy: Copy) -> None:
    answered, intended = one(copy, OPEN, "answered"), one(copy, OPEN, "intent")
    copy.edit(answered, by="clerk")
    copy.edit(intended, approved_by="clerk")
    enter_again(copy, answered, intended)
    copy.rewrite(lambda acts: of_case(acts, "case answered", OPEN)["predicate"].update(who="clerk"))


@found_as("has no yes of boss before it")
def an_erasure_that_nobody_approved_by_the_key(copy: Copy) -> None:
    copy.rewrite(lambda acts: of_case(acts, "case answered", OPEN)["predicate"]["facts"].update(answer="no"))


@found_as("has no 'erasure intended' before it")
def an_erasure_without_an_intent_by_the_key(copy: Copy) -> None:
    copy.rewrite(lambda acts: acts.remove(of_case(acts, "erasure intended", CLOSED)))


@found_as("was made under the hold")
def an_erasure_under_a_hold_by_the_key(copy: Copy) -> None:
    copy.rewrite(lambda acts: those(acts, "held")[0]["predicate"]["facts"].update(what="public.audit"))


@found_as("comes before public.audit.2026-05.0001, which was superseded, was destroyed")
def a_case_closed_too_early_by_the_key(copy: Copy) -> None:
    def change(acts: list[Any]) -> None:
        closed = of_case(acts, "case closed", CLOSED)
        acts.remove(closed)
        acts.insert(acts.index(those(acts, "purged", FIRST)[0]), closed)

    copy.rewrite(change)


@found_as("of 99 rows, the entries before it of")
def a_case_closed_with_other_counts_by_the_key(copy: Copy) -> None:
    copy.rewrite(lambda acts: of_case(acts, "case closed", CLOSED)["predicate"]["facts"].update(erased_rows=99))


@found_as("another term or legal basis than the archive that it supersedes")
def a_term_shortened_in_a_successor_by_the_key(copy: Copy) -> None:
    for key in (THIRD.manifest_key, THIRD.seal_key):
        copy.edit(key, retention_until="2026-12-01T00:00:00Z")
    enter_again(copy, THIRD.manifest_key)

    def change(acts: list[Any]) -> None:
        those(acts, "archived", THIRD)[0]["predicate"]["facts"]["retention_until"] = "2026-12-01T00:00:00Z"

    copy.rewrite(change)


def of_case(acts: list[Any], kind: str, case_id: str) -> Any:
    [found] = [act for act in those(acts, kind) if act["predicate"]["facts"]["case"] == case_id]
    return found


# The tests


def test_a_store_in_which_persons_were_erased_is_proved(erased):
    verdict = erased.verify(erased.good, "--since", erased.since)

    assert (verdict.code, verdict.false, verdict.unproved) == (0, [], [])
    assert "2 cases of persons (1 closed)" in str(verdict.of("proved", "erasures"))
    assert (
        "2 successors with as many rows as the archive before, less those of the person; 1 compared row by row"
        in str(verdict.of("proved", "erasures"))
    )
    assert "1 archive with 691 rows are there whole" in str(verdict.of("proved", "archives"))
    assert "1 archive destroyed that a proved one supersedes" in str(verdict.of("proved", "purges"))


@pytest.mark.parametrize(("tampering", "words"), FOUND)
def test_it_is_found(erased, copy, tampering, words):
    """What may have been a crash is not proved; the rest is false."""
    tampering(copy)

    verdict = erased.verify(copy)

    if words.endswith("has no entry") or words.startswith("still tells"):
        assert verdict.code != 0
        assert words in str(verdict.unproved)
    else:
        assert verdict.code == 1
        assert words in str(verdict.false).replace('"', "'")


def test_a_hold_that_came_while_a_case_was_carried_out_is_named(erased, copy):
    """The archive was superseded after it was checked for holds: no contradiction, and no proof either."""

    def change(acts: list[Any]) -> None:
        [held] = those(acts, "held")
        held["predicate"]["facts"]["what"] = "public.audit.2026-05"
        acts.remove(held)
        acts.insert(acts.index(those(acts, "superseded", THIRD)[0]), held)

    copy.rewrite(change)

    verdict = erased.verify(copy)

    assert "while somebody placed the hold" in str(verdict.of("not proved", "erasures"))


def test_parquet_is_compared_row_by_row_where_pyarrow_is_there(source, object_store, bucket, tmp_path, monkeypatch):
    fill_erased_store(source, object_store, bucket, tmp_path / "staging", format="parquet")
    copy_bucket(object_store.client("admin"), bucket, tmp_path / "copy")

    with_it = verify_evidence(tmp_path / "copy", "--key", str(KEY.verifier))
    monkeypatch.setattr(verifier, "parquet", None)
    without_it = verify_evidence(tmp_path / "copy", "--key", str(KEY.verifier))

    assert "1 compared row by row" in str(with_it.of("proved", "erasures"))
    assert "its rows were not compared: they are parquet" in str(without_it.of("not proved"))


def test_the_page_names_each_kind_of_tampering():
    """The tables of docs/howto/verify-evidence.md, in its words."""
    page = (REPOSITORY / "docs" / "howto" / "verify-evidence.md").read_text()
    kinds = [each.id.replace("_", " ").removesuffix(" by the key") for each in FOUND]

    assert [kind for kind in kinds if f"| {kind} |" not in page] == []
