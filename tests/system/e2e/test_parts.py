"""How the scheduler starts the steps of an archive's parts."""

from __future__ import annotations

from datetime import datetime

import pytest

from tests.system.helpers import Books, query, wait_for
from tests.system.rehearsals import NARROW, create_table, dag_of, due_day, table_of


@pytest.mark.exhaustive
def test_a_part_begins_when_the_one_before_has_made_room(stack, airflow):
    """If only one part may be in progress at a time, each is extracted only after the previous one was read back."""
    query(stack.source_conninfo(), create_table(NARROW, due_day()))
    dag_id = dag_of(NARROW)
    airflow.pause(dag_id, paused=False)
    [run] = wait_for(lambda: airflow.runs(dag_id), f"the scheduler's run of {dag_id}")

    ended = airflow.wait_for_run(dag_id, run.run_id, seconds=240)

    assert ended.state == "success"
    assert [part["record_count"] for part in Books(stack).manifests(table_of(NARROW))[0]["parts"]] == [480, 480, 480]
    tasks = airflow.tasks(run)
    records = [
        [airflow.result(run, step, map_index=number) for step in ("part.extract_to_staging", "part.verify")]
        for number in range(3)
    ]
    instants = [
        datetime.fromisoformat(instant)
        for extracted, verified in records
        for instant in (extracted["extracted_at"], verified["verified_at"])
    ]
    assert instants == sorted(instants)
    assert {task.try_number for task in tasks} == {1}, "to wait is no failure"
