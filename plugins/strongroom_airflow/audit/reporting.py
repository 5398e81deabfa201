"""Report a period from the stores of the configured tables."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, time, timezone

from strongroom.audit.keep import AuditFiles, make_files
from strongroom.audit.report import make_report
from strongroom.calendar import Window
from strongroom.errors import ConfigurationError
from strongroom.settings import Settings
from strongroom.storage.store import Store
from strongroom_airflow.connections import connect_store, store_key, store_tables


def parse_period(begin: str, end: str) -> Window:
    """The period between two days, the second one excluded, in UTC.

    Raises:
        ConfigurationError: One is no day, or the period is empty.
    """
    try:
        first, last = (datetime.combine(date.fromisoformat(text), time(), tzinfo=timezone.utc) for text in (begin, end))
    except ValueError:
        raise _no_period(f"{begin} to {end}") from None
    if first >= last:
        raise _no_period(f"{begin} to {end}")
    return Window(first, last)


def report_period(
    settings: Settings, window: Window, *, table: str | None, now: datetime
) -> tuple[Sequence[Store], AuditFiles]:
    """Report a period, of all stores or of one table's. Nothing is kept yet.

    Returns:
        The stores that were read, and the report in its forms.
    """
    only = settings.table(table) if table else None
    openers = [only] if only else store_tables(settings)
    stores = [
        (connect_store(opener), [one for one in settings.tables.values() if store_key(one) == store_key(opener)])
        for opener in openers
    ]
    report = make_report(stores, window, only=only, now=now)
    required = {one.id: one for opener in openers for one in opener.audit.controls}
    return [store for store, _ in stores], make_files(report, required.values())


def _no_period(found: str) -> ConfigurationError:
    return ConfigurationError(
        "this is not a period for a report",
        expected="two days such as 2026-01-01 and 2027-01-01, the second one after the first",
        found=found,
        hint="Nothing was read. The second day is the first one after the period.",
    )
