"""Whose rows these are: keyed digests of the values that identify a person, and filters that tell where such rows may be.

A *class* names a kind of identifier, such as ``msisdn``. Columns of several tables have the same class if they hold the same kind. A
*token* is an HMAC over class and value. Who has the store and not the key can neither read a value from a token nor try one.

A *locator* is a Bloom filter over the tokens of one part's rows (Bloom 1970), about ten bits a value and seven probes: it never misses
a value, and holds about one of a hundred others to be there. A hit is then searched exactly.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import numpy as np
import zstandard
from cryptography.fernet import Fernet, InvalidToken

from strongroom.errors import ConfigurationError, ErasedError, IntegrityError
from strongroom.formats.copy_text import instant_of, unescape_all
from strongroom.formats.line_reader import LineReader
from strongroom.formats.type_names import without_modifier
from strongroom.records import PartFormat, TableShape

_BITS_A_VALUE, _PROBES = 10, 7
_FEWEST_BITS = 1024
_MOST_BITS = 8 << 28
_WORD = (1 << 64) - 1
_MOST_SEEN = 1 << 18
"""How many values of a column are remembered, so that those that occur again cost less."""
_SECRET = re.compile("[0-9a-f]{64}")
_FORMAT = "strongroom locator 1"


class SubjectKey:
    """The secret behind tokens and protected records.

    Args:
        secret: 32 bytes, as 64 hexadecimal digits.

    Raises:
        ConfigurationError: It has another form.
    """

    def __init__(self, secret: str) -> None:
        if _SECRET.fullmatch(secret) is None:
            raise ConfigurationError(
                "the key for records of persons has another form",
                expected="64 hexadecimal digits as the password of its connection",
                found=f"{len(secret)} characters",
                hint="Nothing was read or changed. `airflow strongroom subject key` makes a key.",
            )
        whole = bytes.fromhex(secret)
        of_tokens = hmac.digest(whole, b"strongroom tokens", "sha256").ljust(64, b"\0")
        self._inner, self._outer = (hashlib.sha256(bytes(byte ^ pad for byte in of_tokens)) for pad in (0x36, 0x5C))
        self._records = Fernet(base64.urlsafe_b64encode(hmac.digest(whole, b"strongroom records", "sha256")))
        self.key_id = hmac.digest(whole, b"strongroom key id", "sha256").hex()[:16]

    def digest(self, kind: str, value: str) -> bytes:
        """HMAC-SHA256 (RFC 2104) over a class, a zero byte and a value: 32 bytes.

        Two copies of hashes that have read the key take a sixth of the time of a new HMAC, and a part may have millions of values.
        """
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(f"{kind}\0{value}".encode())
        outer.update(inner.digest())
        return outer.digest()

    def token(self, kind: str, value: str) -> str:
        """:meth:`digest` as 64 hexadecimal digits."""
        return self.digest(kind, value).hex()

    def protect(self, body: bytes) -> bytes:
        """Encrypt and authenticate a record (Fernet: AES-128-CBC with HMAC-SHA256)."""
        return self._records.encrypt(body)

    def reveal(self, where: str, body: bytes) -> bytes:
        """Read what :meth:`protect` wrote.

        Raises:
            IntegrityError: It was protected with another key, or changed.
        """
        try:
            return self._records.decrypt(body)
        except InvalidToken:
            raise IntegrityError(
                f"{where} cannot be read",
                expected=f"a record protected with key {self.key_id}",
                hint="Nothing was changed. Give the connection of the key its earlier password.",
            ) from None


@dataclass(frozen=True)
class Suppressed:
    """A value of a person who was erased.

    Attributes:
        case_id: Of the case.
        before: Rows dated before this instant must not come back. A later row may be another person's: numbers are given out again.
    """

    case_id: str
    before: datetime


def canonical(kind_of_column: str, value: str) -> str | None:
    """The text in which the archive holds a value in a column of a type; None if the type has no such value.

    Raises:
        ConfigurationError: Equal values of this type may have different texts, so it cannot identify a person.
    """
    name = without_modifier(kind_of_column)
    if name in ("text", "character varying"):
        return value
    if name in ("smallint", "integer", "bigint"):
        return str(int(value)) if re.fullmatch(r"-?[0-9]{1,19}", value) else None
    if name == "uuid":
        try:
            return str(UUID(value))
        except ValueError:
            return None
    raise ConfigurationError(
        f"a column of type {kind_of_column} cannot identify a person",
        expected="text, character varying, smallint, integer, bigint or uuid",
        hint="Nothing was changed. Take the column out of `subject.columns`; equal values of its type may be written differently.",
    )


@dataclass(frozen=True)
class Persons:
    """The columns of a table that identify persons, and the key for their values.

    Attributes:
        columns: Class of each column, by its name.
        key: For tokens.
        suppressed: What must not be archived again, by token.
        keep_about_two: Whether a row stays that also has another person's value of the same class.
    """

    columns: Mapping[str, str]
    key: SubjectKey
    suppressed: Mapping[str, Suppressed]
    keep_about_two: bool = False


class Locator:
    """A filter over the tokens of one part."""

    def __init__(self, key_id: str, bits: bytes) -> None:
        self.key_id, self._bits = key_id, bits

    @classmethod
    def parse(cls, where: str, body: bytes) -> Locator:
        """Read what :meth:`to_bytes` wrote.

        Raises:
            IntegrityError: It has another form.
        """
        try:
            head, _, bits = zstandard.ZstdDecompressor().decompress(body, _MOST_BITS // 8 + 4096).partition(b"\n")
            told = json.loads(head)
            if told["format"] != _FORMAT or told["probes"] != _PROBES or not bits:
                raise ValueError("another format")
            return cls(str(told["key_id"]), bits)
        except (zstandard.ZstdError, ValueError, KeyError, TypeError):
            raise IntegrityError(
                f"{where} is not a locator",
                expected=_FORMAT,
                hint="Nothing was changed. A part without a sound locator is searched row by row.",
            ) from None

    def to_bytes(self) -> bytes:
        """The object in the store: a line of JSON, then the bits, compressed as one frame of zstd."""
        head = json.dumps({"format": _FORMAT, "key_id": self.key_id, "probes": _PROBES}).encode()
        return zstandard.ZstdCompressor(level=3).compress(head + b"\n" + self._bits)

    def may_hold(self, token: str) -> bool:
        """False if no row has the value; True if one may have it."""
        bits, size = self._bits, len(self._bits) * 8
        place, step = int(token[:16], 16), int(token[16:32], 16) | 1
        for _ in range(_PROBES):
            bit = place % size
            if not bits[bit >> 3] & 1 << (bit & 7):
                return False
            place = place + step & _WORD
        return True


class _Filling:
    """The bits of a locator while values are added."""

    def __init__(self, values: int) -> None:
        bits = min(max(_FEWEST_BITS, values * _BITS_A_VALUE), _MOST_BITS)
        self._bits = np.zeros((bits + 7) // 8 * 8, dtype=bool)

    def add(self, digests: Sequence[bytes]) -> None:
        """Add digests of 32 bytes."""
        words = np.frombuffer(b"".join(digests), dtype=">u8").astype(np.uint64).reshape(-1, 4)
        place, step = words[:, 0].copy(), words[:, 1] | np.uint64(1)
        for _ in range(_PROBES):
            self._bits[place % np.uint64(len(self._bits))] = True
            place += step

    def locator(self, key_id: str) -> Locator:
        """What they make."""
        return Locator(key_id, np.packbits(self._bits, bitorder="little").tobytes())


class LocatorWriter:
    """Makes the locator of a part from its content as it is read back, and looks for rows that must not come back.

    Args:
        shape: Of the table.
        format: Of the part: its content is JSON lines, or canonical texts.
        persons: Columns, key and suppressed values. At least one of the columns must be the table's.
        rows: Of the part.
    """

    def __init__(self, shape: TableShape, format: PartFormat, persons: Persons, *, rows: int) -> None:
        self._persons = persons
        known = {column.name: position for position, column in enumerate(shape.columns)}
        named = [name for name in persons.columns if name in known]
        for name in named:
            canonical(shape.columns[known[name]].base_type, "")
        self._classes = [persons.columns[name] for name in named]
        wanted = [*named, *([shape.date_column] if persons.suppressed else ())]
        self._columns = _reader(shape, format, [known[name] for name in wanted])
        self._filling = _Filling(rows * max(1, len(named)))
        self._seen: list[dict[str, Suppressed | None]] = [{} for _ in named]
        self.suppressed_rows = 0
        self.cases: set[str] = set()

    def watch(self, blocks: Iterable[bytes]) -> Iterator[bytes]:
        """The same blocks of content, of which each row is seen."""
        begun: list[bytes] = []
        for block in blocks:
            whole, newline, rest = block.rpartition(b"\n")
            if newline:
                self._see(b"".join([*begun, whole]).split(b"\n"))
                begun = [rest]
            else:
                begun.append(block)
            yield block

    def require_none_suppressed(self, what: str) -> None:
        """Raise if a row must not come back.

        Raises:
            ErasedError: Says how many there are, and of which cases.
        """
        if self.suppressed_rows:
            raise erased_rows(what, self.suppressed_rows, self.cases)

    @property
    def locator(self) -> Locator:
        """Of the rows that were seen."""
        return self._filling.locator(self._persons.key.key_id)

    def _see(self, rows: Sequence[bytes]) -> None:
        columns = self._columns(rows)
        hits: dict[int, list[int]] = {}  # columns with suppressed values, by the number of the row
        for position, values in enumerate(columns[: len(self._classes)]):
            seen = self._look_up(position, {value for value in values if value is not None})
            if not self._persons.suppressed:
                continue
            for number, value in enumerate(values):
                found = seen[value] if value is not None else None
                if found is not None and _is_before(columns[-1][number], found.before):
                    hits.setdefault(number, []).append(position)
                    self.cases.add(found.case_id)
        for number, positions in hits.items():
            self.suppressed_rows += not (self._persons.keep_about_two and self._about_two(columns, number, positions))

    def _look_up(self, position: int, values: set[str]) -> dict[str, Suppressed | None]:
        """Whether values of a column are suppressed. Those that were not seen before are added to the locator."""
        seen = self._seen[position]
        if len(seen) > _MOST_SEEN:
            seen.clear()
        kind, digest = self._classes[position], self._persons.key.digest
        if fresh := {value: digest(kind, value) for value in values if value not in seen}:
            self._filling.add([*fresh.values()])
            known = self._persons.suppressed
            seen |= {value: known.get(one.hex()) if known else None for value, one in fresh.items()}
        return seen

    def _about_two(self, columns: Sequence[Sequence[str | None]], number: int, positions: Sequence[int]) -> bool:
        classes = {self._classes[position] for position in positions}
        return any(
            kind in classes and position not in positions and columns[position][number] is not None
            for position, kind in enumerate(self._classes)
        )


def erased_rows(what: str, rows: int, cases: Iterable[str]) -> ErasedError:
    """The error about rows of persons who were erased."""
    named = ", ".join(sorted(cases))
    return ErasedError(
        f"{what} has rows of a person who was erased",
        expected="none that is dated before the erasure",
        found=f"{rows} of case {named}",
        hint=f"No row was deleted or loaded. They came back by some other way, such as a backup. Run `subject_erasure` for {named} again, "
        "which erases them here too; then clear this task.",
    )


def _reader(
    shape: TableShape, format: PartFormat, positions: Sequence[int]
) -> Callable[[Sequence[bytes]], list[list[str | None]]]:
    """Reads the texts of some columns of rows."""
    if format != "parquet":
        reader = LineReader([shape.columns[position] for position in positions])
        return lambda rows: [unescape_all(column) for column in reader.columns(rows)]

    def read(rows: Sequence[bytes]) -> list[list[str | None]]:
        fields = [row.decode().split("\t") for row in rows]
        return [unescape_all([row[position] for row in fields]) for position in positions]

    return read


def _is_before(date: str | None, before: datetime) -> bool:
    """Whether a row's date, as the archive has it, is before an instant. A date that no calendar has counts as before."""
    try:
        return instant_of(str(date)) < before
    except ValueError:
        return True
