"""The list that keeps erased persons from coming back: tokens of their values, for each table.

A backup of the database, a replica that lagged, or a file that somebody loads can bring rows of an erased person back. So ``verify``
lets no such row into an archive, and a restore loads none. The list holds tokens, so it names nobody. It counts for rows that are
dated before the erasure: later, a number may have been given to somebody else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime

from strongroom.errors import ConfigurationError
from strongroom.formats.persons import Locator, Persons, SubjectKey, Suppressed
from strongroom.object_keys.records import parse_suppressed_key, suppressed_key, suppressed_prefix
from strongroom.records import VerifiedPart
from strongroom.settings import TableSettings
from strongroom.storage.store import Store


def read_suppressed(store: Store, key: SubjectKey, settings: TableSettings) -> dict[str, Suppressed]:
    """What must not come back into a table, by token. One listing reads it.

    Raises:
        ConfigurationError: The list was made with another key, so nobody can tell who is on it.
    """
    found: dict[str, Suppressed] = {}
    for name in store.keys(suppressed_prefix(settings.schema_name, settings.table_name)):
        parsed = parse_suppressed_key(name)
        if parsed is None:
            continue
        key_id, token, before, case_id = parsed
        if key_id != key.key_id:
            raise ConfigurationError(
                f"the list of erased persons of {settings.qualified_name} was made with another key",
                expected=f"key {key_id}",
                found=f"key {key.key_id} in connection {settings.subject_conn_id}",
                hint="No row was archived or loaded: it is not known whose rows must not come back. Give the connection its earlier password.",
            )
        if token not in found or found[token].before < before:
            found[token] = Suppressed(case_id, before)
    return found


def part_may_hold(store: Store, part: VerifiedPart, key: SubjectKey, tokens: Iterable[str]) -> bool:
    """Whether a part may have rows with one of some tokens. True where its locator is missing, another one, or of another key."""
    where = part.archive.locator_key(part.number)
    present = store.read(where) if part.locator_sha256 is not None else None
    if present is None or hashlib.sha256(present[0]).hexdigest() != part.locator_sha256:
        return True
    locator = Locator.parse(f"{store}{where}", present[0])
    return locator.key_id != key.key_id or any(map(locator.may_hold, tokens))


def tokens_of(store: Store, settings: TableSettings, case_id: str) -> list[str]:
    """The tokens of one case."""
    names = store.keys(suppressed_prefix(settings.schema_name, settings.table_name))
    return [parsed[1] for parsed in map(parse_suppressed_key, names) if parsed is not None and parsed[3] == case_id]


def suppress(
    store: Store, key: SubjectKey, settings: TableSettings, tokens: Iterable[str], *, case_id: str, before: datetime
) -> None:
    """Add tokens to the list of a table. A repeat with the same instant changes nothing."""
    body = b'{"erased": true}\n'
    for token in sorted(tokens):
        name = suppressed_key(settings.schema_name, settings.table_name, key.key_id, token, case_id, before)
        store.put_bytes(name, body)


def persons_of(store: Store, key: SubjectKey, settings: TableSettings) -> Persons:
    """What ``verify`` and a restore need to know of persons in a table that has columns of them. Raises as :func:`read_suppressed`."""
    return Persons(
        settings.subjects.columns,
        key,
        read_suppressed(store, key, settings),
        keep_about_two=settings.subjects.about_two == "keep",
    )
