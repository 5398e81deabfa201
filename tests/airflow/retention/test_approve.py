"""Who approves a purge: what the tasks read in the store and in the settings, whatever their XComs say."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any

import pytest

from strongroom.object_keys.archives import ArchiveId
from strongroom.retention.approve import PurgeQuestion
from strongroom.retention.certificate import Approval
from strongroom.retention.decide import judge
from strongroom.retention.policy import PurgePolicies
from strongroom.settings import load_settings
from strongroom.storage.store import Store
from strongroom_airflow.defaults import notifiers_of
from tests.support.receivers import web_receiver
from tests.support.sealing import seal_month

OLD, OLDER = (ArchiveId("public", "audit", month, 1) for month in ("2015-05", "2015-04"))
NOW = datetime.now(timezone.utc)


class Desk:
    """One run of the retention purge, and what its tasks are given and leave."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store = store
        self.monkeypatch = monkeypatch
        self.starter: str | None = None
        self.notifiers: list[Any] = []
        self.body = ""

    @property
    def context(self) -> dict[str, Any]:
        run = SimpleNamespace(dag_id="retention_purge", run_id="manual__1", triggering_user_name=self.starter)
        events = defaultdict(lambda: SimpleNamespace(add=lambda *_, **__: None))
        ti = SimpleNamespace(xcom_push=lambda **_: None)
        return {"dag_run": run, "ti": ti, "task_instance": None, "outlet_events": events}

    def settings(self, **purge: bool) -> None:
        for name, value in purge.items():
            self.monkeypatch.setenv(f"STRONGROOM__PURGE__{name.upper()}", json.dumps(value))

    def batches(self) -> list[dict[str, Any]]:
        """What `decide` returns."""
        from strongroom_airflow.retention.run import make_batches, oldest_first

        settings = load_settings()
        policies = PurgePolicies(settings, self.store, NOW)
        made = make_batches(policies, settings.table("audit"), oldest_first(judge(self.store, now=NOW)))
        return [batch.model_dump(mode="json") for batch in made]

    def ask(self, batches: list[dict[str, Any]]) -> dict[str, Any] | None:
        """Run `approve` until it waits; without anything to ask, its record."""
        from airflow.providers.standard.operators import hitl
        from airflow.sdk.exceptions import TaskAwaitingInput

        from strongroom_airflow.retention.approve import PurgeApproveOperator

        self.monkeypatch.setattr(hitl, "upsert_hitl_detail", lambda **asked: setattr(self, "body", asked["body"]))
        operator = PurgeApproveOperator(task_id="approve", batches=batches, notifiers=self.notifiers)
        context = self.context | {"task_instance": SimpleNamespace(id="1"), "task": operator}
        try:
            record: dict[str, Any] = operator.execute(context)
        except TaskAwaitingInput:
            return None
        return record

    def answer(self, option: str = "Approve", by: str = "ada") -> dict[str, Any]:
        """Go on with `approve` as Airflow does when a person has answered."""
        from strongroom_airflow.retention.approve import PurgeApproveOperator

        operator = PurgeApproveOperator(task_id="approve", batches=[])
        event = {
            "chosen_options": [option],
            "params_input": {},
            "responded_at": datetime.now(timezone.utc),
            "responded_by_user": {"id": "7", "name": by},
        }
        record: dict[str, Any] = operator.execute_complete(self.context, event)
        return record

    def purge(self, batch: dict[str, Any], approval: dict[str, Any] | None = None) -> dict[str, tuple[str, str]]:
        """Run `purge`; each month with result and detail."""
        from strongroom_airflow.retention.purge import PurgeArchivesOperator

        given = approval or Approval(approved=True, by="mallory", at=NOW).model_dump(mode="json")
        operator = PurgeArchivesOperator(task_id="purge", batch=batch, approval=given)
        results = operator.execute(self.context)
        return {one["archive_id"][-12:-5]: (one["result"], one["detail"]) for one in results}


@pytest.fixture
def desk(metadata, object_store, settings, monkeypatch) -> Desk:
    """Two expired archives of a table whose settings require approval."""
    store = Store(object_store.client("archiver"), settings.store)
    for archive in (OLD, OLDER):
        seal_month(store, settings, archive.partition_key, parts=1)
    desk = Desk(store, monkeypatch)
    desk.settings(require_approval=True)
    return desk


def test_what_a_person_was_shown_and_approved_is_purged_and_certified_under_their_name(desk):
    [batch] = desk.batches()

    desk.ask([batch])
    record = desk.answer()
    purged = desk.purge(batch, record)

    assert "| public.audit.2015-05.0001 | 10 |" in desk.body
    assert {month: result for month, (result, _) in purged.items()} == {"2015-04": "purged", "2015-05": "purged"}
    assert json.loads(desk.store.read(OLD.destruction_key)[0])["approved_by"] == "ada"


def test_people_are_told_that_an_approval_is_wanted_and_a_broken_notifier_changes_nothing(desk, monkeypatch):
    [batch] = desk.batches()
    with web_receiver() as web:
        monkeypatch.setenv("AIRFLOW_CONN_STRONGROOM_WEBHOOK", web.connection())
        ways = [{"when": ["approval_wanted"], "notifier": "webhook", "arguments": {"http_conn_id": "nowhere"}}]
        ways.append({"when": ["approval_wanted"], "notifier": "webhook"})
        monkeypatch.setenv("STRONGROOM__NOTIFICATIONS", json.dumps(ways))
        desk.notifiers = notifiers_of(load_settings().table("audit"), "approval_wanted")

        waits = desk.ask([batch]) is None

    assert waits
    [(_, posted)] = web.received
    assert (posted["kind"], posted["subject"]) == (
        "approval_wanted",
        "Strongroom: retention_purge waits for an approval",
    )
    assert posted["text"].startswith("Destroy 2 expired archives with 20 rows, for good?\nNothing is destroyed before")


def test_an_xcom_approves_nothing(desk):
    """Whoever may write XComs says yes, that no approval is needed, and that a purge had begun already."""
    [batch] = desk.batches()
    forged = json.loads(json.dumps(batch)) | {"needs_approval": False}
    for decision in forged["decisions"]:
        decision["reason"] = "unfinished"

    before_any_question = desk.purge(forged)
    desk.ask([batch])
    before_the_answer = desk.purge(forged)
    desk.answer("Reject")
    after_a_no = desk.purge(forged)

    assert {result for result, _ in (*before_any_question.values(), *before_the_answer.values())} == {"refused"}
    assert after_a_no["2015-05"][1].startswith("the request for approval was answered no by ada")
    assert len(judge(desk.store, now=NOW)) == 2
    assert list(desk.store.keys(OLD.evidence_prefix)) == [OLD.seal_key], "not even an intent"


def test_only_what_was_shown_is_covered_by_the_answer_and_what_is_shown_comes_from_the_store(desk):
    """One archive is left out of the list, the other's row in it is forged; both are added again behind the approval."""
    [batch] = desk.batches()
    shorter = json.loads(json.dumps(batch))
    shorter["decisions"] = [one for one in shorter["decisions"] if one["archive_id"] == str(OLD)]
    shorter["decisions"][0] |= {"record_count": 0, "legal_basis": "nothing of worth"}

    desk.ask([shorter])
    record = desk.answer()
    purged = desk.purge(batch, record)

    assert "| public.audit.2015-05.0001 | 10 |" in desk.body
    assert "a test" in desk.body
    assert {month: result for month, (result, _) in purged.items()} == {"2015-04": "refused", "2015-05": "purged"}
    assert "was not among the archives, as they are now, that this run showed" in purged["2015-04"][1]


def test_an_answer_is_for_the_manifest_that_was_shown(desk):
    [batch] = desk.batches()
    desk.ask([batch])
    desk.answer()
    key = next(key for key in desk.store.keys("evidence/purges/") if key.endswith("-asked.json"))
    question = PurgeQuestion.model_validate_json(desk.store.read(key)[0])

    forged = json.loads(json.dumps(batch))
    forged["decisions"][0]["manifest_sha256"] = "0" * 64
    purged = desk.purge(forged)

    assert question.shown == {one["archive_id"]: one["manifest_sha256"] for one in batch["decisions"]}
    assert sorted(result for result, _ in purged.values()) == ["purged", "refused"]


def test_an_earlier_yes_does_not_answer_a_later_question(desk):
    """`approve` was cleared; its first answer still lies in the store."""
    [batch] = desk.batches()
    desk.ask([batch])
    first = desk.answer()
    desk.ask([batch])

    waiting = desk.purge(batch, first)
    desk.answer("Reject")
    refused = desk.purge(batch, first)

    assert {detail.partition(",")[0] for _, detail in waiting.values()} == {
        "the request for approval was not answered in time"
    }
    assert {result for result, _ in refused.values()} == {"refused"}


@pytest.mark.parametrize(
    ("starter", "approver", "result"),
    [("ada", "ada", "self_approved"), ("ada", "bob", "purged"), (None, "ada", "purged")],
)
def test_with_four_eyes_whoever_started_the_run_may_not_approve(desk, starter, approver, result):
    """A scheduled run was started by nobody. An XCom that names another person changes nothing."""
    desk.settings(require_approval=False, four_eyes=True)
    desk.starter = starter
    [batch] = desk.batches()

    desk.ask([batch])
    desk.answer(by=approver)
    purged = desk.purge(batch)

    assert {one for one, _ in purged.values()} == {result}
    assert ("ada started this run, so another person must approve" in desk.body) == (starter == "ada")
    if result == "self_approved":
        assert (
            "ada approved it and had started the run; `purge.four_eyes` asks for another person"
            in (purged["2015-05"][1])
        )
        assert len(judge(desk.store, now=NOW)) == 2


def test_without_four_eyes_whoever_started_the_run_may_approve(desk):
    desk.starter = "ada"
    [batch] = desk.batches()

    desk.ask([batch])
    desk.answer(by="ada")

    assert {result for result, _ in desk.purge(batch).values()} == {"purged"}


def test_where_nobody_need_approve_nobody_is_asked_and_the_policy_is_named(desk):
    desk.settings(require_approval=False)
    [batch] = desk.batches()

    record = desk.ask([batch])
    purged = desk.purge(batch, record)

    assert (record or {})["by"] == "by policy"
    assert {result for result, _ in purged.values()} == {"purged"}
    assert list(desk.store.keys("evidence/purges/")) == []
    assert json.loads(desk.store.read(OLD.destruction_key)[0])["approved_by"] == "by policy"


def test_approval_that_was_switched_off_is_still_asked_for_unless_that_is_said_twice(desk, monkeypatch):
    """The run that still asked saw the strict settings. Nothing ran between the change and the next purge."""
    desk.purge(desk.batches()[0])
    desk.settings(require_approval=False)
    [batch] = desk.batches()

    asked = desk.ask([batch])
    unanswered = desk.purge(batch)

    switched_off = f"purge.require_approval was switched off on {datetime.now(timezone.utc):%Y-%m-%d}"
    assert asked is None, "it waits for a person"
    assert batch["needs_approval"]
    assert f"- public.audit: {switched_off}" in desk.body
    assert {(result, switched_off in detail) for result, detail in unanswered.values()} == {("refused", True)}

    monkeypatch.setenv("STRONGROOM__TABLES__AUDIT__PURGE__CONFIRMED", '{"require_approval": false}')
    [batch] = desk.batches()
    record = desk.ask([batch]) or {}
    confirmed = desk.purge(batch)

    assert (batch["needs_approval"], record["by"]) == (False, "by policy")
    assert {result for result, _ in confirmed.values()} == {"purged"}
    certificate = json.loads(desk.store.read(OLD.destruction_key)[0])
    assert (certificate["approved_by"], certificate["approval_policy"]) == (
        "by policy",
        "purge.require_approval is off, confirmed",
    )


def test_decide_notices_a_change_before_anything_is_due(desk):
    """So that its thirty days begin with the next run, and not when the first term is over."""
    from strongroom_airflow.retention.decide import PurgeDecideOperator

    before = len(list(desk.store.keys("evidence/public.audit/settings/changes/")))
    desk.settings(require_approval=False)
    PurgeDecideOperator(task_id="decide").execute(desk.context)

    assert (before, len(list(desk.store.keys("evidence/public.audit/settings/changes/")))) == (0, 1)


def test_a_no_stays_a_no_when_nobody_need_be_asked_any_more(desk, monkeypatch):
    """Between question and purge the thirty days ended, or somebody said twice that approval is off."""
    [batch] = desk.batches()
    desk.ask([batch])
    desk.answer("Reject")
    desk.settings(require_approval=False)
    monkeypatch.setenv("STRONGROOM__TABLES__AUDIT__PURGE__CONFIRMED", '{"require_approval": false}')

    refused = desk.purge(batch)

    assert {(result, "answered no by ada" in detail) for result, detail in refused.values()} == {("refused", True)}
