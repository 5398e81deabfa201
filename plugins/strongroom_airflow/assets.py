"""The asset of each table in Airflow, and what its events carry.

Airflow's page of an asset shows its events: what was archived, restored and destroyed. They are a view and no record, because
`airflow db clean` removes them.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import Asset, AssetAlias, Context

from strongroom.archive.report import RunReport

RESTORES = AssetAlias("strongroom restores")
"""Through it a restore announces what it did: which table it restores is not known before it runs."""

PURGES = AssetAlias("strongroom purges")
"""The same for purges."""


def table_asset(table: str, bucket: str) -> Asset:
    """The asset that stands for a table's archives.

    :param table: `schema.table`.
    :param bucket: Where its archives lie.
    """
    return Asset(name=f"archive of {table}", uri=f"s3://{bucket}/{table}")


def of_archive_run(report: RunReport) -> dict[str, Any]:
    """What the event of an archive run carries: the report, and the figures that a reader of the event looks for."""
    return {
        "event": report.outcome if report.archive_id is None else "archived",
        "record_count": report.archived_rows,
        "ratio": round(report.ratio, 2),
        **report.model_dump(mode="json"),
    }


def announce(context: Context, alias: AssetAlias, asset: Asset, event: str, facts: dict[str, Any]) -> None:
    """Add an event to a table's asset when the task ends well.

    :param alias: One of the task's outlets.
    :param event: What happened, in one word.
    :param facts: What the event carries, as JSON.
    """
    context["outlet_events"][alias].add(asset, extra={"event": event, **facts})
