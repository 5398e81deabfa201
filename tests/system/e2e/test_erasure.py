"""Erasing a person in a whole stack: under the role that erases, with a second person's yes through Airflow's Required Actions."""

from __future__ import annotations

import json
import time
from datetime import datetime, timedelta, timezone
from urllib.parse import quote

from strongroom_local.servers.stack import Stack
from tests.system.helpers import Airflow, Books, Run, query, run_airflow, wait_for

DAG_ID, CASE = "subject_erasure", "DSR-2026-0001"
THEIRS, OTHERS = "+2349990000001", "+2349990000002"
SETTLING_SECONDS = 8
"""An answer that comes sooner after the task began to wait can fail the run under the LocalExecutor."""

ALERT = """
INSERT INTO acm_alerts (severity, rule_code, fraud_score, calling_number, called_number, subscriber_name, gateway_ip, calls_in_window)
VALUES ('low', 'R1', 1, %s, %s, 'Ada', '10.0.0.1', 1)
"""
CALL = """
INSERT INTO call_detail_records
    (call_start_time, duration_seconds, direction, calling_number, called_number, gateway_ip, codecs, charge, hangup_cause)
VALUES (now(), 1, 'on-net', %s, %s, '10.0.0.1', '{}', 0, 16)
"""


def waiting(airflow: Airflow) -> Run | None:
    """The run that waits for approval, if there is one."""
    for run in airflow.runs(DAG_ID):
        if any(task.task_id == "approve" and task.state == "awaiting_input" for task in airflow.tasks(run)):
            return run
    return None


def test_a_person_leaves_the_tables_that_may_be_erased_and_what_a_law_keeps_is_refused(
    stack: Stack, airflow: Airflow, tmp_path
):
    """The alert is about two numbers, so it is blanked. The call records must be kept."""
    source, identifiers = stack.source_conninfo(), tmp_path / "identifiers"
    identifiers.write_text(f"msisdn={THEIRS}\n")
    query(source, ALERT, THEIRS, OTHERS)
    query(source, CALL, THEIRS, OTHERS)
    yesterday = (datetime.now(timezone.utc) - timedelta(days=1)).date().isoformat()

    opened = run_airflow(
        stack,
        *("strongroom", "subject", "open", CASE, "--received", yesterday, "--identity-check", "passport seen"),
        *("--identifiers", str(identifiers), "--who", "clerk"),
    )
    airflow.pause(DAG_ID, paused=False)
    run_airflow(stack, "dags", "trigger", DAG_ID, "--conf", json.dumps({"case": CASE}))
    run = wait_for(lambda: waiting(airflow), "the erasure to ask for approval", seconds=180)
    path = f"/dags/{DAG_ID}/dagRuns/{quote(run.run_id, safe='')}/taskInstances/approve/-1/hitlDetails"
    asked = airflow.call("GET", path)
    time.sleep(SETTLING_SECONDS)
    airflow.call("PATCH", path, {"chosen_options": ["Approve"], "params_input": {}})
    ended = airflow.wait_for_run(DAG_ID, run.run_id, seconds=180)
    airflow.pause(DAG_ID)

    rows = query(
        source, "SELECT calling_number, called_number, subscriber_name FROM acm_alerts WHERE called_number = %s", OTHERS
    )
    kept = query(source, "DELETE FROM call_detail_records WHERE calling_number = %s RETURNING 1", THEIRS)
    query(source, "DELETE FROM acm_alerts WHERE called_number = %s", OTHERS)  # other tests count what the sample has

    assert opened.returncode == 0, opened.stderr
    assert ended.state == "success"
    assert "public.call_detail_records | 1 | 0 | refuse" in asked["body"]
    assert airflow.note(ended) == f"Case {CASE}: partly erased."
    assert rows == [("erased", OTHERS, None)]
    assert kept == [(1,)]
    closing = Books(stack).document(f"evidence/cases/{CASE}/closed.json")
    assert (closing["outcome"], closing["erased_rows"]) == ("partly erased", 1)
    assert "NCC 7-year audit trail" in closing["refusals"][0]["why"]
    assert not [key for key in Books(stack).objects("subjects/") if CASE in key]
    said = json.dumps([airflow.log(ended, task) for task in airflow.tasks(ended)])
    assert THEIRS not in said
