"""The only step of the DAG legal_hold."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from airflow.sdk import Context

from strongroom.ledger.claims import shared_clock
from strongroom.ledger.holds import EVERYTHING, Hold, HoldError, make_hold_id, place_hold
from strongroom.records import name_both
from strongroom.retention.certificate import begun_purges
from strongroom.settings import Settings, load_settings
from strongroom_airflow.holds.stores import find_what_to_hold, left_out_of_hold, release_everywhere
from strongroom_airflow.identity import identity_of
from strongroom_airflow.links import PageLink, page_of_hold
from strongroom_airflow.step import StepOperator, conclude

HOLDS_XCOM = "holds"
"""XCom key of the holds, one for each store."""


class HoldOperator(StepOperator):
    """Place or release a legal hold, as the run's parameters say. Returns the id of the hold.

    The id of a hold is made from the run, so a retry or a clear finds the hold again and places no second one. A hold that was
    released since stays released.
    """

    ui_color = "#f3ece6"
    operator_extra_links = (PageLink(),)

    def step(self, run: Context) -> tuple[str, dict[str, Any], Any]:
        params = {name: str(value or "").strip() for name, value in run["params"].items()}
        identity = identity_of(run)
        who = name_both(params["who"] or identity.triggered_by or "unknown", identity.triggered_by)
        settings = load_settings()
        if params["action"] == "release":
            sentence, holds = self._release(settings, params, who)
        else:
            # `run_after` is fixed when the run is made, and stays when it is cleared.
            sentence, holds = self._place(settings, params, who, make_hold_id(run["dag_run"].run_after, str(identity)))
        first = holds[0]
        self.page = page_of_hold(first.what)
        conclude(run, f"{sentence}.")
        run["ti"].xcom_push(key=HOLDS_XCOM, value=[hold.model_dump(mode="json") for hold in holds])
        if (
            params["action"] == "place"
            and first.what == EVERYTHING
            and (fault := left_out_of_hold(settings)) is not None
        ):
            raise fault
        return sentence, first.model_dump(mode="json"), first.hold_id

    def _place(self, settings: Settings, params: dict[str, str], who: str, hold_id: str) -> tuple[str, list[Hold]]:
        if not params["what"]:
            raise HoldError(
                "the run does not say what to hold",
                expected="a table in archive.yaml, an archive id, the beginning of one, or * for everything",
                hint="No hold was placed. Trigger the DAG again and fill in What.",
            )
        what, stores = find_what_to_hold(settings, params["what"])
        holds = []
        for store in stores:
            hold = place_hold(
                store,
                what,
                why=params["why"],
                who=who,
                reference=params["reference"],
                now=shared_clock(store, datetime.now(timezone.utc))(),
                hold_id=hold_id,
            )
            holds.append(hold)
            self.log.info(f"In {store}: {_state(hold)}")
            for archive in begun_purges(store, hold):
                self.log.warning(
                    f"A purge of {archive} is under way and stops at the next object. `airflow strongroom verify {archive}` "
                    "shows what is left."
                )
        since = f"; {_state(holds[0])}" if holds[0].released_at else ""
        return f"Placed {holds[0]}{since}", holds

    def _release(self, settings: Settings, params: dict[str, str], who: str) -> tuple[str, list[Hold]]:
        if not params["hold_id"]:
            raise HoldError(
                "the run does not say which hold to release",
                hint="Nothing was released. Trigger the DAG again and fill in Hold; `airflow strongroom hold list` prints the ids.",
            )
        released = release_everywhere(
            settings, params["hold_id"], who=who, reason=params["why"], now=datetime.now(timezone.utc)
        )
        for hold in released:
            self.log.info(f"{hold.subject}: {_state(hold)}")
        if released[0].what == EVERYTHING:
            self.log.info("Clear the tasks that the hold stopped.")
        first = released[0]
        return f"Released hold {first.hold_id} on {first.subject}: {_state(first)}, {first.release_reason}", released


def _state(hold: Hold) -> str:
    if hold.released_at is None:
        return f"in force since {hold.placed_at:%Y-%m-%d %H:%M} UTC"
    return f"released at {hold.released_at:%Y-%m-%d %H:%M} UTC by {hold.released_by}"
