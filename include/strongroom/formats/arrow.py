"""Arrow, without pandas and with the system's memory.

At its first conversion Arrow imports pandas wherever that is installed, as in Airflow's own images: 39 MB and 0.4 CPU
seconds of each task, for nothing that is done here. Arrow looks for it once; meanwhile it is hidden.
Arrow's own allocator keeps some 15 MB more than batches as small as ours need, and is no faster with them.
"""

from __future__ import annotations

import sys

import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["pa", "pc"]


class _NoPandas:
    """A finder of modules that says of pandas alone that there is none."""

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
