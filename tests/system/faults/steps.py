"""The steps as processes: one process runs one step, given by name, and can be killed with kill -9.

Files hold what the steps pass on, in XCom's form. To break a step, a test gives it proxies instead of servers. Python's
audit events show what happens in staging, and the process can kill itself at any of them.
"""

# Slightly over 400 lines: one process can run any step by its name, so all of them stand together.

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import boto3
import botocore.loaders
import botocore.session
from pydantic import BaseModel

from strongroom.archive.report import report_run
from strongroom.errors import StrongroomError
from strongroom.ledger.claims import claim_keeper, release_claim, running_clock, take_claim
from strongroom.object_keys import claim_key
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
from strongroom_airflow.stopping import StoppedError, Stopping
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
COOLED_OFF = timedelta(days=2)
STOPPED = 15
"""Exit code of a step that got SIGTERM."""

_PART_RECORDS: dict[str, tuple[str, type[BaseModel]]] = {
    "extract_to_staging": ("plan", PlannedPart),
    "compress": ("extract_to_staging", ExtractedPart),
    "checksum": ("compress", CompressedPart),
    "upload": ("checksum", ChecksummedPart),
    "verify": ("upload", UploadedPart),
    "delete": ("seal", VerifiedPart),
}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_IN_FOLDERS = frozenset({"os.remove", "os.rmdir"})
_STAGING_EVENTS = frozenset({"open", "os.rename", "os.mkdir", "shutil.rmtree"}) | _IN_FOLDERS


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
        self._keep(name, [work(part) for part in self._kept(before, kind)])

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


# ---------------------------------------------------------------------------------------------------------- processes


@dataclass(frozen=True)
class Ending:
    """How a process is to end before its work is done.

    Attributes:
        at_staging_event: Kill -9 before the staging event with this number; None means no kill.
        at_file_size: The kernel kills it in the write that would make a file longer than this many bytes.
        on_full_disk: The same write fails instead, as on a full disk.

    SIGTERM ends it as it ends an Airflow task: with :data:`STOPPED`, after it has undone unfinished work.
    """

    at_staging_event: int | None = None
    at_file_size: int | None = None
    on_full_disk: int | None = None


def step_process(place: Place, name: str, ending: Ending | None = None) -> Any:
    """A process that will run one step. The caller starts it and later reads its exit code.

    It is forked from a small server process that has the modules and the S3 service model loaded, and no threads.
    """
    _FORKSERVER.set_forkserver_preload(["tests.system.faults.warm"])
    return _Process(target=_run, args=(place, name, ending or Ending()), daemon=True)


_FORKSERVER = multiprocessing.get_context("forkserver")


class _Process(_FORKSERVER.Process):  # type: ignore[name-defined, misc]
    """A process that can be used while other threads also start and join processes.

    Each start reaps all children that ended. If another thread asks for the exit code of one at the same moment, one of the
    two finds it already reaped, and multiprocessing reports 255.
    """

    _one_at_a_time = threading.Lock()

    def start(self) -> None:
        with self._one_at_a_time:
            super().start()

    def join(self, timeout: float | None = None) -> None:
        wait([self.sentinel], timeout)
        with self._one_at_a_time:
            super().join(0)

    @property
    def exitcode(self) -> int | None:
        with self._one_at_a_time:
            code: int | None = super().exitcode
            return code


def staging_events(place: Place) -> list[str]:
    """The staging events of the last undisturbed step."""
    found: list[str] = json.loads((place.folder / "staging-events").read_text())
    return found


def _run(place: Place, name: str, ending: Ending) -> None:
    sys.stderr = (place.folder / "stderr").open("w")
    events = _watch_staging(place, ending.at_staging_event)
    if ending.at_file_size is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (ending.at_file_size, ending.at_file_size))
    if ending.on_full_disk is not None:  # Python ignores SIGXFSZ, so the write fails with EFBIG
        resource.setrlimit(resource.RLIMIT_FSIZE, (ending.on_full_disk, resource.RLIM_INFINITY))
    stopping = Stopping()
    signal.signal(signal.SIGTERM, lambda *_: stopping.stop())
    try:
        with stopping.working():
            Steps(place).run(name)
    except StoppedError:
        sys.exit(STOPPED)
    except StrongroomError:
        if ending.on_full_disk is not None:  # the error itself may be written
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        raise
    (place.folder / "staging-events").write_text(json.dumps(events))


def _watch_staging(place: Place, last: int | None) -> list[str]:
    root = str(place.settings.staging)
    events: list[str] = []
    lock = threading.Lock()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in _STAGING_EVENTS or not isinstance(arguments[0], (str, os.PathLike)):
            return
        path = os.fspath(arguments[0])
        inside = path.startswith(root)
        if event == "open":
            concerned = inside and (arguments[2] & _WRITING or Path(path).is_dir())  # a folder is opened to be synced
        else:
            concerned = inside or (event in _IN_FOLDERS and arguments[1] >= 0)  # rmtree names files by their folder
        if not concerned:
            return
        with lock:
            if len(events) == last:
                os.kill(os.getpid(), signal.SIGKILL)
            events.append(f"{event} {path.removeprefix(root)}")

    sys.addaudithook(hook)
    return events
