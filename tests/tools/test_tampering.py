"""What somebody may do to a store, and what finds it: each kind by name. The page docs/howto/verify-evidence.md has the same list."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
import zstandard

from strongroom.tlog.notes import COSIGNATURE, Note, SignerKey
from tests.support.audited import CALLS, DELETED, EMPTY_MONTH, IN_FORCE, PURGED, TEXTS, Copy, line_of, those
from tests.support.damaging import flipped
from tests.support.logs import KEY
from tests.support.repository import REPOSITORY

PART, OTHER_PART = CALLS.part_key(0, "zstd"), CALLS.part_key(1, "zstd")
THEIRS = DELETED.part_key(0, "zstd")
EVIDENCE = DELETED.delete_evidence_key(0)
WITNESS = SignerKey.generate("witness.test", COSIGNATURE)


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


Tampering = Callable[[Copy], object]
FOUND: list[Any] = []
UNFINDABLE: list[Any] = []


def found_as(words: str) -> Callable[[Tampering], Tampering]:
    """Tampering that is found in the store itself, without a witness and without an older checkpoint."""

    def keep(tampering: Tampering) -> Tampering:
        FOUND.append(pytest.param(tampering, words, id=tampering.__name__))
        return tampering

    return keep


def found_only_outside(words: str) -> Callable[[Tampering], Tampering]:
    """Tampering that leaves nothing in the store that contradicts it."""

    def keep(tampering: Tampering) -> Tampering:
        UNFINDABLE.append(pytest.param(tampering, words, id=tampering.__name__))
        return tampering

    return keep


# Objects


@found_as("part-00000.jsonl.zst has other bytes")
def a_bit_of_a_part_flipped(copy: Copy) -> None:
    copy.write(PART, flipped(copy.read(PART), 999))


@found_as("part-00000.jsonl.zst has other bytes")
def a_part_truncated(copy: Copy) -> None:
    copy.write(PART, copy.read(PART)[:-10])


@found_as("part-00000.jsonl.zst has other bytes")
def bytes_appended_to_a_part(copy: Copy) -> None:
    copy.write(PART, copy.read(PART) + b"\0")


@found_as("part-00001.jsonl.zst has other bytes")
def two_parts_swapped(copy: Copy) -> None:
    first, second = copy.read(PART), copy.read(OTHER_PART)
    copy.write(PART, second)
    copy.write(OTHER_PART, first)


@found_as("part-00000.jsonl.zst has other bytes")
def a_part_replaced_by_one_of_another_archive(copy: Copy) -> None:
    copy.write(PART, copy.read(THEIRS))


@found_as("SHA256SUMS is gone or was changed")
def a_part_replaced_together_with_its_sum(copy: Copy) -> None:
    other, sums = copy.read(THEIRS), copy.read(CALLS.sums_key)
    copy.write(CALLS.sums_key, sums.replace(sha256(copy.read(PART)).encode(), sha256(other).encode()))
    copy.write(PART, other)


@found_as("part-00000.jsonl.zst is gone")
def a_part_removed(copy: Copy) -> None:
    copy.remove(PART)


@found_as("part-00009.jsonl.zst was planted")
def a_part_added_to_a_sealed_archive(copy: Copy) -> None:
    copy.write(CALLS.part_key(9, "zstd"), copy.read(PART))


@found_as("kept-part-00001.json was changed")
def the_keys_of_rows_that_stayed_edited(copy: Copy) -> None:
    copy.edit(CALLS.kept_rows_key(1), kept=[])


@found_as("kept-part-00001.json is gone, and its archive is there")
def the_keys_of_rows_that_stayed_removed(copy: Copy) -> None:
    copy.remove(CALLS.kept_rows_key(1))


@found_as("kept-part-00000.json is named by no evidence of a delete")
def keys_of_rows_planted(copy: Copy) -> None:
    copy.write(CALLS.kept_rows_key(0), copy.read(CALLS.kept_rows_key(1)))


@found_as("part-00000.parquet has other bytes")
def a_bit_of_a_parquet_part_flipped(copy: Copy) -> None:
    key = TEXTS.part_key(0, "zstd", "parquet")
    copy.write(key, flipped(copy.read(key), 4321))


@found_as("its manifest is not the one that was entered")
def a_manifest_edited(copy: Copy) -> None:
    copy.edit(CALLS.manifest_key, legal_basis="none")


@found_as("its manifest is not the one that was entered")
def a_manifest_and_its_copy_edited_alike(copy: Copy) -> None:
    for key in (CALLS.manifest_key, CALLS.seal_key):
        copy.edit(key, retention_until="2019-01-01T00:00:00Z")


@found_as("its manifest is not the one that was entered")
def rows_forged_with_sums_manifest_and_copy(copy: Copy) -> None:
    forge_rows(copy)


def forge_rows(copy: Copy) -> bytes:
    """Other rows in the first part, with all that names them; the new manifest."""
    lines = zstandard.decompress(copy.read(PART), max_output_size=1 << 20).replace(b"agent", b"AGENT")
    packed = zstandard.compress(lines)
    manifest = json.loads(copy.read(CALLS.manifest_key))
    part = manifest["parts"][0]
    sums = copy.read(CALLS.sums_key).replace(part["sha256"].encode(), sha256(packed).encode())
    part |= {"sha256": sha256(packed), "original_sha256": sha256(lines), "compressed_size": len(packed)}
    manifest["compressed_size"] = sum(each["compressed_size"] for each in manifest["parts"])
    manifest["checksum"] = sha256(sums)
    body = json.dumps(manifest, indent=2).encode()
    copy.write(PART, packed)
    copy.write(CALLS.sums_key, sums)
    for key in (CALLS.manifest_key, CALLS.seal_key):
        copy.write(key, body)
    return body


@found_as("is gone: it has no manifest")
def a_manifest_removed(copy: Copy) -> None:
    copy.remove(CALLS.manifest_key)


@found_as("the copy of its manifest")
def the_copy_of_a_manifest_removed(copy: Copy) -> None:
    copy.remove(CALLS.seal_key)


@found_as("is gone: it has no manifest")
def a_whole_archive_removed(copy: Copy) -> None:
    copy.remove(CALLS.archive_prefix, CALLS.manifest_key, CALLS.evidence_prefix)


@found_as("public.calls.2018-04.0001 is gone")
def a_table_removed(copy: Copy) -> None:
    copy.remove(*(key for key in copy.names() if "public.calls" in key and not key.startswith("log/")))


@found_as("2018-07.0001.json was planted: no entry says that it was sealed")
def a_planted_archive(copy: Copy) -> None:
    for key in [key for key in copy.names() if "texts.2018-06.0001" in key and "delete-" not in key]:
        body = copy.read(key)
        copy.write(
            key.replace("2018-06", "2018-07"), body if body[:4] == b"PAR1" else body.replace(b"2018-06", b"2018-07")
        )


# Records


@found_as("was planted, or entries are missing: the log has no 'delete intended'")
def evidence_of_a_delete_without_an_entry(copy: Copy) -> None:
    copy.rewrite(
        lambda acts: [acts.remove(one) for kind in ("delete intended", "deleted") for one in those(acts, kind, DELETED)]
    )


@found_as("destruction.json was planted")
def a_certificate_without_an_entry(copy: Copy) -> None:
    copy.write(CALLS.destruction_key, copy.read(PURGED.destruction_key).replace(b"2018-01", b"2018-02"))


@found_as("delete-part-00000.json was changed")
def evidence_of_a_delete_edited(copy: Copy) -> None:
    copy.edit(EVIDENCE, deleted=1)


@found_as("-sound.json is gone")
def the_record_of_a_verification_removed(copy: Copy) -> None:
    copy.remove("reports/verifications/")


@found_as("is gone; entry")
def the_record_of_a_query_removed(copy: Copy) -> None:
    copy.remove("reports/queries/")


@found_as("has no entry: its writer died too early")
def the_record_of_an_act_that_was_never_entered(copy: Copy) -> None:
    [key] = copy.names("reports/queries/")
    copy.write(key.replace("manual__query", "manual__other"), copy.read(key))


@found_as("was changed: entry")
def a_hold_edited_to_be_released(copy: Copy) -> None:
    copy.edit(f"holds/{IN_FORCE}.json", released_at="2026-01-01T00:00:00Z", released_by="ada", release_reason="forged")


@found_as(f"holds/{IN_FORCE}.json is gone")
def a_hold_removed(copy: Copy) -> None:
    copy.remove(f"holds/{IN_FORCE}.json")


@found_as("has no entry")
def a_hold_planted(copy: Copy) -> None:
    copy.write("holds/20250101T000000Z-00000009.json", copy.read(f"holds/{IN_FORCE}.json"))


@found_as("the settings under which it was sealed")
def the_record_of_settings_edited(copy: Copy) -> None:
    [key] = copy.names("evidence/public.texts/settings/")
    copy.edit(key, cold_retention="P1Y")


@found_as("destruction.json was changed")
def a_certificate_of_another_archive(copy: Copy) -> None:
    copy.write(PURGED.destruction_key, copy.read(PURGED.destruction_key).replace(b"2018-01", b"2018-02"))


@found_as("it was destroyed, by entry")
def a_destroyed_archive_put_back(copy: Copy) -> None:
    for key in (CALLS.sums_key, PART):
        copy.write(key.replace("2018-02", "2018-01"), copy.read(key))


@found_as("sealed.tlog-proof is gone")
def a_proof_removed(copy: Copy) -> None:
    copy.remove(f"{CALLS.evidence_prefix}sealed.tlog-proof")


@found_as("is of an entry that the log does not have there")
def a_proof_edited(copy: Copy) -> None:
    key = f"{CALLS.evidence_prefix}sealed.tlog-proof"
    copy.write(key, re.sub(rb"index [0-9]+", b"index 1", copy.read(key)))


# The log, by somebody who does not have its key


@found_as("log/checkpoint is gone")
def the_head_removed(copy: Copy) -> None:
    copy.remove("log/checkpoint")


@found_as("log/checkpoint is gone")
def the_whole_log_removed(copy: Copy) -> None:
    copy.remove("log/")


@found_as("is not signed by a key that you trust")
def the_head_signed_with_another_key(copy: Copy) -> None:
    copy.rewrite(list, SignerKey.generate(KEY.name))


@found_as("has a signature in the name of the log's key that is not of that key")
def a_signature_edited(copy: Copy) -> None:
    note = Note.parse("head", copy.read("log/checkpoint"))
    name, body = note.signatures[0]
    copy.write("log/checkpoint", Note(note.text, ((name, flipped(body, 99)),)).to_bytes())


def bundle_of(copy: Copy) -> str:
    return f"log/tile/entries/000.p/{len(copy.lines())}"


def repack(copy: Copy, lines: list[bytes]) -> None:
    copy.write(bundle_of(copy), b"".join(len(line).to_bytes(2, "big") + line for line in lines))


@found_as("entries instead of")
def a_leaf_dropped(copy: Copy) -> None:
    lines = copy.lines()
    repack(copy, lines[:5] + lines[6:])


@found_as("do not lead to the root in the head")
def two_leaves_reordered(copy: Copy) -> None:
    lines = copy.lines()
    repack(copy, [*lines[:5], lines[6], lines[5], *lines[7:]])


@found_as("do not lead to the root in the head")
def a_leaf_edited(copy: Copy) -> None:
    repack(copy, [line.replace(b'"rows":62', b'"rows":61') for line in copy.lines()])


@found_as("has other hashes than the entries")
def a_tile_edited(copy: Copy) -> None:
    key = bundle_of(copy).replace("entries", "0")
    copy.write(key, flipped(copy.read(key), 77))


@found_as("is gone, and its entries with it")
def the_entries_removed(copy: Copy) -> None:
    copy.remove("log/tile/entries/", "log/pending/")


@found_as("rolled back to an older head")
def the_log_rolled_back_to_an_older_signed_head(copy: Copy, earlier: Copy | None = None) -> None:
    assert earlier is not None
    copy.write("log/checkpoint", earlier.read("log/checkpoint"))


# By somebody who has the log's key too, and makes tiles, head and proofs that fit


@found_as("is back-dated")
def a_leaf_back_dated_by_the_key(copy: Copy) -> None:
    copy.rewrite(lambda acts: those(acts, "deleted", DELETED)[0]["predicate"].update(at="2024-01-01T00:00:00.000000Z"))


@found_as("but its settings demand")
def a_term_shortened_by_the_key(copy: Copy) -> None:
    for key in (CALLS.manifest_key, CALLS.seal_key):
        copy.edit(key, retention_until="2020-03-01T00:00:00Z")

    def change(acts: list[Any]) -> None:
        [act] = those(acts, "archived", CALLS)
        act["subject"][0]["digest"]["sha256"] = sha256(copy.read(CALLS.manifest_key))
        act["predicate"]["facts"]["retention_until"] = "2020-03-01T00:00:00Z"

    copy.rewrite(change)


@found_as("tells of other counts than entry")
def the_counts_of_a_delete_edited_by_the_key(copy: Copy) -> None:
    copy.rewrite(lambda acts: those(acts, "deleted", DELETED)[0]["predicate"]["facts"].update(deleted=1, changed=29))


@found_as("has no intent before it")
def a_delete_before_its_intent_by_the_key(copy: Copy) -> None:
    copy.rewrite(lambda acts: [acts.remove(one) for one in those(acts, "delete intended", DELETED)])


@found_as("has no entry: its writer died too early")
def an_entry_left_out_by_the_key(copy: Copy) -> None:
    copy.rewrite(lambda acts: acts.remove(those(acts, "queried")[0]))


@found_as("under the hold")
def a_purge_under_a_hold_by_the_key(copy: Copy) -> None:
    copy.rewrite(lambda acts: acts.remove(those(acts, "released")[0]))


@found_as("is before the end of its term")
def a_purge_before_its_term_by_the_key(copy: Copy) -> None:
    def change(acts: list[Any]) -> None:
        for kind in ("archived", "purge intended"):
            those(acts, kind, PURGED)[0]["predicate"]["facts"]["retention_until"] = "2099-01-01T00:00:00Z"

    copy.rewrite(change)


@found_as("of whom the log has no yes")
def a_purge_that_nobody_approved_by_the_key(copy: Copy) -> None:
    copy.rewrite(lambda acts: acts.remove(those(acts, "approval answered")[0]))


@found_as("its certificate is that of another archive")
def a_certificate_of_another_archive_by_the_key(copy: Copy) -> None:
    a_certificate_of_another_archive(copy)
    body = copy.read(PURGED.destruction_key)
    copy.rewrite(lambda acts: those(acts, "purged")[0]["subject"][0]["digest"].update(sha256=sha256(body)))


def choose_otherwise(copy: Copy, **fields: Any) -> None:
    """Another choice of drills, with its entry."""
    [key] = copy.names("reports/drills/runs/")
    copy.edit(key, **fields)
    copy.rewrite(
        lambda acts: those(acts, "drills chosen")[0]["subject"][0]["digest"].update(sha256=sha256(copy.read(key)))
    )


@found_as("has a seed that is not the root of the log before it")
def a_drill_whose_seed_was_picked_by_the_key(copy: Copy) -> None:
    choose_otherwise(copy, seed="A" * 43 + "=")


@found_as(f"left out {CALLS}, which was sealed then")
def an_archive_kept_out_of_a_drill_by_the_key(copy: Copy) -> None:
    [key] = copy.names("reports/drills/runs/")
    record = json.loads(copy.read(key))
    fewer = {
        name: [one for one in record[name] if one["archive_id"] != str(CALLS)] for name in ("candidates", "choices")
    }
    choose_otherwise(copy, **fewer)


@found_as("than the seed draws")
def another_archive_drilled_than_chance_drew_by_the_key(copy: Copy) -> None:
    [key] = copy.names("reports/drills/runs/")
    choices = json.loads(copy.read(key))["choices"]
    for choice in choices:
        choice["reasons"] = [reason for reason in choice["reasons"] if not reason.startswith("format")]
    choose_otherwise(copy, choices=choices)


@found_as("by the head that is printed in")
def a_fork_that_left_a_report(copy: Copy) -> None:
    copy.rewrite(lambda acts: acts[1]["predicate"].update(who="somebody else"))


@found_as("shows that the log was rewritten or forked")
def a_fork_that_left_the_proofs(copy: Copy) -> None:
    proofs = {key: copy.read(key) for key in copy.names() if key.endswith(".tlog-proof")}
    copy.rewrite(lambda acts: acts[1]["predicate"].update(who="somebody else"))
    for key, body in proofs.items():
        copy.write(key, body)


@found_as(f"public.calls has neither an archive nor 'empty' from {EMPTY_MONTH}-01 to 2018-04-01")
def a_month_that_was_never_archived_or_left_out_by_the_key(copy: Copy) -> None:
    copy.remove(f"evidence/public.calls/{EMPTY_MONTH}/")
    copy.rewrite(lambda acts: acts.remove(those(acts, "empty")[0]))


# What leaves no trace inside


@found_only_outside("rolled back")
def the_whole_bucket_rolled_back_to_an_earlier_day(copy: Copy, earlier: Copy | None = None) -> None:
    assert earlier is not None
    for key in set(copy.names()) - set(earlier.names()) - set(copy.names("log/witness/")):
        (copy.folder / key).unlink()
    for key in earlier.names():
        copy.write(key, earlier.read(key))


@found_only_outside("rewritten or forked")
def a_log_rewritten_whole_with_the_stolen_key(copy: Copy) -> None:
    """Other rows, with sums, manifest, copy, entry, proofs and all heads."""
    body = forge_rows(copy)
    old = those([json.loads(line) for line in copy.lines()], "archived", CALLS)[0]["subject"][0]["digest"]["sha256"]

    def change(acts: list[Any]) -> None:
        for act in acts:
            for subject in act["subject"]:
                if subject["digest"]["sha256"] == old:
                    subject["digest"]["sha256"] = sha256(body)

    copy.rewrite_all(change)


@found_only_outside("rolled back")
def a_table_left_out_of_a_rewritten_log(copy: Copy) -> None:
    copy.remove(*(key for key in copy.names() if "public.texts" in key and not key.startswith("log/")))
    copy.rewrite_all(
        lambda acts: [acts.remove(one) for one in [*acts] if one["predicate"].get("table") == "public.texts"]
    )
    copy.remove(f"holds/{IN_FORCE}.json")
    copy.rewrite_all(lambda acts: acts.remove(those(acts, "held")[1]))


@found_only_outside("rolled back")
def an_act_and_its_record_left_out_of_a_rewritten_log(copy: Copy) -> None:
    copy.remove("reports/queries/")
    copy.rewrite_all(lambda acts: acts.remove(those(acts, "queried")[0]))


@found_only_outside("rewritten or forked")
def all_entries_back_dated_alike(copy: Copy) -> None:
    def change(acts: list[Any]) -> None:
        for act in acts:
            at = datetime.fromisoformat(act["predicate"]["at"].replace("Z", "+00:00"))
            act["predicate"]["at"] = (at - timedelta(days=30)).isoformat()

    copy.rewrite_all(change)


# The tests


def carry_out(tampering: Tampering, copy: Copy, earlier: Copy) -> None:
    if "earlier" in tampering.__code__.co_varnames:
        tampering(copy, earlier=earlier)  # type: ignore[call-arg]
    else:
        tampering(copy)


def test_a_good_store_is_proved(audited):
    """With the log's key, the listing of versions and an older checkpoint; and it says so of each check."""
    verdict = audited.verify(audited.good, "--since", audited.since)

    assert (verdict.code, verdict.false, verdict.unproved) == (0, [], [])
    checks = {check for check, _, _ in verdict.findings}
    assert checks == {
        "log", "signature", "anchor", "entries", "proofs", "versions", "records", "archives", "terms", "deletes", "purges", "drills",
        "gaps",
    }  # fmt: skip
    assert "4 archives with 217 rows are there whole" in str(verdict.of("proved", "archives"))


def test_keys_of_rows_that_stayed_go_with_their_archive(audited):
    """The purge took them along; what is kept for ever names their object and no key, and all is still proved."""
    key = PURGED.kept_rows_key(1)
    assert len(json.loads(audited.earlier.read(key))["kept"]) == 1

    verdict = audited.verify(audited.good, "--since", audited.since)

    assert verdict.code == 0
    assert key not in audited.good.names()
    assert key in audited.good.read(PURGED.delete_evidence_key(1)).decode()
    assert key in audited.good.read(PURGED.destruction_key).decode()
    evidence = [name for name in audited.good.names() if "/delete-part-" in name]
    assert len(evidence) > 5
    assert [name for name in evidence if b'"kept"' in audited.good.read(name)] == []


@pytest.mark.parametrize(("tampering", "words"), FOUND)
def test_it_is_found(audited, copy, tampering, words):
    """Without a witness. What may have been a crash is not proved; the rest is false."""
    carry_out(tampering, copy, audited.earlier)

    verdict = audited.verify(copy)

    if words.startswith("has no entry") or "nor 'empty'" in words or "named by no evidence" in words:
        assert verdict.code != 0
        assert words in str(verdict.unproved)
    else:
        assert verdict.code == 1
        assert words in str(verdict.false).replace('"', "'")


@pytest.mark.parametrize(("tampering", "words"), UNFINDABLE)
def test_it_is_found_only_with_something_that_lies_outside(audited, copy, tampering, words):
    """Nothing in the store contradicts it. An older checkpoint does, and so does a witness."""
    witnessed(audited.good, copy)
    carry_out(tampering, copy, audited.earlier)
    last = audited.good.folder / "log" / "checkpoint"

    alone = audited.verify(copy)
    with_checkpoint = audited.verify(copy, "--since", last)
    with_witness = audited.verify(copy, "--witness", str(WITNESS.verifier))

    assert (alone.code, alone.false) == (2, [])
    assert all("not witnessed" in text for text in alone.unproved)
    for verdict in (with_checkpoint, with_witness):
        assert verdict.code == 1
        assert words in str(verdict.of("false", "anchor"))


def witnessed(good: Copy, copy: Copy, at: datetime | None = None) -> None:
    """Put a witness's cosignature of the good log into a copy."""
    note = Note.parse("head", good.read("log/checkpoint")).cosigned(WITNESS, at or datetime.now(timezone.utc))
    size = note.text.split("\n")[1]
    copy.write(f"log/witness/{WITNESS.verifier.key_id.hex()}/{size}", note.to_bytes())


def test_a_witness_stands_in_for_an_older_checkpoint(audited, copy):
    witnessed(audited.good, copy)

    verdict = audited.verify(copy, "--witness", str(WITNESS.verifier))

    assert (verdict.code, verdict.unproved) == (0, [])
    assert "witness.test" in str(verdict.of("proved", "anchor"))


@pytest.mark.parametrize("forged", ["its text", "its signature", "no note", "by nobody"])
def test_what_a_witness_did_not_sign_does_not_count(audited, copy, forged):
    witnessed(audited.good, copy)
    [key] = copy.names("log/witness/")
    body = copy.read(key)
    if forged == "its text":
        copy.write(key, body.replace(b"\n", b"\n1", 1))
    elif forged == "its signature":
        copy.write(key, body[:-10] + b"AAAAAAAA=\n")
    elif forged == "no note":
        copy.write(key, b"{}")
    else:
        copy.remove(key)

    verdict = audited.verify(copy, "--witness", str(WITNESS.verifier))

    assert verdict.code == (2 if forged == "by nobody" else 1)
    assert not verdict.of("proved", "anchor")


@pytest.mark.parametrize("days", [-30, 30])
def test_a_witness_knows_when_entries_were_made(audited, copy, days):
    """Entries that it saw before they say they were made, or had not seen when they say that they were."""
    moved = timedelta(days=days)

    def change(acts: list[Any]) -> None:
        for act in acts:
            at = datetime.fromisoformat(act["predicate"]["at"].replace("Z", "+00:00"))
            act["predicate"]["at"] = (at + moved).isoformat()

    if days > 0:
        copy.rewrite(change)
        witnessed(copy, copy)
    else:
        witnessed(audited.earlier, copy)
        statements = [json.loads(line) for line in copy.lines()]
        change(statements[len(audited.earlier.lines()) :])
        copy.write_log([line_of(one) for one in statements])
        copy.remove(*(key for key in copy.names() if key.endswith(".tlog-proof")))

    now = (datetime.now(timezone.utc) + timedelta(days=60)).isoformat()
    verdict = audited.verify(copy, "--witness", str(WITNESS.verifier), "--now", now)

    assert ("is dated later than" if days > 0 else "is back-dated") in str(verdict.of("false", "anchor"))


def test_a_replica_that_is_the_same_is_proved(audited, copy):
    verdict = audited.verify(audited.good, "--since", audited.since, "--replica", copy.folder)

    assert (verdict.code, verdict.unproved) == (0, [])
    assert "the same in the replica" in str(verdict.of("proved", "replica"))


def a_replica_with_another_part(copy: Copy) -> None:
    copy.write(PART, flipped(copy.read(PART), 5))


def a_replica_without_a_part(copy: Copy) -> None:
    copy.remove(PART)


def a_replica_that_kept_what_was_destroyed(copy: Copy) -> None:
    copy.write(PART.replace("2018-02", "2018-01"), b"rows")


def a_replica_with_another_log(copy: Copy) -> None:
    copy.rewrite(lambda acts: acts[1]["predicate"].update(who="somebody else"))


@pytest.mark.parametrize(
    ("tampering", "code", "words"),
    [
        (a_replica_with_another_part, 1, "part-00000.jsonl.zst is not the same in the replica"),
        (a_replica_without_a_part, 2, "the replica does not have"),
        (a_replica_that_kept_what_was_destroyed, 2, "the replica still has"),
        (a_replica_with_another_log, 1, "by the head in the replica"),
    ],
)
def test_a_replica_that_differs_is_found(audited, copy, tampering, code, words):
    tampering(copy)

    verdict = audited.verify(audited.good, "--since", audited.since, "--replica", copy.folder)

    assert verdict.code == code
    assert words in str(verdict.false + verdict.unproved)


def test_the_page_names_each_kind_of_tampering():
    """The table of docs/howto/verify-evidence.md, in its words."""
    page = (REPOSITORY / "docs" / "howto" / "verify-evidence.md").read_text()
    kinds = [each.id.replace("_", " ").removesuffix(" by the key") for each in (*FOUND, *UNFINDABLE)]

    assert len(kinds) >= 50
    assert [kind for kind in kinds if f"| {kind} |" not in page] == []
