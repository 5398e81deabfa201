"""Between steps 7 and 8 of an archive run, for tables with ``partition_delete``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from strongroom.archive.detach import detach_partitions
from strongroom.records import VerifiedPart
from strongroom_airflow.archive.base import StrongroomOperator
from strongroom_airflow.archive.run import ArchiveRun
from strongroom_airflow.pages.addresses import archive_page


class DetachOperator(StrongroomOperator):
    """Detach the partitions that hold exactly the rows of the sealed archive. The retention purge drops them later.

    :param parts: Verification records of all parts, as seal returned them. (templated)
    """

    template_fields: Sequence[str] = ("parts",)

    def __init__(self, *, parts: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.parts = parts

    def step(self, run: ArchiveRun) -> tuple[str, dict[str, Any], Any]:
        parts = [VerifiedPart.model_validate(part) for part in self.parts]
        archive_id = parts[0].archive_id
        self.page = archive_page(archive_id)
        with (
            run.owner() as connection,
            run.staging(archive_id) as staging,
            run.steered(staging, archive_id, rows=sum(part.rows for part in parts)) as steering,
        ):
            evidence = detach_partitions(connection, parts, run.deleting_step(staging, steering))
        for one in evidence.detached:
            self.log.info("%s waits as %s until %s: %d rows", one.partition, one.held_as, evidence.drop_after, one.rows)
        for stays in evidence.left:
            self.log.info("Rows of %s are left to the delete: %s", stays.partition, stays.reason)
        if evidence.note:
            self.log.info("All rows are left to the delete: %s", evidence.note)
        record = evidence.model_dump(mode="json")
        facts = {name: record[name] for name in ("archive_id", "drop_after", "note")}
        facts |= {"detached": [one.partition for one in evidence.detached], "rows": evidence.rows}
        facts["left"] = {one.partition: one.reason for one in evidence.left}
        return f"Detached {len(evidence.detached)} partitions of {evidence.table}: {archive_id}", facts, record
