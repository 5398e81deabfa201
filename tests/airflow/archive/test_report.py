"""What the end of an archive run leaves in Airflow: the outcome in one line, and an asset event with its figures."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import psycopg
from airflow.sdk import Asset

from strongroom.ledger.manifests import require_attested
from strongroom.object_keys.archives import ArchiveId
from strongroom_airflow.step import OUTCOME_XCOM
from tests.support.operating import context_of

ASSET = Asset("archive of public.audit")


class Run:
    """One run of the partition, with what its tasks left in XCom."""

    def __init__(self) -> None:
        self.pushed: dict[str, Any] = {}
        self.context = context_of("archive__audit", "2026-05")
        self.context["ti"].xcom_push = lambda key, value: self.pushed.update({key: value})
        self.context["ti"].xcom_pull = lambda task_ids, key: {("seal", key): self.pushed.get(key)}[task_ids, key]
        self.context["outlet_events"] = defaultdict(lambda: SimpleNamespace(extra=None))

    def of(self, chain) -> None:
        """Plan, seal, delete and report."""
        from strongroom_airflow.archive.delete import DeleteOperator
        from strongroom_airflow.archive.report import ReportOperator
        from strongroom_airflow.archive.seal import SealOperator

        plan = chain.plan()
        planned, parts, deleted = plan.model_dump(mode="json"), None, None
        if plan.archive_id is not None:
            verified = [part.model_dump(mode="json") for part in chain.seal(plan).parts]
            parts = SealOperator(task_id="seal", table="audit", plan=planned, parts=verified).execute(self.context)
            deletes = (DeleteOperator(task_id="delete", table="audit", part=part) for part in parts)
            deleted = [delete.execute(self.context) for delete in deletes]
        ReportOperator(
            task_id="report", table="audit", plan=planned, parts=parts, deleted=deleted, sealed_by="seal", asset=ASSET
        ).execute(self.context)

    @property
    def event(self) -> dict[str, Any]:
        return self.context["outlet_events"][ASSET].extra


def test_the_event_of_a_run_carries_rows_bytes_sums_and_the_window(metadata, chain):
    """Enough to see in Airflow what a run did, and to find the manifest that proves it."""
    with psycopg.connect(chain.conninfo, autocommit=True) as connection:
        before = connection.execute("SELECT count(*) FROM audit WHERE at < '2026-06-01+00'").fetchone()
    run = Run()

    run.of(chain)

    archive = ArchiveId.parse(run.event["archive_id"])
    manifest = require_attested(chain.store, archive).manifest
    assert before == (23,)
    assert {name: run.event[name] for name in ("event", "outcome", "table", "partition_key")} == {
        "event": "archived",
        "outcome": "archived",
        "table": "public.audit",
        "partition_key": "2026-05",
    }
    assert (run.event["record_count"], run.event["deleted_rows"], run.event["changed_rows"]) == (23, 23, 0)
    assert (run.event["original_size_bytes"], run.event["compressed_size_bytes"]) == (
        manifest.original_size,
        manifest.compressed_size,
    )
    assert run.event["ratio"] == round(manifest.original_size / manifest.compressed_size, 2)
    assert (run.event["start_at"], run.event["end_at"]) == ("2026-05-01T00:00:00Z", "2026-06-01T00:00:00Z")
    assert run.event["sha256"] == [part.sha256 for part in manifest.parts]
    assert run.event["manifest_sha256"] == sum_of(chain, archive)
    assert run.pushed[OUTCOME_XCOM] == f"2026-05: archived 23 rows as {archive}, deleted 23."


def sum_of(chain, archive: ArchiveId) -> str:
    from hashlib import sha256

    return sha256(chain.store.read(archive.manifest_key)[0]).hexdigest()


def test_a_run_without_a_row_to_archive_says_so(metadata, chain):
    Run().of(chain)
    again = Run()

    again.of(chain)

    assert (again.event["event"], again.event["archive_id"], again.event["manifest_sha256"]) == (
        "nothing_due",
        None,
        None,
    )
    assert again.pushed == {OUTCOME_XCOM: "2026-05: nothing to archive."}
