"""The wheel, installed into an environment of its own, is all that Airflow needs of us: provider, commands, DAGs."""

from __future__ import annotations

import email
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.support.repository import REPOSITORY

UV = Path(sys.executable).with_name("uv")
PARSE = """
import json, strongroom, strongroom_airflow
from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization
bag = DagBag("dags")
for dag in bag.dags.values():
    DagSerialization.to_dict(dag)
print(json.dumps([[strongroom.__file__, strongroom_airflow.__file__], bag.import_errors, sorted(bag.dags)]))
"""


def run(*command: Any, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        [*map(str, command)],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built in a copy, because a build writes beside its sources. Nothing is fetched."""
    folder = tmp_path_factory.mktemp("sources")
    for name in ("pyproject.toml", "README.md", "LICENSE", "requirements.txt", "requirements-iceberg.txt"):
        shutil.copy(REPOSITORY / name, folder)
    for name in ("include", "plugins"):
        ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(REPOSITORY / name, folder / name, ignore=ignore)
    options = ("--quiet", "--wheel", "--offline", "--no-build-isolation", "--python", sys.executable)
    run(UV, "build", *options, "--out-dir", folder / "dist", cwd=folder)
    [built] = (folder / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def machine(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with DAGs, plugin file and an environment that holds the wheel.

    Airflow and the other packages are those of the tests' own environment, whose folder is on the path. Its editable installation of
    the project is not seen: files named *.pth count only in an environment's own folder.
    """
    folder = tmp_path_factory.mktemp("machine")
    run(UV, "venv", "--quiet", "--offline", "--python", sys.executable, folder / "venv", cwd=folder)
    python = folder / "venv" / "bin" / "python"
    run(UV, "pip", "install", "--quiet", "--offline", "--no-deps", "--python", python, wheel, cwd=folder)
    here = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    (here / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    shutil.copytree(REPOSITORY / "dags", folder / "dags", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "plugins").mkdir()
    shutil.copy(REPOSITORY / "plugins" / "strongroom_plugin.py", folder / "plugins")
    shutil.copy(REPOSITORY / "include" / "config" / "archive.yaml", folder)
    return folder


def on(machine: Path, *words: str) -> str:
    """What Python prints on that machine."""
    variables = {
        "AIRFLOW_HOME": str(machine / "home"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(machine / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(machine / "plugins"),
        "STRONGROOM_CONFIG": str(machine / "archive.yaml"),
        "PYTHONPATH": "",
    }
    return run(machine / "venv" / "bin" / "python", *words, cwd=machine, **variables)


def test_the_wheel_holds_each_file_of_both_packages_and_nothing_else(wheel):
    """Templates, scripts and styles of the pages, too; no test, no local stack."""
    kept = {
        str(path.relative_to(root))
        for root in (REPOSITORY / "include", REPOSITORY / "plugins")
        for package in root.glob("strongroom*/")
        if package.is_dir() and not package.name.endswith(".egg-info")
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }

    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}

    assert len(held) > 300
    assert held == kept


def test_the_wheel_says_what_it_is(wheel):
    with zipfile.ZipFile(wheel) as archive:
        [name] = [one for one in archive.namelist() if one.endswith(".dist-info/METADATA")]
        about = email.message_from_bytes(archive.read(name))
        licenses = [one for one in archive.namelist() if ".dist-info/licenses/" in one]

    assert (about["Name"], about["License-Expression"], about["Requires-Python"]) == (
        "strongroom",
        "Apache-2.0",
        "<3.14,>=3.10",
    )
    assert [Path(one).name for one in licenses] == ["LICENSE"]
    assert "Framework :: Apache Airflow :: Provider" in about.get_all("Classifier", [])
    assert any(one.startswith("apache-airflow~=3.3") for one in about.get_all("Requires-Dist", []))


def test_airflow_finds_the_provider_and_its_commands(machine):
    listed = json.loads(on(machine, "-m", "airflow", "providers", "list", "--output", "json"))
    offered = on(machine, "-m", "airflow", "strongroom", "--help")

    [ours] = [one for one in listed if one["package_name"] == "strongroom"]
    assert ours["description"].startswith("Archives old PostgreSQL rows to S3")
    assert all(word in offered for word in ("archive", "restore", "verify", "bucket"))


def test_airflow_parses_the_dags_with_it(machine):
    """Also those of each table, whose timetable comes from the plugin."""
    places, errors, dags = json.loads(on(machine, "-c", PARSE).splitlines()[-1])

    assert all(Path(place).is_relative_to(machine / "venv") for place in places)
    assert errors == {}
    assert {"archive__audit_events", "restore_archive", "retention_purge"} <= set(dags)
