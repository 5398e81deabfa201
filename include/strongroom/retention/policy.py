"""Who must approve the purge of an archive: what the settings say, and what they said until lately.

Approval stands between an archive and its end. So approval that was switched off is still asked for, for 30 days, unless the settings say
it twice. The store tells what they said before, and when it first saw others, by its own clock. Whether a DAG has run since makes no
difference: settings that the store has not seen yet count as from now.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import cached_property
from typing import Literal

from strongroom.ledger.configuration import PastSettings, past_settings
from strongroom.object_keys.archives import ArchiveId
from strongroom.object_keys.layout import EVIDENCE
from strongroom.object_keys.records import tables_with_settings
from strongroom.records import Record
from strongroom.settings import Settings, TableSettings
from strongroom.storage.store import Store

WAITING = timedelta(days=30)
"""How long approval that was switched off is still asked for."""

_Switch = Literal["four_eyes", "require_approval"]
_SWITCHES: tuple[_Switch, ...] = ("four_eyes", "require_approval")
_Name = tuple[str, str]


class PurgePolicy(Record):
    """Whether a person must approve the purge of a table's archives, whether it must be another than who started the run, and why."""

    approval: bool
    four_eyes: bool
    why: str


class PurgePolicies:
    """The policies of all tables whose archives lie in one store, at one moment.

    Args:
        settings: Of all tables.
        store: With rights to read.
        now: Aware instant, by the store's clock.
    """

    def __init__(self, settings: Settings, store: Store, now: datetime) -> None:
        self._settings, self._store, self._now = settings, store, now
        self._configured = {(one.schema_name, one.table_name): one for one in settings.tables.values()}
        self._policies: dict[_Name, PurgePolicy] = {}
        self._past: dict[_Name, list[PastSettings]] = {}

    def of(self, archive: ArchiveId) -> PurgePolicy:
        """That of an archive's table. One that is not configured is as strict as it was last, and as any other table of the store."""
        name = (archive.schema_name, archive.table_name)
        if name not in self._policies:
            four_eyes, approval = (next(self._reasons(switch, name), None) for switch in _SWITCHES)
            self._policies[name] = PurgePolicy(
                approval=(four_eyes or approval) is not None,
                four_eyes=four_eyes is not None,
                why=four_eyes or approval or self._why_not(name),
            )
        return self._policies[name]

    def _reasons(self, switch: _Switch, name: _Name) -> Iterator[str]:
        """Why a switch counts as on for a table; nothing where it is off."""
        own = self._configured.get(name)
        if own is None:
            yield from (
                f"{'.'.join(name)} is not configured, and {why}" for why in self._reasons_of_unknown(switch, name)
            )
            return
        yield from self._reasons_of(switch, own)
        if switch not in own.purge.confirmed and not self._past_of(name):
            yield (
                f"the store has kept no settings of {own.qualified_name} yet, so nobody knows whether purge.{switch} was switched off "
                f"lately; {_unless(switch)}"
            )

    def _reasons_of_unknown(self, switch: _Switch, name: _Name) -> Iterator[str]:
        if self._settings.left_out:
            yield "it may be one of the tables whose settings are wrong"
        if not self._past_of(name):
            yield "the store has kept no settings of it"
        for other in self._configured.values():
            yield from (f"of {other.qualified_name}: {why}" for why in self._reasons_of(switch, other))
        for last in self._left:
            if any(_has(past, switch) for past in self._past_of(last)):
                yield f"the last settings of {'.'.join(last)} had purge.{switch}"

    def _reasons_of(self, switch: _Switch, table: TableSettings) -> Iterator[str]:
        """Why a switch counts as on for a configured table, by its settings and by those that were in force lately."""
        if getattr(table.purge, switch):
            yield f"purge.{switch} is on"
        if switch in table.purge.confirmed:
            return
        for past in self._past_of((table.schema_name, table.table_name)):
            if _has(past, switch):
                off = past.ended_at or self._now
                was = (
                    f"purge.{switch} was switched off" if past.values else "settings that cannot be read were replaced"
                )
                yield f"{was} on {off:%Y-%m-%d}; until {off + WAITING:%Y-%m-%d} it counts as on, {_unless(switch)}"

    @cached_property
    def _left(self) -> list[_Name]:
        """The tables whose settings the store has, and that are not configured any more."""
        return sorted({*tables_with_settings(self._store.keys(EVIDENCE))} - self._configured.keys())

    def _past_of(self, name: _Name) -> list[PastSettings]:
        if name not in self._past:
            self._past[name] = past_settings(self._store, *name, since=self._now - WAITING)
        return self._past[name]

    def _why_not(self, name: _Name) -> str:
        own = self._configured.get(name)
        if own is None:
            return (
                f"{'.'.join(name)} is not configured, and neither its last settings nor another table ask for approval"
            )
        confirmed = not all(own.purge.confirmed.values())
        return f"purge.require_approval is off{', confirmed' if confirmed else ''}"


def _unless(switch: _Switch) -> str:
    return f"unless purge.confirmed says {switch}: false"


def _has(past: PastSettings, switch: _Switch) -> bool:
    """Whether a switch was on in earlier settings. Those that nobody can read count as strict."""
    purge = {} if past.values is None else past.values.get("purge", {})
    return past.values is None or not isinstance(purge, dict) or purge.get(switch, False) is not False
