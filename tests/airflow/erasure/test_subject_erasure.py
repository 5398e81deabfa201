"""The commands `airflow strongroom subject` and the DAG subject_erasure, on a real store and database, under the role that erases."""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from strongroom.object_keys.archives import ArchiveId
from tests.support.chain import Chain
from tests.support.database import execute
from tests.support.erasing import ADA, BOB, CALLS, COLUMNS, eraser_role, person_settings
from tests.support.logs import KEY, SUBJECT_KEY, kinds_of

SECRET = hashlib.sha256(b"the key of records of persons").hexdigest()
CASE = "DSR-2026-0042"
FIRST, SECOND = (ArchiveId("public", "audit", "2026-05", sequence) for sequence in (1, 2))


@pytest.fixture
def chain(source, object_store, bucket, tmp_path, deployment, metadata) -> Iterator[Chain]:
    """Calls of one month, archived and deleted; Airflow finds them, the key and the role that erases."""
    execute(source, CALLS)
    chain = Chain(source, object_store.client("archiver"), person_settings(bucket, tmp_path / "staging"))
    chain.run()
    subjects = {"columns": COLUMNS, "obligation": False, "recipients": ["The billing partner"]}
    deployment.tables(audit={"date_column": "at", "subjects": subjects})
    deployment.store(object_store, bucket, purge="purger")
    deployment.log(KEY)
    deployment.connection("subjects", deployment.generic(SECRET))
    with eraser_role(source, "public.audit") as role:
        deployment.database(role, "erasure")
        yield chain


@pytest.fixture
def opened(chain, airflow, tmp_path) -> Chain:
    """Ada has asked."""
    identifiers = tmp_path / "identifiers"
    identifiers.write_text(f"# as she gave them\nmsisdn={ADA}\n")
    ended = airflow("strongroom", "subject", "open", CASE, *a_case(), "--identifiers", str(identifiers))
    assert ended.returncode == 0, ended.stderr
    assert "subject_erasure" in ended.stdout
    return chain


def a_case(asks: str = "erasure") -> list[str]:
    yesterday = (datetime.now(timezone.utc) - timedelta(days=1)).date().isoformat()
    return ["--asks", asks, "--received", yesterday, "--identity-check", "passport seen", "--who", "clerk"]


class Run:
    """One run of subject_erasure: its operators, with what Airflow gives them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self.pushed: dict[str, Any] = {}
        self.asked: dict[str, Any] = {}
        self.case = CASE

    @property
    def context(self) -> Any:
        run = SimpleNamespace(dag_id="subject_erasure", run_id="manual__case", triggering_user_name="dpo")
        ti = SimpleNamespace(task_id="t", xcom_push=lambda key, value: self.pushed.update({key: value}))
        return {"ti": ti, "dag_run": run, "params": {"case": self.case}}

    def find(self) -> dict[str, Any]:
        from strongroom_airflow.erasure.find import FindPersonOperator

        facts: dict[str, Any] = FindPersonOperator(task_id="find").execute(self.context)
        return facts

    def ask(self) -> Any:
        from airflow.providers.standard.operators import hitl
        from airflow.sdk.exceptions import TaskAwaitingInput

        from strongroom_airflow.erasure.approve import ErasureApproveOperator

        self._monkeypatch.setattr(hitl, "upsert_hitl_detail", lambda **asked: self.asked.update(asked))
        try:
            return ErasureApproveOperator(task_id="approve").execute(
                self.context | {"task_instance": SimpleNamespace(id="1")}
            )
        except TaskAwaitingInput:
            return None

    def answer(self, by: str, option: str = "Approve") -> Any:
        from strongroom_airflow.erasure.approve import ErasureApproveOperator

        event = {
            "chosen_options": [option],
            "params_input": {},
            "responded_at": datetime.now(timezone.utc),
            "responded_by_user": {"id": "7", "name": by},
        }
        return ErasureApproveOperator(task_id="approve").execute_complete(self.context, event)

    def erase(self) -> dict[str, Any]:
        from strongroom_airflow.erasure.erase import EraseOperator

        facts: dict[str, Any] = EraseOperator(task_id="erase").execute(self.context)
        return facts

    def cool_off(self) -> Any:
        from airflow.sdk.exceptions import TaskDeferred

        from strongroom_airflow.erasure.cool_off import CoolOffOperator

        try:
            return CoolOffOperator(task_id="cool_off").execute(self.context)
        except TaskDeferred as deferred:
            return deferred.trigger

    def later(self) -> None:
        """The cooling-off is over."""
        from strongroom_airflow.task_run import RunOfAllTables

        at = datetime.now(timezone.utc) + timedelta(days=8)
        self._monkeypatch.setattr(RunOfAllTables, "now", lambda *_: at)

    def remove(self) -> dict[str, Any]:
        from strongroom_airflow.erasure.remove import RemoveSupersededOperator

        facts: dict[str, Any] = RemoveSupersededOperator(task_id="remove").execute(self.context)
        return facts

    def close(self) -> dict[str, Any]:
        from strongroom_airflow.erasure.close import CloseCaseOperator

        facts: dict[str, Any] = CloseCaseOperator(task_id="close").execute(self.context)
        return facts


@pytest.fixture
def run(opened, monkeypatch) -> Run:
    return Run(monkeypatch)


def test_a_person_is_erased_and_nothing_that_airflow_keeps_names_them(run, opened, caplog):
    execute(opened.conninfo, f"INSERT INTO audit (at, caller) VALUES ('2026-11-01', '{ADA}'), ('2026-11-01', '{BOB}')")

    found, waiting = run.find(), run.ask()
    answered, erased = run.answer("boss"), run.erase()
    trigger = run.cool_off()
    run.later()
    removed, closed = run.remove(), run.close()

    assert (found["rows"], found["to_erase"], waiting) == (15, 2, None)
    assert "| public.audit.2026-05.0001 | 14 |" in run.asked["body"]
    assert "clerk and dpo recorded the case or started this run" in run.asked["body"]
    assert answered == {"approved": True, "by": "boss"}
    assert (erased["removed_rows"], erased["archives"]) == (15, [str(SECOND)])
    assert timedelta(days=6) < trigger.moment - datetime.now(timezone.utc) < timedelta(days=8)
    assert removed["certificates"] == [FIRST.destruction_key]
    assert (closed["outcome"], closed["erased_rows"], closed["refusals"]) == ("erased", 15, 0)
    with psycopg.connect(opened.conninfo) as connection:
        assert connection.execute("SELECT caller FROM audit").fetchall() == [(BOB,)]
    kept = json.dumps([found, answered, erased, removed, closed, run.pushed, str(run.asked)], default=str)
    assert ADA not in kept + caplog.text
    assert kinds_of(opened.store)[-1] == "case closed"


def test_who_recorded_the_case_cannot_approve_it(run):
    run.find()
    run.ask()

    answered = run.answer("clerk")

    assert answered["approved"] is False
    with pytest.raises(Exception, match="another person must approve"):
        run.erase()


def test_a_persons_no_ends_the_case_with_the_reason_and_erases_nothing(run, opened):
    run.find()
    run.ask()
    run.answer("boss", "Reject")

    erased, waited, removed, closed = run.erase(), run.cool_off(), run.remove(), run.close()

    assert (erased["removed_rows"], waited, removed["certificates"]) == (0, None, [])
    assert (closed["outcome"], closed["refusals"]) == ("refused", 1)
    kept = json.loads(opened.store.read(f"evidence/cases/{CASE}/closed.json")[0])
    assert kept["refusals"][0]["why"].startswith("boss refused it")
    assert "complaint" in kept["rights"]


def test_what_is_held_is_written_for_the_person_alone(chain, airflow, tmp_path):
    identifiers, report = tmp_path / "identifiers", tmp_path / "report.json"
    identifiers.write_text(f"msisdn={ADA}\n")
    airflow("strongroom", "subject", "open", CASE, *a_case("access"), "--identifiers", str(identifiers))

    ended = airflow("strongroom", "subject", "report", CASE, "--output", str(report), "--close", "--who", "clerk")
    again = airflow("strongroom", "subject", "report", CASE, "--output", str(report))

    assert ended.returncode == 0, ended.stderr
    told = json.loads(report.read_text())
    [place] = told["places"]
    assert (place["place"], len(place["rows"]), place["rows"][0]["caller"]) == (str(FIRST), 14, ADA)
    assert (place["legal_basis"], place["recipients"]) == ("a test", ["The billing partner"])
    assert stat.S_IMODE(report.stat().st_mode) == 0o600
    assert ADA not in ended.stdout
    assert kinds_of(chain.store)[-2:] == ["case answered", "case closed"]
    assert (again.returncode, "nobody knows any more" in again.stderr) == (1, True)


def test_the_clock_of_a_case_is_seen_and_can_be_extended_once(opened, airflow):
    listed = airflow("strongroom", "subject", "list")
    extended = airflow("strongroom", "subject", "extend", CASE, "--why", "many archives", "--who", "clerk")
    again = airflow("strongroom", "subject", "extend", CASE, "--why", "many archives")

    assert (listed.returncode, CASE in listed.stdout, "days left" in listed.stdout) == (0, True, True)
    assert extended.returncode == 0, extended.stderr
    assert (again.returncode, "cannot be extended" in again.stderr) == (1, True)


def test_a_case_that_makes_no_sense_is_not_recorded(chain, airflow, tmp_path):
    identifiers = tmp_path / "identifiers"
    for case, text, found in (
        ("+234800007", "msisdn=+1", "cannot name a case"),
        (CASE, "msisdn", "line 1 of the identifiers has another form"),
        (CASE, "", "there are no identifiers"),
        (CASE, "imei=1", "no table has columns of the class imei"),
    ):
        identifiers.write_text(text)

        ended = airflow("strongroom", "subject", "open", case, *a_case(), "--identifiers", str(identifiers))

        assert (ended.returncode, found in ended.stderr) == (1, True), ended.stderr
        assert "HINT:" in ended.stderr
    assert "case opened" not in kinds_of(chain.store)


def test_the_key_is_shown_once_and_has_the_form_that_is_asked_for(metadata, airflow):
    from strongroom.formats.persons import SubjectKey

    ended = airflow("strongroom", "subject", "key", "--json")

    assert SubjectKey(json.loads(ended.stdout)["key"]).key_id != SUBJECT_KEY.key_id


def test_a_case_of_access_is_not_erased(run, airflow, tmp_path):
    identifiers = tmp_path / "identifiers"
    identifiers.write_text(f"msisdn={ADA}\n")
    airflow("strongroom", "subject", "open", "DSR-2", *a_case("access"), "--identifiers", str(identifiers))
    run.case = "DSR-2"

    with pytest.raises(Exception, match="asks for access, not for erasure"):
        run.find()
