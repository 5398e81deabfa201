"""What an `airflow` command imports and sets up first. The process that all commands are forked from does this once."""

from __future__ import annotations

import asyncio
import gc
from importlib import import_module
from pkgutil import iter_modules

import a2wsgi  # noqa: F401
import airflow.__main__
import airflow.api_fastapi.core_api.datamodels.dags
import airflow.dag_processing.dagbag
import airflow.providers.standard.operators.trigger_dagrun
import airflow.sdk.execution_time.task_runner
import airflow.serialization.definitions.mappedoperator  # noqa: F401
import alembic.runtime.environment  # noqa: F401
import httpx
from airflow.cli.cli_parser import get_parser
from airflow.models import import_all_models
from airflow.sdk.execution_time.supervisor import in_process_api_server
from sqlalchemy.orm import configure_mappers

import strongroom_airflow.exporter
import strongroom_airflow.notes
import strongroom_airflow.preload  # noqa: F401
from strongroom_airflow import commands
from strongroom_airflow.connections import read_service_descriptions


async def ask_api() -> None:
    """Make the in-process API of `airflow dags test` do the setup that it otherwise does before its first answer."""
    app = in_process_api_server().app
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=in_process_api_server().atransport, base_url="http://in-process") as client,
    ):
        await client.get("/health")


for module in iter_modules(commands.__path__, f"{commands.__name__}."):
    import_module(module.name)
import_all_models()
configure_mappers()
get_parser()
read_service_descriptions()
asyncio.run(ask_api())
gc.freeze()  # keeps the garbage collector of each fork from scanning, and so copying, these pages
