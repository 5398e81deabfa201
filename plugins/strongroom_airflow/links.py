"""The button on a task's page in Airflow that opens the page of what the task worked on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from airflow.sdk import BaseOperator, BaseOperatorLink

from strongroom.object_keys.archives import ArchiveId
from strongroom.object_keys.layout import decode_table
from strongroom_airflow.pages.addresses import archive_page, base_url, framed, held, map_page, partition_page


class PageLink(BaseOperatorLink):
    """A link to the page that the operator's attribute ``page`` names. Without one the task has no button.

    Airflow asks for it in the task's process when the task has ended, also when it failed, and keeps the answer in XCom.
    """

    name = "Open in Strongroom"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:  # noqa: ARG002 - Airflow passes both
        """The address below that of the web server, which the browser knows better than a worker."""
        return str(getattr(operator, "page", "")).removeprefix(base_url()).removeprefix("/")


def page_of_archives(archives: Iterable[ArchiveId]) -> str:
    """The page that shows some archives: of one archive, of one partition, the map of their table, or that of all tables."""
    found = list(archives)
    if len(found) == 1:
        return archive_page(str(found[0]))
    partitions = {(decode_table(str(one)), one.partition_key) for one in found}
    if len(partitions) == 1:
        return partition_page(*partitions.pop())
    tables = {table for table, _ in partitions}
    return map_page(tables.pop() if len(tables) == 1 else None)


def page_of_hold(what: str) -> str:
    """The page that shows what a hold covers.

    :param what: As :attr:`strongroom.ledger.holds.Hold.what` has it.
    """
    return framed(held(what))
