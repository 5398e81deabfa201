"""What earlier versions wrote, and what they left in the middle, in the hands of today's code. Every row is accounted for.

The earlier code is taken from the project's own history and runs in a process of its own, against the same servers.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from strongroom.errors import RestoreError
from strongroom.ledger.manifests import read_manifest, sealed_part
from strongroom.ledger.reread import verify_archive
from strongroom.ledger.restore_records import restores_of
from strongroom.object_keys.archives import ArchiveId
from strongroom.records import ArchivePlan, CompressedPart, RunIdentity, VerifiedPart
from strongroom.retention.certificate import Approval
from strongroom.retention.decide import judge
from strongroom.retention.purge import purge_archive
from strongroom.settings import load_settings
from strongroom.storage.purge_store import PurgeStore
from strongroom_local.servers.processes import bare_environment
from tests.support import restoring
from tests.support.chain import Chain, some_settings
from tests.support.database import a_database
from tests.support.ledger import Ledger, examine, opened
from tests.support.repository import REPOSITORY

FIRST = "185d0261d849a9cbedb7f1049dfcc6a85a7fd504"  # pragma: allowlist secret
"""The last version that wrote manifests of the versions 1 and 2 and knew neither blocks nor a log (28 November 2026)."""

LAST = "5fe437a5d46ef8553c7298621dd235c1ece8f4c6"  # pragma: allowlist secret
"""The last one before settings had a version (29 November 2026). It writes what today's code writes, and leaves it as this one does."""

STEPS = {"extracted": "extract", "compressed": "compress", "verified": "verify", "sealed": "seal"}
"""The table whose run was left after each step."""

CHANGES = {"columns": {"format": "parquet"}, "halfway": {"delete_by": "key", "delete_batch_rows": 100}}
WHOLE, RESTORED, HALFWAY = ("whole", "columns"), "restored", "halfway"
OUTSIDE = 20
"""Rows of each table that lie outside the window."""

LATER = datetime(2033, 7, 1, tzinfo=timezone.utc)


def git(*arguments: str) -> bytes:
    """What git says of the project's history, which a shallow clone does not have."""
    said = subprocess.run(["git", "-C", REPOSITORY, *arguments], capture_output=True, check=False)
    assert said.returncode == 0, f"this test needs the whole history (git fetch --unshallow): {said.stderr.decode()}"
    return said.stdout


@dataclass
class Left:
    """What a version left: the ledgers of its tables, and the records of its runs."""

    version: str
    ledgers: dict[str, Ledger]
    records: dict[str, dict[str, Any]]
    chains: dict[str, Chain]

    def require_all_archived(self, table: str) -> None:
        """Every row of the window is in one archive, exactly, comes back from it, and is gone from the table."""
        tally = examine(self.ledgers[table], self.chains[table])
        tally.require_sound()
        assert tally.kept == OUTSIDE


@pytest.fixture(scope="module", params=[FIRST, LAST])
def left(request, postgres, object_store, coming_buckets, tmp_path_factory) -> Iterator[Left]:
    """The tables, after a process of an earlier version worked on them."""
    tree, staging = tmp_path_factory.mktemp("earlier"), tmp_path_factory.mktemp("staging")
    with tarfile.open(fileobj=io.BytesIO(git("archive", request.param, "include", "local", "tests/support"))) as files:
        files.extractall(tree, filter="data")
    bucket = next(coming_buckets).result()
    with a_database(postgres) as conninfo:
        names = (*STEPS, *WHOLE, RESTORED, HALFWAY)
        ledgers = {name: opened(conninfo, name) for name in names}
        given = {"conninfo": conninfo, "bucket": bucket, "staging": str(staging), "store": str(object_store.folder)}
        given |= {"steps": STEPS, "whole": WHOLE, "restored": RESTORED, "halfway": HALFWAY, "changes": CHANGES}
        paths = os.pathsep.join(map(str, (tree / "include", tree / "local", tree)))
        ended = subprocess.run(
            [sys.executable, Path(__file__).with_name("leave.py"), json.dumps(given)],
            cwd=tree,
            env={**bare_environment(), "PYTHONPATH": paths},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        archiver = object_store.client("archiver")
        chains = {
            name: Chain(conninfo, archiver, some_settings(bucket, staging, f"public.{name}", **CHANGES.get(name, {})))
            for name in names
        }
        yield Left(request.param, ledgers, json.loads(ended.stdout.splitlines()[-1]), chains)


def archive_of(table: str) -> ArchiveId:
    return ArchiveId("public", table, "2026-05", 1)


@pytest.mark.parametrize("table", WHOLE)
def test_archives_of_an_earlier_version_are_sound_and_come_back(left, table):
    """Read again, restored row by row, and deleted no second time."""
    chain = left.chains[table]
    version = read_manifest(chain.store, archive_of(table)).format_version

    assert version == ({"whole": 1, "columns": 2}[table] if left.version == FIRST else 3)
    assert verify_archive(chain.store, archive_of(table)).result == "sound"
    if table == "whole":  # the ledger reads JSON lines itself
        left.require_all_archived(table)
    restored = restoring.restore(chain, f"now-{table}", now=chain.now, target=f"public.{table}_now", create_target=True)
    assert (restored.outcome, restored.inserted) == ("restored", left.ledgers[table].at_risk)


def test_records_of_an_earlier_restore_still_protect_its_rows(left):
    """Rows that somebody brought back are not archived again while they are needed."""
    chain = left.chains[RESTORED]

    [record] = restores_of(chain.store, archive_of(RESTORED))
    planned = chain.plan()

    assert (record.restore_id, record.who) == ("restore-of-then", "ada")
    assert planned.archive_id is None
    assert len(left.ledgers[RESTORED].live()) == left.ledgers[RESTORED].at_risk + OUTSIDE


@pytest.mark.parametrize("table", ["compressed", "verified", "sealed", HALFWAY])
def test_a_run_that_an_earlier_version_left_is_resumed_or_begun_again(left, table):
    """The next task takes the records that the last one handed on. Where it cannot read them, `plan` is cleared."""
    chain, records = left.chains[table], left.records[table]
    if left.version == FIRST:
        with pytest.raises(ValidationError):  # it fails before it touches anything
            resume(chain, table, records)
        begin_again(chain)
    else:
        resume(chain, table, records)

    left.require_all_archived(table)
    assert {verify_archive(chain.store, archive).result for archive in archives_of(chain, table)} == {"sound"}


def begin_again(chain: Chain) -> None:
    """Clear `plan`, which empties staging of what the earlier try left, and let the other tasks follow.

    If the run had sealed its archive, they take their records from the manifest.
    """
    plan = chain.plan()
    with chain.staging(str(plan.archive_id)) as staging:
        staging.clear()
    sealed = [sealed_part(chain.store, part) for part in plan.parts]
    for part in sealed if all(sealed) else chain.seal(plan).parts:
        chain.delete(part)


def archives_of(chain: Chain, table: str) -> list[ArchiveId]:
    keys = chain.store.keys(f"metadata/public.{table}/")
    return [ArchiveId.parse(key.rpartition("/")[2].removesuffix(".json")) for key in keys]


def resume(chain: Chain, table: str, records: dict[str, Any]) -> None:
    """Clear the first task that has not ended, and let the others follow."""
    plan = ArchivePlan.model_validate(records["plan"])
    if table == "compressed":
        compressed = [CompressedPart.model_validate(part) for part in records["parts"]]
        parts = [chain.verify(plan, chain.upload(chain.checksum(part))) for part in compressed]
    else:
        parts = [VerifiedPart.model_validate(part) for part in records["parts"]]
    if table not in ("sealed", HALFWAY):
        parts = [*chain.seal_parts(plan, parts).parts]
    for part in parts:
        chain.delete(part)


def test_a_run_that_was_left_before_anything_was_uploaded_is_begun_again(left):
    """Without it, the step that finds the other version's files says so and puts them aside."""
    begin_again(left.chains["extracted"])

    left.require_all_archived("extracted")


def test_an_archive_of_an_earlier_version_is_purged_when_its_term_is_over(left, object_store):
    chain = left.chains["columns"]
    archive, run = archive_of("columns"), RunIdentity(dag_id="retention_purge", run_id="scheduled__2033-07-01")
    [decision] = [one for one in judge(chain.store, now=LATER) if one.archive_id == str(archive)]

    purged = purge_archive(
        chain.store,
        PurgeStore(object_store.client("purger"), chain.settings.store),
        decision,
        Approval(approved=True, by="ada", at=LATER),
        claim_ttl=timedelta(hours=1),
        now=LATER,
        run=run,
    )

    assert purged.result == "purged"
    assert not [*chain.store.keys(archive.archive_prefix)]
    with pytest.raises(RestoreError, match="no archive of"):
        restoring.plan(chain, "too-late", now=LATER)


@pytest.mark.parametrize("version", [FIRST, LAST])
def test_the_settings_of_an_earlier_version_still_load(version, tmp_path):
    """The file that came with it, without a change."""
    (tmp_path / "archive.yaml").write_bytes(git("show", f"{version}:include/config/archive.yaml"))

    settings = load_settings(tmp_path / "archive.yaml", environ={})

    assert len(settings.tables) == 5
    assert not settings.left_out
