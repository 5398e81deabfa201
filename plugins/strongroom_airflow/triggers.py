"""What waits in the triggerer, so that it occupies no worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from strongroom.errors import StoreError
from strongroom.restore.records import RestorePart
from strongroom.restore.thaw import parts_of, still_away
from strongroom.settings import load_settings
from strongroom_airflow.connections import connect_glacier

_FIRST_PAUSE_SECONDS = 2.0
"""Expedited parts are back in a minute or two. The pause doubles, because others take hours."""


class PartsReturnedTrigger(BaseTrigger):
    """Fires when every part can be read.

    :param table: The archived table, whose settings open the store.
    :param parts: Records of the parts that S3 was asked for.
    :param poll_seconds: The longest time between two checks.
    """

    def __init__(self, table: str, parts: list[dict[str, Any]], poll_seconds: float) -> None:
        super().__init__()
        self.table = table
        self.parts = parts
        self.poll_seconds = poll_seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The path of the class, and the arguments that make an equal trigger."""
        where = f"{type(self).__module__}.{type(self).__qualname__}"
        return where, {"table": self.table, "parts": self.parts, "poll_seconds": self.poll_seconds}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Check again and again, with longer and longer pauses. A store that does not answer is asked again."""
        pause = min(_FIRST_PAUSE_SECONDS, self.poll_seconds)
        while await asyncio.to_thread(self._count_away):
            await asyncio.sleep(pause)
            pause = min(pause * 2, self.poll_seconds)
        yield TriggerEvent({"parts": len(self.parts)})

    def _count_away(self) -> int:
        store = connect_glacier(load_settings().table(self.table))
        try:
            return len(still_away(store, parts_of(store, map(RestorePart.model_validate, self.parts))))
        except StoreError:
            return len(self.parts)
