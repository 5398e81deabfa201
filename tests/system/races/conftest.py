"""The races also use the scene of the fault matrix, and their results are in the same table."""

from tests.system.faults.conftest import scene, small_blocks

__all__ = ["scene", "small_blocks"]
