"""Scratch space: a file is written, read back and removed, and there is room for the parts that are at work at the same time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from strongroom.checks.result import Checklist
from strongroom.errors import IntegrityError
from strongroom.settings import TableSettings
from strongroom.storage.staging_folder import FolderRoot, free_bytes

_NETWORKS = (
    "nfs",
    "cifs",
    "smb",
    "ceph",
    "gluster",
    "lustre",
    "beegfs",
    "9p",
    "fuse",
    "ocfs",
    "gfs",
    "virtiofs",
    "efs",
    "wekafs",
)
"""What kinds of file systems that several machines share begin with, in /proc/self/mountinfo."""


def check_folder(checks: Checklist, tables: Sequence[TableSettings], *, elsewhere: str | None) -> None:
    """Try the working folder of some tables, which is the same for all of them.

    Args:
        checks: Where results are noted.
        tables: At least one.
        elsewhere: The name of an executor that runs tasks on other machines; None if tasks run on this one.
    """
    folder, setting = tables[0].working_folder
    shared = setting == "staging"

    def worked() -> str:
        with FolderRoot(folder).of("strongroom-check") as staging:
            path = staging.folder / "probe"
            with staging.writing(path) as [handle]:
                handle.write(b"probe")
            if path.read_bytes() != b"probe":
                raise IntegrityError(
                    f"{path} is not what was written there a moment ago",
                    hint=f"Point `{setting}` at a folder of a disk that reads back what it was given.",
                )
            staging.clear()
        return str(folder)

    if not checks.attempt(f"files can be written, synced, read and removed in `{setting}`", worked):
        return
    free = free_bytes(folder, setting)
    needed = max(one.part_bytes * (one.max_parallel_parts if shared else 1) for one in tables)
    what = f"`{setting}` has room for the parts that are at work at the same time"
    seen = f"{_gib(free)} free; at most {_gib(needed)} needed"
    if free < needed:
        hint = "Free space, or lower `part_bytes`, `part_rows` or `max_parallel_parts`. A run that finds too little room stops before it reads a row."
        checks.warning(what, seen, hint)
    else:
        checks.ok(what, seen)
    if shared:
        _shared(checks, folder, elsewhere)


def _shared(checks: Checklist, folder: Path, elsewhere: str | None) -> None:
    what = "all machines that run tasks see the same staging"
    kind = filesystem_of(folder)
    if elsewhere is None:
        checks.ok(what, "tasks run on this machine")
    elif kind is not None and kind.startswith(_NETWORKS):
        checks.ok(what, f"{folder} is on {kind}")
    else:
        checks.warning(
            what,
            f"{elsewhere} may run tasks on other machines, and {folder} is on a disk of this one ({kind or 'of unknown kind'})",
            "If there is more than one machine: `staging: s3://BUCKET/PREFIX` in archive.yaml, with the connection strongroom_staging, or a "
            "shared file system there (docs/howto/many-machines.md).",
        )


def filesystem_of(folder: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str | None:
    """The kind of the file system that holds a folder, such as ``ext4``; None where the system does not say."""
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return None
    best, kind = "", None
    wanted = os.path.realpath(folder)
    for line in lines:
        left, dash, right = line.partition(" - ")
        fields = left.split(" ")
        if not dash or len(fields) < 5:
            continue
        point = fields[4].encode().decode("unicode_escape")
        inside = wanted == point or wanted.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, right.split(" ")[0]
    return kind


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:,.1f} GiB"
