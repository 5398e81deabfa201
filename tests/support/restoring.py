"""The steps of a restore in order, without Airflow, for tests of the domain."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from strongroom.database.session import Connection
from strongroom.ledger.claims import KeepClaim, running_clock
from strongroom.ledger.manifest_record import Manifest
from strongroom.ledger.manifests import require_manifest
from strongroom.object_keys.archives import ArchiveId
from strongroom.restore.claims import release_claims, renew_claims
from strongroom.restore.lane import restore_lane
from strongroom.restore.load import restore_part
from strongroom.restore.plan import plan_restore
from strongroom.restore.records import RestoredPart, RestorePart, RestorePlan, RestoreReport, RestoreRequest
from strongroom.restore.report import report_restore
from strongroom.storage.staging import OF_RESTORES, Staging
from tests.support.chain import NOW, Chain

TTL = timedelta(hours=1)


def plan(chain: Chain, restore_id: str = "restore-1", *, now: datetime = NOW, **asked: Any) -> RestorePlan:
    """Plan a restore, by default of the chain's whole table."""
    if "archives" not in asked:
        asked.setdefault("table", chain.settings.qualified_name)
    request = RestoreRequest.model_validate({"who": "ada", "why": "a test", **asked})
    with chain.source() as connection:
        return plan_restore(
            connection, chain.store, request, restore_id=restore_id, owner=restore_id, claim_ttl=TTL, now=now
        )


def nothing(_: Connection) -> None:
    """The hook that does nothing."""


def load(
    chain: Chain,
    planned: RestorePlan,
    *,
    on_session: Callable[[Connection], None] = nothing,
    on_batch: Callable[[Connection], None] = nothing,
) -> list[RestoredPart]:
    """Load every part of a plan, each in its own session.

    Args:
        on_session: Called with each session before it is used.
        on_batch: Called in each transaction, before it changes a row.
    """
    owner, clock = planned.restore_id, running_clock(planned.planned_at)

    def restored(part: RestorePart) -> RestoredPart:
        keep_claim = renew_claims(chain.store, planned, part, owner=owner, clock=clock, ttl=TTL)
        with chain.source() as connection, staging_of(chain, planned, part) as staging:
            on_session(connection)

            def keep(connection: Connection = connection, keep_claim: KeepClaim = keep_claim) -> None:
                on_batch(connection)
                keep_claim()

            return restore_part(connection, chain.store, staging, planned, part, keep_claim=keep)

    return [result for lane in planned.lanes for result in restore_lane(lane, restored)]


def staging_of(chain: Chain, planned: RestorePlan, part: RestorePart) -> Staging:
    """The scratch space of one archive in a restore."""
    return chain.staging(OF_RESTORES, planned.restore_id, part.archive_id)


def restore(
    chain: Chain,
    restore_id: str = "restore-1",
    *,
    now: datetime = NOW,
    on_session: Callable[[Connection], None] = nothing,
    **asked: Any,
) -> RestoreReport:
    """Run all steps: locate, load and report."""
    planned = plan(chain, restore_id, now=now, **asked)
    parts = [] if planned.request.dry_run else load(chain, planned, on_session=on_session)
    with chain.source() as connection:
        report = report_restore(connection, chain.store, planned, parts, now=now)
    release_claims(chain.store, planned, owner=restore_id, now=now)
    return report


TEN_ROWS = """
CREATE TABLE audit (id bigint PRIMARY KEY, at timestamptz NOT NULL, who text, badge integer, weight float8);
INSERT INTO audit SELECT n, '2026-05-02', 'agent ' || n, n, 0.1 FROM generate_series(1, 10) AS n;
"""


def manifest_of(chain: Chain, sequence: int = 1) -> Manifest:
    return require_manifest(chain.store, ArchiveId("public", "audit", "2026-05", sequence))
