"""The steps over staging on S3: each on another machine, each repeated, tries that overlap, and nothing left in the end."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from strongroom.archive.extract_to_staging import extract_part
from strongroom.errors import IntegrityError, StagingError, StrongroomError
from strongroom.records import RunIdentity
from strongroom.retention.sweep import sweep_staging
from strongroom.storage.purge_store import PurgeStore
from strongroom.storage.staging import OF_RESTORES
from strongroom.storage.staging_s3 import S3Root, Scratch
from tests.support import restoring
from tests.support.chain import Chain, some_settings
from tests.support.damaging import flipped
from tests.support.database import AUDIT, execute, scalar

WINDOW = "at >= '2026-05-01' AND at < '2026-06-01'"


@pytest.fixture(scope="module")
def unversioned(object_store) -> str:
    object_store.create_bucket("staging-without-versions", versioned=False)
    return "staging-without-versions"


def chain_over(staging_bucket: str, source: str, object_store: Any, bucket: str, folder: Path, **changes: Any) -> Chain:
    """A chain whose every step has a scratch folder of its own, and an identity that sees nothing but staging."""
    settings = some_settings(
        bucket,
        f"s3://{staging_bucket}/{folder.name}",
        part_rows=300,
        scratch=str(folder),
        delete_batch_rows=100,
        **changes,
    )
    execute(source, AUDIT)
    return Chain(source, object_store.client("archiver"), settings, staging_client=object_store.client("stager"))


@pytest.fixture
def chain(source, object_store, bucket, unversioned, tmp_path) -> Chain:
    return chain_over(unversioned, source, object_store, bucket, tmp_path)


def staged(chain: Chain) -> list[str]:
    """Every version of every object of staging, behind its prefix."""
    store = PurgeStore(chain.staging_client, chain.settings.staging_store)
    return [version.key.removeprefix("staging/") for version in store.versions("staging/")]


def left_on_machines(chain: Chain) -> list[str]:
    return [str(path) for path in Path(chain.settings.scratch).rglob("*") if path.is_file() and path.name != ".lock"]


# ---------------------------------------------------------------------------------------------------------- undisturbed


@pytest.mark.parametrize(
    ("format", "compression", "versioned"),
    [("jsonl", "zstd", True), ("jsonl", "none", False), ("parquet", "zstd", False)],
)
def test_each_step_may_run_on_another_machine_and_nothing_is_left(  # five fixtures and three cases
    source, object_store, bucket, unversioned, tmp_path, format, compression, versioned
):
    staging = bucket if versioned else unversioned
    options = {"format": format, "compression": {"type": compression}}
    chain = chain_over(staging, source, object_store, bucket, tmp_path, **options)

    report = chain.run()

    assert (report.outcome, report.archived_rows, report.deleted_rows, report.parts) == ("archived", 744, 744, 3)
    assert scalar(source, f"SELECT count(*) FROM audit WHERE {WINDOW}") == 0
    assert (staged(chain), left_on_machines(chain)) == ([], [])


def test_a_step_leaves_in_staging_what_the_steps_behind_it_need_and_no_more(chain):
    plan = chain.plan()
    part = plan.parts[0]
    files = []

    def look() -> None:
        names = {key.split("/")[1] for key in staged(chain)}
        files.append(sorted(name.removeprefix("part-00000.") for name in names if not name.endswith(".json")))

    extracted = chain.extract(part)
    look()
    compressed = chain.compress(extracted)
    look()
    summed = chain.checksum(compressed)
    look()
    uploaded = chain.upload(summed)
    verified = chain.verify(plan, uploaded)
    look()
    sealed = chain.seal_parts(plan, [verified, *(chain.verified(plan, each) for each in plan.parts[1:])])
    chain.delete(sealed.parts[0])
    look()

    assert files[:4] == [
        ["blocks", "lines.zst"],
        ["blocks", "jsonl.zst", "lines.zst"],
        ["blocks", "jsonl.zst"],
        ["blocks"],
    ]
    assert "blocks" not in files[4]


def test_every_step_may_run_twice(chain):
    """The second time on another machine, which finds the record of the first."""

    def twice(step, *given):
        first = step(*given)
        assert step(*given) == first
        return first

    plan = chain.plan()
    parts = []
    for part in plan.parts:
        uploaded = twice(chain.upload, twice(chain.checksum, twice(chain.compress, twice(chain.extract, part))))
        parts.append(twice(chain.verify, plan, uploaded))
    sealed = twice(chain.seal_parts, plan, parts)
    deleted = [chain.delete(part) for part in sealed.parts]
    earlier = {"deleted_by": str(chain.identity), "in_table": 0}
    assert [chain.delete(part) for part in sealed.parts] == [one.model_copy(update=earlier) for one in deleted]

    assert sum(part.deleted for part in deleted) == 744


def test_a_restore_goes_over_staging_on_s3_and_is_gone_on_with_on_another_machine(chain):
    """What is downloaded stays on the machine; only how far it came lies in staging."""
    chain.run()

    report = restoring.restore(chain)

    assert (report.outcome, report.inserted) == ("restored", 744)
    names = {key.rpartition("/")[2] for key in staged(chain)}
    assert names == {f"part-0000{number}.restoreprogress.json" for number in range(3)}
    assert restoring.restore(chain).inserted == 744, "what the first try did is known"
    chain.staging(OF_RESTORES, "restore-1").clear()
    assert (staged(chain), left_on_machines(chain)) == ([], [])


# ------------------------------------------------------------------------------------------------------- tries that overlap


def test_two_tries_of_an_extraction_never_mix_their_files(chain):
    """Between the two a row changed. The one that came late is told; what its retry returns goes through to the end."""
    plan = chain.plan()
    part = plan.parts[0]
    with chain.staging(part.archive_id) as zombie:
        assert zombie.finished(type(chain.extract(plan.parts[1])), part) is None  # it looks, and falls asleep
        execute(chain.conninfo, "UPDATE audit SET who = 'changed' WHERE id = 10")
        record = chain.extract(part)
        execute(chain.conninfo, "UPDATE audit SET who = 'changed again' WHERE id = 10")
        zombie.finished = lambda *_: None
        with chain.source() as connection, pytest.raises(StagingError, match="another process is writing"):
            extract_part(connection, zombie, chain.settings, part, now=chain.now)

    assert len({key for key in staged(chain) if "part-00000.lines.zst/" in key}) == 2, "the two wrote different lines"
    assert chain.extract(part) == record
    summed = chain.checksum(chain.compress(record))
    assert (summed.original_sha256, summed.rows) == (record.original_sha256, part.expected_rows)


def test_of_two_deletes_of_a_part_at_once_one_stops_and_no_row_is_counted_twice(chain):
    """The try that Airflow gave up stands between two batches; it wakes up when the retry has gone on."""
    sealed = chain.seal(chain.plan())
    part = sealed.parts[0]
    asleep, over = [], []

    def fall_asleep_in_the_second_batch() -> None:
        asleep.append(None)
        if len(asleep) == 2:
            while not over:
                time.sleep(0.05)

    zombie = replace(chain, keep_claim=fall_asleep_in_the_second_batch)
    with ThreadPoolExecutor(1) as sleepers:
        given_up = sleepers.submit(zombie.delete, part)
        while len(asleep) < 2:
            time.sleep(0.05)
        deleted = chain.delete(part)
        over.append(None)

    assert isinstance(given_up.exception(), StrongroomError)
    assert (deleted.deleted, deleted.gone, deleted.rows) == (part.rows, 0, part.rows)


def test_an_answer_that_was_lost_is_no_other_try(chain, monkeypatch):
    """The store has written the record, the client asks again, and its own record is in the way."""
    part = chain.plan().parts[0]
    swap = PurgeStore.swap

    def written_and_then_refused(store, key, body, *, etag, **more):
        swap(store, key, body, etag=etag, **more)
        return swap(store, key, body, etag=etag, **more)

    monkeypatch.setattr(PurgeStore, "swap", written_and_then_refused)
    record = chain.extract(part)

    assert chain.extract(part) == record


# --------------------------------------------------------------------------------------------------------------- damage


DAMAGED = {
    "lines": ("extract", "part-00000.lines.zst/", "jsonl"),
    "the compressed file": ("compress", "part-00000.jsonl.zst/", "jsonl"),
    "the parquet file": ("extract", "part-00000.parquet/", "parquet"),
    "the list of blocks": ("upload", "part-00000.blocks/", "jsonl"),
}


@pytest.mark.parametrize(("step", "name", "format"), DAMAGED.values(), ids=DAMAGED.keys())
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda body: flipped(body, 900), id="a bit"),
        pytest.param(None, id="gone", marks=pytest.mark.exhaustive),
    ],
)
def test_damage_to_an_object_of_staging_is_found_before_anything_is_deleted(  # five fixtures and four cases
    source, object_store, bucket, unversioned, tmp_path, step, name, format, change
):
    chain = chain_over(unversioned, source, object_store, bucket, tmp_path, format=format)
    plan = chain.plan()
    steps = [chain.extract, chain.compress, chain.checksum, chain.upload, lambda part: chain.verify(plan, part)]
    names = ["extract", "compress", "checksum", "upload", "verify"]
    record: Any = plan.parts[0]
    for work in steps[: names.index(step) + 1]:
        record = work(record)
    admin, prefix = object_store.client("admin"), f"{tmp_path.name}/staging/"
    [key] = [f"{prefix}{key}" for key in staged(chain) if name in key]
    body = admin.get_object(Bucket=unversioned, Key=key)["Body"].read()
    if change is None:
        admin.delete_object(Bucket=unversioned, Key=key)
    else:
        admin.put_object(Bucket=unversioned, Key=key, Body=change(body))

    def go_on(record: Any) -> None:
        for work in steps[names.index(step) + 1 :]:
            record = work(record)

    with pytest.raises(IntegrityError) as caught:
        go_on(record)

    assert "No row was deleted" in caught.value.hint
    assert scalar(source, "SELECT count(*) FROM audit") == 800
    with chain.staging(plan.archive_id) as staging:
        staging.clear()  # as the operator of plan does
    assert chain.run().deleted_rows == 744


def test_a_damaged_record_is_named_put_aside_and_made_anew(chain, object_store, unversioned, tmp_path):
    part = chain.plan().parts[0]
    record = chain.extract(part)
    admin = object_store.client("admin")
    key = f"{tmp_path.name}/staging/{part.archive_id}/part-00000.extracted.json"
    body = admin.get_object(Bucket=unversioned, Key=key)["Body"].read()
    admin.put_object(Bucket=unversioned, Key=key, Body=flipped(body, 700))

    with pytest.raises(IntegrityError, match=r"part-00000.extracted.json is damaged"):
        chain.extract(part)

    assert chain.extract(part).original_sha256 == record.original_sha256
    assert any(each.endswith("part-00000.extracted.json.damaged") for each in staged(chain))


def test_blocks_that_are_lost_after_the_seal_are_made_anew_from_the_archive(chain):
    sealed = chain.seal(chain.plan())
    with chain.staging(sealed.archive_id) as staging:
        staging.clear()

    deleted = [chain.delete(part) for part in sealed.parts]

    assert sum(part.deleted for part in deleted) == 744


# ----------------------------------------------------------------------------------------------------------- what is left


def test_a_step_that_fails_leaves_nothing_on_its_machine(chain):
    part = chain.plan().parts[0]
    execute(chain.conninfo, "ALTER TABLE audit ADD note text")

    with pytest.raises(StrongroomError, match="changed its columns"):
        chain.extract(part)

    assert left_on_machines(chain) == []


def test_what_a_killed_step_left_on_a_machine_goes_with_the_next_step_there(tmp_path):
    """And not what belongs to a step that is still at work."""
    alive = Scratch(tmp_path)
    (alive.staging.folder / "part-00000.lines.zst").write_bytes(b"of a living step")
    reading, writing = os.pipe()
    killed = os.fork()
    if killed == 0:
        folder = Scratch(tmp_path).staging.folder
        (folder / "part-00000.lines.zst").write_bytes(b"of a killed step")
        os.write(writing, str(folder).encode())
        signal.pause()
    dead = Path(os.read(reading, 1000).decode())
    os.kill(killed, signal.SIGKILL)
    os.waitpid(killed, 0)
    assert dead.exists()

    another = Scratch(tmp_path)

    assert another.staging.folder.exists()
    assert (dead.exists(), alive.staging.folder.exists()) == (False, True)
    alive.remove()
    another.remove()
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_staging_that_a_broken_run_left_is_swept_when_it_is_old_or_its_archive_is_finished(chain):
    broken = chain.plan()
    chain.compress(chain.extract(broken.parts[0]))
    others = chain.staging("public.other.2026-05.0001")
    with others.writing(others.blocks(0)) as [handle]:
        handle.write(b"1\tx\n")
    now = datetime.now(timezone.utc)

    def sweep(later: timedelta) -> list[tuple[str, str]]:
        swept = sweep_staging(
            chain.store,
            chain.staging_root(),
            chain.settings,
            run=RunIdentity(dag_id="retention_purge", run_id="today"),
            now=now + later,
            grace=timedelta(days=7),
        )
        return [(one.name.rpartition("/")[2], one.result) for one in swept]

    too_early, swept = sweep(timedelta(days=6)), sweep(timedelta(days=8))

    assert (too_early, swept) == ([], [(broken.archive_id, "removed")])
    assert {key.split("/")[0] for key in staged(chain)} == {"public.other.2026-05.0001"}
    sealed = chain.seal(chain.plan())
    for part in sealed.parts:
        chain.delete(part)
    assert sweep(timedelta(hours=2)) == [(sealed.archive_id, "removed")], "its run never came to its report"


def test_a_scratch_disk_that_cannot_hold_a_part_is_refused_with_numbers(chain):
    huge = chain.settings.model_copy(update={"scratch": "/proc/self"})

    with pytest.raises(
        StagingError, match=r"scratch at /proc/self cannot hold a part of .*: expected about [\d,]+ bytes free"
    ):
        replace(chain, settings=huge).plan()


def test_a_part_too_large_for_one_object_of_staging_is_refused_by_plan(chain, monkeypatch):
    """Of a part of 300 rows of some 80 bytes; parquet is packed before it comes there."""
    monkeypatch.setattr("strongroom.archive.plan.LARGEST_PUT_BYTES", 10_000)

    with pytest.raises(StagingError, match=r"cannot take the parts of .* at most 10,000 bytes .* found about 2\d,\d+"):
        chain.plan()

    parquet = replace(chain, settings=chain.settings.model_copy(update={"format": "parquet"}))
    assert len(parquet.plan().parts) == 3


def test_a_scratch_that_is_no_folder_is_named(chain, tmp_path):
    (tmp_path / "file").write_text("a file")

    with pytest.raises(StagingError, match="See that `scratch` names a folder"):
        replace(chain, settings=chain.settings.model_copy(update={"scratch": str(tmp_path / "file")})).plan()


@pytest.mark.parametrize("name", ["..", "", "a/b", "a\0b"])
def test_staging_lies_below_its_prefix_and_nowhere_else(object_store, chain, name):
    with pytest.raises(StagingError, match="is not a valid name for a staging folder"):
        S3Root(PurgeStore(chain.staging_client, chain.settings.staging_store), chain.settings.scratch).of(name)
