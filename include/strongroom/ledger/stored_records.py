"""Reading one record from its object in the store."""

from __future__ import annotations

from strongroom.records import RecordKind, parse_record
from strongroom.storage.store import Store


def read_record(store: Store, key: str, kind: type[RecordKind], *, what: str, hint: str) -> RecordKind | None:
    """The record that is stored under a key; None if there is no object, or a delete marker hides it.

    Args:
        store: The archive store.
        key: Of the object.
        kind: Of the record.
        what: What the object should be, for the error: "a sound claim".
        hint: Of the error.

    Raises:
        IntegrityError: The object is not such a record.
    """
    present = store.read(key)
    return None if present is None else parse_record(kind, present[0], where=f"{store}{key}", what=what, hint=hint)
