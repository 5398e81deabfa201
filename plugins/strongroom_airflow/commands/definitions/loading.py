"""How the definition of a command names the function that does its work."""

from __future__ import annotations

import gc
from collections.abc import Callable
from importlib import import_module
from typing import Any


def load_when_called(import_path: str) -> Callable[..., Any]:
    """A function that imports another one when it is called, and calls it.

    Args:
        import_path: Of that function, below ``strongroom_airflow.commands``: ``catalog.catalog``.
    """
    module, _, name = import_path.rpartition(".")

    def command(*args: Any) -> Any:
        # What is imported stays to the end. To look for garbage in it again and again would take a tenth of the CPU.
        gc.disable()
        function = getattr(import_module(f"strongroom_airflow.commands.{module}"), name)
        gc.freeze()
        gc.enable()
        return function(*args)

    command.__name__ = name
    return command
