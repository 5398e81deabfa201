"""Which server a source is, which extensions change what its tables are, and what was tried with it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from strongroom.database.session import Session, fetch_rows

TRIED = range(13, 19)
"""Major versions of PostgreSQL that the tests ran on."""

WATCHED = ("citus", "pg_partman", "timescaledb")
"""Extensions that move rows, drop them, or make a table out of others."""

_BY_BANNER = {
    "YugabyteDB": re.compile(r"-YB-(\d[\d.]*)"),
    "CockroachDB": re.compile(r"^CockroachDB \S+ v(\d[\d.]*)"),
    "Amazon Redshift": re.compile(r"Redshift (\d[\d.]*)"),
    "Greenplum": re.compile(r"Greenplum Database (\d[\d.]*)"),
}
"""How ``version()`` names a server that only speaks PostgreSQL's protocol, and its own version."""

_BY_ROLE = {
    "alloydbsuperuser": "AlloyDB",
    "azure_pg_admin": "Azure Database for PostgreSQL",
    "cloudsqlsuperuser": "Cloud SQL",
    "neon_superuser": "Neon",
    "rds_superuser": "Amazon RDS",
}
"""Roles that a hosted server comes with. AlloyDB may have Cloud SQL's role as well, so it is looked for first."""

_REMARKS = {
    "YugabyteDB": "it was never tried: the delete needs READ COMMITTED, and `warm: false`",
    "CockroachDB": "it only speaks PostgreSQL's protocol, was never tried and is not supported",
    "Amazon Redshift": "it only speaks PostgreSQL's protocol, was never tried and is not supported",
    "Greenplum": "it was never tried and is not supported",
    "citus": "it was never tried with distributed tables; tables on the coordinator are like any other",
    "timescaledb": "a hypertable cannot be archived: its rows lie in chunks that inherit from it, and plan refuses it",
    "pg_partman": "its own retention drops partitions whether they were archived or not",
}


@dataclass(frozen=True)
class ServerKind:
    """A server, as it presents itself.

    Attributes:
        product: ``PostgreSQL``, the hosted service that runs it, or the server that speaks its protocol.
        version: Its own version: ``18.6``, of YugabyteDB ``2025.1.0.0``.
        major: The major version of PostgreSQL that it is, or says it is compatible with.
        extensions: Name and version of each extension of :data:`WATCHED` that the database has, by name.
    """

    product: str
    version: str
    major: int
    extensions: tuple[tuple[str, str], ...] = ()

    @property
    def tried(self) -> bool:
        """Whether the tests ran on such a server. Extensions are named by :attr:`remarks` alone."""
        return self.product == "PostgreSQL" and self.major in TRIED

    @property
    def remarks(self) -> tuple[str, ...]:
        """What somebody should know before he archives from it, a sentence each; none for a server that was tried."""
        said = []
        if self.product in _REMARKS:
            said.append(f"{self.product}: {_REMARKS[self.product]}")
        elif not self.tried and self.major in TRIED:
            said.append(f"{self.product}: it was never tried; nothing that is needed is known to be missing")
        if self.major not in TRIED:
            said.append(f"PostgreSQL {self.major}: only {TRIED[0]} to {TRIED[-1]} were tried")
        said += [f"{name} {version}: {_REMARKS[name]}" for name, version in self.extensions]
        return tuple(said)

    def __str__(self) -> str:
        """For people: ``PostgreSQL 15.18 with pg_partman 4.7.2``."""
        extensions = ", ".join(f"{name} {version}" for name, version in self.extensions)
        return f"{self.product} {self.version}" + (f" with {extensions}" if extensions else "")


def server_kind(connection: Session) -> ServerKind:
    """Ask a server what it is. It needs no right but to connect."""
    # Only what servers that speak no more than the protocol have, too.
    [(banner, named, major)] = fetch_rows(
        connection,
        "SELECT version(), current_setting('server_version'), current_setting('server_version_num')::integer / 10000",
    )
    product, version = read_banner(banner)
    if product != "PostgreSQL":
        return ServerKind(product, version, major, _extensions(connection))
    [(aurora,)] = fetch_rows(connection, "SELECT EXISTS (SELECT FROM pg_proc WHERE proname = 'aurora_version')")
    roles = {name for (name,) in fetch_rows(connection, "SELECT rolname::text FROM pg_roles")}
    hosted = next((service for role, service in _BY_ROLE.items() if role in roles), product)
    return ServerKind("Amazon Aurora" if aurora else hosted, named.partition(" ")[0], major, _extensions(connection))


def read_banner(banner: str) -> tuple[str, str]:
    """Product and version that the text of ``version()`` names."""
    for product, pattern in _BY_BANNER.items():
        if found := pattern.search(banner):
            return product, found[1].rstrip(".")
    return "PostgreSQL", banner.removeprefix("PostgreSQL ").partition(" ")[0]


def _extensions(connection: Session) -> tuple[tuple[str, str], ...]:
    rows = fetch_rows(
        connection,
        "SELECT extname::text, extversion FROM pg_extension WHERE extname = ANY (%s) ORDER BY 1",
        list(WATCHED),
    )
    return tuple((name, version) for name, version in rows)
