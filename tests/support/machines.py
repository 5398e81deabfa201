"""A machine with next to nothing on its PATH, for the scripts that look for programs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.support.repository import REPOSITORY


class Machine:
    """What a script of `deploy/` finds: a folder with the few programs that it needs, and nothing that it looks for yet.

    Args:
        folder: An empty one.
        script: The name of the script.
    """

    def __init__(self, folder: Path, script: str) -> None:
        self.programs, self.project = folder / "bin", folder / "project"
        self.script = self.project / "deploy" / script
        self.script.parent.mkdir(parents=True)
        shutil.copy(REPOSITORY / "deploy" / script, self.script)
        self.programs.mkdir()
        self.link("bash", "env", "timeout", "id", "dirname", "sh")

    def link(self, *names: str) -> None:
        """Put programs of this machine on the PATH."""
        for name in names:
            (self.programs / name).symlink_to(str(shutil.which(name)))

    def program(self, name: str, text: str) -> Path:
        """Put a program on the PATH."""
        path = self.programs / name
        path.unlink(missing_ok=True)  # writing to a link would replace the machine's own program
        path.write_text(text)
        path.chmod(0o755)
        return path

    def find(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the script."""
        return subprocess.run(
            [self.script, *words],
            env={"PATH": str(self.programs), "HOME": str(self.project)} | environment,
            capture_output=True,
            text=True,
            check=False,
        )
