"""The two places as PyIceberg reads and writes them, through the S3 client that all of Strongroom uses.

PyIceberg's own ways to S3 know neither the site's certificate authority nor our rule that connections are encrypted. This one writes and removes
below its own place only, whatever the caller asks for.
"""

from __future__ import annotations

from io import BufferedReader, BytesIO, RawIOBase
from typing import Any

from pyiceberg.io import FileIO, InputFile, InputStream, OutputFile, OutputStream

from strongroom.errors import StoreAccessError
from strongroom.lake.places import OwnPlace, ReadPlace
from strongroom.storage.s3 import AbsentError, TakenError

IMPLEMENTATION = f"{__name__}.StoreIO"
"""What PyIceberg's property ``py-io-impl`` names."""

ARCHIVES, OWN = "strongroom.archives", "strongroom.own"
"""Properties of the catalogue that hold the places. They are objects, and are never written anywhere."""

_BLOCK_BYTES = 128 << 10
"""How much of a part is read at a time: its footer, as a rule."""


class StoreIO(FileIO):
    """Reads archives and metadata, and writes metadata."""

    def new_input(self, location: str) -> InputFile:
        place, key = self._find(location)
        return _Input(location, place, key)

    def new_output(self, location: str) -> OutputFile:
        place, key = self._find_own(location)
        return _Output(location, place, key)

    def delete(self, location: str | InputFile | OutputFile) -> None:
        place, key = self._find_own(location if isinstance(location, str) else location.location)
        place.remove(key)

    def _find(self, location: str) -> tuple[ReadPlace, str]:
        for place in (self._own, self._archives):
            if location.startswith(str(place)):
                return place, location.removeprefix(str(place))
        raise _elsewhere(location, f"a place below {self._own} or {self._archives}")

    def _find_own(self, location: str) -> tuple[OwnPlace, str]:
        if not location.startswith(str(self._own)):
            raise _elsewhere(location, f"a place below {self._own}")
        return self._own, location.removeprefix(str(self._own))

    @property
    def _own(self) -> OwnPlace:
        place: OwnPlace = self.properties[OWN]
        return place

    @property
    def _archives(self) -> ReadPlace:
        place: ReadPlace = self.properties[ARCHIVES]
        return place


class _Input(InputFile):
    def __init__(self, location: str, place: ReadPlace, key: str) -> None:
        super().__init__(location)
        self.place, self.key = place, key

    def __len__(self) -> int:
        found = self.place.head(self.key)
        if found is None:
            raise FileNotFoundError(self.location)
        return found.size_bytes

    def exists(self) -> bool:
        return self.place.head(self.key) is not None

    def open(self, seekable: bool = True) -> InputStream:  # noqa: ARG002 - PyIceberg's own signature
        if isinstance(self.place, OwnPlace):  # metadata is small, and all of it is read
            found = self.place.read(self.key)
            if found is None:
                raise FileNotFoundError(self.location)
            return BytesIO(found[0])
        return BufferedReader(_Ranges(self), _BLOCK_BYTES)


class _Ranges(RawIOBase):
    """A part, of which some bytes are read."""

    def __init__(self, source: _Input) -> None:
        self._source, self._size, self._at = source, len(source), 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), self._size - self._at)
        if wanted <= 0:
            return 0
        try:
            body = self._source.place.read_range(self._source.key, self._at, wanted)
        except AbsentError:
            raise FileNotFoundError(self._source.location) from None
        buffer[: len(body)] = body
        self._at += len(body)
        return len(body)


class _Output(OutputFile):
    def __init__(self, location: str, place: OwnPlace, key: str) -> None:
        super().__init__(location)
        self.place, self.key = place, key

    def __len__(self) -> int:
        return len(self.to_input_file())

    def exists(self) -> bool:
        return self.to_input_file().exists()

    def to_input_file(self) -> InputFile:
        return _Input(self.location, self.place, self.key)

    def create(self, overwrite: bool = False) -> OutputStream:
        return _Writing(self, overwrite)


class _Writing(BytesIO):
    """What is written when it is closed, unless the block that writes it failed."""

    def __init__(self, target: _Output, overwrite: bool) -> None:
        super().__init__()
        self._target, self._overwrite = target, overwrite

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> None:
        if kind is not None:
            super().close()
        super().__exit__(kind, *rest)

    def close(self) -> None:
        if self.closed:
            return
        body = self.getvalue()
        super().close()
        try:
            self._target.place.write(self._target.key, body, overwrite=self._overwrite)
        except TakenError:
            raise FileExistsError(self._target.location) from None


def _elsewhere(location: str, expected: str) -> StoreAccessError:
    return StoreAccessError(
        f"an Iceberg table names {location}, which is not where it may",
        expected=expected,
        hint="Nothing was read or written there, and no archive was touched. If `iceberg.bucket` or `iceberg.prefix` changed, drop the table from the catalogue: the "
        "next run creates it again.",
    )
