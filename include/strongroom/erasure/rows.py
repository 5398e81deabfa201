"""Which rows are about a person, and what becomes of each.

A row is about the person if a column of a class holds one of the person's values of that class. It is about *two* persons if another column of
the same class holds another value, as in a call between two numbers. The settings say whether such a row is removed, kept, or kept
with the person's values blanked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from strongroom.erasure.cases import Case, read_identifiers
from strongroom.errors import ErasureError
from strongroom.formats.copy_text import NULL, escape, unescape_all
from strongroom.formats.persons import SubjectKey, canonical
from strongroom.records import TableShape
from strongroom.settings import Subjects, TableSettings
from strongroom.storage.store import Store

Fate = Literal["kept", "removed", "blanked", "about two"]
"""What becomes of a row. `about two` is kept because of the settings."""

BLANKED = "erased"
"""What stands in a column that may not be NULL."""

_NULL = NULL.encode()


@dataclass(frozen=True)
class Wanted:
    """Whose rows are looked for.

    Attributes:
        values: The person's identifiers by class. None once they were forgotten: then the tokens tell.
        tokens: Of the values.
        key: That makes tokens.
    """

    values: Mapping[str, frozenset[str]] | None
    tokens: frozenset[str]
    key: SubjectKey

    @classmethod
    def of(cls, key: SubjectKey, values: Mapping[str, frozenset[str]]) -> Wanted:
        """A person whose identifiers are known."""
        return cls(values, frozenset(key.token(kind, one) for kind, some in values.items() for one in some), key)

    def holds(self, kind: str, text: str) -> bool:
        """Whether a value of a class is the person's."""
        if self.values is not None:
            return text in self.values.get(kind, ())
        return self.key.token(kind, text) in self.tokens

    def narrowed(self, kind: str, column_type: str) -> list[str] | None:
        """The person's values as a column of a type has them; None if only tokens are known."""
        if self.values is None:
            return None
        return [text for one in sorted(self.values.get(kind, ())) if (text := canonical(column_type, one)) is not None]


def read_wanted(store: Store, key: SubjectKey, case: Case, tokens: Iterable[str]) -> Wanted:
    """Whose rows a case is about.

    Args:
        tokens: Those of the case in the list of what must not come back, for a case whose person was forgotten.

    Raises:
        ErasureError: The person was forgotten, and nothing was erased, so nobody knows who it is.
    """
    values = read_identifiers(store, key, case)
    if values is not None:
        return Wanted.of(key, values)
    known = frozenset(tokens)
    if not known:
        raise ErasureError(
            f"nobody knows any more who case {case.case_id} is about",
            hint="Nothing was read or changed. The case has ended without an erasure. Open a new one.",
        )
    return Wanted(None, known, key)


def columns_of(settings: TableSettings, shape: TableShape) -> dict[str, str]:
    """Class of each column of a shape that identifies persons, by its name."""
    present = {column.name for column in shape.columns}
    return {name: kind for name, kind in settings.subjects.columns.items() if name in present}


class PersonRows:
    """Decides what becomes of rows of one shape of a table, given as canonical texts."""

    def __init__(self, shape: TableShape, subjects: Subjects, wanted: Wanted) -> None:
        self._about_two = subjects.about_two
        self._columns = [
            (position, subjects.columns[column.name])
            for position, column in enumerate(shape.columns)
            if column.name in subjects.columns
        ]
        for position, _ in self._columns:
            canonical(shape.columns[position].base_type, "")
        self._blank = {
            position: _NULL if column.nullable else BLANKED.encode()
            for position, column in enumerate(shape.columns)
            if column.name in subjects.columns or column.name in subjects.also_blank
        }
        self._also = [p for p, column in enumerate(shape.columns) if column.name in subjects.also_blank]
        self._key_columns = {p for p, column in enumerate(shape.columns) if column.name in shape.primary_key}
        self._shape = shape
        self._texts = None
        if wanted.values is not None:
            every = (one for kind in {*subjects.columns.values()} for one in wanted.values.get(kind, ()))
            self._texts = [escape(one).encode() for one in every]
        self._is_theirs = lru_cache(maxsize=65_536)(lambda kind, field: _is_theirs(wanted, kind, field))

    def fate(self, row: bytes) -> Fate:
        """What becomes of a row."""
        if self._texts is not None and not any(text in row for text in self._texts):
            return "kept"
        hits = self._hits(fields := row.split(b"\t"))
        if not hits:
            return "kept"
        classes = {kind for position, kind in self._columns if position in hits}
        two = any(
            kind in classes and position not in hits and fields[position] != _NULL for position, kind in self._columns
        )
        if not two or self._about_two == "remove":
            return "removed"
        return "blanked" if self._about_two == "blank" else "about two"

    def blanked(self, row: bytes) -> bytes:
        """The row without the person's values, and without what else the settings name.

        Raises:
            ErasureError: A value is part of the row's key, or may neither be NULL nor a text.
        """
        fields = row.split(b"\t")
        for position in (*self._hits(fields), *self._also):
            self._require_blankable(position)
            fields[position] = self._blank[position]
        return b"\t".join(fields)

    def _hits(self, fields: list[bytes]) -> set[int]:
        return {position for position, kind in self._columns if self._is_theirs(kind, fields[position])}

    def _require_blankable(self, position: int) -> None:
        column = self._shape.columns[position]
        if position in self._key_columns:
            raise unblankable(self._shape, column.name, "it is part of the primary key")
        if not column.nullable and column.base_type not in ("text", "character varying"):
            raise unblankable(self._shape, column.name, f"it is NOT NULL and of type {column.type}")


def _is_theirs(wanted: Wanted, kind: str, field: bytes) -> bool:
    [text] = unescape_all([field.decode()])
    return text is not None and wanted.holds(kind, text)


def unblankable(shape: TableShape, column: str, why: str) -> ErasureError:
    """The error about a column that cannot be blanked."""
    return ErasureError(
        f"{column} of {shape.schema_name}.{shape.table_name} cannot be blanked: {why}",
        expected="a column that may be NULL, or a text, and is no part of the key",
        hint="Nothing was changed. Set `subjects.about_two` to remove or keep for this table, and run the case again.",
    )


def split_rows(texts: Iterable[bytes]) -> Iterator[bytes]:
    """Single rows of canonical texts, without their newlines."""
    for some in texts:
        yield from some.removesuffix(b"\n").split(b"\n")
