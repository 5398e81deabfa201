"""Which settings of a table were in force when, and what changed between them, as entries of the store's log.

The settings themselves lie at the key that their digest names. A change is a record of its own, numbered, so that the latest one says
what is in force; settings that come back get another number. When settings ended is the instant at which the record of the change was
written, by the store's clock. A store without a log has the same records, and no entries.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from operator import attrgetter
from typing import Any, NamedTuple

from pydantic import ValidationError

from strongroom.ledger.entries import Act, Facts, subject_of
from strongroom.ledger.journal import enter
from strongroom.object_keys.records import settings_change_key, settings_key, settings_prefix
from strongroom.records import Record, Sha256
from strongroom.settings import TableSettings
from strongroom.storage.store import Store

_CHANGE = re.compile(r"changes/([0-9]{5,})-([0-9a-f]{64})\.json")
_SETTINGS = re.compile(r"([0-9a-f]{64})\.json")


class SettingsChange(Record):
    """That a table's settings are others than before. Their names are told; the values are in the settings themselves."""

    table: str
    before: Sha256
    after: Sha256
    changed: tuple[str, ...]
    noticed_at: datetime


@dataclass(frozen=True)
class PastSettings:
    """Settings of a table that were in force.

    Attributes:
        values: As JSON has them; None if they cannot be read, so that nobody knows them.
        ended_at: When the store first saw others, by its clock; None for those that it saw last.
    """

    values: dict[str, Any] | None
    ended_at: datetime | None


def keep_settings(store: Store, settings: TableSettings) -> None:
    """Keep the settings of a table, and enter that they changed, if they did. A repeat changes nothing.

    Whoever seals by settings calls this before.
    """
    _keep(store, settings, _Known(store, settings.schema_name, settings.table_name))


def notice_change(store: Store, settings: TableSettings) -> None:
    """:func:`keep_settings` where the store already knows settings of the table; elsewhere it goes on knowing none.

    Whoever purges by settings calls this before.
    """
    known = _Known(store, settings.schema_name, settings.table_name)
    if known.in_force is not None:
        _keep(store, settings, known)


def past_settings(store: Store, schema_name: str, table_name: str, *, since: datetime) -> list[PastSettings]:
    """The settings of a table that were in force at any time since an instant, as far as the store knows.

    Args:
        store: Where its archives lie.
        schema_name: Of the table, which need not be configured any more.
        table_name: Likewise.
        since: Aware instant.

    Returns:
        Those that are gone without a trace, then the others, latest first; empty where the store knows no settings of the table.
    """
    known = _Known(store, schema_name, table_name)
    ends = [change.at for change in known.changes]
    spans = [(sha256, ends[0] if ends else None) for sha256 in known.at_first]
    spans += zip((change.sha256 for change in known.changes), [*ends[1:], None], strict=True) if ends else []
    gone = [PastSettings(None, at) for at in known.gone_until if at > since]
    return gone + [
        PastSettings(_values(store, settings_key(schema_name, table_name, sha256), sha256), ended_at)
        for sha256, ended_at in reversed(spans)
        if ended_at is None or ended_at > since
    ]


def _keep(store: Store, settings: TableSettings, known: _Known) -> None:
    _notice(store, settings, known)
    store.put_bytes(settings_key(settings.schema_name, settings.table_name, settings.sha256), _body_of(settings))


def _notice(store: Store, settings: TableSettings, known: _Known) -> None:
    before, name, sha256 = known.in_force, (settings.schema_name, settings.table_name), settings.sha256
    if before in (None, sha256):
        return
    told = _values(store, settings_key(*name, before), before)
    change = SettingsChange(
        table=settings.qualified_name,
        before=before,
        after=sha256,
        changed=tuple(changed_names(told or {}, json.loads(_body_of(settings)))),
        noticed_at=datetime.now(timezone.utc),
    )
    key = settings_change_key(*name, known.number + 1, sha256)
    kept = store.put_first(key, change.to_bytes())
    facts: Facts = {"before": before, "changed": ", ".join(change.changed)}
    act = Act(kind="configuration changed", table=change.table, settings_sha256=sha256, facts=facts)
    enter(store, act, [subject_of(key, kept)])


def changed_names(before: dict[str, Any], after: dict[str, Any], within: str = "") -> Iterator[str]:
    """The dotted names of settings that have another value, sorted."""
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            yield from changed_names(old, new, f"{within}{name}.")
        else:
            yield f"{within}{name}"


def _body_of(settings: TableSettings) -> bytes:
    return settings.model_dump_json().encode()


def _values(store: Store, key: str, sha256: str) -> dict[str, Any] | None:
    """Settings that the store has kept; None if they are gone, no settings, or others than their digest says."""
    present = store.read(key)
    if present is None or hashlib.sha256(present[0]).hexdigest() != sha256:
        return None
    try:
        values = json.loads(present[0])
    except (ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else None


def _before(store: Store, key: str) -> str | None:
    """The digest of the settings before a change, by its record; None if that cannot be read. Believed only where it makes a purge stricter."""
    present = store.read(key)
    try:
        return None if present is None else SettingsChange.model_validate_json(present[0]).before
    except ValidationError:
        return None


class _Step(NamedTuple):
    """A change: its number, the settings from then on, and when it was written."""

    number: int
    sha256: str
    at: datetime


class _Known:
    """What a store knows of the settings of one table.

    Attributes:
        changes: In their order.
        at_first: Digests of the settings that were kept before the first change: usually one; the last comes last.
        gone_until: When settings ended of which nothing is left: a number is missing, or what was kept before the first change.
    """

    def __init__(self, store: Store, schema_name: str, table_name: str) -> None:
        prefix = settings_prefix(schema_name, table_name)
        changes, kept = {}, {}
        for version in sorted(store.versions(prefix), key=attrgetter("modified_at")):
            name = version.key.removeprefix(prefix)
            if (change := _CHANGE.fullmatch(name)) is not None:
                changes[name] = _Step(int(change[1]), change[2], version.modified_at)
            elif (alone := _SETTINGS.fullmatch(name)) is not None:
                kept[alone[1]] = version.modified_at
        self.changes = sorted(changes.values())
        told = {change.sha256 for change in self.changes}
        self.at_first = [sha256 for sha256 in kept if sha256 not in told]
        numbers = [0, *(change.number for change in self.changes)]
        self.gone_until = [
            change.at for change, before in zip(self.changes, numbers, strict=False) if change.number > before + 1
        ]
        if self.changes and not self.at_first:  # they came back later, or they are gone
            first = self.changes[0]
            if _before(store, settings_change_key(schema_name, table_name, first.number, first.sha256)) not in kept:
                self.gone_until.append(first.at)

    @property
    def number(self) -> int:
        """Of the latest change; 0 before the first."""
        return self.changes[-1].number if self.changes else 0

    @property
    def in_force(self) -> str | None:
        """Digest of the settings in force: those of the latest change, or before the first one those that were kept last."""
        if self.changes:
            return self.changes[-1].sha256
        return self.at_first[-1] if self.at_first else None
