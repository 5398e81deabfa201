"""A command that only reads the store imports what it needs for that, and no more. Imports are most of its work."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from strongroom_airflow.commands.definitions.loading import load_when_called
from tests.support.vault import fill_vault

NOT_NEEDED = (
    "airflow.models.dagrun",
    "numpy",
    "psycopg",
    "pyarrow",
    "strongroom.archive",
    "strongroom.database.session",
    "strongroom.restore.thaw",
    "strongroom.tables",
    "tabulate",
)
"""For databases, runs and the formats of rows."""


def imported_by(*arguments: str) -> set[str]:
    """The modules that a fresh Python imports. The process that other tests fork has imported everything."""
    program = [sys.executable, "-X", "importtime", *arguments]
    ended = subprocess.run(program, capture_output=True, text=True, check=True)
    return {line.rpartition("|")[2].strip() for line in ended.stderr.splitlines() if "import time:" in line}


@pytest.mark.parametrize("words", ["list", "purge --dry-run"])
def test_a_command_that_reads_the_store_loads_nothing_for_databases_and_rows(
    object_store, bucket, tmp_path, deployment, words
):
    fill_vault(object_store, bucket, tmp_path)
    deployment.store(object_store, bucket)

    imported = imported_by("-m", "airflow", "strongroom", *words.split())

    assert "strongroom.storage.store" in imported
    assert imported & set(NOT_NEEDED) == set()


@pytest.mark.exhaustive
def test_nor_do_the_modules_of_the_other_commands_that_read_the_store():
    """show, verify, restores, certificates, verifications and hold list."""
    modules = [f"strongroom_airflow.commands.{name}" for name in ("archives", "records", "holds")]

    imported = imported_by("-c", f"import {', '.join(modules)}")

    assert imported >= set(modules)
    assert imported & set(NOT_NEEDED) == set()


def test_what_is_imported_for_a_command_is_no_longer_searched_for_garbage():
    """Only what the command itself makes is, and it is searched as ever."""
    try:
        assert load_when_called("terminal.printable")("a\x1b") == "a\N{REPLACEMENT CHARACTER}"

        assert gc.get_freeze_count() > 0
        assert gc.isenabled()
    finally:
        gc.unfreeze()
