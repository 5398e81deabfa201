"""One DAG for each table: archive__<table> copies a partition's rows to the archive store, proves the copy, deletes the rows.

The tables are in include/config/archive.yaml. The DAG's own documentation says what each step does.
"""

from __future__ import annotations

from airflow.sdk import DAG, get_parsing_context, task_group

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
from strongroom_airflow.assets import table_asset
from strongroom_airflow.defaults import BACKOFF, START_DATE, default_args
from strongroom_airflow.documentation import describe_dag, describe_step
from strongroom_airflow.timetable import RetentionPartitionTimetable

_OF_A_UNIT = "{{ task.part['archive_id'].rsplit('.', 2)[0] }} part {{ task.part['number'] }}"


def empty_dag(table: TableSettings) -> DAG:
    """The DAG of one table, without its steps."""
    return DAG(
        dag_id=f"archive__{table.slug}",
        description=f"Archive {table.qualified_name}: {table.frequency.value}, {table.hot_retention.in_words} hot",
        schedule=RetentionPartitionTimetable(table.cron, frequency=table.frequency, hot_retention=table.hot_retention),
        start_date=START_DATE,
        catchup=False,
        max_active_runs=1,
        tags=["strongroom", "archive", table.frequency.value],
        doc_md=describe_dag(table),
        # By weight, parts that are further on go first, so that they free staging before the next part starts.
        default_args=default_args(table, **BACKOFF, pool=table.pool, weight_rule="upstream"),
    )


def archive_dag(name: str, table: TableSettings) -> DAG:
    """Arrange the steps for one table."""
    asset = table_asset(table.qualified_name, table.store.bucket)

    with empty_dag(table) as dag:

        def step(task_id: str) -> dict:
            return {"task_id": task_id, "table": name, "doc_md": describe_step(task_id)}

        def part_step(task_id: str) -> dict:
            return step(task_id) | {
                "map_index_template": _OF_A_UNIT if table.unit else "part {{ task.part['number'] }}",
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
            sealed_by="seal",
            asset=asset,
            trigger_rule="none_failed",
        )
        parts >> seal >> delete >> report
        if table.partition_delete.enabled:
            seal >> DetachOperator(**step("detach"), parts=seal.output) >> delete
    return dag


wanted = get_parsing_context().dag_id
for name, table in load_settings().tables.items():
    if wanted in (None, f"archive__{table.slug}") and not table.is_member:
        globals()[f"archive__{table.slug}"] = archive_dag(name, table)
