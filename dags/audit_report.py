"""audit_report: what was done with the archives in a period, for an auditor. Each 2 January it reports the year before; trigger it for another period.

One task reads the transparency logs of all stores, or of one table's. It lists what was archived, verified, deleted, restored, looked into, held and
destroyed, the calendar partitions that are due and neither archived nor empty, and how requirements of GDPR, NDPA, ISO 15489 and of your regulator
stand. The report is kept under `reports/audits/` as HTML that prints well, as JSON and as OSCAL assessment results, and entered in each log. It
changes nothing else: **clear it** at any time, which makes another report.

A requirement that is not satisfied does not fail the task: the log names it. A log that is damaged does.
"""

from __future__ import annotations

from airflow.sdk import DAG

from strongroom.settings import load_settings
from strongroom_airflow.audit.task import AuditOperator
from strongroom_airflow.defaults import START_DATE, default_args
from strongroom_airflow.parameters import optional

tables = load_settings().tables
first = next(iter(tables.values()))

with DAG(
    dag_id="audit_report",
    description="Report a period for an auditor",
    schedule="0 6 2 1 *",
    start_date=START_DATE,
    catchup=False,
    max_active_runs=1,
    tags=["strongroom", "audit"],
    doc_md=__doc__,
    default_args=default_args(first, pool=first.pool),
    params={
        "begin": optional("From", "First day of the period, UTC; the year before this one if it is empty."),
        "end": optional("To", "First day after the period, UTC."),
        "table": optional("Table", "Only this table's store; all if it is empty.", examples=list(tables)),
    },
):
    AuditOperator(
        task_id="report",
        doc_md="Reads the logs and keeps the report. **Clear it** at any time: it makes another report.",
    )
