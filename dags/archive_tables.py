"""One DAG a table: archive__<table> moves a partition's rows to the archive store, proves the copy, deletes the rows.

The tables stand in include/config/archive.yaml. What each step does is told in the DAG's own documentation.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from airflow.sdk import DAG, Asset, get_parsing_context, task_group

from strongroom.settings import TableSettings, load_settings
from strongroom_airflow.archive.checksum import ChecksumOperator
from strongroom_airflow.archive.compress import CompressOperator
from strongroom_airflow.archive.delete import DeleteOperator
from strongroom_airflow.archive.detach import DetachOperator
from strongroom_airflow.archive.extract_to_staging import ExtractToStagingOperator
from strongroom_airflow.archive.plan import PlanOperator
from strongroom_airflow.archive.report import ReportOperator
from strongroom_airflow.archive.seal import SealOperator
from strongroom_airflow.archive.upload import UploadOperator
from strongroom_airflow.archive.verify import VerifyOperator
from strongroom_airflow.documentation import describe_dag, describe_step
from strongroom_airflow.timetable import RetentionPartitionTimetable


def archive_dag(name: str, table: TableSettings) -> DAG:
    """Arrange the steps for one table."""
    asset = Asset(name=f"archive of {table.qualified_name}", uri=f"s3://{table.store.bucket}/{table.qualified_name}")

    with DAG(
        dag_id=f"archive__{table.slug}",
        description=f"Archive {table.qualified_name}: {table.frequency.value}, {table.hot_retention.in_words} hot",
        schedule=RetentionPartitionTimetable(table.cron, frequency=table.frequency, hot_retention=table.hot_retention),
        start_date=datetime(2020, 1, 1, tzinfo=timezone.utc),
        catchup=False,
        max_active_runs=1,
        tags=["strongroom", "archive", table.frequency.value],
        doc_md=describe_dag(table),
        default_args={
            "owner": table.owner,
            "retries": table.retries,
            "retry_delay": timedelta(seconds=30),
            "retry_exponential_backoff": 2,
            "max_retry_delay": timedelta(minutes=10),
            "pool": table.pool,
            # A part that is further on goes first, so that it makes room before the next one begins.
            "weight_rule": "upstream",
        },
    ) as dag:

        def step(task_id: str) -> dict:
            return {"task_id": task_id, "table": name, "doc_md": describe_step(task_id)}

        def part_step(task_id: str) -> dict:
            return step(task_id) | {
                "map_index_template": "part {{ task.part['number'] }}",
                "max_active_tis_per_dagrun": table.max_parallel_parts,
            }

        plan = PlanOperator(**step("plan"))
        planned = plan.output["plan"]

        @task_group
        def part(planned_part: dict) -> None:
            extracted = ExtractToStagingOperator(
                **part_step("extract_to_staging"), part=planned_part, last_step="part.verify"
            )
            compressed = CompressOperator(**part_step("compress"), part=extracted.output)
            checksummed = ChecksumOperator(**part_step("checksum"), part=compressed.output)
            uploaded = UploadOperator(**part_step("upload"), part=checksummed.output)
            VerifyOperator(**part_step("verify"), part=uploaded.output, plan=planned)

        parts = part.expand(planned_part=plan.output)
        seal = SealOperator(**step("seal"), plan=planned, parts=dag.get_task("part.verify").output)
        delete = DeleteOperator.partial(**part_step("delete")).expand(part=seal.output)
        report = ReportOperator(
            **step("report"),
            plan=planned,
            parts=seal.output,
            deleted=delete.output,
            asset=asset,
            trigger_rule="none_failed",
        )
        parts >> seal >> delete >> report
        if table.partition_delete.enabled:
            seal >> DetachOperator(**step("detach"), parts=seal.output) >> delete
    return dag


wanted = get_parsing_context().dag_id
for name, table in load_settings().tables.items():
    if wanted in (None, f"archive__{table.slug}"):
        globals()[f"archive__{table.slug}"] = archive_dag(name, table)
