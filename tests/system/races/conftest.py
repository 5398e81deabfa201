"""The scene of the fault matrix serves the races too, and their rows stand in the same table."""

from tests.system.faults.conftest import scene

__all__ = ["scene"]
