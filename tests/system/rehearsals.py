"""Small extra tables, each archived by its own DAG, on which the tests rehearse failures."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import boto3

from strongroom.settings import StoreSettings
from strongroom.storage.s3 import make_client
from strongroom_local.servers.stack_folder import ARCHIVER_ROLE, RESTORER_ROLE

SCHEMA = "rehearsal"

KILLS = (
    "nothing",
    "plan",
    "extract_to_staging",
    "compress",
    "checksum",
    "upload",
    "uploaded",
    "verify",
    "seal",
    "sealed",
    "delete",
    "deleted",
    "stopped",
    "evicted",
    "report",
)
"""What is killed in each table's rehearsal: a step in its middle, or (uploaded, sealed, deleted) a step between its effect
and the record of it. ``stopped`` is a delete that gets SIGTERM instead, ``evicted`` one whose supervisor gets it, as the first process
of a pod does from Kubernetes."""

ERRORS = ("password", "unconnected", "missing", "unreachable", "twice", "marked", "held", "late")
"""What goes wrong in each table's rehearsal."""

ORPHANED = "orphaned"
"""The table whose delete is running when the scheduler is killed."""

SIBLINGS = "siblings"
"""The table with two parts, one of which fails for good while the other is still running."""

NARROW = "narrow"
"""The table with three parts, of which only one may be in progress at a time."""

PAGED = "paged"
"""The table on which people act from the pages in Airflow's UI."""

PARTITIONED, OWNER = "partitioned", "rehearsal_owner"
"""The table whose partition is detached and dropped, and the role and connection of its owner."""

GLACIER_BUCKET = "frozen"


def glacier_client(url: str) -> Any:
    """A client of the S3 with Glacier."""
    session = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test")
    return make_client(StoreSettings(bucket=GLACIER_BUCKET), session=session, endpoint_url=url)


def due_day() -> str:
    """The day whose run the scheduler starts first: the newest one due at the last tick, 02:00 UTC."""
    tick = datetime.now(timezone.utc) - timedelta(hours=2)
    return f"{tick.date() - timedelta(days=91):%Y-%m-%d}"


def table_of(rehearsal: str) -> str:
    """The table of a rehearsal, with its schema."""
    return f"{SCHEMA}.{rehearsal}"


def dag_of(rehearsal: str) -> str:
    """The DAG of a rehearsal."""
    return f"archive__{SCHEMA}__{rehearsal}"


def rehearsal_settings(proxy_url: str) -> dict[str, Any]:
    """Sections of archive.yaml: daily partitions, small batches, and no retries, so a killed task waits to be cleared."""
    shared = {
        "date_column": "at",
        "frequency": "daily",
        "cron": "0 2 * * *",
        "retries": 0,
        "delete_batch_rows": 500,
        "owner": "rehearsal",
    }
    through_proxy = {"store": {"endpoint_url": proxy_url}}
    sections = {table_of(kill): shared | through_proxy for kill in KILLS}
    sections |= {table_of(name): shared for name in (*ERRORS, ORPHANED, PAGED)}
    sections[table_of("unreachable")] = shared | through_proxy
    sections[table_of(SIBLINGS)] = shared | through_proxy | {"part_rows": 720}
    sections[table_of(NARROW)] = shared | {"part_rows": 480, "max_parallel_parts": 1}
    for error in ("password", "unconnected", "marked"):
        sections[table_of(error)] = shared | {"source_conn_id": f"rehearsal_{error}"}
    sections[table_of("marked")]["accepted_delete_triggers"] = ["marked"]
    now = datetime.now(timezone.utc)
    hours = f"{now - timedelta(hours=3):%H:%M}-{now - timedelta(hours=1):%H:%M}"
    sections[table_of("late")] = shared | {"stop_after": hours, "retries": 3}
    sections[table_of("held")] = shared | {"stop_after": "PT10H", "vacuum_after_delete": True, "retries": 3}
    sections[table_of("held")]["delete_limits"] = {"commit_seconds": 0.000_001}
    sections[table_of(PARTITIONED)] = shared | {"partition_delete": {"enabled": True, "conn_id": OWNER}}
    return sections


def create_partitions(day: str) -> str:
    """SQL for the partitioned table, with the others' rows: one partition has the day's first half, one the second half and more."""
    table = table_of(PARTITIONED)
    return f"""
        CREATE SCHEMA IF NOT EXISTS {SCHEMA};
        CREATE SCHEMA strongroom_detached AUTHORIZATION {OWNER};
        GRANT USAGE ON SCHEMA {SCHEMA} TO {ARCHIVER_ROLE}, {OWNER};
        CREATE TABLE {table} (id bigint, at timestamptz NOT NULL, who text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
        CREATE TABLE {table}_before PARTITION OF {table} FOR VALUES FROM (MINVALUE) TO ('{day} 00:00+00');
        CREATE TABLE {table}_morning PARTITION OF {table} FOR VALUES FROM ('{day} 00:00+00') TO ('{day} 12:00+00');
        CREATE TABLE {table}_later PARTITION OF {table} FOR VALUES FROM ('{day} 12:00+00') TO (MAXVALUE);
        INSERT INTO {table}
        SELECT n, '{day} 00:00+00'::timestamptz + (n - 1) * interval '1 minute', md5(n::text) FROM generate_series(-59, 1500) AS n;
        ALTER TABLE {table} OWNER TO {OWNER};
        ALTER TABLE {table}_morning OWNER TO {OWNER};
        GRANT SELECT, DELETE ON {table} TO {ARCHIVER_ROLE};
    """


def create_table(rehearsal: str, day: str) -> str:
    """SQL for a rehearsal's table: 1,440 rows of one day (ids 1 to 1440), 60 before that day and 60 after it."""
    table = table_of(rehearsal)
    return f"""
        CREATE SCHEMA IF NOT EXISTS {SCHEMA};
        GRANT USAGE ON SCHEMA {SCHEMA} TO {ARCHIVER_ROLE};
        CREATE TABLE {table} (
            id bigint PRIMARY KEY, at timestamptz NOT NULL, who text, cost numeric, details jsonb
        );
        CREATE INDEX ON {table} (at);
        INSERT INTO {table}
        SELECT n, '{day} 00:00+00'::timestamptz + (n - 1) * interval '1 minute', md5(n::text) || ' Ọláńrewájú',
               n / 7.0, jsonb_build_object('n', n, 'of', repeat(md5(n::text), 8))
        FROM generate_series(-59, 1500) AS n;
        GRANT SELECT, DELETE ON {table} TO {ARCHIVER_ROLE};
        GRANT USAGE ON SCHEMA {SCHEMA} TO {RESTORER_ROLE};
        GRANT SELECT, INSERT ON {table} TO {RESTORER_ROLE};
    """
