"""What the transparency log is told of each act, and what is believed only because the log has it. On a real S3 server."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from datetime import datetime, timedelta, timezone

import psycopg
import pytest
import zstandard

from strongroom.archive.seal import seal_archive
from strongroom.errors import ConfigurationError, IdentityError, IntegrityError, QueryError
from strongroom.ledger import holds
from strongroom.ledger.configuration import keep_settings
from strongroom.ledger.entries import Act, parse_entry
from strongroom.ledger.holds import HoldError, holds_in_force, place_hold, release_hold
from strongroom.ledger.index import survey_manifests
from strongroom.ledger.journal import begin_log, enter, log_of
from strongroom.ledger.log import CHECKPOINT
from strongroom.ledger.manifest_record import sha256_sums
from strongroom.ledger.manifests import require_manifest
from strongroom.ledger.owner import record_owner
from strongroom.object_keys.archives import ArchiveId
from strongroom.object_keys.records import hold_key, proof_key
from strongroom.query.records import Condition
from strongroom.retention.approve import approval_of, keep_answer, keep_question
from strongroom.retention.certificate import Approval
from strongroom.retention.condemn import condemn_archive
from strongroom.retention.report import enter_refusals
from strongroom.retention.sweep import sweep_store
from strongroom.statistics.proofs import verify_and_record
from strongroom.storage.author import Author
from strongroom.storage.purge_store import PurgeStore
from strongroom.storage.store import Store
from strongroom.tlog.notes import SignerKey
from tests.support.chain import NOW, Chain, some_settings
from tests.support.logs import AUTHOR, KEY, entries_of, kinds_of, lines_of, with_log
from tests.support.querying import ask
from tests.support.restoring import restore
from tests.support.sealing import RUN, SEALED_AT, SOURCE, seal_month, upload_parts
from tests.support.vault import LATER, MONTHS, TTL, YES, Interrupting, Vault, an_archive
from tests.support.vault import RUN as PURGE

NO = Approval(approved=False, by="grace", at=LATER)
MAY = ArchiveId("public", "audit", "2026-05", 1)


@pytest.fixture
def settings(bucket, tmp_path):
    return with_log(some_settings(bucket, tmp_path))


@pytest.fixture
def chain(source, object_store, settings) -> Chain:
    with psycopg.connect(source, autocommit=True) as connection:
        connection.execute("CREATE TABLE audit (id bigint PRIMARY KEY, at timestamptz NOT NULL, who text)")
        connection.execute("INSERT INTO audit SELECT n, '2026-05-02', 'honest' FROM generate_series(1, 5) AS n")
    return Chain(source, object_store.client("archiver"), settings)


@pytest.fixture
def vault(object_store, settings) -> Vault:
    vault = Vault(object_store, settings)
    for month in MONTHS:
        seal_month(vault.store, vault.settings, month)
    return vault


def test_settings_that_changed_are_entered_by_the_names_of_what_differs(chain):
    """Not the first ones, and not those that stay. Settings that come back are a change, too."""
    begin_log(chain.store)
    first = chain.settings
    other = first.model_copy(update={"legal_basis": "another one", "organisation": "Example Ltd"})

    for settings in (first, first, other, other, first):
        keep_settings(chain.store, settings)

    changes = [entry for entry in entries_of(chain.store) if entry.act.kind == "configuration changed"]
    assert [(one.act.facts["before"], one.act.settings_sha256) for one in changes] == [
        (first.sha256, other.sha256),
        (other.sha256, first.sha256),
    ]
    assert {one.act.facts["changed"] for one in changes} == {"legal_basis, organisation"}
    key = f"evidence/public.audit/settings/changes/00001-{other.sha256}.json"
    assert changes[0].vouches_for(key, hashlib.sha256(chain.store.read(key)[0]).hexdigest())
    assert json.loads(chain.store.read(key)[0])["changed"] == ["legal_basis", "organisation"]
    assert chain.store.read(f"evidence/public.audit/settings/{other.sha256}.json") is not None


def test_a_store_without_a_log_keeps_settings_too_and_what_changed(object_store, bucket, tmp_path):
    """They say for how long approval that was switched off is still asked for."""
    settings = some_settings(bucket, tmp_path)
    other = settings.model_copy(update={"legal_basis": "another one"})
    store = Store(object_store.client("archiver"), settings.store)

    for given in (settings, settings, other):
        keep_settings(store, given)

    folder = "evidence/public.audit/settings"
    assert {*store.keys("evidence/")} == {
        f"{folder}/{settings.sha256}.json",
        f"{folder}/{other.sha256}.json",
        f"{folder}/changes/00001-{other.sha256}.json",
    }


def test_what_a_purge_had_chosen_and_did_not_destroy_is_entered_with_its_reasons(vault):
    """One entry for all archives of a table. What was destroyed or still has its term is no refusal."""
    results = [vault.purge("2026-05", approval=NO), vault.purge("2026-04"), vault.purge("2026-06")]

    enter_refusals(vault.store, "public.audit", results)
    enter_refusals(vault.store, "public.audit", results[1:])

    [refused] = [entry for entry in entries_of(vault.store) if entry.act.kind == "refused"]
    assert refused.act.table == "public.audit"
    assert refused.act.facts == {"what": "purge", "refused": 1, "archives": str(an_archive("2026-05"))}


def test_a_query_that_was_refused_is_entered_with_who_asked_and_no_value(chain):
    chain.run()
    condition = Condition.model_validate({"column": "none", "operator": "=", "value": "secret"})

    for given in ({"conditions": (condition,)}, {"limit": 10**9}):
        with pytest.raises(QueryError):
            ask(chain, now=NOW, **given)

    entries = [entry for entry in entries_of(chain.store) if entry.act.kind == "refused"]
    assert [(one.act.table, one.act.facts) for one in entries] == [
        ("public.audit", {"what": "query", "why": "unsuitable"})
    ] * 2
    assert {one.act.who for one in entries} == {"ada"}
    assert b"secret" not in b"".join(lines_of(chain.store))


def test_a_run_enters_what_it_does_before_and_after(chain):
    """Each entry names objects by their SHA-256, the run, the settings and the software, and no row."""
    report = chain.run()

    assert kinds_of(chain.store) == ["log begun", "archived", "delete intended", "deleted"]
    assert report.checkpoint.startswith("strongroom.test/log\n4\n")
    assert "the transparency log has 4 entries, root " in report.sentence()
    _, archived, intended, deleted = entries_of(chain.store)
    manifest = require_manifest(chain.store, MAY)
    assert archived.vouches_for(MAY.manifest_key, manifest.sha256)
    assert intended.vouches_for(MAY.manifest_key, manifest.sha256)
    evidence, _ = chain.store.read(MAY.delete_evidence_key(0))
    assert deleted.vouches_for(MAY.delete_evidence_key(0), hashlib.sha256(evidence).hexdigest())
    assert (archived.dag_id, archived.run_id) == (AUTHOR.run.dag_id, AUTHOR.run.run_id)
    assert (archived.task_id, archived.try_number) == ("seal", 1)
    assert archived.act.legal_basis == "a test"
    assert archived.act.facts["retention_until"] == "2033-06-01T00:00:00Z"
    kept, _ = chain.store.read(f"evidence/public.audit/settings/{archived.act.settings_sha256}.json")
    assert hashlib.sha256(kept).hexdigest() == archived.act.settings_sha256
    assert deleted.act.facts["deleted"] == 5
    assert b"honest" not in b"".join(lines_of(chain.store))


def test_entries_have_the_shape_of_in_toto_statements(chain):
    chain.run()

    for line in lines_of(chain.store):
        statement = json.loads(line)
        assert statement["_type"] == "https://in-toto.io/Statement/v1"
        assert statement["predicateType"] == "urn:strongroom:act:v1"
        assert all(len(one["digest"]["sha256"]) == 64 and one["name"] for one in statement["subject"])
        assert b"\n" not in line


def test_a_partition_without_rows_is_entered_as_empty_once(chain):
    """So a gap in the archives is never a question."""
    april = dataclasses.replace(chain, key="2026-04")

    april.run()
    april.run()

    assert kinds_of(chain.store) == ["log begun", "empty"]
    [entry] = entries_of(chain.store)[1:]
    assert (entry.act.table, entry.act.partition_key) == ("public.audit", "2026-04")


def test_all_that_happens_to_an_archive_later_is_entered(chain, object_store):
    chain.run()
    verify_and_record(chain.store, MAY, who="grace", now=NOW)
    hold = place_hold(chain.store, "public.audit", why="Mr X", who="eve", reference="R/1", now=NOW)
    release_hold(chain.store, hold.hold_id, who="frank", reason="closed", now=NOW)
    restore(chain)

    assert kinds_of(chain.store)[4:] == ["verified", "held", "released", "restore begun", "restored"]
    told = b"".join(lines_of(chain.store))
    assert b"Mr X" not in told
    placed = entries_of(chain.store)[5]
    assert placed.subjects[0].key == hold_key(hold.hold_id)


def test_a_purge_enters_its_intent_before_it_removes_anything_and_its_end_with_a_proof(vault):
    seen: list[list[str]] = []
    store = Interrupting(vault, 1, lambda: seen.append(kinds_of(vault.store)))

    assert vault.purge("2026-05", purge_store=store).result == "purged"

    assert seen[0][-1] == "purge intended"
    assert kinds_of(vault.store)[-1] == "purged"
    assert vault.store.read(proof_key(MAY.destruction_key)) is not None
    assert vault.certificate("2026-05").checkpoint.startswith("strongroom.test/log\n5\n")


def test_a_condemned_archive_is_entered(vault):
    vault.vandal.remove(MAY.part_key(0, "zstd"))

    condemn_archive(vault.store, MAY, why="the disk died", who="ada", now=NOW, claim_ttl=TTL)

    assert kinds_of(vault.store)[-1] == "condemned"


def test_without_a_log_nothing_is_removed(vault):
    """The log is gone, so no intent can be entered."""
    vault.vandal.remove(CHECKPOINT)

    with pytest.raises(IdentityError, match="has no transparency log"):
        vault.purge("2026-05")

    assert vault.left_of("2026-05")


def test_a_log_that_was_removed_is_not_begun_again(vault):
    vault.vandal.remove(CHECKPOINT)

    with pytest.raises(IdentityError, match="has no transparency log"):
        record_owner(vault.store, SOURCE)


def test_a_claim_that_died_before_the_log_began_is_finished_by_the_next(object_store, settings):
    unlogged = Store(object_store.client("archiver"), settings.store.model_copy(update={"log_keys": ()}))
    unlogged.prepare()
    record_owner(unlogged, SOURCE)
    store = Store(object_store.client("archiver"), settings.store, author=AUTHOR)

    assert not record_owner(store, SOURCE)

    assert kinds_of(store) == ["log begun"]


def test_a_row_is_not_deleted_if_its_intent_cannot_be_entered(chain, object_store, source):
    plan = chain.plan()
    sealed = chain.seal(plan)
    other = SignerKey.generate(KEY.name)
    chain.store = Store(chain.client, chain.settings.store, author=Author(lambda: other))

    with pytest.raises(ConfigurationError, match="not one that the settings trust"):
        chain.delete(sealed.parts[0])

    with psycopg.connect(source) as connection:
        assert connection.execute("SELECT count(*) FROM audit").fetchone() == (5,)


def test_who_cannot_sign_enters_nothing(vault):
    with pytest.raises(ConfigurationError, match="nobody gave a key"):
        enter(Store(vault.archiver, vault.settings.store), Act(kind="verified"))


def test_each_try_to_seal_gives_one_archive_with_its_proof(object_store, settings):
    """A crash after each write of a seal, then a repeat."""
    uploaded = upload_parts(Store(object_store.client("archiver"), settings.store, author=AUTHOR), settings, "2026-05")

    class DiedError(Exception):
        pass

    class Dying(Store):
        left = 0

        def put_bytes(self, *args, **kwargs):
            written = super().put_bytes(*args, **kwargs)
            type(self).left -= 1
            if type(self).left == 0:
                raise DiedError
            return written

    store = Dying(object_store.client("archiver"), settings.store, author=AUTHOR)
    died = 0
    for moment in range(1, 30):
        Dying.left = moment
        try:
            seal_archive(store, settings, uploaded, uploaded.parts, run=RUN, now=SEALED_AT + timedelta(seconds=moment))
        except DiedError:
            died += 1
            continue
        break

    assert died >= 3
    Dying.left = 0
    assert require_manifest(store, MAY).record_count == 30
    assert set(kinds_of(store)) == {"log begun", "archived"}
    digests = {entry.subjects[0].sha256 for entry in entries_of(store)[1:]}
    assert digests == {require_manifest(store, MAY).sha256}


def test_a_copy_of_the_manifest_that_somebody_put_there_before_the_seal_is_refused(object_store, settings):
    """With a shorter term, for example: the log would vouch for it."""
    archiver = object_store.client("archiver")
    store = Store(archiver, settings.store, author=AUTHOR)
    elsewhere = settings.model_copy(update={"store": settings.store.model_copy(update={"prefix": "elsewhere"})})
    other = Store(archiver, elsewhere.store, author=AUTHOR)
    admin = Store(object_store.client("admin"), elsewhere.store, author=AUTHOR)
    seal_month(admin, elsewhere, "2026-05")
    true = require_manifest(admin, MAY)
    plan = upload_parts(store, settings, "2026-05")
    forged = true.model_copy(
        update={
            "parts": tuple(
                part.model_copy(update={"version_id": ours.version_id, "etag": ours.etag})
                for part, ours in zip(true.parts, plan.parts, strict=True)
            ),
            "retention_until": true.window_end + timedelta(days=1),
        }
    )
    store.put_bytes(MAY.seal_key, forged.to_json())

    with pytest.raises(IntegrityError, match="is not the manifest of these parts") as refused:
        seal_archive(store, settings, plan, plan.parts, run=RUN, now=SEALED_AT)

    assert "retention_until" in str(refused.value.found)
    assert other.head(MAY.manifest_key) is not None
    assert store.head(MAY.manifest_key) is None


# What somebody can do who holds the archiver's keys of S3, and not the key of the log.


def test_a_shortened_term_is_not_believed(vault):
    """T2: manifest and copy agree, each in one version, as an administrator's help would make them."""
    true = require_manifest(vault.store, MAY)
    forged = true.model_copy(update={"retention_until": true.window_end + timedelta(seconds=1)})
    for key in (MAY.manifest_key, MAY.seal_key):
        vault.vandal.replace(key, forged.to_json())

    with pytest.raises(IntegrityError, match="does not vouch for"):
        require_manifest(vault.store, MAY)
    early = true.window_end + timedelta(days=30)
    assert vault.decisions(early)["2026-05"].reason == "unverifiable"
    assert vault.purge("2026-05", now=early).result == "unverifiable"
    assert vault.left_of("2026-05")


def test_forged_rows_are_not_restored(chain, object_store, source, bucket):
    """T3: parts, sums, manifest and its copy are all forged alike."""
    chain.run()
    admin = object_store.client("admin")
    true = require_manifest(chain.store, MAY)
    lines = b"".join(b'{"id":%d,"at":"2026-05-02T00:00:00+00:00","who":"forged"}\n' % n for n in range(1, 6))
    packed = zstandard.compress(lines)
    put = admin.put_object(Bucket=bucket, Key=true.parts[0].object_key, Body=packed)
    part = true.parts[0].model_copy(
        update={
            "version_id": put["VersionId"],
            "etag": put["ETag"].strip('"'),
            "original_size": len(lines),
            "compressed_size": len(packed),
            "original_sha256": hashlib.sha256(lines).hexdigest(),
            "sha256": hashlib.sha256(packed).hexdigest(),
        }
    )
    forged = true.model_copy(
        update={
            "parts": (part,),
            "original_size": len(lines),
            "compressed_size": len(packed),
            "checksum": hashlib.sha256(sha256_sums((part,))).hexdigest(),
        }
    )
    vandal = Vault(object_store, chain.settings).vandal
    for key in (MAY.manifest_key, MAY.seal_key):
        vandal.replace(key, forged.to_json())

    assert verify_and_record(chain.store, MAY, who="ada", now=NOW).result == "unverifiable"
    with pytest.raises(IntegrityError, match="does not vouch for"):
        restore(chain)
    with psycopg.connect(source) as connection:
        assert connection.execute("SELECT count(*) FROM audit").fetchone() == (0,)


def test_a_planted_archive_is_not_believed(vault, object_store):
    """T16: made whole, by the very code of a run, but without the log's key."""
    unlogged = vault.settings.store.model_copy(update={"log_keys": ()})
    planting = vault.settings.model_copy(update={"store": unlogged})
    planted = seal_month(Store(vault.archiver, unlogged), planting, "2026-07")

    with pytest.raises(IntegrityError, match="does not vouch for") as refused:
        require_manifest(vault.store, planted)

    assert "no proof" in str(refused.value.found)
    assert [one.archive_id for one in survey_manifests(vault.store).damaged] == [str(planted)]


@pytest.mark.parametrize(
    "forge",
    [
        "another archive's proof",
        "another log's proof",
        "a proof of another kind",
        "half a proof",
        "an index that is another's",
    ],
)
def test_a_proof_that_does_not_prove_it_is_refused(vault, forge):
    """Planted beside a planted manifest."""
    unlogged = vault.settings.store.model_copy(update={"log_keys": ()})
    planting = vault.settings.model_copy(update={"store": unlogged})
    planted = seal_month(Store(vault.archiver, unlogged), planting, "2026-07")
    theirs, _ = vault.store.read(proof_key(MAY.seal_key))
    log = log_of(vault.store)
    if forge == "another log's proof":
        key = SignerKey.generate("evil.test/log")
        evil = vault.settings.store.model_copy(update={"prefix": "evil", "log_keys": (str(key.verifier),)})
        elsewhere = Store(vault.admin, evil, author=Author(lambda: key))
        seal_month(elsewhere, vault.settings.model_copy(update={"store": evil}), "2026-07")
        theirs, _ = elsewhere.read(proof_key(planted.seal_key))
    elif forge == "a proof of another kind":
        theirs = dataclasses.replace(log.prove(0), extra=lines_of(vault.store)[0]).to_bytes()
    elif forge == "half a proof":
        theirs = theirs[: len(theirs) // 2]
    elif forge == "an index that is another's":
        theirs = dataclasses.replace(log.prove(1), extra=lines_of(vault.store)[2]).to_bytes()
    vault.store.put_bytes(proof_key(planted.seal_key), theirs)

    with pytest.raises(IntegrityError, match="does not vouch for"):
        require_manifest(vault.store, planted)


def test_an_intent_to_purge_that_the_log_does_not_know_is_not_carried_out(vault):
    """Planted over an archive whose manifest somebody removed."""
    decision = vault.decisions()["2026-05"]
    store = Interrupting(vault, 99, lambda: None)
    assert vault.carry_out(decision, purge_store=store).result == "purged"
    intent, _ = vault.store.read(MAY.purge_intent_key)
    june = an_archive("2026-06")
    forged = intent.replace(b"2026-05.0001", b"2026-06.0001")
    vault.vandal.remove(june.manifest_key)
    vault.store.put_bytes(june.purge_intent_key, forged)

    results = [vault.carry_out(one).result for name, one in vault.decisions(LATER).items() if name == "2026-06"]

    assert "purged" not in results
    assert vault.left_of("2026-06")


def test_an_entry_of_a_newer_version_is_an_error_with_words():
    with pytest.raises(IntegrityError, match="not an entry of a Strongroom log"):
        parse_entry("entry 3", b'{"_type":"https://in-toto.io/Statement/v1","predicateType":"urn:else"}')


def test_a_hold_stays_in_force_when_somebody_writes_that_it_is_released(vault):
    """A second version is all that it takes without a log. The true release counts."""
    hold = vault.hold("2026-05")
    forged = hold.model_copy(update={"released_at": NOW, "released_by": "ada", "release_reason": "forged"})
    vault.archiver.put_object(Bucket=vault.bucket, Key=hold_key(hold.hold_id), Body=forged.to_bytes())

    assert vault.purge("2026-05").result == "held"

    release_hold(vault.store, hold.hold_id, who="frank", reason="closed", now=LATER)
    assert vault.purge("2026-05").result == "purged"


def test_a_release_that_died_after_its_entry_is_made_by_the_next_try(vault, monkeypatch):
    """At a later instant, so its bytes and its proof are others."""
    hold = vault.hold("2026-05")
    with monkeypatch.context() as patch:
        patch.setattr(holds, "_write", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            release_hold(vault.store, hold.hold_id, who="frank", reason="closed", now=LATER)
    assert holds_in_force(vault.store) == [hold]

    release_hold(vault.store, hold.hold_id, who="frank", reason="closed", now=LATER + TTL)

    assert holds_in_force(vault.store) == []


def test_a_hold_is_in_force_also_if_the_log_does_not_take_it(vault):
    """The error says so: nobody thinks that nothing is held."""
    vault.vandal.remove(CHECKPOINT)

    with pytest.raises(HoldError, match="is in force, but the transparency log"):
        vault.hold("2026-05")

    assert [one.what for one in holds_in_force(vault.store)] == ["public.audit.2026-05"]


def test_a_yes_that_somebody_wrote_into_the_store_is_no_answer(vault):
    [decision] = [one for one in vault.decisions().values() if one.archive_id == str(MAY)]
    keep_question(vault.store, [decision], run=PURGE, now=LATER)
    unlogged = Store(vault.archiver, vault.settings.store.model_copy(update={"log_keys": ()}))
    keep_answer(unlogged, YES, run=PURGE)

    approvals = approval_of(vault.store, [decision], run=PURGE, four_eyes=[], now=LATER)

    assert not approvals[str(MAY)].approved


def test_a_sweep_enters_its_intent_and_the_records_that_forbid_a_seal(object_store, settings):
    archiver = object_store.client("archiver")
    store = Store(archiver, settings.store, author=AUTHOR)
    upload_parts(store, settings, "2026-05")
    purger = PurgeStore(object_store.client("purger"), settings.store)

    swept = sweep_store(
        store,
        purger,
        run=PURGE,
        now=datetime.now(timezone.utc) + timedelta(days=30),
        claim_ttl=TTL,
        grace=timedelta(days=7),
    )

    assert [one.result for one in swept] == ["removed"]
    [entry] = [one for one in entries_of(store) if one.act.kind == "sweep intended"]
    assert entry.act.facts["what"] == "unsealed"
    assert entry.subjects[0].key == MAY.sweep_key
