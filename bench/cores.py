"""Kernel control groups that limit each worker to part of a core, so that two workers do not compete for cores."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from strongroom_local.servers.processes import ServerError

_GROUPS = Path("/sys/fs/cgroup")
_PERIOD_MICROSECONDS = 100_000


@contextmanager
def cpu_group(name: str, cores: float) -> Iterator[Path]:
    """A control group whose processes share this many cores. To add a process, write its pid to ``cgroup.procs``.

    See https://docs.kernel.org/scheduler/sched-bwc.html for the first version and
    https://docs.kernel.org/admin-guide/cgroup-v2.html for the second.
    At the end, remaining processes move back to their former group.

    Raises:
        ServerError: The group could not be created. Only root may create one, and not in every container.
    """
    first = (_GROUPS / "cpu").is_dir()
    parent = _GROUPS / "cpu" if first else _GROUPS
    group, quota = parent / name, round(cores * _PERIOD_MICROSECONDS)
    try:
        group.mkdir(exist_ok=True)
        if first:
            (group / "cpu.cfs_period_us").write_text(str(_PERIOD_MICROSECONDS))
            (group / "cpu.cfs_quota_us").write_text(str(quota))
        else:
            (parent / "cgroup.subtree_control").write_text("+cpu")
            (group / "cpu.max").write_text(f"{quota} {_PERIOD_MICROSECONDS}")
    except OSError as error:
        raise ServerError(
            f"the CPU time of workers cannot be bounded: {group}: {error.strerror}",
            hint="nothing was measured; run as root where control groups may be written, or leave --cores out",
        ) from None
    try:
        yield group
    finally:
        for pid in (group / "cgroup.procs").read_text().split():
            (parent / "cgroup.procs").write_text(pid)
        group.rmdir()
