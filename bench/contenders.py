"""The contenders: a shell pipe, Airflow's transfer operator, Strongroom's chain and restore, and work on archives alone.

Each gets the same rows in its own database, which the server copies from one template, file by file.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import psycopg
from psycopg import sql

from bench.course import TABLE, Course, Result
from bench.late import late_rows_kept
from bench.running import run_command, run_in_steps
from bench.usage import Usage
from strongroom.archive.checksum import checksum_part
from strongroom.archive.compress import compress_part
from strongroom.archive.extract_to_staging import extract_part
from strongroom.archive.seal import seal_archive
from strongroom.archive.upload import upload_part
from strongroom.archive.verify import verify_part
from strongroom.calendar import Frequency, Partition
from strongroom.formats.codecs import choose_codec
from strongroom.records import ArchivePlan, PlannedPart, VerifiedPart
from strongroom.storage.store import Store
from strongroom_local.servers.stack import Stack
from strongroom_local.servers.stack_folder import BUCKET, SOURCE_DATABASE
from tests.support.chain import RUN, Chain
from tests.support.sealing import seal_month
from tests.system.helpers import Airflow, Run, wait_for

ARCHIVE_DAG, RESTORE_DAG = f"archive__{TABLE}", "restore_archive"
STATISTICS_DAG, PURGE_DAG = "archive_statistics", "retention_purge"
PIPE_NAME, OPERATOR_NAME = "the pipe, unproved", "SqlToS3Operator, no delete"
STEPS_NAME, CHAIN_NAME = "Strongroom, without Airflow", "Strongroom, plan to report"
WARM_UP_DAG = "archive__fraud_investigations"
EXPIRED = 96
"""How many expired archives are made for the purge. Each holds one month in three parts."""

_FIRST_EXPIRED = Partition.parse(Frequency.MONTHLY, "2010-01")
_LONGEST_SECONDS = 4 * 3600

# As typed at a prompt. The DELETE runs only if every command of the pipe succeeded.
PIPE = f"""
set -euo pipefail
psql -Xq -v ON_ERROR_STOP=1 -c "COPY (SELECT to_json(t) FROM {TABLE} AS t WHERE $WINDOW) TO STDOUT" \\
  | zstd -q -3 | tee >(sha256sum > "$SCRATCH/pipe.sha256") | aws s3 cp --only-show-errors - "s3://{BUCKET}/archives/pipe/rows.jsonl.zst"
echo "step: delete"
psql -Xq -v ON_ERROR_STOP=1 -c "DELETE FROM {TABLE} WHERE $WINDOW"
"""

# As a DAG author would use it. execute() needs no scheduler. Its JSON format fails on some of the sample's text.
OPERATOR = """
import os
from airflow.providers.amazon.aws.transfers.sql_to_s3 import SqlToS3Operator
SqlToS3Operator(
    task_id="to_s3", sql_conn_id="bench_source", aws_conn_id="strongroom_store", s3_bucket=os.environ["STRONGROOM_BUCKET"],
    query=f"SELECT * FROM call_detail_records WHERE {os.environ['WINDOW']}", s3_key="archives/operator/rows.csv.gz", file_format="csv",
    df_kwargs={"index": False, "compression": "gzip"}, replace=True,
).execute({})
"""


def run_pipe(course: Course) -> Result:
    """COPY as JSON, zstd, sha256sum, aws s3 cp, then DELETE the range."""
    with course.copy_of_rows("pipe") as database:
        command = ["bash", "-c", PIPE]
        usage, steps = run_in_steps(command, course.environment(database), course.meter(), "extract to upload")
        stored_mb = course.stored_mb("archives/pipe/")
        return Result(PIPE_NAME, course.rows, usage, stored_mb, steps=steps)


def run_late_rows(course: Course) -> dict[str, int]:
    """How many of two late rows the pipe and Strongroom leave in the table."""

    def pipe(database: str) -> None:
        run_command(["bash", "-c", PIPE], course.environment(database))

    def chain(database: str) -> None:
        client, settings = course.stack.object_store.client("admin"), course.settings(prefix="late")
        Chain(course.stack.postgres.conninfo(database), client, settings, course.month.key).run()

    kept = {}
    for name, work in ((PIPE_NAME, pipe), (STEPS_NAME, chain)):
        with course.copy_of_rows("late") as database:
            kept[name] = late_rows_kept(course.stack.postgres.conninfo(database), partial(work, database))
    return kept


def run_operator(course: Course) -> Result:
    """Airflow's SqlToS3Operator, which neither verifies nor deletes."""
    with course.copy_of_rows("operator") as database:
        server = course.stack.postgres
        source = {"conn_type": "postgres", "host": server.host, "port": server.port, "schema": database}
        source |= {"login": server.superuser, "password": server.password}
        environment = course.environment(database) | {"AIRFLOW_CONN_BENCH_SOURCE": json.dumps(source)}
        with course.meter().measured() as usage:
            run_command([sys.executable, "-c", OPERATOR], environment)
        return Result(OPERATOR_NAME, course.rows, usage, course.stored_mb("archives/operator/"))


def run_steps(course: Course) -> list[Result]:
    """Strongroom's steps in this process, without Airflow, one part after another."""
    settings = course.settings(prefix="steps")
    usages: dict[str, Usage] = {}
    with course.copy_of_rows("steps") as database:
        conninfo = course.stack.postgres.conninfo(database)
        chain = Chain(conninfo, course.stack.object_store.client("admin"), settings, course.month.key)

        def step(name: str, work: Callable[[], Any]) -> Any:
            with course.meter().measured() as usage:
                result = work()
            usages.setdefault(name, Usage()).add(usage)
            return result

        plan = step("plan", chain.plan)
        verified = [_verified(chain, plan, part, step) for part in plan.parts]
        sealed = step("seal", lambda: seal_archive(chain.store, settings, plan, verified, run=RUN, now=chain.now))
        deleted = [step("delete", lambda part=part: chain.delete(part)) for part in sealed.parts]
        chain.staging(str(plan.archive_id)).clear()
    assert sum(part.deleted for part in deleted) == course.rows
    course.original_mb = sum(part.original_size_bytes for part in sealed.parts) / 1e6
    return [Result(f"  {name}", course.rows, usage) for name, usage in usages.items()]


def _verified(chain: Chain, plan: ArchivePlan, part: PlannedPart, step: Callable[..., Any]) -> VerifiedPart:
    staging, settings, store = chain.staging(part.archive_id), chain.settings, chain.store
    with chain.source() as connection:
        extracted = step("extract_to_staging", lambda: extract_part(connection, staging, settings, part, now=chain.now))
    compressed = step("compress", lambda: compress_part(staging, extracted, choose_codec(settings.compression)))
    checksummed = step("checksum", lambda: checksum_part(staging, compressed))
    uploaded = step("upload", lambda: upload_part(staging, store, checksummed))
    proof_rows = settings.proof_rows
    with chain.source() as source:
        verified: VerifiedPart = step(
            "verify",
            lambda: verify_part(store, staging, source, plan.shape, uploaded, proof_rows=proof_rows, now=chain.now),
        )
    return verified


def run_chain(course: Course) -> Result:
    """All steps from plan to report, run by the real scheduler."""
    airflow = Airflow(course.stack)
    _warm_up(airflow, course.month.key)
    with course.meter(lambda: airflow_pids(course.stack)).measured() as usage:
        run, seconds = _scheduled(airflow, ARCHIVE_DAG)
    assert run.partition_key == course.month.key, run
    report = airflow.result(run, "report")
    assert report["deleted_rows"] == course.rows, report
    usage.seconds = seconds
    return Result(CHAIN_NAME, course.rows, usage, report["compressed_size_bytes"] / 1e6)


def _warm_up(airflow: Airflow, key: str) -> None:
    """Run the DAG of the smallest table first: the web server needs seconds for its very first task."""
    run, _ = _scheduled(airflow, WARM_UP_DAG)
    assert run.partition_key == key, run
    airflow.pause(WARM_UP_DAG, paused=True)


def run_restore(course: Course) -> Result:
    """The restore DAG brings the month back into the table, which the chain has emptied and which was vacuumed."""
    airflow = Airflow(course.stack)
    with psycopg.connect(course.stack.source_conninfo(), autocommit=True) as connection:
        vacuum_emptied(connection)
    airflow.pause(RESTORE_DAG, paused=False)
    conf = {"table": f"public.{TABLE}", "first_partition": course.month.key, "last_partition": course.month.key}
    conf |= {"why": "a measurement", "who": "make bench"}
    with course.meter(lambda: airflow_pids(course.stack)).measured() as usage:
        body = {"logical_date": None, "conf": conf}
        run_id = airflow.call("POST", f"/dags/{RESTORE_DAG}/dagRuns", body)["dag_run_id"]
        run = airflow.wait_for_run(RESTORE_DAG, run_id, seconds=_LONGEST_SECONDS)
    assert run.state == "success", run
    assert airflow.result(run, "report")["inserted"] == course.rows
    usage.seconds = airflow.seconds(run)
    return Result("Strongroom, restore", course.rows, usage, brings_back=True)


def run_copy_from(course: Course) -> Result:
    """COPY FROM the rows' text into the same table with the same indexes, emptied and vacuumed. Nothing is verified."""
    rows = course.stack.folder / "rows.copy"
    with course.copy_of_rows("copy") as database:
        environment = course.environment(database)
        columns = (
            "call_reference, call_start_time, answer_time, duration_seconds, direction, calling_number, called_number, "
        )
        columns += "presented_number, imsi, cell_id, gateway_ip, codecs, charge, hangup_cause, quality, remark"
        psql = ["psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-c"]
        run_command([*psql, f"\\copy {TABLE} ({columns}) TO '{rows}'"], environment)
        with psycopg.connect(course.stack.postgres.conninfo(database), autocommit=True) as connection:
            connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(TABLE)))
            vacuum_emptied(connection)
        with course.meter().measured() as usage:
            run_command([*psql, f"\\copy {TABLE} ({columns}) FROM '{rows}'"], environment)
    rows.unlink()
    return Result("COPY FROM, unproved", course.rows, usage, brings_back=True)


def vacuum_emptied(connection: psycopg.Connection) -> None:
    """Vacuum the emptied table until no dead row is left in it, and flush all writes before the clock starts.

    A vacuum leaves the rows that a snapshot of another session may still see. With them, rows come in half as fast again.
    """
    wait_for(lambda: _is_vacuumed(connection), "a vacuum that leaves no dead row")
    connection.execute("CHECKPOINT")


def _is_vacuumed(connection: psycopg.Connection) -> bool:
    connection.execute(sql.SQL("VACUUM {}").format(sql.Identifier(TABLE)))
    [(size_bytes,)] = connection.execute("SELECT pg_relation_size(%s)", [TABLE]).fetchall()
    return size_bytes == 0


def run_archives(course: Course) -> list[Result]:
    """Catalogue, statistics and purge of archives, most of which have expired."""
    settings = course.settings()
    store = Store(course.stack.object_store.client("archiver"), settings.store)
    month = _FIRST_EXPIRED
    for _ in range(EXPIRED):
        seal_month(store, settings, month.key)
        month = month.next()
    present = EXPIRED + len((WARM_UP_DAG, ARCHIVE_DAG))
    with course.meter().measured() as usage:
        catalog = [sys.executable, "-m", "airflow", "strongroom", "catalog", "--json"]
        listed = json.loads(run_command(catalog, course.environment(SOURCE_DATABASE)))
    assert len(listed) == present, len(listed)
    results = [Result("catalog", present, usage, of="archives")]
    airflow = Airflow(course.stack)
    for name, dag_id in (("statistics", STATISTICS_DAG), ("purge", PURGE_DAG)):
        with course.meter(lambda: airflow_pids(course.stack)).measured() as usage:
            run, seconds = _scheduled(airflow, dag_id)
        usage.seconds = seconds
        results.append(Result(name, present, usage, of="archives"))
    purged = airflow.result(run, "report")["purged"]
    assert purged == EXPIRED, purged
    return results


def _scheduled(airflow: Airflow, dag_id: str) -> tuple[Run, float]:
    """Let the scheduler start a DAG's newest due run by itself. Its time runs from its creation to its end."""
    airflow.pause(dag_id, paused=False)
    run = wait_for(lambda: airflow.runs(dag_id), "the scheduler's run")[0]
    run = airflow.wait_for_run(dag_id, run.run_id, seconds=_LONGEST_SECONDS)
    assert run.state == "success", run
    return run, airflow.seconds(run)


def airflow_pids(stack: Stack) -> list[int]:
    """Airflow's processes. Tasks are their children."""
    servers = (stack.postgres.pid, stack.object_store.pid)
    return [one.pid for one in stack.status() if one.pid is not None and one.pid not in servers]
