"""A notice's way to people: Airflow's own notifiers, as the settings name them. One that fails neither fails a task nor hides its error.

Notifiers are imported when something is to be told, and by a file without DAGs whose import error says that one is wrong.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any, TypeVar
from urllib.parse import urlsplit

from airflow.sdk import BaseHook, Context
from airflow.sdk.bases.notifier import BaseNotifier
from airflow.sdk.log import mask_secret

from strongroom.errors import ConfigurationError
from strongroom.settings import Notification, Settings, TableSettings
from strongroom_airflow.notices.texts import Notice, tell_approval_wanted, tell_failed

T = TypeVar("T")

log = logging.getLogger("airflow.task")

_FACTS = {name: f"{{{{ notice.{name} }}}}" for name in ("kind", "subject", "text", "link")}
_PATIENT = {"timeout": 10}
"""Seconds: a receiver that never answers must not hold a task for ever."""

_HTTP = "airflow.providers.http.notifications.http.HttpNotifier"
_SHORT: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "email": (
        "airflow.providers.smtp.notifications.smtp.SmtpNotifier",
        {"subject": _FACTS["subject"], "html_content": "{{ notice.html }}"},
    ),
    "slack": (
        _HTTP,
        {
            "http_conn_id": "strongroom_slack",
            "json": {"text": "*{{ notice.subject }}*\n{{ notice.text }}"},
            "extra_options": _PATIENT,
        },
    ),
    "webhook": (_HTTP, {"http_conn_id": "strongroom_webhook", "json": _FACTS, "extra_options": _PATIENT}),
}
"""Class and arguments of each short name. The settings' own arguments win."""

_TELL: Mapping[str, Callable[[Context], Notice]] = {"failed": tell_failed, "approval_wanted": tell_approval_wanted}


class Notify(BaseNotifier):
    """Tells people of something that happened to a task. It never raises.

    :param kind: `failed` or `approval_wanted`.
    :param notifications: Those of the settings that want to be told of it.
    """

    def __init__(self, kind: str, notifications: Iterable[Notification]) -> None:
        super().__init__()
        self.kind = kind
        self.notifications = tuple(notifications)

    def __call__(self, *args: Any) -> None:
        """Airflow calls this with the context of the task."""
        self.notify(args[0])

    def notify(self, context: Context) -> None:
        """Tell everybody who wants to know."""
        try:
            if self.kind == "failed" and _is_told_by_another(context):
                return
            notice = _TELL[self.kind](context)
        except Exception as error:  # noqa: BLE001 - the error of the task matters more than a notice of it
            log.error("No notice was written: %s: %s", type(error).__name__, error)
            return
        send(notice, self.notifications, context)


def notifiers_of(table: TableSettings, kind: str) -> list[Notify]:
    """What a task is given, so that people are told: nothing, or one notifier."""
    wanted = [one for one in table.notifications if kind in one.when]
    return [Notify(kind, wanted)] if wanted else []


def require_notifiers(settings: Settings) -> None:
    """Check that each notifier of each table can be made of its settings.

    :raises ConfigurationError: One cannot.
    """
    for table in settings.tables.values():
        for one in table.notifications:
            make_notifier(one)


def send(notice: Notice, notifications: Iterable[Notification], context: Context) -> None:
    """Give a notice to each notifier. What goes wrong is logged, and the next one is tried."""
    for one in notifications:
        try:
            notifier = make_notifier(one)
            _mask_address(notifier)
            notifier({**context, "notice": notice})
        except Exception as error:  # noqa: BLE001 - a notice that cannot be sent must not fail the task, nor hide its error
            log.error("A notice was not sent through %s: %s: %s", one.notifier, type(error).__name__, error)
        else:
            log.info("Sent a notice through %s: %s", one.notifier, notice.subject)


def tell_of_tables(
    settings: Settings, kind: str, found: Mapping[str, T], tell: Callable[[dict[str, T]], Notice], context: Context
) -> None:
    """Tell of several tables: whoever wants to know of some of them gets one notice about these.

    :param settings: Of all tables.
    :param kind: `overdue` or `drill_failed`.
    :param found: What there is to tell, by the qualified name of the table.
    :param tell: Writes the notice about some of it.
    :param context: Of the task that found it.
    """
    about: list[tuple[Notification, dict[str, T]]] = []
    for table in settings.tables.values():
        if table.qualified_name not in found:
            continue
        for one in table.notifications:
            if kind in one.when:
                known = next((tables for other, tables in about if other == one), None)
                if known is None:
                    about.append((one, known := {}))
                known[table.qualified_name] = found[table.qualified_name]
    for one, tables in about:
        send(tell(tables), [one], context)


def make_notifier(notification: Notification) -> BaseNotifier:
    """The notifier of Airflow that the settings name.

    :raises ConfigurationError: There is no such class, it is no notifier, or it does not take these arguments.
    """
    path, given = _SHORT.get(notification.notifier, (notification.notifier, {}))
    module, _, name = path.rpartition(".")
    try:
        kind = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise _fault(notification, f"the class {path}", str(error)) from None
    if not (isinstance(kind, type) and issubclass(kind, BaseNotifier)):
        raise _fault(notification, "a subclass of Airflow's BaseNotifier", path)
    try:
        return kind(**{**given, **notification.arguments})
    except (TypeError, ValueError) as error:
        raise _fault(notification, f"arguments that {name} takes", str(error)) from None


def _fault(notification: Notification, expected: str, found: str) -> ConfigurationError:
    return ConfigurationError(
        f"the notifier {notification.notifier!r} under notifications: cannot be made",
        expected=expected,
        found=found,
        hint="No row was touched, and all DAGs run as usual. Correct it in archive.yaml, or install the provider where Airflow runs (docs/howto/notifications.md).",
    )


def _mask_address(notifier: BaseNotifier) -> None:
    """Keep the path of a webhook out of logs: whoever knows it may post. Airflow masks passwords of connections alone."""
    conn_id = getattr(notifier, "http_conn_id", None)
    if conn_id:
        path = urlsplit(BaseHook.get_connection(conn_id).host or "").path.strip("/")
        if path:
            mask_secret(path)


def _is_told_by_another(context: Context) -> bool:
    """Whether a part with a lower number failed in this run, too: a hundred parts fail for one reason, and one notice is enough."""
    ti = context["ti"]
    number = getattr(ti, "map_index", -1)
    if number is None or number < 1:
        return False
    try:
        states = ti.get_task_states(dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[ti.run_id])
    except Exception:  # noqa: BLE001 - in doubt, tell
        return False
    return any(states.get(ti.run_id, {}).get(f"{ti.task_id}_{lower}") == "failed" for lower in range(number))
