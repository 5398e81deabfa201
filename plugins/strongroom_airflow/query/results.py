"""Opens the result of a run of `query_archive`, for the page that shows it and for the command."""

from __future__ import annotations

from contextlib import AbstractContextManager
from datetime import datetime, timezone

from strongroom.query.result import QueryResult, open_result
from strongroom.settings import TableSettings
from strongroom_airflow.connections import connect_staging


def open_query_result(table: TableSettings, run_id: str) -> AbstractContextManager[QueryResult]:
    """The rows and the outcome of a run, inside a `with` block. The caller checks that the reader may see the run.

    `QueryResult.rows()` gives rows, `csv()` and `json_lines()` chunks of bytes, and `outcome` everything else.

    :param table: Settings of the table that was searched.
    :param run_id: Airflow's id of the run.
    """
    return open_result(connect_staging(table), run_id, now=datetime.now(timezone.utc))
