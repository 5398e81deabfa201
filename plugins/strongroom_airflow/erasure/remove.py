"""Step 5 of an erasure."""

from __future__ import annotations

from typing import Any

from strongroom.erasure.remove import left_to_remove, remove_superseded
from strongroom.errors import ErasureError
from strongroom.object_keys.archives import ArchiveId
from strongroom.retention.certificate import Issuer
from strongroom.retention.purge import PurgeResult
from strongroom_airflow.connections import connect_second
from strongroom_airflow.erasure.base import ErasureOperator
from strongroom_airflow.erasure.run import ErasureRun, StoreOfPersons


class RemoveSupersededOperator(ErasureOperator):
    """Destroy the archives that were superseded, with a certificate for each. Fails while a hold or a lock keeps one."""

    def step(self, run: ErasureRun) -> tuple[str, dict[str, Any], Any]:
        results = [result for of in run.stores for result in self._remove(run, of)]
        for result in results:
            self.log.info(f"{result.archive_id}: {result.result}, {result.detail}")
        if kept := [result for result in results if result.result != "purged"]:
            raise ErasureError(
                f"{len(kept)} of {len(results)} superseded archives are still there",
                found="; ".join(f"{one.archive_id}: {one.detail}" for one in kept[:5]),
                hint="They have rows of the person. Clear this task when that has ended; the case stays open until then.",
            )
        facts = {"case": run.case_id, "certificates": [result.certificate_key for result in results]}
        return f"case {run.case_id}: destroyed {len(results)} superseded archives", facts, facts

    @staticmethod
    def _remove(run: ErasureRun, of: StoreOfPersons) -> list[PurgeResult]:
        results = []
        for succession in left_to_remove(of.store, run.case_id):
            archive = ArchiveId.parse(succession.supersedes)
            table = run.settings.table(f"{archive.schema_name}.{archive.table_name}")
            issuer = Issuer(organisation=table.organisation, environment=table.environment)
            result = remove_superseded(
                of.store,
                of.purge_store,
                table,
                succession,
                run=run.identity,
                now=run.now(of.store),
                issuer=issuer,
                second=connect_second(table, of.store),
            )
            results.append(result)
        return results
