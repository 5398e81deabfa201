"""Looking ahead in tests: what `airflow strongroom plan` says of a chain's table."""

from __future__ import annotations

from strongroom.preview.look import look_at_table
from strongroom.preview.records import PartitionPreview, Preview, TablePreview
from tests.support.chain import Chain


def look(chain: Chain, *, explain: bool = False) -> TablePreview:
    """What would be done with the chain's table now."""
    return look_at_table(
        chain.settings.table, chain.settings, chain.store, chain.source, chain.owning, now=chain.now, explain=explain
    )


def only(table: TablePreview) -> PartitionPreview:
    """Its one partition that has rows and is past hot retention."""
    [one] = table.partitions
    return one


def preview_of(chain: Chain) -> Preview:
    """The same as a plan that can be saved."""
    return Preview(made_at=chain.now, made_by="ada", tables=(look(chain),))
