"""Where each page is: the address of the page itself, and the one inside Airflow's frame, which links from outside use.

Airflow 3.3 shows an external view in an iframe and mirrors the frame's address after `/plugin/<route>`, the path of the base URL
included. So a page has one address of each kind, and its filters are in the query.
"""

from __future__ import annotations

from urllib.parse import urlencode, urlsplit

from airflow.sdk.configuration import conf

from strongroom.object_keys.archives import ArchiveId
from strongroom.object_keys.layout import decode_table

ROUTE = "archive"
"""What follows `/plugin/` in the frame."""

PREFIX = "/strongroom"
"""Where the application is mounted."""

MAP, PARTITION, ARCHIVE, TOTALS, SEARCH, QUERY, ACT = (
    "/archive",
    "/partition",
    "/object",
    "/totals",
    "/search",
    "/query",
    "/act",
)
"""Paths of the pages below :data:`PREFIX`."""


def base_url() -> str:
    """The address of Airflow's web server, without its final slash; empty if it is not configured."""
    return str(conf.get("api", "base_url", fallback="") or "").rstrip("/")


def base_path() -> str:
    """The path of that address: empty unless Airflow is served below a path."""
    return urlsplit(base_url()).path.rstrip("/")


def page(path: str, **query: str | int | None) -> str:
    """The address of a page on this server. What is None is left out of the query."""
    given = {name: value for name, value in query.items() if value is not None}
    return f"{base_path()}{PREFIX}{path}{'?' if given else ''}{urlencode(given)}"


def framed(address: str) -> str:
    """The full address that shows a page inside Airflow's frame."""
    return f"{base_url()}/plugin/{ROUTE}{address}"


def held(what: str) -> str:
    """The address of what a legal hold covers: an archive, a partition, the map of a table or the whole map.

    :param what: As :attr:`strongroom.ledger.holds.Hold.what` has it: the beginning of an archive id, with names quoted as in object keys.
    """
    if ArchiveId.parse_or_none(what) is not None:
        return page(ARCHIVE, id=what)
    if (first := ArchiveId.parse_or_none(f"{what}.0001")) is not None:
        return page(PARTITION, table=decode_table(what), key=first.partition_key)
    return page(MAP, table=decode_table(what) if ArchiveId.parse_or_none(f"{what}.2000-01.0001") else None)


def map_page(table: str | None = None) -> str:
    """The map in the frame: of all tables, or of one (`schema.table`)."""
    return framed(page(MAP, table=table))


def partition_page(table: str, partition_key: str) -> str:
    """A partition in the frame; the table is `schema.table`."""
    return framed(page(PARTITION, table=table, key=partition_key))


def archive_page(archive_id: str) -> str:
    """An archive in the frame."""
    return framed(page(ARCHIVE, id=archive_id))


def totals_page() -> str:
    """The totals in the frame."""
    return framed(page(TOTALS))
