"""All checks of a deployment, area by area."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import TypeVar

from strongroom.checks.doors import Doors
from strongroom.checks.log import check_log
from strongroom.checks.result import Checklist, CheckResult
from strongroom.checks.source import check_databases, source_of
from strongroom.checks.staging import check_folder
from strongroom.checks.stores import ProbedStore, check_replica
from strongroom.errors import StrongroomError
from strongroom.settings import Settings, TableSettings

_Opened = TypeVar("_Opened")


def check_settings(settings: Settings) -> list[CheckResult]:
    """That every table of archive.yaml is in force."""
    checks = Checklist("settings")
    if settings.tables:
        checks.ok("archive.yaml is sound", f"{len(settings.tables)} tables: {', '.join(settings.tables)}")
    for name, fault in settings.left_out.items():
        lines = fault.splitlines()
        checks.failed(
            f"the settings of table {name} are sound",
            "; ".join(line.strip() for line in lines[1:]),
            "Correct these lines in archive.yaml; until then nothing is done for this table. All settings: docs/reference/configuration.md.",
        )
    return checks.results


def check_deployment(
    settings: Settings, doors: Doors, now: Callable[[], datetime], *, elsewhere: str | None
) -> Iterator[CheckResult]:
    """Try databases, stores and staging of all tables. Each result comes as soon as its area is done.

    Args:
        settings: Of all tables.
        doors: How to reach what they name.
        now: This machine's clock.
        elsewhere: The name of an executor that runs tasks on other machines; None if they run on this one.
    """
    tables = list(settings.tables.values())
    yield from check_databases(tables, doors, now)
    for users in _groups(tables, _store_place):
        yield from _check_store(users, doors, now)
    for users in _groups(tables, lambda one: one.working_folder):
        checks = Checklist(f"staging {users[0].working_folder[0]}")
        check_folder(checks, users, elsewhere=elsewhere)
        yield from checks.results


def _store_place(one: TableSettings) -> tuple[object, ...]:
    where = (one.store.endpoint_url, one.store.bucket, one.store.prefix, one.store_conn_id, one.purge_conn_id)
    return (*where, one.replica, one.staging_store, one.staging_conn_id, one.iceberg)


def _groups(tables: Sequence[TableSettings], key: Callable[[TableSettings], object]) -> list[list[TableSettings]]:
    users: dict[str, list[TableSettings]] = {}
    for table in tables:
        users.setdefault(repr(key(table)), []).append(table)
    return list(users.values())


def _check_store(tables: list[TableSettings], doors: Doors, now: Callable[[], datetime]) -> list[CheckResult]:
    first = tables[0]
    checks = Checklist(f"store s3://{first.store.bucket}/{first.store.prefix}")
    store = _open(checks, first.store_conn_id, lambda: doors.store(first))
    purger = _open(checks, first.purge_conn_id, lambda: doors.purger(first))
    stager = _open(checks, first.staging_conn_id, lambda: doors.stager(first)) if first.staging_store else None
    if store is None:
        return checks.results
    probed = ProbedStore(checks, store, first.store_conn_id)
    try:
        if not probed.check_bucket(now):
            return checks.results
        probed.check_keys()
        probed.check_rules(tables, now())
        if (source := source_of(first, doors)) is not None:
            probed.check_owner(source)
        written = probed.check_archiver(now())
        if written and purger is not None:
            probed.check_purger(purger, first.purge_conn_id)
        if stager is not None:
            probed.check_stager(stager, first.staging_conn_id)
        if first.iceberg_store is not None:
            own = _open(checks, first.iceberg.conn_id, lambda: doors.publisher(first, own=True))
            archives = _open(checks, first.iceberg.conn_id, lambda: doors.publisher(first, own=False))
            if own is not None and archives is not None:
                probed.check_publisher(own, archives, first.iceberg.conn_id)
        probed.clean_up(*(one for one in (purger, stager) if one is not None))
        check_log(checks, first, store, doors, now())
        if any(one.subjects.columns for one in tables):
            checks.attempt("the key for records of persons is one", lambda: _key(doors, first))
    except StrongroomError as error:
        checks.fault("the checks of this store run to their end", error)
    return [*checks.results, *_check_replica(first, doors, now)]


def _check_replica(first: TableSettings, doors: Doors, now: Callable[[], datetime]) -> list[CheckResult]:
    where = first.replica_store
    if where is None:
        return []
    checks = Checklist(f"replica s3://{where.bucket}/{where.prefix}")
    store = _open(checks, first.replica.conn_id, lambda: doors.replica(first))
    purger = _open(checks, first.replica.purge_conn_id, lambda: doors.replica_purger(first))
    try:
        if store is not None and purger is not None:
            check_replica(checks, first, store, purger, now)
    except StrongroomError as error:
        checks.fault("the checks of the replica run to their end", error)
    return checks.results


def _key(doors: Doors, table: TableSettings) -> None:
    doors.subject_key(table)


def _open(checks: Checklist, conn_id: str, opened: Callable[[], _Opened]) -> _Opened | None:
    """What a connection opens; None, and noted, if it cannot be opened."""
    try:
        return opened()
    except StrongroomError as error:
        checks.fault(f"the connection {conn_id} can be used", error)
        return None
