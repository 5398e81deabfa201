"""The steps of a run by name, each with what it takes from files and leaves there.

Files hold what the steps pass on, in XCom's form, so each step can run in a process of its own (``processes.py``). To break a
step, a test gives it proxies instead of servers.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import botocore.loaders
import botocore.session
from pydantic import BaseModel

from strongroom.archive.report import report_run
from strongroom.ledger.claims import claim_keeper, release_claim, running_clock, take_claim
from strongroom.ledger.manifests import sealed_part
from strongroom.object_keys.records import claim_key
from strongroom.records import (
    ArchivePlan,
    ChecksummedPart,
    CompressedPart,
    DeletedPart,
    ExtractedPart,
    PlannedPart,
    RunIdentity,
    UploadedPart,
    VerifiedPart,
    narrow,
)
from strongroom.restore.claims import release_claims
from strongroom.restore.records import RestoredPart, RestorePlan
from strongroom.restore.report import report_restore
from strongroom.retention.certificate import BY_POLICY, Approval
from strongroom.retention.decide import judge
from strongroom.retention.purge import PurgeResult, purge_archive
from strongroom.settings import StoreSettings, TableSettings
from strongroom.storage.purge_store import PurgeStore
from strongroom.storage.s3 import make_client
from strongroom_local.servers.ports import LOOPBACK
from tests.support import restoring
from tests.support.chain import NOW, RUN, Chain

ARCHIVE_STEPS = (
    "plan",
    "extract_to_staging",
    "compress",
    "checksum",
    "upload",
    "verify",
    "seal",
    "delete",
    "report",
)
PARTITION_STEPS = (*ARCHIVE_STEPS[:-2], "detach", *ARCHIVE_STEPS[-2:], "drop")
"""The steps for a table whose partitions are detached, including the drop after the cooling-off."""
RESTORE_STEPS = ("restore_locate", "restore", "restore_report")
PURGE_STEPS = ("purge",)
CLAIM_TTL = timedelta(hours=1)
BLOCK_ROWS = 5
"""Rows of a block, so that each batch of a delete has some."""

COOLED_OFF = timedelta(days=2)

_PART_RECORDS: dict[str, tuple[str, type[BaseModel]]] = {
    "extract_to_staging": ("plan", PlannedPart),
    "compress": ("extract_to_staging", ExtractedPart),
    "checksum": ("compress", CompressedPart),
    "upload": ("checksum", ChecksummedPart),
    "verify": ("upload", UploadedPart),
    "delete": ("seal", VerifiedPart),
}

_MADE: dict[str, type[PlannedPart]] = {
    "extract_to_staging": ExtractedPart,
    "compress": CompressedPart,
    "checksum": ChecksummedPart,
    "upload": UploadedPart,
    "verify": VerifiedPart,
}


@dataclass(frozen=True)
class Place:
    """The servers and folders of a run, reached directly or through a test's proxies.

    Attributes:
        keys: Access key and secret key of the archiver, the purger and the stager.
        settings: The table's settings.
        folder: The folder of the records that steps pass on.
        now: The run's current time.
        run_id: The run's id.
    """

    conninfo: str
    endpoint_url: str
    keys: dict[str, tuple[str, str]]
    settings: TableSettings
    folder: Path
    now: datetime = NOW
    run_id: str = RUN.run_id

    @property
    def identity(self) -> RunIdentity:
        return RunIdentity(dag_id=RUN.dag_id, run_id=self.run_id)

    def client(self, identity: str) -> Any:
        with _SESSIONS_LOCK:  # creating a client is not thread-safe
            session = _session(*self.keys[identity])
            return make_client(self.settings.store, session=session, endpoint_url=self.endpoint_url)

    def chain(self) -> Chain:
        clients = {"client": self.client("archiver"), "staging_client": self.client("stager")}
        chain = Chain(self.conninfo, settings=self.settings, now=self.now, identity=self.identity, **clients)
        key = claim_key(self.settings.schema_name, self.settings.table_name, chain.partition.key)
        owner, clock = str(self.identity), running_clock(self.now)
        chain.keep_claim = claim_keeper(chain.store, [key], owner=owner, clock=clock, ttl=CLAIM_TTL)
        return chain


_LOADER = botocore.loaders.create_loader()
_SESSIONS_LOCK = threading.Lock()


@cache
def _session(access_key: str, secret_key: str) -> boto3.Session:
    """One session for each identity. They share the S3 service model, which takes 0.1 CPU seconds to load."""
    core = botocore.session.get_session()
    core.register_component("data_loader", _LOADER)
    return boto3.Session(aws_access_key_id=access_key, aws_secret_access_key=secret_key, botocore_session=core)


def warm_up() -> None:
    """Load the S3 service model early, so that forked processes already have it."""
    with _SESSIONS_LOCK:
        make_client(StoreSettings(bucket="none"), session=_session("none", "none"), endpoint_url=f"http://{LOOPBACK}:1")


@dataclass
class Steps:
    """Runs the steps of one run by their names."""

    place: Place
    chain: Chain = field(init=False)

    def __post_init__(self) -> None:
        self.chain = self.place.chain()

    def run(self, name: str) -> None:
        """Run one step as its operator does: first the claim, then the work. Its record is what XCom would hold."""
        if name in (*ARCHIVE_STEPS, "detach"):
            self.claim()
        getattr(self, f"_{name}")()

    def run_all(self, names: tuple[str, ...]) -> None:
        for name in names:
            self.run(name)

    def claim(self) -> None:
        take_claim(self.chain.store, self._claim_key, owner=str(self.place.identity), now=self.place.now, ttl=CLAIM_TTL)

    def release(self) -> None:
        release_claim(self.chain.store, self._claim_key, owner=str(self.place.identity), now=self.place.now)

    @property
    def _claim_key(self) -> str:
        settings = self.place.settings
        return claim_key(settings.schema_name, settings.table_name, self.chain.partition.key)

    # Archive.

    def _plan(self) -> None:
        plan = self.chain.plan()
        if plan.outcome == "planned":
            self.chain.staging(str(plan.archive_id)).clear()
        self._keep("plan-record", [plan])
        self._keep("plan", plan.parts)

    def _part_step(self, name: str, work: Callable[[Any], BaseModel]) -> None:
        before, kind = _PART_RECORDS[name]
        if name in _MADE and self._planned.outcome == "resumed":
            self._keep(name, [self._sealed(part, _MADE[name]) for part in self._kept(before, kind)])
            return
        self._keep(name, [work(part) for part in self._kept(before, kind)])

    def _sealed(self, part: PlannedPart, kind: type[PlannedPart]) -> PlannedPart:
        """The record of a part whose archive is sealed, as its operator takes it from the manifest."""
        sealed = sealed_part(self.chain.store, part)
        assert sealed is not None
        return narrow(sealed, kind)

    def _extract_to_staging(self) -> None:
        self._part_step("extract_to_staging", self.chain.extract)

    def _compress(self) -> None:
        self._part_step("compress", self.chain.compress)

    def _checksum(self) -> None:
        self._part_step("checksum", self.chain.checksum)

    def _upload(self) -> None:
        self._part_step("upload", self.chain.upload)

    def _verify(self) -> None:
        self._part_step("verify", lambda part: self.chain.verify(self._planned, part))

    def _seal(self) -> None:
        if self._planned.archive_id is None:
            self._keep("seal", [])
            return
        sealed = self.chain.seal_parts(self._planned, self._kept("verify", VerifiedPart))
        self._keep("seal", sealed.parts)

    def _detach(self) -> None:
        sealed = self._kept("seal", VerifiedPart)
        self._keep("detach", [self.chain.detach(sealed)] if sealed else [])

    def _drop(self) -> None:
        later = self.place.now + COOLED_OFF
        self._keep("drop", self.chain.drop_detached(now=later))

    def _delete(self) -> None:
        self._part_step("delete", self.chain.delete)

    def _report(self) -> None:
        plan = self._planned
        staging = self.chain.staging(plan.archive_id) if plan.archive_id else None
        sealed, deleted = self._kept("seal", VerifiedPart), self._kept("delete", DeletedPart)
        self._keep("report", [report_run(self.chain.store, staging, plan, sealed, deleted, now=self.place.now)])
        self.release()

    @property
    def _planned(self) -> ArchivePlan:
        [plan] = self._kept("plan-record", ArchivePlan)
        return plan

    # Restore.

    def _restore_locate(self) -> None:
        self._keep("restore_locate", [restoring.plan(self.chain, self.place.run_id, now=self.place.now)])

    def _restore(self) -> None:
        self._keep("restore", restoring.load(self.chain, self._located))

    def _restore_report(self) -> None:
        parts = self._kept("restore", RestoredPart)
        with self.chain.source() as connection:
            report = report_restore(connection, self.chain.store, self._located, parts, now=self.place.now)
        release_claims(self.chain.store, self._located, owner=self.place.run_id, now=self.place.now)
        self._keep("restore_report", [report])

    @property
    def _located(self) -> RestorePlan:
        [plan] = self._kept("restore_locate", RestorePlan)
        return plan

    # Purge.

    def _purge(self) -> None:
        purge_store = PurgeStore(self.place.client("purger"), self.place.settings.store)
        approval = Approval(approved=True, by=BY_POLICY, at=self.place.now)
        self._keep(
            "purge",
            [
                purge_archive(
                    self.chain.store,
                    purge_store,
                    decision,
                    approval,
                    run=self.place.identity,
                    now=self.place.now,
                    claim_ttl=CLAIM_TTL,
                )
                for decision in judge(self.chain.store, now=self.place.now)
            ],
        )

    # Records.

    def result(self, name: str) -> list[dict[str, Any]]:
        """What a step returned."""
        found: list[dict[str, Any]] = json.loads((self.place.folder / f"{name}.json").read_text())
        return found

    def purged(self) -> list[PurgeResult]:
        return self._kept("purge", PurgeResult)

    def _keep(self, name: str, records: Any) -> None:
        text = json.dumps([record.model_dump(mode="json") for record in records])
        scratch = self.place.folder / f"{name}.new"
        scratch.write_text(text)
        scratch.replace(self.place.folder / f"{name}.json")

    def _kept(self, name: str, kind: type[Any]) -> list[Any]:
        return [kind.model_validate(one) for one in self.result(name)]
