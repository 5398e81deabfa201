"""The page of the totals: the figures of the tables that its visitor sees, and of no other."""

from __future__ import annotations

import re

import psycopg
import pytest

from tests.support.chain import Chain, some_settings
from tests.support.visiting import visitor


@pytest.fixture(scope="module")
def archived(database_of_rows, object_store, shared_bucket, shared_deployment, tmp_path_factory, parsing):
    """Two tables with a month archived each; Airflow has a DAG of `audit` alone, so nobody sees `secret`. The tests only look."""
    shared_deployment.tables(audit={"date_column": "at"}, secret={"date_column": "at"})
    shared_deployment.store(object_store, shared_bucket, store="reader")
    shared_deployment.database(database_of_rows, "source")
    for table in ("audit", "secret"):
        settings = some_settings(shared_bucket, tmp_path_factory.mktemp(table), table)
        Chain(database_of_rows, object_store.client("archiver"), settings).run()
    with parsing("archive_tables.py"):
        yield


@pytest.fixture(scope="module")
def database_of_rows(shared_source):
    """Thirty rows of May and three of April in `audit`, and ten times as many in `secret`."""
    with psycopg.connect(shared_source, autocommit=True) as connection:
        for table, times in (("audit", 1), ("secret", 10)):
            connection.execute(f"CREATE TABLE {table} (id bigint PRIMARY KEY, at timestamptz NOT NULL)")
            connection.execute(f"INSERT INTO {table} SELECT n, '2026-05-02' FROM generate_series(1, {30 * times}) n")
            connection.execute(f"INSERT INTO {table} SELECT -n, '2026-04-02' FROM generate_series(1, {3 * times}) n")
    return shared_source


def cells(page: str, title: str) -> list[list[str]]:
    """The rows of the table below a heading, as texts."""
    table = re.search(rf"<h2>{title}</h2>.*?</table>", page, re.DOTALL)[0]
    return [
        [re.sub("<[^>]*>", "", cell) for cell in re.findall(r"<t[hd].*?</t[hd]>", row)]
        for row in re.findall(r"<tr>.*?</tr>", table, re.DOTALL)
    ]


def test_the_page_counts_the_tables_that_one_sees_and_no_other_in_the_sums(archived):
    answer = visitor().get("/totals", params={"again": "1"})

    assert answer.status_code == 200
    assert "secret" not in answer.text
    for title in ("Archives", "Rows that wait in the database"):
        assert [row[0] for row in cells(answer.text, title)] == ["table", "public.audit", "all"], title
    assert [row[1:3] for row in cells(answer.text, "Archives")[1:]] == [["1", "30"]] * 2
    assert [row[3] for row in cells(answer.text, "Rows that wait in the database")[1:]] == ["3", "3"]
    assert [row[:2] for row in cells(answer.text, "Rows and bytes of each tier")[1:]] == [
        ["hot", "3"],
        ["STANDARD", "30"],
        ["all", ""],
    ]
    assert [row[0] for row in cells(answer.text, "Monthly cost by table")] == ["table", "public.audit", "all"]


def test_the_page_draws_its_charts_within_the_policy_of_all_pages(archived):
    """No inline style or script, nothing from elsewhere."""
    answer = visitor().get("/totals", params={"again": "1"})

    assert answer.text.count("<svg") == 5
    assert "style-src 'self'" in answer.headers["content-security-policy"]
    assert not re.search(r"<[^>]*\s(style|on\w+)=|<style|<script>", answer.text)
    assert visitor().get("/static/style.css").headers["content-type"].startswith("text/css")


def test_nobody_sees_it_without_logging_in(archived):
    stranger = visitor()
    stranger.cookies.clear()

    assert [stranger.get(path).status_code for path in ("/totals", "/search?q=audit")] == [401, 401]


def test_the_button_of_the_statistics_leads_to_it():
    from strongroom_airflow.links import PageLink
    from strongroom_airflow.pages.addresses import totals_page
    from strongroom_airflow.statistics.keep import StatisticsOperator

    operator = StatisticsOperator(task_id="statistics")
    operator.page = totals_page()

    assert [link.name for link in operator.operator_extra_links] == ["Open in Strongroom"]
    assert PageLink().get_link(operator, ti_key=None) == "plugin/archive/strongroom/totals"
