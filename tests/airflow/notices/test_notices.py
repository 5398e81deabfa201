"""Notices by web and by mail: real notifiers of Airflow, real receivers, and real runs of DAGs."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from strongroom.errors import IntegrityError
from strongroom.settings import Notification
from strongroom_airflow.defaults import default_args, notifiers_of
from strongroom_airflow.notices.fates import fate_of_rows
from strongroom_airflow.notices.sending import Notify, make_notifier, send
from strongroom_airflow.notices.texts import Notice, tell_failed
from tests.support.chain import Chain, some_settings
from tests.support.receivers import Mail, Web, mail_receiver, web_receiver
from tests.support.repository import REPOSITORY

LOST = IntegrityError("part 3 does not match", hint="No row was deleted; clear upload.", expected="9f2c", found="07ab")


@pytest.fixture
def web(monkeypatch):
    with web_receiver() as web:
        monkeypatch.setenv("AIRFLOW_CONN_STRONGROOM_WEBHOOK", web.connection())
        monkeypatch.setenv("AIRFLOW_CONN_STRONGROOM_SLACK", web.connection("/services/T0/B0/xyzzy"))
        yield web


@pytest.fixture
def mail(monkeypatch):
    with mail_receiver() as mail:
        monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", mail.connection())
        yield mail


def notification(notifier: str = "webhook", *when: Any, **arguments: Any) -> Notification:
    return Notification(when=when or ("failed",), notifier=notifier, arguments=arguments)


def a_failure(
    task_id: str = "part.verify", *, number: int = 3, states: Any = None, error: Any = LOST
) -> dict[str, Any]:
    """The context of a task of `archive__audit` that failed."""
    ti = SimpleNamespace(
        dag_id="archive__audit",
        task_id=task_id,
        run_id="2026-05__scheduled",
        map_index=number,
        log_url="http://airflow/x?y",
        get_task_states=lambda **_: {"2026-05__scheduled": states or {}},
    )
    run = SimpleNamespace(run_id="2026-05__scheduled", partition_key="2026-05")
    return {"ti": ti, "dag_run": run, "task": SimpleNamespace(table="audit"), "params": {}, "exception": error}


def test_a_notice_says_what_failed_where_why_and_what_it_means_for_the_rows():
    notice = tell_failed(a_failure())

    assert notice.subject == "Strongroom: archive__audit failed at verify (public.audit 2026-05)"
    assert notice.lines == (
        "Task part.verify 3 of run 2026-05__scheduled failed.",
        str(LOST),
        "This step deletes no row: every row is where it was.",
    )


def test_nobody_is_told_that_no_row_was_deleted_when_some_may_have_been():
    for step in ("delete", "detach", "report"):
        assert "deletes no row" not in fate_of_rows("archive__audit", step)
    for dag_id, step in (("retention_purge", "purge"), ("retention_purge", "warm"), ("subject_erasure", "erase")):
        assert "may have been" in fate_of_rows(dag_id, step)


def test_there_is_a_sentence_for_each_task_of_each_dag(metadata, monkeypatch):
    """Of the repository's own DAGs, with everything that the settings can switch on."""
    from airflow.dag_processing.dagbag import DagBag

    monkeypatch.setenv("STRONGROOM_CONFIG", str(REPOSITORY / "include" / "config" / "archive.yaml"))
    monkeypatch.setenv("STRONGROOM__PARTITION_DELETE__ENABLED", "true")
    bag = DagBag(REPOSITORY / "dags", load_op_links=False)

    tasks = {(dag_id, task_id.rpartition(".")[2]) for dag_id, dag in bag.dags.items() for task_id in dag.task_ids}

    assert bag.import_errors == {}
    assert len(tasks) > 60
    assert [task for task in tasks if not fate_of_rows(*task) and task[0] != "left_out_tables"] == []


def test_words_of_other_programs_are_not_told_because_they_may_hold_values_of_rows():
    notice = tell_failed(a_failure(error=ValueError("DETAIL: Key (msisdn)=(+2348030000000) exists")))

    assert "+234" not in notice.text
    assert "ValueError; the log of the task has the rest." in notice.lines


def test_a_mail_shows_words_as_they_are():
    notice = Notice("failed", "subject", ("a <b> & c\nHINT: d",), "http://airflow/?a=1&b=2")

    assert notice.html == (
        '<p>a &lt;b&gt; &amp; c<br>HINT: d</p>\n<p><a href="http://airflow/?a=1&amp;b=2">http://airflow/?a=1&amp;b=2</a></p>'
    )


def test_all_short_names_reach_their_receivers(metadata, web: Web, mail: Mail):
    ways = [
        notification("webhook"),
        notification("slack"),
        notification("email", to="duty@example.com"),
        notification("airflow.providers.http.notifications.http.HttpNotifier", http_conn_id="strongroom_webhook", json={"own": "{{ notice.kind }}"}),
    ]  # fmt: skip

    Notify("failed", ways)(a_failure())

    (_, posted), (path, slack), (_, own) = web.received
    assert posted["kind"] == "failed"
    assert str(LOST) in posted["text"]
    assert path == "/services/T0/B0/xyzzy"
    assert slack["text"].startswith("*Strongroom: archive__audit failed at verify (public.audit 2026-05)*\n")
    assert own == {"own": "failed"}
    [message] = mail.received
    assert (message["to"], message["from"]) == ("duty@example.com", "strongroom@example.com")
    assert message["subject"] == "Strongroom: archive__audit failed at verify (public.audit 2026-05)"
    assert "HINT: No row was deleted; clear upload." in message.get_body(("html",)).get_content()


def test_a_notifier_that_fails_is_logged_and_the_next_one_is_tried(metadata, web: Web, monkeypatch, caplog):
    with web_receiver(status=500) as broken:
        monkeypatch.setenv("AIRFLOW_CONN_BROKEN", broken.connection("/hook/xyzzy"))
        ways = [
            notification(http_conn_id="nowhere"),
            notification(http_conn_id="broken"),
            notification("no.such.Notifier"),
            notification("webhook"),
        ]

        Notify("failed", ways)(a_failure())

    assert web.kinds == ["failed"]
    assert len(broken.received) == 1
    assert caplog.text.count("A notice was not sent through") == 3


def test_a_notice_that_cannot_be_written_raises_nothing(caplog):
    Notify("failed", [notification()])({})

    assert "No notice was written: KeyError" in caplog.text


def test_of_many_parts_that_fail_the_first_is_told(metadata, web: Web):
    told = Notify("failed", [notification()])

    told(a_failure(number=7, states={"part.verify_2": "failed", "part.verify_7": "failed"}))
    assert web.received == []

    told(a_failure(number=2, states={"part.verify_2": "failed", "part.verify_7": "failed"}))
    assert web.kinds == ["failed"]


def test_without_notifications_tasks_have_no_callback_and_nothing_is_imported():
    table = some_settings("bucket", "staging")

    assert "on_failure_callback" not in default_args(table)
    assert notifiers_of(table, "approval_wanted") == []


@pytest.mark.parametrize(
    ("notifier", "arguments", "expected"),
    [
        ("no.such.Notifier", {}, "expected the class no.such.Notifier"),
        ("pathlib.Path", {}, "expected a subclass of Airflow's BaseNotifier"),
        ("email", {}, "expected arguments that SmtpNotifier takes"),
        ("webhook", {"conn": "typo"}, "expected arguments that HttpNotifier takes"),
    ],
)
def test_a_notifier_that_cannot_be_made_is_an_import_error_and_every_dag_runs_as_ever(
    metadata, monkeypatch, notifier, arguments, expected
):
    """The error is that of a file without DAGs: Airflow schedules no DAG of a file that has one."""
    from airflow.dag_processing.dagbag import DagBag

    ways = [{"when": ["failed"], "notifier": notifier, "arguments": arguments}]
    monkeypatch.setenv("STRONGROOM_CONFIG", str(REPOSITORY / "include" / "config" / "archive.yaml"))
    monkeypatch.setenv("STRONGROOM__NOTIFICATIONS", json.dumps(ways))

    bags = [
        DagBag(REPOSITORY / "dags" / f"{name}.py", load_op_links=False)
        for name in ("left_out_tables", "archive_tables")
    ]

    [(file, error)] = [pair for bag in bags for pair in bag.import_errors.items()]
    assert file.endswith("left_out_tables.py")
    assert expected in error
    assert "HINT: No row was touched, and all DAGs run as usual. Correct it in archive.yaml" in error
    assert len(bags[1].dags) == 5
    assert all(task.on_failure_callback for dag in bags[1].dags.values() for task in dag.tasks)


def test_a_run_that_fails_tells_by_web_and_mail_and_fails_as_ever(
    metadata, parsing, airflow, deployment, source, object_store, bucket, web: Web, mail: Mail, monkeypatch
):
    """`restore_archive` without an archive; of three notifiers the first is broken."""
    ways = [
        {"when": ["failed"], "notifier": "webhook", "arguments": {"http_conn_id": "nowhere"}},
        {"when": ["failed"], "notifier": "webhook"},
        {"when": ["failed"], "notifier": "email", "arguments": {"to": "duty@example.com"}},
    ]
    deployment.store(object_store, bucket)
    deployment.database(source, "source", "restore")
    monkeypatch.setenv("STRONGROOM__NOTIFICATIONS", json.dumps(ways))
    with parsing("restore_archive.py"):
        ended = airflow("dags", "test", "restore_archive", "--conf", json.dumps({"why": "a test", "table": "audit"}))

    said = ended.stdout + ended.stderr
    assert "A notice was not sent through webhook" in said
    (_, posted), *others = web.received
    assert (posted["kind"], posted["subject"]) == (
        "failed",
        "Strongroom: restore_archive failed at locate (public.audit)",
    )
    assert "This step loads nothing" in posted["text"]
    assert {body["subject"].split(" failed at ")[1].split()[0] for _, body in others} <= {"report"}
    assert mail.received[0]["subject"] == posted["subject"]
    with psycopg.connect(metadata) as connection:
        failed = connection.execute(
            "SELECT state FROM task_instance WHERE dag_id = 'restore_archive' AND task_id = 'locate' ORDER BY start_date DESC LIMIT 1"
        ).fetchone()
    assert failed == ("failed",)


def test_the_statistics_tell_of_overdue_rows(
    metadata, parsing, airflow, deployment, source, object_store, bucket, tmp_path, web: Web, monkeypatch
):
    with psycopg.connect(source, autocommit=True) as connection:
        connection.execute("CREATE TABLE audit (id bigint PRIMARY KEY, at timestamptz NOT NULL)")
        connection.execute("INSERT INTO audit SELECT n, '2020-05-01Z' FROM generate_series(1, 1500) n")
    Chain(source, object_store.client("archiver"), some_settings(bucket, tmp_path)).plan()
    deployment.store(object_store, bucket)
    deployment.database(source, "source")
    monkeypatch.setenv("STRONGROOM__NOTIFICATIONS", json.dumps([{"when": ["overdue"], "notifier": "webhook"}]))
    with parsing("archive_statistics.py"):
        ended = airflow("dags", "test", "archive_statistics")

    assert ended.returncode == 0, ended.stderr
    [(_, posted)] = web.received
    assert (posted["kind"], posted["subject"]) == ("overdue", "Strongroom: overdue rows in public.audit")
    assert "public.audit: 1,500 rows past hot retention in partitions without an archive." in posted["text"]


def test_each_notifier_is_an_object_of_its_own_for_each_notice(metadata, web: Web):
    """Airflow's notifiers replace their templates by what they render, so one cannot be used twice."""
    way = notification()
    for kind in ("one", "two"):
        send(Notice(kind, "subject", ()), [way], {})

    assert web.kinds == ["one", "two"]
    assert make_notifier(way) is not make_notifier(way)
