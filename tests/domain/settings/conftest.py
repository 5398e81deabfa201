"""A settings file for one test."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def a_file(tmp_path):
    """A function that writes one settings file and returns its path."""

    def write(text: str | bytes) -> Path:
        path = tmp_path / "archive.yaml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write
