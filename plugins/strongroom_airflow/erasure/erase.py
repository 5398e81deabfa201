"""Step 3 of an erasure."""

from __future__ import annotations

from functools import partial
from typing import Any

from strongroom.erasure.approve import read_answer, read_found, require_approved
from strongroom.erasure.erase import Erased, Erasing, intend
from strongroom.erasure.successions import SuccessionRecord
from strongroom_airflow.erasure.base import ErasureOperator
from strongroom_airflow.erasure.run import ErasureRun, StoreOfPersons, session, working_folder


class EraseOperator(ErasureOperator):
    """Erase what was approved: rows leave tables, and archives get successors without them, proved row by row.

    Does nothing where nothing may be erased. A repeat continues.
    """

    def step(self, run: ErasureRun) -> tuple[str, dict[str, Any], Any]:
        erased: list[Erased] = []
        superseded: list[SuccessionRecord] = []
        for of in run.stores:
            for rows, archives in self._erase(run, of):
                erased += rows
                superseded += archives
        for one in erased:
            self.log.info(f"{one.name}: deleted {one.removed_rows} rows, blanked {one.blanked_rows}")
        for each in superseded:
            sentence = f"{each.archive_id} supersedes {each.supersedes}: {each.removed_rows} rows removed, {each.blanked_rows} blanked"
            self.log.info(f"{sentence}; every other row was compared")
        removed = sum(one.removed_rows for one in (*erased, *superseded))
        facts = {
            "case": run.case_id,
            "removed_rows": removed,
            "blanked_rows": sum(one.blanked_rows for one in (*erased, *superseded)),
            "tables": len(erased),
            "archives": [each.archive_id for each in superseded],
        }
        return f"case {run.case_id}: removed {removed} rows", facts, facts

    def _erase(self, run: ErasureRun, of: StoreOfPersons) -> list[tuple[list[Erased], list[SuccessionRecord]]]:
        key, found = read_found(of.store, run.case_id, run.identity)
        if not found.of("erase", "wait"):
            return []
        said = read_answer(of.store, run.case_id, key)
        if said is not None and said.refused:
            self.log.info(f"{said.by} refused it, so nothing is erased")
            return []
        answer = require_approved(of.store, run.case_id, key)
        intent = intend(
            of.store,
            run.case_id,
            key,
            found_at=found.found_at,
            approved_by=answer.by,
            run=run.identity,
            now=run.now(of.store),
        )
        wanted = of.wanted(run.case_id)
        results = []
        for table in of.tables:
            erasing = Erasing(
                of.store,
                partial(run.staging, table),
                wanted,
                intent,
                run=run.identity,
                clock=partial(run.now, of.store),
            )
            with session(table, run.application_name) as connection:
                results.append(erasing.erase(connection, table, folder=working_folder(table)))
        return results
