"""Airflow itself: its processes, the pool, the DAGs, and where the logs of tasks go."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from airflow.api.common.airflow_health import HEALTHY, get_airflow_health
from airflow.configuration import conf as airflow_conf
from airflow.models.dag import DagModel
from airflow.models.errors import ParseImportError
from airflow.models.pool import Pool
from airflow.utils.session import create_session
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from strongroom.checks.result import Checklist, CheckResult
from strongroom.errors import StoreError, StrongroomError
from strongroom.object_keys.layout import ARCHIVES
from strongroom.settings import Settings, StoreSettings, TableSettings
from strongroom.storage.tried_store import NO_VERSION
from strongroom_airflow.connections import connect_tried

_PROCESSES = {"scheduler": "scheduler", "dag_processor": "dag-processor", "triggerer": "triggerer"}
"""Each process by its name in Airflow's health, with the command that starts it."""

_PROBE = "strongroom-check.txt"
"""One small object among the logs of tasks. Nobody can remove it, so each check writes over it."""


def executor_elsewhere() -> str | None:
    """The executor that may run tasks on other machines, by the name that Airflow's settings give it; None if there is none."""
    named = airflow_conf.get("core", "executor").split(",")
    return next((name.strip() for name in named if "LocalExecutor" not in name), None)


def check_airflow(settings: Settings) -> list[CheckResult]:
    """Look at the processes, the pools of the tables and their DAGs."""
    checks = Checklist("airflow")
    tables = list(settings.tables.values())
    try:
        _look(checks, tables)
    except SQLAlchemyError as error:
        said = " ".join(str(getattr(error, "orig", None) or type(error).__name__).split())
        hint = "See that the database of [database] sql_alchemy_conn is up and migrated: airflow db check && airflow db migrate"
        checks.failed("Airflow's metadata database answers", said, hint)
    return checks.results


def _look(checks: Checklist, tables: list[TableSettings]) -> None:
    with create_session() as session:
        for name in sorted({table.pool for table in tables}):
            pool = Pool.get_pool(name, session=session)
            _pool(checks, name, None if pool is None else pool.slots)
        broken = list(session.execute(select(ParseImportError.filename, ParseImportError.stacktrace)))
        paused = dict(
            session.execute(select(DagModel.dag_id, DagModel.is_paused).where(DagModel.is_stale.is_(False))).all()
        )
    for filename, stacktrace in broken:
        last = (stacktrace or "").strip().splitlines()
        checks.failed(
            f"Airflow can read the DAG file {filename}",
            last[-1] if last else "it cannot",
            "airflow dags list-import-errors",
        )
    _processes(checks)
    _dags(checks, tables, paused)


def _processes(checks: Checklist) -> None:
    health = get_airflow_health()
    for name, program in _PROCESSES.items():
        status = health[name]["status"]
        what = f"Airflow's {program} is at work"
        if status == HEALTHY:
            checks.ok(what)
        elif status is None:
            checks.failed(what, "none was ever started", f"airflow {program}")
        else:
            seen = health[name].get(f"latest_{name}_heartbeat")
            checks.failed(
                what, f"last sign of life: {seen}" if seen else "it never gave a sign of life", f"airflow {program}"
            )


def _pool(checks: Checklist, name: str, slots: int | None) -> None:
    what, create = f"the pool {name} has room", f"airflow pools set {name} 4 'Work on the source database'"
    if slots is None:
        checks.failed(what, "there is no such pool, so no task of ours would ever start", create)
    elif slots == 0:
        checks.failed(what, "it has no slots", create)
    else:
        checks.ok(what, f"{slots} slots" if slots > 0 else "no limit")


def _dags(checks: Checklist, tables: Iterable[TableSettings], paused: dict[str, bool]) -> None:
    asleep = []
    for table in (one for one in tables if not one.is_member):
        dag_id = f"archive__{table.slug}"
        if dag_id not in paused:
            hint = "Wait for the dag-processor, or see why it cannot read dags/archive_tables.py: airflow dags list-import-errors"
            checks.failed(f"Airflow has the DAG {dag_id}", "it does not", hint)
        elif paused[dag_id]:
            asleep.append(dag_id)
        else:
            checks.ok(f"the DAG {dag_id} runs on schedule")
    if asleep:
        hint = "\n".join(f"airflow dags unpause {dag_id}" for dag_id in asleep)
        checks.warning("the DAGs of all tables run on schedule", f"paused: {', '.join(asleep)}", hint)


def check_task_logs(settings: Settings) -> list[CheckResult]:
    """Where Airflow keeps the logs of tasks on S3: they can be written and read there, and their keys open no archive."""
    folder = airflow_conf.get("logging", "remote_base_log_folder")
    if not airflow_conf.getboolean("logging", "remote_logging") or not folder.startswith("s3://"):
        return []
    checks = Checklist(f"task logs {folder}")
    conn_id = airflow_conf.get("logging", "remote_log_conn_id")
    table = next(iter(settings.tables.values()))
    where = urlsplit(folder)
    hint = f"Attach the policy that `deploy/s3/fill logger.json {where.netloc} {where.path.strip('/')}` prints, and nothing beside it, to the keys of {conn_id}."
    try:
        logs = connect_tried(table, conn_id, _place(table.store, where.netloc, where.path))

        def worked() -> None:
            if not logs.may_write(_PROBE, b"airflow strongroom check\n"):
                raise _refused(f"{logs}{_PROBE} cannot be written", hint)
            if logs.read(_PROBE) is None:
                raise _refused(f"{logs}{_PROBE} was written and cannot be read", hint)

        checks.attempt("logs of tasks can be written and read", worked)
        checks.refused("removing a log", logs.may_remove(f"{_PROBE}.none", NO_VERSION), hint)
        for bucket, prefix in sorted({(one.store.bucket, one.store.prefix) for one in settings.tables.values()}):
            apart = connect_tried(table, conn_id, _place(table.store, bucket, prefix))
            read = apart.may_read(f"{ARCHIVES}{_PROBE}")
            checks.refused(f"reading an archive in {bucket} with the keys of logs", read, hint)
    except StrongroomError as error:
        checks.fault("the checks of task logs run to their end", error)
    return checks.results


def _place(store: StoreSettings, bucket: str, prefix: str) -> StoreSettings:
    return store.model_copy(update={"bucket": bucket, "prefix": prefix.strip("/")})


def _refused(what: str, hint: str) -> StrongroomError:
    return StoreError(what, hint=hint)
