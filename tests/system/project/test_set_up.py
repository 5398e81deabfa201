"""deploy/make-venv in a project with two tiny packages, one of them named uv, from a package index in a folder."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.repository import REPOSITORY

BACKEND = """
import zipfile
def build_editable(folder, config_settings=None, metadata_directory=None):
    with zipfile.ZipFile(folder + "/ours-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("ours-1.0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: ours\\nVersion: 1.0\\n")
        wheel.writestr("ours-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("ours-1.0.dist-info/RECORD", "")
    return "ours-1.0-py3-none-any.whl"
"""
UV = '#!/bin/sh\necho "$UV_DEFAULT_INDEX $UV_SYSTEM_CERTS $*" >> "$UV_CALLS"\nexit "$UV_STATUS"\n'


class Project:
    """A folder with make-venv, a lock and an index."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.index = (folder / "index").as_uri()
        self.calls = folder / "calls"
        (folder / "deploy").mkdir()
        (folder / "deploy" / "make-venv").write_bytes((REPOSITORY / "deploy" / "make-venv").read_bytes())
        (folder / "deploy" / "make-venv").chmod(0o755)
        (folder / "backend.py").write_text(BACKEND)
        (folder / "pyproject.toml").write_text(
            '[project]\nname = "ours"\nversion = "1.0"\n'
            '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        )
        (folder / "requirements.txt").write_text("one\nuv\n")
        locked = [self.package("one", {"one.py": ""}), self.package("uv", {"uv-1.0.data/scripts/uv": UV})]
        (folder / "requirements.lock").write_text("".join(locked))

    def package(self, name: str, files: dict[str, str]) -> str:
        """Put a wheel into the index, and return its line in the lock."""
        path = self.folder / "index" / name / f"{name}-1.0-py3-none-any.whl"
        path.parent.mkdir(parents=True)
        about = f"{name}-1.0.dist-info"
        described = {
            f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
            f"{about}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            f"{about}/RECORD": "",
        }
        with zipfile.ZipFile(path, "w") as wheel:
            for file, text in {**files, **described}.items():
                member = zipfile.ZipInfo(file)
                member.external_attr = 0o100755 << 16  # a regular, executable file
                wheel.writestr(member, text)
        (path.parent / "index.html").write_text(f'<a href="{path.name}">{path.name}</a>')
        return f"{name}==1.0 \\\n    --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"

    def set_up(self, uv_status: int = 0) -> str:
        """Run make-venv and return its output."""
        done = subprocess.run(
            [self.folder / "deploy" / "make-venv"],
            env={
                "PATH": os.environ["PATH"],
                "PYTHON": sys.executable,
                "PIP_INDEX_URL": self.index,
                "PIP_CONFIG_FILE": os.devnull,
                "UV_CALLS": str(self.calls),
                "UV_STATUS": str(uv_status),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        return done.stderr

    def installed(self) -> set[str]:
        """The names of the packages that pip finds in the virtual environment."""
        found = self.folder.glob(".venv/lib/*/site-packages/*.dist-info")
        return {path.name.partition("-")[0] for path in found} - {"pip", "setuptools"}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_the_lock_is_installed_by_the_uv_that_it_pins_from_where_pip_looks(project: Project):
    """uv too must match its hash, trusts the system's certificates as pip does, and a second run has nothing to do."""
    said = project.set_up()

    first, second = project.calls.read_text().splitlines()
    assert first == (
        f"{project.index} true pip install --quiet --python .venv/bin/python --no-deps --require-hashes -r requirements.lock"
    )
    assert second.endswith("--no-deps --no-build-isolation -e .")
    assert project.installed() == {"uv"}
    assert "pip does" not in said
    assert project.set_up() == ""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment as make-venv first creates it. Creating one takes seconds; copying it is quick."""
    folder = tmp_path_factory.mktemp("made") / ".venv"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    (folder / "strongroom-made").touch()
    return folder


@pytest.fixture
def begun(project: Project, made: Path) -> Project:
    """A project whose set-up was interrupted after the virtual environment was created."""
    shutil.copytree(made, project.folder / ".venv", symlinks=True)
    return project


@pytest.mark.exhaustive
def test_pip_installs_the_lock_where_uv_fails(begun: Project):
    """As with an index that only pip's own settings name."""
    project = begun
    said = project.set_up(uv_status=1)

    assert "uv could not install them; pip does" in said
    assert project.installed() == {"one", "uv", "ours"}


def test_a_uv_that_is_not_the_pinned_one_is_not_run_and_nothing_that_is_not_pinned_is_installed(begun: Project):
    project = begun
    lock = project.folder / "requirements.lock"
    other = project.package("two", {"two.py": ""})
    lock.write_text(lock.read_text().rpartition("--hash")[0] + other.partition("    ")[2])

    with pytest.raises(AssertionError, match="THESE PACKAGES DO NOT MATCH THE HASHES"):
        project.set_up()

    assert not project.calls.exists()
    assert project.installed() == set()
