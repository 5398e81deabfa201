"""Step 6 of an erasure."""

from __future__ import annotations

from typing import Any

from strongroom.erasure.approve import read_answer, read_found
from strongroom.erasure.close import close_case
from strongroom_airflow.erasure.base import ErasureOperator
from strongroom_airflow.erasure.run import ErasureRun
from strongroom_airflow.step import conclude


class CloseCaseOperator(ErasureOperator):
    """Look again, require that nothing is left that could be erased, record how the case ended, and forget who the person is."""

    def step(self, run: ErasureRun) -> tuple[str, dict[str, Any], Any]:
        for of in run.stores:
            if run.case(of).closing is None:
                places, _ = of.find(run.case_id, application_name=run.application_name)
            else:
                places = []
            found_key, _ = read_found(of.store, run.case_id, run.identity)
            closing = close_case(
                of.store,
                of.purge_store,
                run.case_id,
                places,
                of.tables,
                run=run.identity,
                now=run.now(of.store),
                answer=read_answer(of.store, run.case_id, found_key),
            )
            for refusal in closing.refusals:
                self.log.info(f"Not erased: {refusal.name}, {refusal.why}")
            if closing.rights:
                self.log.info(closing.rights)
            for recipient in closing.recipients:
                self.log.info(f"To be told of the erasure (GDPR 19): {recipient}")
        sentence = f"case {run.case_id}: {closing.outcome}, {closing.erased_rows} rows"
        conclude(run.context, f"Case {run.case_id}: {closing.outcome}.")
        facts = {
            "case": run.case_id,
            "outcome": closing.outcome,
            "erased_rows": closing.erased_rows,
            "refusals": len(closing.refusals),
            "certificates": list(closing.certificates),
        }
        return sentence, facts, facts
