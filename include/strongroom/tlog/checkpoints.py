"""Heads of a log and proofs to hand over, as C2SP's tlog-checkpoint and tlog-proof have them."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass

from strongroom.errors import IntegrityError
from strongroom.tlog.merkle import HASH_BYTES, hash_leaf, verify_inclusion
from strongroom.tlog.notes import Note

_SIZE = re.compile(r"0|[1-9][0-9]{0,17}")
_PROOF = "c2sp.org/tlog-proof@v1"


@dataclass(frozen=True)
class Checkpoint:
    """How large a log is, and the root of its tree."""

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        """What is signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"

    @classmethod
    def parse(cls, where: str, text: str) -> Checkpoint:
        """Read the text of a note. A line of extensions is refused, because nobody could check it.

        Raises:
            IntegrityError: It is no checkpoint.
        """
        lines = text.split("\n")
        if len(lines) != 4 or lines[3] or not lines[0] or not _SIZE.fullmatch(lines[1]):
            raise _damaged(where, "a checkpoint", "other lines")
        root = _hash(lines[2])
        if root is None:
            raise _damaged(where, "a checkpoint", "a root that is not a hash")
        return cls(lines[0], int(lines[1]), root)


@dataclass(frozen=True)
class EntryProof:
    """That an entry is in a log, with the signed checkpoint that says so. An auditor keeps it as a file `….tlog-proof`.

    Attributes:
        index: Of the entry.
        hashes: From its neighbour up to the root, 32 bytes each.
        note: The signed checkpoint.
        extra: What the file carries beside the proof. Nobody signs it; Strongroom puts the entry itself there.
    """

    index: int
    hashes: tuple[bytes, ...]
    note: Note
    extra: bytes = b""

    def to_bytes(self) -> bytes:
        """The file."""
        extra = [f"extra {base64.b64encode(self.extra).decode()}"] if self.extra else []
        lines = [_PROOF, *extra, f"index {self.index}", *(base64.b64encode(each).decode() for each in self.hashes), ""]
        return "\n".join(lines).encode() + b"\n" + self.note.to_bytes()

    @classmethod
    def parse(cls, where: str, body: bytes) -> EntryProof:
        """Read the file.

        Raises:
            IntegrityError: It is no such file.
        """
        head, blank, tail = body.partition(b"\n\n")
        lines = head.decode(errors="replace").split("\n")
        extra: bytes | None = b""
        if len(lines) > 1 and lines[1].startswith("extra "):
            extra = _decoded(lines.pop(1).removeprefix("extra "))
        named, _, number = lines[1].partition(" ") if len(lines) > 1 else ("", "", "")
        hashes = [_hash(line) for line in lines[2:]]
        if (
            not blank
            or lines[0] != _PROOF
            or named != "index"
            or not _SIZE.fullmatch(number)
            or extra is None
            or None in hashes
        ):
            raise _damaged(where, "a proof of an entry", "other lines")
        return cls(int(number), tuple(each for each in hashes if each), Note.parse(where, tail), extra)

    def require(self, where: str, entry: bytes) -> Checkpoint:
        """The checkpoint that an entry is proved to be in. Its signatures are the caller's to verify.

        Raises:
            IntegrityError: The entry is not in it.
        """
        checkpoint = Checkpoint.parse(where, self.note.text)
        verify_inclusion(hash_leaf(entry), self.index, checkpoint.size, self.hashes, checkpoint.root)
        return checkpoint


def _hash(text: str) -> bytes | None:
    found = _decoded(text)
    return found if found is not None and len(found) == HASH_BYTES else None


def _decoded(text: str) -> bytes | None:
    """What base64 stands for; None if it is none, or not in its one canonical spelling."""
    try:
        found = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return found if base64.b64encode(found).decode() == text else None


def _damaged(where: str, what: str, found: str) -> IntegrityError:
    return IntegrityError(
        f"{where} is not {what}",
        found=found,
        hint="Nothing was changed. List the versions of that object; an earlier one may be sound.",
    )
