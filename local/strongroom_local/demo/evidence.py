"""The demo's evidence, checked by the two programs that an outsider runs: the witness of the log, and the verifier of everything.

Both are single files that import nothing of Strongroom. The witness's key and memory lie in the stack's folder; on a real system they
lie on a host of somebody else.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strongroom_local.servers.airflow import REPOSITORY
from strongroom_local.servers.processes import ServerError, bare_environment
from strongroom_local.servers.stack import Stack
from strongroom_local.servers.stack_folder import BUCKET

WITNESS, VERIFIER = (REPOSITORY / "tools" / name for name in ("witness.py", "verify_evidence.py"))
_SECONDS = 600


@dataclass(frozen=True)
class Verdict:
    """What the verifier said.

    Attributes:
        words: ``proved``, ``not all proved`` or ``false``.
        findings: Each with its `check`, `verdict` (``proved``, ``not proved`` or ``false``) and `text`.
    """

    words: str
    findings: tuple[dict[str, Any], ...]

    @property
    def proved(self) -> bool:
        """Whether nothing is open."""
        return self.words == "proved"


def cosign(stack: Stack) -> str:
    """Let a witness look at the log once; returns its public key.

    Raises:
        ServerError: It could not do its work.
    """
    folder = stack.folder / "witness"
    public = folder / "public"
    if not public.exists():
        made = _run(stack, "witness", [WITNESS, "key", "witness.strongroom.local", "--state", folder])
        public.write_text(made.stdout.strip().splitlines()[-1] + "\n")
    key = str(stack.log_key.verifier)
    _run(stack, "witness", [WITNESS, "--state", folder, *_where(stack), "--log-key", key, "--once"])
    return public.read_text().strip()


def verify_bucket(stack: Stack) -> Verdict:
    """Let a witness cosign the log, and check the whole bucket.

    Raises:
        ServerError: One of the programs could not do its work.
    """
    given = [*_where(stack), "--key", str(stack.log_key.verifier), "--witness", cosign(stack)]
    checked = _run(stack, "auditor", [VERIFIER, *given, "--json"], codes=(0, 1, 2))
    told = json.loads(checked.stdout)
    words = {0: "proved", 1: "false", 2: "not all proved"}[checked.returncode]
    return Verdict(words, tuple(told["findings"]))


def _where(stack: Stack) -> list[str]:
    return ["--s3", BUCKET, "--endpoint", stack.object_store.endpoint_url]


def _run(
    stack: Stack, identity: str, command: list[Path | str], *, codes: tuple[int, ...] = (0,)
) -> subprocess.CompletedProcess[str]:
    access_key, secret_key = stack.object_store.keys(identity)
    ended = subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=_SECONDS,
        env={**bare_environment(), "AWS_ACCESS_KEY_ID": access_key, "AWS_SECRET_ACCESS_KEY": secret_key},
    )
    if ended.returncode not in codes:
        raise ServerError(
            f"{Path(command[0]).name} ended with code {ended.returncode}",
            found=(ended.stderr or ended.stdout)[-1000:],
            hint="what was archived is kept; read what it says, and run it again by hand",
        )
    return ended
