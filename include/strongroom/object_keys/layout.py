"""The folders of the store, and how names and instants are written in a key.

Names of schemas and tables may hold any character in PostgreSQL. In a key each byte outside ``A-Z a-z 0-9 _ -`` is
percent-encoded, so that a dot or slash in a name can neither leave its prefix nor be taken for a separator.
"""

from __future__ import annotations

from datetime import datetime, timezone
from urllib.parse import unquote

_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")

SOURCE_IDENTITY = "metadata/source.json"
"""Which database the store belongs to."""

HOLDS = "holds/"
"""Key prefix of the legal holds."""

EVIDENCE, ARCHIVES, CLAIMS, RESTORES = "evidence/", "archives/", "claims/", "restores/"
"""Key prefixes of all evidence, of all parts, of all claims, and of all records of what was restored."""

ORDERS = f"{CLAIMS}orders/"
"""Key prefix of the orders to running steps. No table has claims there: its folder has a dot."""

PROBES = f"{CLAIMS}strongroom-check/"
"""Key prefix of the objects that `airflow strongroom check` writes and removes. No table's claims lie there: its folder has a dot."""

CASES = f"{EVIDENCE}cases/"
"""Key prefix of the records of cases of persons."""

SUPPRESSED = f"{EVIDENCE}suppressed/"
"""Key prefix of what tells whose rows must not come back."""

SUBJECTS = "subjects/"
"""Key prefix of the protected records of who these persons are."""

REPORTS = "reports/"
"""Key prefix of all reports."""

VERIFICATIONS, QUERIES, DRILLS = f"{REPORTS}verifications/", f"{REPORTS}queries/", f"{REPORTS}drills/"
"""Key prefixes of the records of archives that were read again, of who looked inside, and of restore drills."""

REPLICAS = f"{REPORTS}replicas/"
"""Key prefix of the records of what was compared with the second copies of the store."""

RECORDS = (EVIDENCE, HOLDS, RESTORES, VERIFICATIONS, QUERIES, DRILLS, REPLICAS)
"""Key prefixes of all records that entries of the log name."""

SETTINGS_FOLDER = "/settings/"
"""In the evidence of a table: the settings that entries of the log name by their digest."""

MANIFEST_INDEX = "index/manifests.jsonl.zst"
"""The index of manifests in one object. It saves requests, proves nothing, and can be rebuilt."""

LOG = "log/"
"""Key prefix of the transparency log."""

OVERVIEW = "index/overview.json.zst"
"""What the map of all archives needs, in one object. It saves requests, proves nothing, and can be rebuilt."""

EXACT_INSTANT = "%Y%m%dT%H%M%S.%fZ"
"""How an instant in UTC is written in a key, for ``strptime``."""


def exact_instant(at: datetime) -> str:
    """An aware instant for a key, in UTC and to the microsecond."""
    return f"{at.astimezone(timezone.utc):{EXACT_INSTANT}}"


def encode_name(name: str) -> str:
    """Percent-encode a PostgreSQL name for a key."""
    return "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in name.encode())


def table_folder(schema_name: str, table_name: str) -> str:
    """``schema.table`` for a key."""
    return f"{encode_name(schema_name)}.{encode_name(table_name)}"


def decode_table(text: str) -> str:
    """``schema.table`` in the database's own spelling, from :func:`table_folder` or from what begins with it, such as an archive id."""
    schema_name, _, rest = text.partition(".")
    return f"{unquote(schema_name)}.{unquote(rest.partition('.')[0])}"


def narrowed(prefix: str, schema_name: str | None, table_name: str | None, partition_key: str | None) -> str:
    """A key prefix narrowed to one table, or to one partition of it; None narrows no further."""
    if schema_name is not None and table_name is not None:
        prefix += f"{table_folder(schema_name, table_name)}/"
        if partition_key is not None:
            prefix += f"{partition_key}/"
    return prefix
