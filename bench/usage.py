"""The cost of a piece of work: wall-clock seconds, CPU seconds on each side, peak memory and peak staging."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
_LOOK_SECONDS = 0.25
_SHARE = 0.03
"""The share of one core that sampling memory and staging may take from the measured work."""


@dataclass
class Usage:
    """The cost of one piece of work.

    Attributes:
        seconds: Wall-clock seconds.
        client_cpu: CPU seconds of the processes that do the work, including those that ended meanwhile.
        server_cpu: CPU seconds of PostgreSQL.
        store_cpu: CPU seconds of the S3 server.
        peak_mb: Peak resident memory of all working processes together, minus what they had at the start.
            Pages that several of them share count once.
        staging_mb: The largest size of the staging folder.
        under_way_mb: The same for parts in progress, which have more there than blocks and records.
    """

    seconds: float = 0.0
    client_cpu: float = 0.0
    server_cpu: float = 0.0
    store_cpu: float = 0.0
    peak_mb: float = 0.0
    staging_mb: float = 0.0
    under_way_mb: float = 0.0

    @property
    def cpu(self) -> float:
        """CPU seconds of client, PostgreSQL and S3 server together."""
        return self.client_cpu + self.server_cpu + self.store_cpu

    def add(self, other: Usage) -> None:
        """Add the cost of a piece of work that came after this one: times add up, peaks do not."""
        for name in ("seconds", "client_cpu", "server_cpu", "store_cpu"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("peak_mb", "staging_mb"):
            setattr(self, name, max(getattr(self, name), getattr(other, name)))


@dataclass(frozen=True)
class Step:
    """One step of a piece of work.

    Attributes:
        seconds: Wall-clock seconds.
        cpu: CPU seconds of client, PostgreSQL and S3 server together.
    """

    name: str
    seconds: float
    cpu: float


@dataclass
class Meter:
    """Measures pieces of work on one set of servers.

    Args:
        server_pid: The PostgreSQL postmaster.
        store_pid: The S3 server.
        staging: The folder to watch.
        clients: Returns the pids whose process trees do the work. This process is always included.
    """

    server_pid: int
    store_pid: int
    staging: Path
    clients: Callable[[], Sequence[int]] = field(default=list)

    @contextmanager
    def measured(self) -> Iterator[Usage]:
        """Measure a block. The figures are filled in when it ends."""
        usage, over = Usage(), threading.Event()
        clients = [os.getpid(), *self.clients()]
        before = self._cpu(clients)
        servers = (self.server_pid, self.store_pid)
        memory_before = _resident_mb(clients, without=servers)
        started = time.monotonic()

        def watch() -> None:
            pause = _LOOK_SECONDS
            while not over.wait(pause):
                looked = time.thread_time()
                usage.peak_mb = max(usage.peak_mb, _resident_mb(clients, without=servers) - memory_before)
                lying_mb, under_way_mb = staging_mb(self.staging)
                usage.staging_mb = max(usage.staging_mb, lying_mb)
                usage.under_way_mb = max(usage.under_way_mb, under_way_mb)
                pause = max(_LOOK_SECONDS, (time.thread_time() - looked) / _SHARE)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield usage
        finally:
            usage.seconds = time.monotonic() - started
            over.set()
            watcher.join()
            after = self._cpu(clients)
            usage.client_cpu, usage.server_cpu, usage.store_cpu = (
                now - then for now, then in zip(after, before, strict=True)
            )

    def cpu(self) -> float:
        """CPU seconds that client, PostgreSQL and S3 server have taken since they started."""
        return sum(self._cpu([os.getpid(), *self.clients()]))

    def _cpu(self, clients: Sequence[int]) -> tuple[float, float, float]:
        # The process that started the servers has them among its children.
        server, store = cpu_seconds([self.server_pid]), cpu_seconds([self.store_pid])
        return cpu_seconds(clients, without=(self.server_pid, self.store_pid)), server, store


class Laps:
    """Divides a piece of work that goes on elsewhere into steps, one after the other.

    Args:
        meter: Reads the CPU seconds.
        first: The step that begins now.
    """

    def __init__(self, meter: Meter, first: str) -> None:
        self._meter, self._name = meter, first
        self._steps: dict[str, Step] = {}
        self._at, self._cpu = time.monotonic(), meter.cpu()

    def begin(self, name: str) -> None:
        """End the step under way and begin another. A step may come back: its seconds are added up."""
        at, cpu = time.monotonic(), self._meter.cpu()
        before = self._steps.get(self._name, Step(self._name, 0, 0))
        self._steps[self._name] = Step(self._name, before.seconds + at - self._at, before.cpu + cpu - self._cpu)
        self._name, self._at, self._cpu = name, at, cpu

    def end(self) -> tuple[Step, ...]:
        """End the last step and return all of them, in the order in which they began first."""
        self.begin("")
        return tuple(self._steps.values())


def cpu_seconds(roots: Iterable[int], *, without: Iterable[int] = ()) -> float:
    """CPU time of process trees without some branches, including processes that ended and were waited for."""
    branches = process_tree(without)
    tree, before = process_tree(roots), None
    while tree.keys() != before:  # one that just ended may be missing, its parent read before it
        tree, before = process_tree(roots), tree.keys()
    return sum(sum(map(int, fields[11:15])) for pid, fields in tree.items() if pid not in branches) / TICKS


def _resident_mb(roots: Iterable[int], *, without: Iterable[int]) -> float:
    """Proportional resident memory of process trees without some branches."""
    total_kb = 0
    for pid in process_tree(roots).keys() - process_tree(without).keys():
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:  # it has just ended
            continue
        total_kb += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total_kb / 1024


def process_tree(roots: Iterable[int]) -> dict[int, list[str]]:
    """The processes of some trees by pid, each with the fields of ``/proc/PID/stat`` after its name."""
    every: dict[int, list[str]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            every[int(stat.parent.name)] = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
    found: dict[int, list[str]] = {}
    waiting = list(roots)
    while waiting:
        pid = waiting.pop()
        if pid in every and pid not in found:
            found[pid] = every[pid]
            waiting += [child for child, fields in every.items() if int(fields[1]) == pid]
    return found


def staging_mb(folder: Path) -> tuple[float, float]:
    """The size of staging, and how much of it belongs to parts in progress."""
    sizes: dict[Path, int] = {}
    for path in folder.rglob("part-*"):
        try:
            sizes[path] = path.stat().st_size
        except OSError:  # removed between the listing and the stat
            continue
    part = {path: path.with_name(path.name.partition(".")[0]) for path in sizes}
    under_way = {part[path] for path in sizes if path.suffix not in (".blocks", ".json")}
    return sum(sizes.values()) / 1e6, sum(size for path, size in sizes.items() if part[path] in under_way) / 1e6
