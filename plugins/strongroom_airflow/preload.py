"""Import what every task and every parse of a DAG file needs, once in the process that forks them."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from airflow.sdk import DAG, Asset, task_group

from strongroom_airflow import (
    archive,
    audit,
    defaults,
    documentation,
    drill,
    erasure,
    holds,
    iceberg,
    parameters,
    query,
    replication,
    restore,
    retention,
    statistics,
    verification,
)

__all__ = ["defaults", "documentation", "parameters", "task_group"]

for room in (
    archive,
    audit,
    drill,
    erasure,
    holds,
    iceberg,
    query,
    replication,
    restore,
    retention,
    statistics,
    verification,
):
    for module in iter_modules(room.__path__, f"{room.__name__}."):
        import_module(module.name)

# Airflow imports more when the first DAG and the first asset are made.
DAG("any", schedule="0 0 * * *")
Asset(name="any", uri="s3://bucket/any")
