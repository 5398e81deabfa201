"""A streaming standby of an embedded PostgreSQL server."""

from __future__ import annotations

import os
from pathlib import Path

from strongroom_local.servers.postgres import PostgresServer
from strongroom_local.servers.processes import Account, run_as


class Standby(PostgresServer):
    """Copies its primary at its first start, and follows it from then on.

    Args:
        folder: The standby's folder.
        primary: A running server.
    """

    def __init__(self, folder: Path, primary: PostgresServer) -> None:
        super().__init__(folder)
        self._primary = primary

    @property
    def password(self) -> str:
        """The superuser's password, which was copied with the data."""
        return self._primary.password

    def _create_cluster(self, programs: Path, account: Account | None) -> None:
        self._data.mkdir(mode=0o700)
        if account is not None:
            os.chown(self._data, account.uid, account.gid)
        source = self._primary.conninfo()
        command = [programs / "pg_basebackup", "--pgdata", self._data, "--dbname", source, "--write-recovery-conf"]
        copied = run_as(account, [*command, "--checkpoint=fast"])
        assert copied.returncode == 0, copied.stderr
