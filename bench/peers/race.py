"""Runs the peers, one after the other, on the rows that the other contenders have."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import psycopg
import pyarrow.parquet as pq
from psycopg import sql

from bench.course import TABLE, Course, Result
from bench.goals import say
from bench.late import late_rows_kept
from bench.peers.definitions import PEERS, PROGRAMS, Peer
from bench.running import run_command, run_in_steps
from strongroom_local.servers.airflow import REPOSITORY
from strongroom_local.servers.processes import ServerError

ENVIRONMENT = REPOSITORY / ".strongroom" / "peers"
"""Where deploy/make-peers installs them."""

_NOTHING_ELSE = "the bench works on databases and buckets of its own; nothing else was touched"


@dataclass(frozen=True)
class PeerResult:
    """The result of one peer.

    Attributes:
        title: Its name and version.
        result: Its figures; None if it failed.
        charge: The type that its files give to the table's one column of amounts, ``numeric(10, 2)``.
        late: How many of two late rows it left in the table; None if it deletes nothing.
        error: Why it failed.
    """

    peer: Peer
    title: str
    result: Result | None
    charge: str = ""
    late: int | None = None
    error: str = ""


def run_peers(course: Course) -> Iterator[PeerResult]:
    """Run all peers. One that fails does not stop the others."""
    for peer in PEERS:
        title = f"{peer.name} {installed_version(ENVIRONMENT, peer.package)}"
        say(title)
        try:
            result, charge = _run_peer(course, peer, title)
            late = _late_rows_kept(course, peer)
        except ServerError as error:
            say(f"{title} failed: {error}")
            yield PeerResult(peer, title, None, error=" ".join(str(error).split()))
        else:
            yield PeerResult(peer, title, result, charge, late)


def _run_peer(course: Course, peer: Peer, title: str) -> tuple[Result, str]:
    bucket = _bucket(peer)
    with course.copy_of_rows(peer.key) as database:
        command, environment = _prepare(course, peer, database, bucket)
        usage, steps = run_in_steps(command, environment, course.meter(), peer.first, peer.marks)
        stored_mb, charge = _check_files(course, peer, bucket)
        _check_table(course, peer, database)
    return Result(title, course.rows, usage, stored_mb, steps=steps), charge


def _late_rows_kept(course: Course, peer: Peer) -> int | None:
    """How many of two late rows it leaves in the table; None if it deletes nothing."""
    if not peer.removes:
        return None
    with course.copy_of_rows(f"late_{peer.key}") as database:
        command, environment = _prepare(course, peer, database, _bucket(peer, "late"))
        return late_rows_kept(course.stack.postgres.conninfo(database), lambda: run_command(command, environment))


def _bucket(peer: Peer, purpose: str = "peer") -> str:
    return f"bench-{purpose}-{peer.key}"


def _prepare(course: Course, peer: Peer, database: str, bucket: str) -> tuple[list[str], dict[str, str]]:
    """Make its bucket and its scratch folder, and return its command and its environment."""
    course.stack.object_store.create_bucket(bucket, versioned=False)
    environment = _environment(course, database, bucket)
    shutil.copytree(PROGRAMS, environment["SCRATCH"])
    program, *arguments = (word.format_map(environment) for word in peer.command)
    return [str(ENVIRONMENT / "bin" / program), *arguments], environment


def _environment(course: Course, database: str, bucket: str) -> dict[str, str]:
    """What the programs and configurations in ``programs`` refer to, with rights to everything."""
    server, store = course.stack.postgres, course.stack.object_store
    access_key, secret_key = store.keys("admin")
    common = course.environment(database)
    login = f"{server.superuser}:{server.password}@{server.host}:{server.port}"
    return common | {
        "AWS_ACCESS_KEY_ID": access_key,
        "AWS_SECRET_ACCESS_KEY": secret_key,
        "S3_HOST": store.endpoint_url.partition("://")[2],
        "PEER_BUCKET": bucket,
        "PEER_TABLE": TABLE,
        "PEER_DATABASE_URL": f"postgresql://{login}/{database}",
        "START": f"{course.month.window.start:%Y-%m-%d}",
        "END": f"{course.month.window.end:%Y-%m-%d}",
        "SCRATCH": str(course.stack.folder / f"scratch-{bucket}"),
        "PATH": os.pathsep.join([str(ENVIRONMENT / "bin"), common.get("PATH", os.defpath)]),
        "PYTHONUNBUFFERED": "1",
        "COLUMNS": "200",
        "RUNTIME__DLTHUB_TELEMETRY": "false",
    }


def _check_files(course: Course, peer: Peer, bucket: str) -> tuple[float, str]:
    """The size of what it stored, in MB, and the type that it gave to the column of amounts.

    Raises:
        ServerError: The files do not hold as many rows as the month has.
    """
    sizes, rows, charge = 0, 0, ""
    for key, size in _objects(course, bucket):
        sizes += size
        if not key.endswith(".parquet"):
            continue
        body = course.stack.object_store.client("admin").get_object(Bucket=bucket, Key=key)["Body"].read()
        file = pq.ParquetFile(io.BytesIO(body))
        if "charge" in file.schema_arrow.names:
            rows += file.metadata.num_rows
            charge = plain_type(file.schema_arrow.field("charge").type)
    if rows != course.rows:
        raise ServerError(
            f"{peer.name} did not store the month's rows", expected=course.rows, found=rows, hint=_NOTHING_ELSE
        )
    return sizes / 1e6, charge


def _objects(course: Course, bucket: str) -> Iterator[tuple[str, int]]:
    pages = course.stack.object_store.client("admin").get_paginator("list_objects_v2").paginate(Bucket=bucket)
    for page in pages:
        yield from ((entry["Key"], entry["Size"]) for entry in page.get("Contents", ()))


def _check_table(course: Course, peer: Peer, database: str) -> None:
    """Raise a ServerError unless the table has the rows that it must have after this peer."""
    count = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(TABLE))
    with psycopg.connect(course.stack.postgres.conninfo(database)) as connection:
        [(left,)] = connection.execute(count).fetchall()
    expected = 0 if peer.removes else course.rows
    if left != expected:
        raise ServerError(
            f"{peer.name} left another number of rows in the table", expected=expected, found=left, hint=_NOTHING_ELSE
        )


def plain_type(type: Any) -> str:
    """An Arrow type in a word that fits a table's column, without the extension around it."""
    storage = getattr(type, "storage_type", type)
    return str(storage).replace("decimal128", "decimal").replace(", ", ",")


def installed_version(environment: Path, package: str) -> str:
    """The version of a package in a virtual environment."""
    paths = [str(path) for path in environment.glob("lib/python*/site-packages")]
    [found] = distributions(name=package, path=paths)
    return found.version
