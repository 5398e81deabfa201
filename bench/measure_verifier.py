"""Measure how long an auditor's program takes for a log of a million entries. Prints seconds and memory.

    python -m bench.measure_verifier [entries]

The entries are as long as true ones. They are about a thousand records, each of which is there; archives are not part of it, because
reading their bytes takes as long as reading a disk.
"""

from __future__ import annotations

import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

from strongroom.tlog.notes import SignerKey
from tests.support.repository import REPOSITORY
from tests.support.synthetic_log import write_log

RECORDS = 1000
BEGAN = datetime(2020, 1, 1, tzinfo=timezone.utc)


def main(entries: int) -> None:
    """Write the log into a folder, verify it in a process of its own, and print what that took."""
    key = SignerKey.generate("strongroom.bench/log")
    with tempfile.TemporaryDirectory(prefix="strongroom-verifier-") as name:
        folder = Path(name)
        lines = [line(folder, number) for number in range(entries)]
        write_log(folder, lines, key)
        size = sum(map(len, lines))
        del lines
        began = time.monotonic()
        program = [sys.executable, REPOSITORY / "tools" / "verify_evidence.py", folder, "--key", str(key.verifier)]
        done = subprocess.run(program, capture_output=True, text=True, check=False)
        took = time.monotonic() - began
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(done.stdout)
    cpu = used.ru_utime + used.ru_stime
    print(
        f"{entries:,} entries of {size / entries:.0f} bytes: {took:.1f} s, {cpu:.1f} s of CPU, {used.ru_maxrss / 1024:.0f} MiB"
    )


def line(folder: Path, number: int) -> bytes:
    """An entry, as long as one of a verification."""
    kind, name = (
        "verified",
        f"reports/verifications/public.calls/2026-05/public.calls.2026-05.0001/{number % RECORDS:04d}.json",
    )
    if number == 0:
        kind, name = "log begun", "metadata/source.json"
    body = name.encode()
    if number <= RECORDS:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(body)
    predicate = {
        "kind": kind,
        "at": f"{BEGAN + timedelta(minutes=number):%Y-%m-%dT%H:%M:%S.%fZ}",
        "archive_id": "public.calls.2026-05.0001",
        "table": "public.calls",
        "partition_key": "2026-05",
        "dag_id": "verify_archives",
        "run_id": f"scheduled__{number}",
        "task_id": "verify",
        "try_number": 1,
        "settings_sha256": hashlib.sha256(b"settings").hexdigest(),
        "facts": {"result": "sound", "rows": number},
        "software": "strongroom 0.1.0",
    }
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "predicateType": "urn:strongroom:act:v1",
        "subject": [{"name": name, "digest": {"sha256": hashlib.sha256(body).hexdigest()}}],
        "predicate": predicate,
    }
    return json.dumps(statement, sort_keys=True, separators=(",", ":")).encode()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
