"""A `delete` or `report` that is cleared after it succeeded: what the log and XCom say about it."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import psycopg
from airflow.sdk import Asset
from structlog.testing import capture_logs

from strongroom.records import DeletedPart
from tests.support.operating import context_of


def test_a_delete_that_is_cleared_alone_says_who_deleted_before_and_what_is_there_again(metadata, chain):
    from strongroom_airflow.archive.delete import DeleteOperator
    from strongroom_airflow.archive.report import ReportOperator

    plan = chain.plan()
    [part] = [one.model_dump(mode="json") for one in chain.seal(plan).parts]

    def run(operator: Any) -> tuple[Any, list[str], list[str]]:
        """What the operator returns, the facts that it logs, and the lines themselves."""
        context = context_of("archive__audit", "2026-05")
        context["outlet_events"] = defaultdict(lambda: SimpleNamespace(extra=None))
        with capture_logs() as captured:
            result = operator.execute(context)
        logs = [line for line in captured if "Task Runner" not in line["event"]]
        return result, [name for line in logs for name in line], [line["event"] for line in logs]

    def delete() -> tuple[Any, list[str], list[str]]:
        return run(DeleteOperator(task_id="delete", table="audit", part=part))

    def report(deleted: Any) -> list[str]:
        arguments = {"plan": plan.model_dump(mode="json"), "parts": [part], "deleted": [deleted]}
        operator = ReportOperator(task_id="report", table="audit", asset=Asset("rows"), sealed_by="seal", **arguments)
        return run(operator)[2]

    first, _, told = delete()
    assert told[0] == f"Deleted 23 of 23 rows: {part['archive_id']} part 0"
    assert report(first)[0].startswith("archived: public.audit 2026-05")
    with psycopg.connect(chain.conninfo, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO audit SELECT n, '2026-05-31+00'::timestamptz + n * interval '1 hour' FROM generate_series(1, 5) n"
        )

    again, named, told = delete()

    at = DeletedPart.model_validate(first).deleted_at
    assert told[0] == "Rows of the archive are in the table again. To archive them, run the partition again."
    assert " ".join(told[1:]).startswith(
        f"Nothing deleted now: {part['archive_id']} part 0: 23 of 23 rows were deleted at {at:%Y-%m-%d %H:%M} UTC by archive__audit r; "
        "5 rows of it are in the table now"
    )
    assert (again["deleted_by"], again["in_table"]) == ("archive__audit r", 5)
    assert "deleted" not in named
    assert report(again)[0].startswith("Reported at ")
