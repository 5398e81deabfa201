"""Scratch space between the steps of a run: a place per archive, a few files per part.

If all workers share a folder, staging is that folder (:mod:`strongroom.storage.staging_folder`); if not, it is a prefix on S3
(:mod:`strongroom.storage.staging_s3`). A step sees no difference: it works on files of its own machine, names the file of an
earlier step that it needs by its sum, and keeps what it wrote. The record of a finished step lies beside the files, so a
repeat of the step finds it and does not do the work again.
"""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING

from strongroom.errors import IntegrityError, StagingError
from strongroom.object_keys.archives import part_file, part_name
from strongroom.records import CompressedPart, PartKind, PlannedPart, Record, RecordKind, Sha256, narrow, parse_record

if TYPE_CHECKING:
    from typing_extensions import Self

OF_RESTORES = "restores"
"""The folder for the staging of restores: a place for each restore, and in it one for each archive."""

OF_QUERIES = "queries"
"""The folder for the results of queries: a place for each."""

QUERY_RESULTS_KEPT = timedelta(days=1)
"""How long the result of a query can be opened; then it is removed."""

_CLEAR = "Nothing was uploaded or deleted because of it. Another version wrote it; it was put aside. Clear this task: it does its step again."
_FOLDER = re.compile(r"(?!\.+$)[A-Za-z0-9_.%-]+")


class Staging(ABC):
    """The scratch space of one archive, as one step sees it; a context manager, because a step may leave files of its own.

    Its paths are those of files on this machine.
    """

    @property
    @abstractmethod
    def folder(self) -> Path:
        """An existing folder of this machine, for files of this step."""

    @property
    @abstractmethod
    def local(self) -> Staging:
        """For files that no other step needs; they may disappear when this step ends."""

    def extracted(self, number: int, compression_type: str, format: str) -> Path:
        """What extract_to_staging writes for one part: its JSON lines, compressed quickly, or its parquet file."""
        if format == "parquet":
            return self.of_store(number, compression_type, format)
        return self.folder / f"{part_name(number)}.lines{'.zst' if compression_type == 'zstd' else ''}"

    def of_store(self, number: int, compression_type: str, format: str) -> Path:
        """One part under its name in the store."""
        return self.folder / part_file(number, compression_type, format)

    def compressed(self, part: CompressedPart) -> Path:
        """A compressed part: what extract_to_staging wrote if that goes to the store as it is."""
        packed = part.packed
        if packed is not None and packed.sha256 == part.compressed_sha256:
            return self.extracted(part.number, packed.compression_type, part.format)
        return self.of_store(part.number, part.compression_type, part.format)

    def blocks(self, number: int) -> Path:
        """The blocks of one part, one line each: :mod:`strongroom.formats.blocks`."""
        return self.folder / f"{part_name(number)}.blocks"

    @abstractmethod
    def writing(self, *paths: Path) -> AbstractContextManager[list[IO[bytes]]]:
        """Open files for writing; they are kept only if the block succeeds.

        Raises:
            StagingError: The disk is full, the folder cannot be written, or another process is writing these files.
        """

    @abstractmethod
    def fetch(self, path: Path, sha256: Sha256) -> Path | None:
        """Bring a file of an earlier step to this machine, or say that there is none.

        Args:
            path: From this staging.
            sha256: Of exactly that file: another try of the step may have written a different one.

        Raises:
            IntegrityError: It changed in transit or in storage.
        """

    @abstractmethod
    def has(self, path: Path, sha256: Sha256) -> bool:
        """Whether :meth:`fetch` would find something."""

    @abstractmethod
    def sha256_of(self, path: Path) -> Sha256:
        """Sum of a file that this step wrote."""

    def save(self, record: PlannedPart) -> None:
        """Keep the record of a finished step."""
        self.keep(_record_name(type(record), record.number), record)

    def keep(self, name: str, record: Record) -> None:
        """Keep any record under a name, below a line with its sum."""
        body = record.model_dump_json(indent=2).encode()
        self._write_record(name, hashlib.sha256(body).hexdigest().encode() + b"\n" + body)

    def load(self, kind: type[PartKind], number: int) -> PartKind | None:
        """The record that a step kept, or None.

        Raises:
            IntegrityError: It is damaged. It is put aside, so a repeat finds no record and does the step again.
        """
        return self.kept(_record_name(kind, number), kind)

    def kept(self, name: str, kind: type[RecordKind]) -> RecordKind | None:
        """The record that :meth:`keep` kept under a name, or None. Raises as :meth:`load`."""
        present = self._read_record(name)
        if present is None:
            return None
        written, _, body = present.partition(b"\n")
        found = hashlib.sha256(body).hexdigest()
        if written == found.encode():
            try:
                return parse_record(kind, body, where=self._where(name), what="a record of this version", hint=_CLEAR)
            except IntegrityError:
                self._put_aside(name)
                raise
        self._put_aside(name)
        raise IntegrityError(
            f"{self._where(name)} is damaged",
            expected=f"SHA-256 {written[:64].decode(errors='replace')}",
            found=found,
            hint=f"Nothing was uploaded or deleted because of it, and it was put aside as {name}.damaged. Check "
            "the disk that staging is on, then clear this task: it does its step again.",
        )

    def finished(self, kind: type[PartKind], part: PlannedPart) -> PartKind | None:
        """The record of a step that is already finished for this very part, or None.

        A new plan may have cut other parts with the same numbers; their records are not this part's.
        """
        record = self.load(kind, part.number)
        return record if record is not None and narrow(record, type(part)) == part else None

    @abstractmethod
    def discard(self, path: Path) -> None:
        """Remove one file if it is there, whichever try wrote it."""

    @abstractmethod
    def clear(self) -> None:
        """Remove everything of this archive."""

    def close(self) -> None:  # noqa: B027 (a shared folder leaves nothing)
        """Remove what only this step needed."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def _where(self, name: str) -> str:
        """The place of a record, for people."""

    @abstractmethod
    def _read_record(self, name: str) -> bytes | None: ...

    @abstractmethod
    def _write_record(self, name: str, content: bytes) -> None: ...

    @abstractmethod
    def _put_aside(self, name: str) -> None: ...


class StagingRoot(ABC):
    """The place that holds all staging."""

    @abstractmethod
    def of(self, *names: str) -> Staging:
        """The staging of an archive, or of what else the names say, outermost first.

        Raises:
            StagingError: One is not a valid name; it could point anywhere.
        """

    @abstractmethod
    def children(self, *names: str) -> list[str]:
        """Names of everything that has staging in a place."""

    @abstractmethod
    def touched_at(self, *names: str) -> datetime:
        """When something was last written there."""


def is_name(name: str) -> bool:
    """Whether a name is a single folder, with no way out of it."""
    return _FOLDER.fullmatch(name) is not None


def checked_name(name: str) -> str:
    """The same name, if it is valid.

    Raises:
        StagingError: It is not.
    """
    if is_name(name):
        return name
    raise StagingError(
        f"{name[:300]!r} is not a valid name for a staging folder",
        expected="the id of an archive or of a restore",
        hint="Nothing was written or removed. Clear 'plan' or 'locate' and the tasks after it.",
    )


def _record_name(kind: type[PlannedPart], number: int) -> str:
    return f"{part_name(number)}.{kind.__name__.removesuffix('Part').lower()}.json"
