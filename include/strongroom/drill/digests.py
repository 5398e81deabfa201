"""The digest of many rows, in whatever order they come, in little more than 32 bytes of memory a row."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from strongroom.records import Sha256

_BYTES = 32
_DRAWERS = 256


class RowDigests:
    """The SHA-256 of each row, kept so that they can be sorted at the end a drawer at a time."""

    def __init__(self) -> None:
        self._drawers = [bytearray() for _ in range(_DRAWERS)]
        self.rows = 0

    def add(self, rows: Iterable[bytes]) -> None:
        """Add rows: canonical texts without their newlines."""
        for row in rows:
            digest = hashlib.sha256(row).digest()
            self._drawers[digest[0]] += digest
            self.rows += 1

    def sha256(self) -> Sha256:
        """SHA-256 over all of them, sorted."""
        whole = hashlib.sha256()
        for drawer in self._drawers:
            digests = bytes(drawer)
            whole.update(b"".join(sorted(digests[at : at + _BYTES] for at in range(0, len(digests), _BYTES))))
        return whole.hexdigest()
