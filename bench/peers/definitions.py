"""The peers: tools from PyPI that write rows of a PostgreSQL table to compressed files. What each proves and deletes is
from its documentation and code; docs/measured/peers.md says more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

PROGRAMS = Path(__file__).parent / "programs"
"""What runs or configures them. Each peer gets a copy of it as its scratch folder, because some write beside it."""

_ITS_OWN_LOG = {
    '"event": "batch_exporting"': "extract + compress",
    '"event": "batch_exported"': "upload",
    '"event": "batch_verifying"': "verify",
    '"event": "batch_deleting"': "delete",
}


@dataclass(frozen=True)
class Peer:
    """One tool.

    Attributes:
        name: As people call it.
        package: The PyPI package, whose version is shown.
        command: What is run; its first word is a program of the peers' environment. ``{START}`` and ``{END}``
            are days, ``{SCRATCH}`` is a folder with a copy of ``PROGRAMS``.
        reads_back: What it reads back of what it wrote.
        deletes: What it deletes, in words.
        removes: Whether the month's rows must be gone from the table afterwards.
        marks: Which step begins when a line of its log has certain words in it.
        first: The step that it begins with.
    """

    name: str
    package: str
    command: tuple[str, ...]
    reads_back: str = "nothing"
    deletes: str = "nothing"
    removes: bool = False
    marks: Mapping[str, str] = field(default_factory=dict)
    first: str = "start"

    @property
    def key(self) -> str:
        """The name for its database and its bucket."""
        return self.package.replace("-", "")


PEERS = (
    Peer("DuckDB", "duckdb", ("python", "{SCRATCH}/duckdb_to_s3.py")),
    Peer("ADBC and pyarrow", "adbc-driver-postgresql", ("python", "{SCRATCH}/adbc_to_s3.py")),
    Peer("dlt", "dlt", ("python", "{SCRATCH}/dlt_to_s3.py")),
    Peer(
        "rivet",
        "rivet-cli",
        ("rivet", "run", "--validate", "-c", "{SCRATCH}/rivet.yaml"),
        reads_back="row count, size",
        first="extract to upload",
    ),
    Peer(
        "backparq",
        "backparq",
        ("backparq", "-v", "archive", "--config", "{SCRATCH}/backparq.yaml"),
        deletes="nothing: it fails",
        marks={"Exporting public.": "extract + compress", "Export complete": "upload"},
    ),
    Peer(
        "pg-freezer",
        "pg-freezer",
        (
            *("pg-freezer", "replay", "--config", "{SCRATCH}/pg-freezer.yaml"),
            *("-t", "call_detail_records", "--from", "{START}", "--to", "{END}"),
        ),
        reads_back="row count",
        deletes="the window",
        removes=True,
        marks=_ITS_OWN_LOG,
    ),
)
