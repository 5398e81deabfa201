"""What an `airflow` command imports and sets up before it does anything: spent once, by the process that all are forked off."""

from __future__ import annotations

import gc
from importlib import import_module
from pkgutil import iter_modules

import airflow.__main__
import airflow.api_fastapi.execution_api.app
import airflow.dag_processing.dagbag
import airflow.sdk.execution_time.supervisor
import airflow.sdk.execution_time.task_runner  # noqa: F401
from airflow.cli.cli_parser import get_parser
from airflow.models import import_all_models
from sqlalchemy.orm import configure_mappers

import strongroom_airflow.preload  # noqa: F401
from strongroom_airflow import commands

for module in iter_modules(commands.__path__, f"{commands.__name__}."):
    import_module(module.name)
import_all_models()
configure_mappers()
get_parser()
gc.freeze()  # what is here stays: no fork need look through it, and write to its pages
