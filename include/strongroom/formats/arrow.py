"""Arrow, without pandas and with the system's memory.

At its first conversion Arrow imports pandas if it is installed, as in Airflow's own images. That costs each task 39 MB and
0.4 CPU seconds, and nothing here needs it. Arrow looks for pandas once; it is hidden during that look-up.
Arrow's own allocator keeps about 15 MB more than our small batches need, and is no faster.
"""

from __future__ import annotations

import sys

import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["pa", "pc"]


class _NoPandas:
    """A module finder that reports pandas, and nothing else, as not installed."""

    @staticmethod
    def find_spec(name: str, *_: object) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(f"{name} is hidden from Arrow", name=name)


def _hide_pandas() -> None:
    sys.meta_path.insert(0, _NoPandas)
    try:
        pa.scalar("")
    finally:
        sys.meta_path.remove(_NoPandas)


_hide_pandas()
pa.set_memory_pool(pa.system_memory_pool())
