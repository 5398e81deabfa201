"""Which settings of a table were in force when, and what changed between them, as entries of the store's log.

The settings themselves lie at the key that their digest names. A change is a record of its own, numbered, so that the latest one says
what is in force; settings that come back get another number.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime, timezone
from operator import itemgetter
from typing import Any

from strongroom.ledger.journal import Act, Facts, enter, log_of, subject_of
from strongroom.object_keys.records import settings_change_key, settings_key, settings_prefix
from strongroom.records import Record, Sha256
from strongroom.settings import TableSettings
from strongroom.storage.store import Store

_CHANGE = re.compile(r"changes/([0-9]{5})-([0-9a-f]{64})\.json")
_SETTINGS = re.compile(r"([0-9a-f]{64})\.json")


class SettingsChange(Record):
    """That a table's settings are others than before. Their names are told; the values are in the settings themselves."""

    table: str
    before: Sha256
    after: Sha256
    changed: tuple[str, ...]
    noticed_at: datetime


def keep_settings(store: Store, settings: TableSettings) -> None:
    """Keep the settings of a table, and enter that they changed, if they did. A repeat changes nothing.

    Whoever acts by settings calls this before it acts. A store without a log keeps none.
    """
    if log_of(store) is None:
        return
    name, sha256 = (settings.schema_name, settings.table_name), settings.sha256
    body = settings.model_dump_json().encode()
    number, before = _in_force(store, *name)
    if before not in (None, sha256):
        _enter_change(store, settings, before, number + 1)
    store.put_bytes(settings_key(*name, sha256), body)


def _enter_change(store: Store, settings: TableSettings, before: str, number: int) -> None:
    name, sha256 = (settings.schema_name, settings.table_name), settings.sha256
    earlier = store.read(settings_key(*name, before))
    told = json.loads(earlier[0]) if earlier is not None else {}
    change = SettingsChange(
        table=settings.qualified_name,
        before=before,
        after=sha256,
        changed=tuple(changed_names(told, json.loads(settings.model_dump_json()))),
        noticed_at=datetime.now(timezone.utc),
    )
    key = settings_change_key(*name, number, sha256)
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


def _in_force(store: Store, schema_name: str, table_name: str) -> tuple[int, str | None]:
    """Number of the latest change, and digest of the settings since: before the first change, those that were kept last."""
    prefix = settings_prefix(schema_name, table_name)
    latest: tuple[int, str | None] = (0, None)
    kept_last: datetime | None = None
    for version in store.versions(prefix):
        name = version.key.removeprefix(prefix)
        if (change := _CHANGE.fullmatch(name)) is not None:
            latest = max(latest, (int(change[1]), change[2]), key=itemgetter(0))
            continue
        alone = _SETTINGS.fullmatch(name)
        if alone is not None and not latest[0] and (kept_last is None or version.modified_at > kept_last):
            latest, kept_last = (0, alone[1]), version.modified_at
    return latest
