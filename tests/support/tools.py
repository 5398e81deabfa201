"""The programs in `tools/`, as modules."""

from __future__ import annotations

import importlib.util
import json
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.support.repository import REPOSITORY


def load_tool(name: str) -> ModuleType:
    """A program as a module, by its file."""
    spec = importlib.util.spec_from_file_location(name, REPOSITORY / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules.setdefault(name, importlib.util.module_from_spec(spec))
    spec.loader.exec_module(module)
    return module


verifier = load_tool("verify_evidence")


class Verdict:
    """What `verify_evidence.py` said."""

    def __init__(self, code: int, told: dict[str, Any]) -> None:
        self.code, self.findings = code, [tuple(finding.values()) for finding in told["findings"]]

    def of(self, verdict: str, check: str | None = None) -> list[str]:
        """The texts of one verdict, of one check or of all."""
        return [text for of, found, text in self.findings if found == verdict and check in (None, of)]

    @property
    def false(self) -> list[str]:
        return self.of("false")

    @property
    def unproved(self) -> list[str]:
        return self.of("not proved")


def verify_evidence(*arguments: str | Path) -> Verdict:
    """Run the program. It may end with a traceback in no case, and with no check that it did not foresee."""
    out = StringIO()
    with redirect_stdout(out):
        code = verifier.main([*map(str, arguments), "--json"])
    verdict = Verdict(code, json.loads(out.getvalue()))
    assert not [text for text in verdict.unproved if "could not be finished" in text], verdict.findings
    return verdict
