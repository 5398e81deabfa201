"""Who is told of what, as the settings say it; and what may not stand there."""

from __future__ import annotations

import json

import pytest

from strongroom.errors import ConfigurationError
from strongroom.settings import load_settings

FILE = """
legal_basis: a law
date_column: at
notifications:
  - {when: [failed, overdue], notifier: email, arguments: {to: duty@example.com}}
tables:
  audit:
  calls:
    notifications:
      - {when: [drill_failed], notifier: company.alerts.PagerNotifier, arguments: {pager_conn_id: pager}}
"""


def test_a_tables_own_notifications_replace_those_of_all(a_file):
    settings = load_settings(a_file(FILE), {})

    [everybody] = settings.table("audit").notifications
    [own] = settings.table("calls").notifications
    assert (everybody.when, everybody.notifier, everybody.arguments) == (
        ("failed", "overdue"),
        "email",
        {"to": "duty@example.com"},
    )
    assert (own.notifier, own.arguments) == ("company.alerts.PagerNotifier", {"pager_conn_id": "pager"})


def test_a_variable_can_say_it_as_json(a_file):
    told = [{"when": ["failed"], "notifier": "webhook"}]

    settings = load_settings(
        a_file("tables: {audit: {date_column: at, legal_basis: a law}}"),
        {"STRONGROOM__NOTIFICATIONS": json.dumps(told)},
    )

    assert [one.notifier for one in settings.table("audit").notifications] == ["webhook"]


@pytest.mark.parametrize(
    ("notification", "expected"),
    [
        ("{when: [fails], notifier: email}", "notifications[0].when[0]"),
        ("{when: [], notifier: email}", "notifications[0].when"),
        ("{when: [failed], notifier: telegram}", "expected one of email, slack, webhook, or the path of a class"),
        ("{when: [failed], notifier: slack, arguments: {token: xoxb-xyzzy}}", "the id of an Airflow connection that has the secret"),
        ("{when: [failed], notifier: webhook, arguments: {endpoint: 'https://hooks.slack.com/services/T/B/xyzzy'}}", "the id of an Airflow connection that has this address"),
        ("{when: [failed], notifier: webhook, arguments: {endpoint: 'https://u:xyzzy@example.com/'}}", "the id of an Airflow connection that has this address"),  # pragma: allowlist secret
        ("{on: [failed], notifier: email}", "quote it if it is a name"),
        ("{whenever: [failed], notifier: email}", "notifications[0].whenever"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_and_no_secret_is_repeated(a_file, notification, expected):
    text = f"notifications: [{notification}]\ntables: {{audit: {{date_column: at, legal_basis: a law}}}}"

    with pytest.raises(ConfigurationError) as refused:
        load_settings(a_file(text), {})

    assert expected in str(refused.value)
    assert "xyzzy" not in str(refused.value)
