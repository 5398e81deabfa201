"""The embedded servers: starting twice is harmless, they survive a kill, and each identity can do only its own work."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import boto3
import psycopg
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from strongroom_local.servers.ports import LOOPBACK, PortTakenError
from strongroom_local.servers.postgres import PostgresServer
from strongroom_local.servers.processes import ServerError, wait_until
from strongroom_local.servers.redis import RedisServer
from strongroom_local.servers.s3 import ObjectStore
from strongroom_local.servers.server import LocalServer
from strongroom_local.servers.stack import Stack
from tests.support.sessions import sweep_dead_sessions

ORDINARY_USER = """
import os, sys
from pathlib import Path
import psycopg
from strongroom_local.servers.postgres import PostgresServer
from strongroom_local.servers.s3 import ObjectStore

folder = Path(sys.argv[1])
with PostgresServer(folder / "postgres") as server, ObjectStore(folder / "store") as store:
    store.create_bucket("ours")
    with psycopg.connect(server.conninfo()) as connection:
        one = connection.execute("SELECT 1").fetchone()[0]
    buckets = [bucket["Name"] for bucket in store.client("archiver").list_buckets()["Buckets"]]
    print(f"postgres: {one}, store: {buckets}, root: {os.geteuid() == 0}")
"""
NOBODY = 65534


def query(conninfo: str, statement: str) -> object:
    with psycopg.connect(conninfo) as connection:
        row = connection.execute(statement.encode()).fetchone()
        return None if row is None else row[0]


def kill_hard(server: LocalServer) -> None:
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    assert wait_until(lambda: not server.running, timeout_seconds=5)


def refusal_of(call: object, **arguments: object) -> str:
    """Return the error code with which the S3 server refuses a call."""
    with pytest.raises(ClientError) as caught:
        call(**arguments)  # type: ignore[operator]
    return str(caught.value.response["Error"]["Code"])


def without_root(folder: Path) -> list[str]:
    """Return the command prefix that turns root into an ordinary user who owns the folder; empty for other users.

    If root's Python is in root's home, that user keeps the one capability needed to reach it.
    """
    if os.geteuid() != 0:
        return []
    os.chown(folder, NOBODY, NOBODY)
    drop = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    reachable = subprocess.run([*drop, sys.executable, "-c", ""], capture_output=True, cwd="/", check=False)
    if reachable.returncode == 0:
        return drop
    return [*drop, "--inh-caps=+dac_override", "--ambient-caps=+dac_override"]


def answer_to_plain_http2(port: int) -> bytes:
    """Speak gRPC without TLS and return what the server sends before the connection closes."""
    with closing(socket.create_connection((LOOPBACK, port), timeout=5)) as stranger:
        stranger.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000"))
        return stranger.recv(100)


@pytest.fixture
def own_postgres(session_folder: Path) -> Iterator[PostgresServer]:
    """A PostgreSQL server that the test may kill."""
    server = PostgresServer(session_folder / "own-postgres")
    yield server
    server.destroy()


@pytest.fixture
def own_store(session_folder: Path) -> Iterator[ObjectStore]:
    """An S3 server that the test may kill."""
    store = ObjectStore(session_folder / "own-store")
    yield store
    store.destroy()


def test_postgresql_keeps_rows_password_and_port_when_it_is_killed(own_postgres):
    """After kill -9 of the postmaster the next start recovers, even if the lock file and child processes remain."""
    own_postgres.start()
    before = own_postgres.conninfo()
    with psycopg.connect(before, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n")
    kill_hard(own_postgres)

    own_postgres.start()

    assert own_postgres.conninfo() == before
    assert query(before, "SELECT count(*) FROM kept") == 1000


def test_postgresql_starts_and_stops_twice(own_postgres):
    """A second start finds the running server, also from another object. A second stop does nothing."""
    own_postgres.start()
    first = own_postgres.pid
    own_postgres.start()
    PostgresServer(own_postgres.folder).start()
    assert own_postgres.pid == first

    own_postgres.stop()
    own_postgres.stop()

    assert not own_postgres.running


def test_postgresql_is_durable_and_private(postgres):
    """It syncs writes to disk, checks its pages, listens only on loopback and requires a password."""
    shown = {name: query(postgres.conninfo(), f"SHOW {name}") for name in ("fsync", "data_checksums", "timezone")}
    address = query(postgres.conninfo(), "SHOW listen_addresses")

    assert shown == {"fsync": "on", "data_checksums": "on", "timezone": "UTC"}
    assert address == LOOPBACK
    assert query(postgres.conninfo(), "SHOW unix_socket_directories") == ""
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(postgres.conninfo(user="postgres", password="guess"))  # pragma: allowlist secret


def test_postgresql_says_who_has_its_port(session_folder):
    """If a requested port is taken, that is an error with a hint. No other port is chosen."""
    with closing(socket.create_server((LOOPBACK, 0))) as stranger:
        port = stranger.getsockname()[1]
        server = PostgresServer(session_folder / "no-port", port=port)

        with pytest.raises(PortTakenError, match=f"port {port}.*taken(.|\n)*HINT: nothing was started"):
            server.start()


def test_a_port_lost_to_a_stranger_is_chosen_anew(own_postgres):
    """If another process took a port that we had chosen while the server was down, we choose a new one."""
    own_postgres.start()
    lost = own_postgres.port
    own_postgres.stop()

    with closing(socket.create_server((LOOPBACK, lost))):
        own_postgres.start()

    assert own_postgres.port != lost
    assert query(own_postgres.conninfo(), "SELECT 1") == 1


def test_postgresql_names_the_folder_that_has_no_programs(session_folder, tmp_path):
    """Missing programs are reported at once."""
    server = PostgresServer(session_folder / "no-programs", binaries=tmp_path)

    with pytest.raises(ServerError, match=f"no PostgreSQL server program in {tmp_path}"):
        server.start()


def test_the_programs_can_be_named_by_a_variable(session_folder, tmp_path, monkeypatch):
    """The named programs are used, whatever else is installed. A folder without programs is an error; there is no fallback."""
    monkeypatch.setenv("STRONGROOM_POSTGRES", str(tmp_path))
    server = PostgresServer(session_folder / "named-programs")

    with pytest.raises(ServerError, match=f"no PostgreSQL server program in {tmp_path}"):
        server.start()
    (tmp_path / "postgres").touch()

    assert server.binaries == tmp_path


@pytest.mark.parametrize("closed", [False, True], ids=["reachable folder", "below a folder closed to others"])
def test_root_may_start_it_wherever_the_folder_is(session_folder, closed):
    """Under root the server runs as another user, in a folder that this user can reach."""
    parent = session_folder / f"parent-{closed}"
    parent.mkdir(mode=0o700 if closed else 0o755)
    server = PostgresServer(parent / "postgres")
    try:
        server.start()
        assert server.pid is not None
        owner = Path(f"/proc/{server.pid}").stat().st_uid

        assert query(server.conninfo(), "SELECT 1") == 1
        assert owner != 0
    finally:
        server.destroy()


def test_an_ordinary_user_may_run_both_servers():
    """The same code without root's rights. If the tests run as root, a child process drops them first."""
    folder = Path("/var/tmp") / f"strongroom-test-{os.getpid()}"
    folder.mkdir(mode=0o700)
    # `make coverage` measures each process that is started, but this one may not write to its folder.
    unmeasured = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    try:
        result = subprocess.run(
            [*without_root(folder), sys.executable, "-c", ORDINARY_USER, folder],
            capture_output=True,
            text=True,
            cwd="/",
            env={**unmeasured, "HOME": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
            timeout=60,
            check=False,
        )

        assert (result.returncode, result.stdout, result.stderr) == (
            0,
            "postgres: 1, store: ['ours'], root: False\n",
            "",
        )
    finally:
        shutil.rmtree(folder)


def test_the_s3_server_keeps_objects_keys_and_port_when_it_is_killed(own_store):
    """After kill -9 an acknowledged object still exists, and address and keys are the same."""
    own_store.start()
    own_store.start()
    before = (own_store.endpoint_url, own_store.keys("archiver"))
    own_store.create_bucket("ours")
    version = own_store.client("archiver").put_object(Bucket="ours", Key="archives/kept", Body=b"rows")["VersionId"]
    kill_hard(own_store)

    own_store.start()

    answer = own_store.client("archiver").get_object(Bucket="ours", Key="archives/kept", VersionId=version)
    assert (own_store.endpoint_url, own_store.keys("archiver")) == before
    assert answer["Body"].read() == b"rows"
    own_store.stop()
    own_store.stop()
    assert not own_store.running


def test_the_archiver_can_delete_nothing(object_store, bucket):
    """Not an object, a version, several objects or a bucket. Nor may it turn off what protects them."""
    archiver = object_store.client("archiver")
    version = archiver.put_object(Bucket=bucket, Key="archives/kept", Body=b"rows")["VersionId"]

    assert refusal_of(archiver.delete_object, Bucket=bucket, Key="archives/kept") == "AccessDenied"
    assert refusal_of(archiver.delete_object, Bucket=bucket, Key="archives/kept", VersionId=version) == "AccessDenied"
    several = archiver.delete_objects(
        Bucket=bucket, Delete={"Objects": [{"Key": "archives/kept", "VersionId": version}]}
    )
    assert [error["Code"] for error in several["Errors"]] == ["AccessDenied"]
    assert refusal_of(archiver.delete_bucket, Bucket=bucket) == "AccessDenied"
    suspended = {"Status": "Suspended"}
    assert (
        refusal_of(archiver.put_bucket_versioning, Bucket=bucket, VersioningConfiguration=suspended) == "AccessDenied"
    )

    assert archiver.get_object(Bucket=bucket, Key="archives/kept", VersionId=version)["Body"].read() == b"rows"


def test_the_purger_deletes_versions_and_writes_nothing(object_store, bucket):
    """It can remove a version for good. A put, and a plain delete, which only hides an object, are refused."""
    purger = object_store.client("purger")
    version = object_store.client("archiver").put_object(Bucket=bucket, Key="archives/due", Body=b"rows")["VersionId"]

    assert refusal_of(purger.put_object, Bucket=bucket, Key="archives/forged", Body=b"rows") == "AccessDenied"
    assert refusal_of(purger.delete_object, Bucket=bucket, Key="archives/due") == "AccessDenied"
    purger.delete_object(Bucket=bucket, Key="archives/due", VersionId=version)

    assert "Versions" not in purger.list_object_versions(Bucket=bucket)


def test_strangers_are_refused_everywhere(object_store, bucket):
    """Without credentials, or with guessed ones, nothing can be read, listed or written, and no bucket is created."""
    object_store.client("archiver").put_object(Bucket=bucket, Key="archives/kept", Body=b"rows")
    address = {"endpoint_url": object_store.endpoint_url, "region_name": "us-east-1"}
    anonymous = boto3.client("s3", **address, config=Config(signature_version=UNSIGNED))
    access_key, _ = object_store.keys("archiver")
    guessing = boto3.client("s3", **address, aws_access_key_id=access_key, aws_secret_access_key="guess")

    assert refusal_of(anonymous.get_object, Bucket=bucket, Key="archives/kept") == "AccessDenied"
    assert refusal_of(anonymous.put_object, Bucket=bucket, Key="archives/forged", Body=b"") == "AccessDenied"
    assert refusal_of(anonymous.head_object, Bucket=bucket, Key="archives/kept") == "403"
    assert refusal_of(anonymous.list_objects_v2, Bucket=bucket) == "AccessDenied"
    assert refusal_of(anonymous.list_object_versions, Bucket=bucket) == "AccessDenied"
    assert refusal_of(anonymous.delete_object, Bucket=bucket, Key="archives/kept") == "AccessDenied"
    assert refusal_of(anonymous.list_buckets) == "AccessDenied"
    assert refusal_of(guessing.list_objects_v2, Bucket=bucket) == "SignatureDoesNotMatch"
    assert (
        refusal_of(object_store.client("archiver").put_object, Bucket="absent", Key="archives/a", Body=b"")
        == "NoSuchBucket"
    )


def test_the_internal_ports_want_more_than_an_address(object_store):
    """The filer and volume servers serve nothing to other users of this machine, on TCP or through sockets in /tmp."""
    ports = json.loads((object_store.folder / "store.json").read_text())["ports"]

    for listener in ("filer.port", "volume.port", "admin.port"):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"http://{LOOPBACK}:{ports[listener]}/buckets/", timeout=5)
        with closing(caught.value):
            assert caught.value.code in {401, 404}
    for listener in ("master.port.grpc", "filer.port.grpc", "volume.port.grpc", "s3.port.grpc", "admin.port.grpc"):
        assert answer_to_plain_http2(ports[listener]) == b""


def test_conditional_writes_have_one_winner(object_store, bucket):
    """Claims and create-only keys depend on If-None-Match: *, and on If-Match with an ETag."""
    archiver = object_store.client("archiver")
    first = archiver.put_object(Bucket=bucket, Key="archives/claim", Body=b"1", IfNoneMatch="*")["ETag"]

    assert (
        refusal_of(archiver.put_object, Bucket=bucket, Key="archives/claim", Body=b"2", IfNoneMatch="*")
        == "PreconditionFailed"
    )
    archiver.put_object(Bucket=bucket, Key="archives/claim", Body=b"3", IfMatch=first)
    assert (
        refusal_of(archiver.put_object, Bucket=bucket, Key="archives/claim", Body=b"4", IfMatch=first)
        == "PreconditionFailed"
    )

    assert archiver.get_object(Bucket=bucket, Key="archives/claim")["Body"].read() == b"3"


def redis_says(server: RedisServer, *commands: str) -> list[str]:
    """Send commands and return the first line of each answer."""
    with (
        socket.create_connection((LOOPBACK, server.port), timeout=10) as connection,
        connection.makefile("rwb") as lines,
    ):
        lines.write("".join(f"{command}\r\n" for command in commands).encode())
        lines.flush()
        return [lines.readline().decode().strip() for _ in commands]


def test_a_redis_starts_twice_survives_a_kill_and_answers_nobody_without_its_password(tmp_path):
    with RedisServer(tmp_path / "redis") as server:
        password = server.url.split("@")[0].rpartition(":")[2]
        assert redis_says(server, "SET kept 1", f"AUTH {password}", "SET kept 1")[0].startswith("-NOAUTH")
        pid = server.pid
        server.start()
        assert server.pid == pid
        assert wait_until(lambda: "kept" in (server.folder / "appendonly.aof").read_text(), timeout_seconds=10)
        kill_hard(server)

        server.start()

        assert redis_says(server, f"AUTH {password}", "EXISTS kept") == ["+OK", ":1"]
    assert not server.running


def test_a_session_that_was_killed_is_swept_away(session_folder):
    """The next session stops the servers that a killed one left running, and removes its folder."""
    lost = session_folder.parent / "lost"
    server = PostgresServer(lost / "postgres")
    server.start()

    sweep_dead_sessions()

    assert not server.running
    assert not lost.exists()
    assert session_folder.exists()


def test_the_status_of_a_stack_that_does_not_run_is_no_error(tmp_path):
    """Whether never started or stopped: status shows every component, and the command that starts them."""
    for folder in (tmp_path / "never", tmp_path / "stopped"):
        if folder.name == "stopped":
            stack = Stack(folder)
            stack.start_source()
            stack.down()
        command = [sys.executable, "-m", "strongroom_local", "--folder", folder, "status"]
        shown = subprocess.run(command, capture_output=True, text=True, check=False)

        assert (shown.returncode, shown.stderr) == (0, "")
        assert shown.stdout.count("stopped") == 7
        assert "nothing runs; 'make up' starts it" in shown.stdout
