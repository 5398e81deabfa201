"""Step 2 of an erasure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator, HITLOperator
from airflow.sdk import Context

from strongroom.erasure.approve import keep_answer, read_found
from strongroom.erasure.find import Place
from strongroom.retention.certificate import NOBODY
from strongroom_airflow.erasure.run import ErasureRun
from strongroom_airflow.step import translated_errors

_LISTED = 100


class ErasureApproveOperator(ApprovalOperator):
    """Ask a second person, under Airflow's Required Actions, whether what was found may be erased.

    Nobody is asked where nothing may be erased. Who recorded the case and who started the run cannot approve. No answer in time is a no.
    """

    template_fields: Sequence[str] = ("subject", "body")
    ui_color = "#f6e3e0"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(subject="Erase a person?", defaults=self.REJECT, **kwargs)

    def execute(self, context: Context) -> Any:
        run = ErasureRun(context)
        with translated_errors(context):
            founds = [read_found(of.store, run.case_id, run.identity)[1] for of in run.stores]
            barred = sorted(self._barred(run))
        places = [place for found in founds for place in found.places]
        if not any(place.fate in ("erase", "wait") for place in places):
            self.log.info("Nothing may be erased, so nobody is asked")
            return {"approved": False, "by": NOBODY}
        self.subject = f"Erase the person of case {run.case_id}, for good?"
        self.body = _describe(places, barred)
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        answer = HITLOperator.execute_complete(self, context, event)
        user = answer["responded_by_user"]
        by, run = NOBODY if user is None else str(user["name"]), ErasureRun(context)
        approved = answer["chosen_options"] == [self.APPROVE]
        with translated_errors(context):
            for of in run.stores:
                key, _ = read_found(of.store, run.case_id, run.identity)
                kept = keep_answer(
                    of.store,
                    run.case_id,
                    key,
                    approved=approved,
                    by=by,
                    at=answer["responded_at"],
                    not_by=frozenset(self._barred(run)),
                )
        if kept.objection:
            self.log.warning(kept.objection)
        self.log.info("Approved" if kept.approved else "Refused", by=by)
        return {"approved": kept.approved, "by": by}

    @staticmethod
    def _barred(run: ErasureRun) -> set[str]:
        """Who may not approve."""
        clerks = {run.case(of).case.recorded_by for of in run.stores}
        return clerks | ({run.identity.triggered_by} if run.identity.triggered_by else set())


def _describe(places: Sequence[Place], barred: Sequence[str]) -> str:
    """What was found, as Markdown, for the page of the required action."""
    lines = [
        f"{' and '.join(barred)} recorded the case or started this run, so another person must approve.",
        "",
        "Rows are removed for good. An archive gets a successor without them and is destroyed when its cooling-off is over.",
        "",
        "| place | rows | about two persons | what becomes of them |",
        "|---|--:|--:|---|",
    ]
    for place in places[:_LISTED]:
        why = place.why.replace("|", "\\|")
        lines.append(f"| {place.name} | {place.rows:,} | {place.about_two:,} | {place.fate}: {why} |")
    if len(places) > _LISTED:
        lines.append(f"\nand {len(places) - _LISTED} more; the log of `find` lists all of them.")
    return "\n".join(lines)
