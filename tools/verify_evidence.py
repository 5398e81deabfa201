#!/usr/bin/env python3
"""Check what a Strongroom store says about itself, without Strongroom.

    verify_evidence.py FOLDER --key KEY                              a copy of the bucket, as `aws s3 sync` makes it
    verify_evidence.py --s3 BUCKET --endpoint URL --key KEY          the bucket itself, with read access (AWS_ACCESS_KEY_ID, ...)

It reads the transparency log, rebuilds its tree, and compares every act in the log with the objects of the store, every object with
the log, and every byte of every archive with what was sealed. It needs Python 3.10 and the package zstandard; with pyarrow it also
counts the rows of parquet. It changes nothing and asks nobody but the store.

Exit codes: 0 all is proved, 1 something is false, 2 nothing is false but not all is proved, 3 it could not start.
What is checked and what cannot be found: docs/howto/verify-evidence.md. The formats: docs/reference/transparency-log.md and
docs/reference/archive-format.md.

This is one long file on purpose. An auditor should be able to read it from top to bottom, and to run it on a machine that has nothing
else of Strongroom. It reads in this order: 1 findings, 2 where the store lies, 3 signatures, 4 the tree, 5 the log, 6 names and
dates, 7 the checks, in the order in which they are printed, 8 the command.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import contextlib
import gc
import gzip
import hashlib
import hmac
import http.client
import io
import json
import os
import re
import sys
import tempfile
import textwrap
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, NamedTuple, NoReturn, cast
from urllib.parse import quote, unquote, urlsplit
from xml.etree import ElementTree

zstandard: Any
try:
    import zstandard
except ImportError:
    zstandard = None
parquet: Any = None
with contextlib.suppress(ImportError):
    import pyarrow.parquet

    parquet = pyarrow.parquet

UNPACKING_FAILED = (OSError, EOFError, zlib.error, zstandard.ZstdError if zstandard else OSError)

CHUNK = 1 << 20
SLACK = timedelta(minutes=10)
"""How far the clocks of two machines may be apart."""


# 1 Findings ---------------------------------------------------------------------------------------------------------------------

PROVED, UNPROVED, FALSE = "proved", "not proved", "false"


class Finding(NamedTuple):
    """One thing that was checked: which check, what came of it, and why."""

    check: str
    verdict: str
    text: str


class Report:
    """All findings, in their order."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []

    def count(self, verdict: str) -> int:
        return sum(finding.verdict == verdict for finding in self.findings)

    @property
    def verdict(self) -> str:
        return FALSE if self.count(FALSE) else UNPROVED if self.count(UNPROVED) else PROVED

    @property
    def exit_code(self) -> int:
        return {PROVED: 0, FALSE: 1, UNPROVED: 2}[self.verdict]


class MalformedError(Exception):
    """Something is not what its format says."""


class CannotReadError(Exception):
    """The store did not let us read something."""


# 2 Where the store lies ---------------------------------------------------------------------------------------------------------


class Version(NamedTuple):
    """One version of an object, or a delete marker."""

    version_id: str
    etag: str
    is_marker: bool


Versions = dict[str, list[Version]]
"""By key, newest first."""

SWAPPED = re.compile(
    r"log/checkpoint|metadata/source\.json|holds/[^/]+\.json|reports/[^/]+\.[^/]+/restores/[^/]+\.json"
)
"""Objects that are written again on purpose. All others are written once."""


class Folder:
    """A copy of the bucket: keys are paths below the folder.

    Args:
        root: The folder.
        prefix: The store's prefix inside the bucket, with its final slash, or nothing.
        listing: What `aws s3api list-object-versions` printed when the copy was made; None if nobody kept it.
    """

    def __init__(self, root: Path, prefix: str = "", listing: Path | None = None) -> None:
        self.root, self.name = root / prefix, f"{root / prefix}"
        self.versions: Versions | None = None if listing is None else _read_listing(listing, prefix)

    def keys(self, prefix: str) -> list[str]:
        """All keys that begin with a text."""
        folder, _, name = prefix.rpartition("/")
        found: list[str] = []
        try:
            with os.scandir(self.root / folder) as entries:
                for entry in entries:
                    if not entry.name.startswith(name):
                        continue
                    if entry.is_dir():
                        found += (Path(at, file).as_posix() for at, _, files in os.walk(entry.path) for file in files)
                    else:
                        found.append(Path(entry.path).as_posix())
        except (FileNotFoundError, NotADirectoryError):
            return []
        start = len(self.root.as_posix()) + 1
        return sorted(path[start:] for path in found)

    def open(self, key: str, version_id: str | None = None) -> IO[bytes] | None:
        """An object's bytes; None if there is no such object. A copy has one version of each."""
        del version_id
        if not key or key.startswith("/") or ".." in key.split("/") or "\0" in key:
            return None
        try:
            return (self.root / key).open("rb")
        except PermissionError:
            raise CannotReadError(f"{key} cannot be read: permission denied") from None
        except OSError:  # it is not there, or no file can have that name
            return None

    def read(self, key: str) -> bytes | None:
        """All of an object; None if there is no such object."""
        return read_all(self.open(key))

    def close(self) -> None:
        """A folder needs no end."""


def _read_listing(listing: Path, prefix: str) -> Versions:
    try:
        told = parse_object(listing.read_bytes(), str(listing))
    except OSError as error:
        raise CannotReadError(f"{listing} cannot be read: {error.strerror}") from None
    found: list[tuple[str, str, bool, Version]] = []  # key, when it was written, whether it is the newest
    for kind, is_marker in (("Versions", False), ("DeleteMarkers", True)):
        for entry in told.get(kind) or []:
            key = str(entry.get("Key")) if isinstance(entry, dict) else ""
            if key.startswith(prefix):
                version = Version(str(entry.get("VersionId")), str(entry.get("ETag", "")), is_marker)
                written, newest = str(entry.get("LastModified")), entry.get("IsLatest") is True
                found.append((key[len(prefix) :], written, newest, version))
    versions: Versions = defaultdict(list)
    for key, *_, version in sorted(found, key=lambda one: one[:3], reverse=True):
        versions[key].append(version)
    return versions


class Bucket:
    """The bucket itself, read with Signature Version 4 and nothing but the standard library.

    Args:
        endpoint: Address of the S3 server.
        bucket: Its name.
        prefix: The store's prefix, with its final slash, or nothing.
        region: That the requests are signed for.
    """

    def __init__(self, endpoint: str, bucket: str, prefix: str, region: str) -> None:
        address = urlsplit(endpoint)
        secure = address.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        self._connection = kind(address.hostname or "", address.port or (443 if secure else 80), timeout=60)
        self._host, self._bucket, self._prefix, self._region = address.netloc, bucket, prefix, region
        self._last: http.client.HTTPResponse | None = None
        self.name = f"s3://{bucket}/{prefix}"
        self.versions: Versions | None = {}

    def keys(self, prefix: str) -> list[str]:
        """All keys that begin with a text, hidden ones included. Remembers the versions of each."""
        if self.versions is None:
            return self._list_objects(prefix)
        found: Versions = defaultdict(list)
        query = {"versions": "", "prefix": self._prefix + prefix}
        while True:
            answer = self._ask(query)
            if answer is None:  # who may not list versions may still list objects
                self.versions = None
                return self._list_objects(prefix)
            for entry in answer:
                if entry.tag in ("Version", "DeleteMarker"):
                    key = (entry.findtext("Key") or "")[len(self._prefix) :]
                    etag = (entry.findtext("ETag") or "").strip('"')
                    found[key].append(Version(entry.findtext("VersionId") or "null", etag, entry.tag == "DeleteMarker"))
            if answer.findtext("IsTruncated") != "true":
                break
            query["key-marker"] = answer.findtext("NextKeyMarker") or ""
            query["version-id-marker"] = answer.findtext("NextVersionIdMarker") or ""
        self.versions.update(found)
        return sorted(key for key, versions in found.items() if not all(one.is_marker for one in versions))

    def _list_objects(self, prefix: str) -> list[str]:
        found: list[str] = []
        query = {"list-type": "2", "prefix": self._prefix + prefix}
        while True:
            answer = self._ask(query)
            if answer is None:
                raise CannotReadError(f"{self.name} cannot be listed: access denied")
            found += ((entry.findtext("Key") or "")[len(self._prefix) :] for entry in answer.findall("Contents"))
            if answer.findtext("IsTruncated") != "true":
                return sorted(found)
            query["continuation-token"] = answer.findtext("NextContinuationToken") or ""

    def open(self, key: str, version_id: str | None = None) -> IO[bytes] | None:
        """An object's bytes; None if there is no such object.

        Of an object that is written once, it is the first version, whatever lies over it; of others the newest.
        """
        known = [one.version_id for one in (self.versions or {}).get(key, ()) if not one.is_marker]
        if version_id is None and known:
            version_id = known[0] if SWAPPED.fullmatch(key) else known[-1]
        query = {} if version_id in (None, "null") else {"versionId": str(version_id)}
        answer = self._get(f"/{self._bucket}/{quote(self._prefix + key, safe='/-_.~')}", query)
        if answer.status == 200:
            return cast("IO[bytes]", answer)
        answer.read()
        if answer.status in (400, 404, 405):  # also of a version id that is none, and of a delete marker
            return None
        raise CannotReadError(f"{key} cannot be read: the store answered {answer.status} {answer.reason}")

    def read(self, key: str) -> bytes | None:
        """All of an object; None if there is no such object."""
        return read_all(self.open(key))

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def _ask(self, query: dict[str, str]) -> ElementTree.Element | None:
        """A listing; None if it is forbidden. Names of elements come without their namespace."""
        answer = self._get(f"/{self._bucket}", query)
        body = answer.read()
        if answer.status == 403:
            return None
        if answer.status != 200:
            raise CannotReadError(f"{self.name} cannot be listed: the store answered {answer.status} {answer.reason}")
        return ElementTree.fromstring(re.sub(rb' xmlns="[^"]*"', b"", body))  # noqa: S314 - our own store's answer

    def _get(self, path: str, query: dict[str, str]) -> http.client.HTTPResponse:
        asked = "&".join(f"{quote(name, safe='')}={quote(query[name], safe='-_.~')}" for name in sorted(query))
        for attempt in (1, 2, 3):
            if self._last is not None and not self._last.isclosed():
                self._connection.close()  # somebody did not read the last answer to its end
            try:
                headers = signed_headers("GET", self._host, path, asked, self._region)
                self._connection.request("GET", f"{path}?{asked}" if asked else path, headers=headers)
                self._last = self._connection.getresponse()
                return self._last
            except (http.client.HTTPException, OSError) as error:
                self._connection.close()
                if attempt == 3:
                    raise CannotReadError(f"{self.name} does not answer: {error}") from None
        raise AssertionError


def signed_headers(method: str, host: str, path: str, query: str, region: str) -> dict[str, str]:
    """The headers of a request without a body, signed with the keys in the environment (AWS Signature Version 4)."""
    access_key, secret_key = os.environ.get("AWS_ACCESS_KEY_ID", ""), os.environ.get("AWS_SECRET_ACCESS_KEY", "")
    now = datetime.now(timezone.utc)
    stamp, scope = f"{now:%Y%m%dT%H%M%SZ}", f"{now:%Y%m%d}/{region}/s3/aws4_request"
    empty = hashlib.sha256(b"").hexdigest()
    headers = {"host": host, "x-amz-content-sha256": empty, "x-amz-date": stamp}
    if token := os.environ.get("AWS_SESSION_TOKEN"):
        headers["x-amz-security-token"] = token
    names = ";".join(headers)
    canonical = "\n".join(
        [method, path, query, *(f"{name}:{value}" for name, value in headers.items()), "", names, empty]
    )
    to_sign = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{secret_key}".encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    return headers


Store = Folder | Bucket


def chunks_of(stream: IO[bytes]) -> Iterator[bytes]:
    """The bytes of an object that was opened; closes it at the end.

    Raises:
        CannotReadError: The connection broke before the end.
    """
    with stream:
        try:
            while chunk := stream.read(CHUNK):
                yield chunk
        except (OSError, http.client.HTTPException) as error:
            raise CannotReadError(f"an object could not be read to its end: {error}") from None
        if getattr(stream, "length", None):  # what a server announced and did not send
            raise CannotReadError("an object could not be read to its end: the connection broke")


def read_all(stream: IO[bytes] | None) -> bytes | None:
    """All of an object that was opened; None if there was none."""
    return None if stream is None else b"".join(chunks_of(stream))


def hash_object(store: Store, key: str) -> str | None:
    """The SHA-256 of an object; None if there is none."""
    stream = store.open(key)
    if stream is None:
        return None
    digest = hashlib.sha256()
    for chunk in chunks_of(stream):
        digest.update(chunk)
    return digest.hexdigest()


def exists(store: Store, key: str) -> bool:
    """Whether an object is there now."""
    stream = store.open(key)
    if stream is not None:
        stream.close()
    return stream is not None


# 3 Signatures -------------------------------------------------------------------------------------------------------------------
# Ed25519 as RFC 8032 has it. A point is (X, Y, Z, T) with x = X/Z, y = Y/Z, xy = T/Z.

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
ROOT_OF_MINUS_ONE = pow(2, (P - 1) // 4, P)
Point = tuple[int, int, int, int]


def add_points(a: Point, b: Point) -> Point:
    """The sum of two points of the curve."""
    left, right = (a[1] - a[0]) * (b[1] - b[0]) % P, (a[1] + a[0]) * (b[1] + b[0]) % P
    cross, double = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    e, f, g, h = right - left, double - cross, double + cross, right + left
    return e * f % P, g * h % P, f * g % P, e * h % P


def multiply_point(times: int, point: Point) -> Point:
    """A point added to itself some times."""
    result: Point = (0, 1, 1, 0)
    while times:
        if times & 1:
            result = add_points(result, point)
        point, times = add_points(point, point), times >> 1
    return result


def decode_point(body: bytes) -> Point | None:
    """The point that 32 bytes stand for; None if they stand for none."""
    y = int.from_bytes(body, "little") & ((1 << 255) - 1)
    if len(body) != 32 or y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT_OF_MINUS_ONE % P
    if (x * x - square) % P or (x == 0 and body[31] >> 7):
        return None
    if x & 1 != body[31] >> 7:
        x = P - x
    return x, y, 1, x * y % P


def encode_point(point: Point) -> bytes:
    """The 32 bytes of a point."""
    inverse = pow(point[2], -1, P)
    x, y = point[0] * inverse % P, point[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


BASE = cast("Point", decode_point((4 * pow(5, -1, P) % P).to_bytes(32, "little")))


def verify_ed25519(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether a signature over a message is that of a public key."""
    point, scalar = decode_point(public), int.from_bytes(signature[32:], "little")
    if point is None or len(signature) != 64 or scalar >= ORDER:
        return False
    digest = hashlib.sha512(signature[:32] + public + message).digest()
    challenge = int.from_bytes(digest, "little") % ORDER
    negative: Point = (P - point[0], point[1], 1, P - point[3])
    found = add_points(multiply_point(scalar, BASE), multiply_point(challenge, negative))
    return encode_point(found) == signature[:32]


SIGNATURE, COSIGNATURE = 1, 4


@dataclass(frozen=True)
class Key:
    """A public key in the form `name+id+base64` of C2SP's signed-note: of a log (kind 1), or of a witness (kind 4)."""

    name: str
    public: bytes
    kind: int

    @property
    def key_id(self) -> bytes:
        return hashlib.sha256(self.name.encode() + b"\n" + bytes([self.kind]) + self.public).digest()[:4]

    def __str__(self) -> str:
        return f"{self.name}+{self.key_id.hex()}"

    @classmethod
    def parse(cls, text: str, kind: int) -> Key:
        name, _, rest = text.strip().partition("+")
        key_id, _, encoded = rest.partition("+")
        body = decode_base64(encoded) or b""
        if len(body) != 33 or body[0] != kind:
            raise MalformedError(
                f"{text.strip()[:120]!r} is not the public key of a {'log' if kind == 1 else 'witness'}"
            )
        key = cls(name, body[1:], body[0])
        if key.key_id.hex() != key_id:
            raise MalformedError(f"the id of the key {text.strip()[:120]!r} is that of another key")
        return key


@dataclass(frozen=True)
class Note:
    """A checkpoint with its signatures: how many entries the log has, and the root of the tree over them."""

    body: bytes
    text: str
    signatures: tuple[tuple[str, bytes], ...]
    origin: str
    size: int
    root: bytes

    @classmethod
    def parse(cls, body: bytes | None) -> Note:
        try:
            body = body or b""
            text, blank, tail = body.decode().rpartition("\n\n")
        except UnicodeDecodeError:
            raise MalformedError("it is not text") from None
        lines, signatures = text.split("\n"), []
        if not blank or len(lines) != 3 or not re.fullmatch("0|[1-9][0-9]{0,17}", lines[1]):
            raise MalformedError("it is not a checkpoint of three lines with signatures")
        root = decode_base64(lines[2])
        if root is None or len(root) != 32:
            raise MalformedError("its root is not a hash")
        for line in tail.splitlines():
            dash, name, encoded = (*line.split(" "), "", "")[:3]
            signature = decode_base64(encoded)
            if dash != "—" or signature is None or len(signature) < 5:
                raise MalformedError("one of its signatures is not a signature")
            signatures.append((name, signature))
        return cls(body, f"{text}\n", tuple(signatures), lines[0], int(lines[1]), root)

    def is_signed_by(self, key: Key) -> bool | None:
        """Whether a log's key signed it; None if there is no signature in its name."""
        for name, body in self.signatures:
            if (name, body[:4]) == (key.name, key.key_id):
                return verify_ed25519(key.public, self.text.encode(), body[4:])
        return None

    def cosigned_at(self, key: Key) -> datetime | None:
        """When a witness cosigned it; None if it did not."""
        for name, body in self.signatures:
            if (name, body[:4]) == (key.name, key.key_id) and len(body) == 76:
                seconds = int.from_bytes(body[4:12], "big")
                message = f"cosignature/v1\ntime {seconds}\n{self.text}".encode()
                if seconds < 1 << 36 and verify_ed25519(key.public, message, body[12:]):
                    return datetime.fromtimestamp(seconds, timezone.utc)
        return None


def decode_base64(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None


# 4 The tree ---------------------------------------------------------------------------------------------------------------------
# RFC 6962: SHA-256, with 0x00 before a leaf and 0x01 before a node.

WIDTH = 256


def hash_leaf(entry: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + entry).digest()


def hash_node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


class Tree:
    """The hashes of all complete subtrees over some leaves; `levels[0]` are the leaves themselves."""

    def __init__(self, leaves: list[bytes]) -> None:
        self.levels = [leaves]
        while len(level := self.levels[-1]) > 1:
            self.levels.append([hash_node(left, right) for left, right in zip(level[::2], level[1::2], strict=False)])

    def root(self, size: int) -> bytes:
        """The root of the tree over the first leaves."""
        peaks, start = [], 0
        for level in reversed(range(size.bit_length())):
            if size >> level & 1:
                peaks.append(self.levels[level][start >> level])
                start += 1 << level
        if not peaks:
            return hashlib.sha256(b"").digest()
        root = peaks.pop()
        while peaks:
            root = hash_node(peaks.pop(), root)
        return root


def follow_proof(leaf: bytes, index: int, size: int, hashes: Sequence[bytes]) -> bytes | None:
    """The root that an inclusion proof leads to; None if it has the wrong length."""
    node, last, found = index, size - 1, leaf
    for sibling in hashes:
        if last == 0:
            return None
        if node & 1 or node == last:
            found = hash_node(sibling, found)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            found = hash_node(found, sibling)
        node, last = node >> 1, last >> 1
    return found if last == 0 else None


def tile_path(level: str, index: int, width: int = WIDTH) -> str:
    """Where a tile lies: `log/tile/0/x001/x234/067`, or `log/tile/0/000.p/17` if it has 17 hashes so far."""
    digits = f"{index:d}"
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    groups = [digits[place : place + 3] for place in range(0, len(digits), 3)]
    name = "/".join([*(f"x{group}" for group in groups[:-1]), groups[-1]])
    return f"log/tile/{level}/{name}" + (f".p/{width}" if width < WIDTH else "")


def tiles_of(size: int, level: int) -> Iterator[tuple[int, int]]:
    """Index and width of each tile of one level (of 256 hashes each) in a tree of this size."""
    hashes = size >> (8 * level)
    for index in range(-(-hashes // WIDTH)):
        yield index, min(WIDTH, hashes - index * WIDTH)


# 5 The log ----------------------------------------------------------------------------------------------------------------------

STATEMENT, ACT = "https://in-toto.io/Statement/v1", "urn:strongroom:act:v1"
NEWER = "another kind of statement or act"


class Act(NamedTuple):
    """One entry of the log."""

    number: int
    kind: str
    at: datetime
    archive: str
    table: str
    partition: str
    settings: str
    who: str
    subjects: tuple[tuple[str, str], ...]  # key and SHA-256 of each
    facts: dict[str, Any]

    def __str__(self) -> str:
        return f"entry {self.number:,} ({self.kind}, {self.at:%Y-%m-%d %H:%M:%S} UTC)"


TEXTS = ("archive_id", "table", "partition_key", "settings_sha256", "who")


def parse_act(index: int, line: bytes) -> Act | str:
    """An entry; or why it is none."""
    try:
        statement = json.loads(line)
        told, kind = statement["predicate"], statement["predicate"]["kind"]
        if (statement["_type"], statement["predicateType"]) != (STATEMENT, ACT) or kind not in KINDS:
            return NEWER
        subjects = tuple([(sys.intern(one["name"]), one["digest"]["sha256"]) for one in statement["subject"]])
        texts, facts = [told.get(name, "") for name in TEXTS], told.get("facts", {})
        at = datetime.fromisoformat(told["at"].replace("Z", "+00:00"))
        if not all(isinstance(sha256, str) for _, sha256 in subjects):
            return "a sum that is not text"
        if at.tzinfo is None or not all(value is None or isinstance(value, (int, str)) for value in facts.values()):
            return "an instant without a time zone, or facts that are not texts and numbers"
        archive, table, partition, settings, who = map(sys.intern, texts)  # equal texts are kept once
        facts = {sys.intern(name): value for name, value in facts.items()}
        return Act(index, sys.intern(kind), at, archive, table, partition, settings, who, subjects, facts)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "not a statement with kind, instant and subjects"


KINDS = frozenset(
    """log begun, archived, adopted, empty, delete intended, deleted, detach intended, detached, drop intended, dropped, verified,
    drills chosen, drilled, replicated, restore begun, restored, queried, held, released, condemned, approval asked, approval answered, purge intended, purged,
    purge reported, sweep intended, recorded late, adoption reported, audit reported, key changed, owner changed, recovered, refused, configuration changed,
    case opened, case found, case answered, erasure intended, erased, superseded, case closed""".replace(
        "\n    ", " "
    ).split(", ")
)


@dataclass
class Log:
    """The log, after its tree was rebuilt."""

    note: Note
    tree: Tree
    acts: list[Act]
    strange: list[tuple[int, str]]  # entries that are none of Strongroom's, and why

    @property
    def size(self) -> int:
        return self.note.size

    def fault_of(self, earlier: Note) -> str | None:
        """Why a head of another moment is not one that this log once had; None if it is."""
        if earlier.origin != self.note.origin:
            return f"the log is not {earlier.origin}"
        if earlier.size > self.size:
            return f"the log was rolled back: it once had {earlier.size:,} entries, and has {self.size:,} now"
        if self.tree.root(earlier.size) != earlier.root:
            return f"the log was rewritten or forked: its first {earlier.size:,} entries were others once"
        return None


def read_log(store: Store) -> Log:
    """Read the head and all entries, and rebuild the tree.

    Raises:
        MalformedError: The head is none, entries are gone, or they do not lead to the root that the head has.
    """
    try:
        note = Note.parse(store.read("log/checkpoint"))
    except MalformedError as error:
        raise MalformedError(f"log/checkpoint is damaged: {error}") from None
    leaves, acts, strange = [], [], []
    for index, line in enumerate(read_entries(store, note.size, note.root)):
        leaves.append(hash_leaf(line))
        act = parse_act(index, line)
        if isinstance(act, str):
            strange.append((index, act))
        else:
            acts.append(act)
    tree = Tree(leaves)
    if len(leaves) != note.size or tree.root(note.size) != note.root:
        raise MalformedError(
            f"the {len(leaves):,} entries do not lead to the root in the head: some were changed, swapped or left out"
        )
    return Log(note, tree, acts, strange)


def read_entries(store: Store, size: int, root: bytes) -> Iterator[bytes]:
    """All entries of a log of this size. If its last writer died before the tiles, they are in `log/pending/` still."""
    missing = ""
    for index, width in tiles_of(size, 0):
        key = tile_path("entries", index, width)
        body = store.read(key)
        if body is None:
            missing = key
            break
        bundle = unpack_entries(key, body)
        if len(bundle) != width:
            raise MalformedError(f"{key} has {len(bundle)} entries instead of {width}")
        yield from bundle
    if not missing:
        return
    key, given = f"log/pending/{size}-{root.hex()}", index * WIDTH
    body = store.read(key) or b""
    before = int.from_bytes(body[:8], "big")
    if len(body) < 40 or not given <= before + WIDTH or before >= size:
        raise MalformedError(f"{missing} is gone, and its entries with it")
    older = [*read_entries(store, before, body[8:40])] if before > given else []
    newer = unpack_entries(key, body[40:])
    yield from (*older[given:], *newer[max(0, given - before) :])


def unpack_entries(key: str, body: bytes) -> list[bytes]:
    """The entries of a bundle, each after two bytes with its length."""
    entries, place = [], 0
    while place < len(body):
        start = place + 2
        place = start + int.from_bytes(body[place:start], "big")
        entries.append(body[start:place])
    if place != len(body):
        raise MalformedError(f"{key} ends in the middle of an entry")
    return entries


# 6 Names and dates --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, order=True)
class Archive:
    """Where the objects of one archive lie, from its id: `public.audit_events.2026-07.0001`."""

    archive_id: str
    folder: str
    partition: str

    @classmethod
    @lru_cache(maxsize=100_000)
    def parse(cls, archive_id: str) -> Archive | None:
        found = re.fullmatch(r"([\w%-]+\.[\w%-]+)\.([0-9]{4}-[0-9W-]{2,5})\.[0-9]{4,9}", archive_id, re.ASCII)
        if found is None or window_of(found[2]) is None:
            return None
        return cls(archive_id, found[1], found[2])

    @property
    def manifest_key(self) -> str:
        return f"metadata/{self.folder}/{self.partition}/{self.archive_id}.json"

    @property
    def evidence(self) -> str:
        return f"evidence/{self.folder}/{self.partition}/{self.archive_id}/"

    @property
    def parts(self) -> str:
        return f"archives/{self.folder}/partition={self.partition}/{self.archive_id}/"

    @property
    def table(self) -> str:
        return decode_table(self.folder)

    @property
    def sequence(self) -> int:
        return int(self.archive_id.rpartition(".")[2])


def decode_table(folder: str) -> str:
    """Schema and table from their spelling in keys."""
    return ".".join(map(unquote, folder.split(".")))


def window_of(key: str) -> tuple[datetime, datetime] | None:
    """Start and end of a month `2026-07`, a week `2026-W31` or a day `2026-07-31`."""
    try:
        if re.fullmatch("[0-9]{4}-[0-9]{2}", key):
            first = date(int(key[:4]), int(key[5:]), 1)
            after = date(first.year + first.month // 12, first.month % 12 + 1, 1)
        elif re.fullmatch("[0-9]{4}-W[0-9]{2}", key):
            first = date.fromisocalendar(int(key[:4]), int(key[6:]), 1)
            after = first + timedelta(days=7)
        else:
            first = date.fromisoformat(key)
            after = first + timedelta(days=1)
    except (ValueError, OverflowError):
        return None
    start, end = (datetime(day.year, day.month, day.day, tzinfo=timezone.utc) for day in (first, after))
    return start, end


def add_term(start: datetime, term: str) -> datetime:
    """The end of a term such as P7Y, P90D or P2W. Where a month has no such day, it is the first day of the next month."""
    found = re.fullmatch(r"P(?:([0-9]{1,6})Y)?(?:([0-9]{1,6})M)?(?:([0-9]{1,6})W)?(?:([0-9]{1,6})D)?", term)
    if found is None:
        raise MalformedError(f"{term[:40]!r} is no term")
    years, months, weeks, days = (int(digits or 0) for digits in found.groups())
    year, month = divmod(start.year * 12 + start.month - 1 + years * 12 + months, 12)
    try:
        try:
            moved = start.replace(year=year, month=month + 1)
        except ValueError:
            moved = datetime(year + (month + 1) // 12, (month + 1) % 12 + 1, 1, tzinfo=timezone.utc)
        return moved + timedelta(weeks=weeks, days=days)
    except (ValueError, OverflowError):
        raise MalformedError(f"{term[:40]!r} leads beyond the calendar") from None


def parse_object(body: bytes | None, what: str) -> dict[str, Any]:
    """A JSON object, which must be one."""
    try:
        found = json.loads(body or b"")
    except (ValueError, RecursionError):
        raise MalformedError(f"{what} is not JSON") from None
    if not isinstance(found, dict):
        raise MalformedError(f"{what} is not a JSON object")
    return found


def text_of(document: dict[str, Any], name: str) -> str:
    value = document.get(name)
    if not isinstance(value, str):
        raise MalformedError(f"its {name} is not text")
    return value


def number_of(document: dict[str, Any], name: str) -> int:
    value = document.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise MalformedError(f"its {name} is not a number")
    return value


def instant_of(document: dict[str, Any], name: str) -> datetime:
    try:
        found = datetime.fromisoformat(text_of(document, name).replace("Z", "+00:00"))
    except ValueError:
        raise MalformedError(f"its {name} is not an instant") from None
    if found.tzinfo is None:
        raise MalformedError(f"its {name} has no time zone")
    return found


def objects_of(document: dict[str, Any], name: str) -> list[dict[str, Any]]:
    found = document.get(name)
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise MalformedError(f"its {name} is not a list of objects")
    return found


def sha256_of(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def short(sha256: str) -> str:
    return f"{sha256[:8]}…"


def minute(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"


def some(count: int, what: str, several: str = "") -> str:
    """`1 archive`, `4 archives`."""
    return f"{count:,} {what if count == 1 else several or f'{what}s'}"


# 7 The checks -------------------------------------------------------------------------------------------------------------------

Findings = Iterator[tuple[str, str]]
"""What a check yields: a verdict and its text."""


@dataclass
class Audit:
    """What all checks share."""

    store: Store
    now: datetime
    keys: tuple[Key, ...] = ()
    witnesses: tuple[Key, ...] = ()
    since: Note | None = None
    replica: Store | None = None

    log: Log | None = None
    present: set[str] = field(default_factory=set)  # keys of the store
    told: dict[str, list[tuple[Act, str]]] = field(default_factory=lambda: defaultdict(list))  # by key: acts, SHA-256
    by_kind: dict[str, list[Act]] = field(default_factory=lambda: defaultdict(list))
    by_archive: dict[str, list[Act]] = field(default_factory=lambda: defaultdict(list))
    manifests: dict[str, dict[str, Any]] = field(default_factory=dict)  # by archive id, those of destroyed ones too
    whole: set[str] = field(default_factory=set)  # ids of archives that are there, with nothing that is false
    successors: dict[str, list[Act]] = field(
        default_factory=lambda: defaultdict(list)
    )  # by the archive that they supersede

    def acts(self, *kinds: str) -> list[Act]:
        """Acts of some kinds, in their order."""
        return sorted(act for kind in kinds for act in self.by_kind.get(kind, ()))

    def of_archive(self, archive_id: str, *kinds: str) -> list[Act]:
        """What was done with one archive."""
        return [act for act in self.by_archive.get(archive_id, ()) if act.kind in kinds]


LOOKED_AT = (
    "archives/",
    "evidence/",
    "holds/",
    "log/checkpoint",
    "log/rotations/",
    "log/witness/",
    "metadata/",
    "reports/",
    "restores/",
    "subjects/",
)
"""What is listed. Claims, index, staging and statistics prove nothing. The log's tiles are read by their names."""

SEALED = ("archived", "adopted")
"""The acts by which the log vouches for an archive."""


def run_checks(audit: Audit, report: Report) -> None:
    """All checks in their order. One that fails in a way that nobody foresaw is a finding too."""
    without_log = (check_log, check_versions, check_archives, check_replica)
    for check in (
        check_log,
        check_signature,
        check_anchor,
        check_entries,
        check_proofs,
        check_versions,
        check_records,
        check_archives,
        check_terms,
        check_settings,
        check_deletes,
        check_erasures,
        check_purges,
        check_drills,
        check_gaps,
        check_replica,
    ):
        name = check.__name__.removeprefix("check_")
        if audit.log is None and check not in without_log:
            continue
        try:
            for verdict, text in check(audit):
                report.findings.append(Finding(name, verdict, text))
        except CannotReadError as error:
            report.findings.append(Finding(name, UNPROVED, f"{error}; the rest of this check was not made"))
        except Exception as error:  # noqa: BLE001 - no bytes that somebody wrote may end the audit
            text = f"this check could not be finished: {type(error).__name__}: {error}"
            report.findings.append(Finding(name, UNPROVED, text))


def check_log(audit: Audit) -> Findings:
    """The log: its head, its entries, the root of its tree, its tiles."""
    for prefix in LOOKED_AT:
        audit.present.update(audit.store.keys(prefix))
    if "log/checkpoint" not in audit.present:
        if audit.keys or audit.store.keys("log/"):
            yield FALSE, "log/checkpoint is gone, so there is no signed head"
        else:
            yield UNPROVED, "the store has no log, so nothing says what was done or is missing"
        return
    try:
        log = read_log(audit.store)
    except MalformedError as error:
        yield FALSE, str(error)
        return
    yield PROVED, f"the root in its head is that of its {log.size:,} entries"
    yield from _tiles(audit.store, log)
    audit.log = log
    for act in log.acts:
        audit.by_kind[act.kind].append(act)
        if act.archive:
            audit.by_archive[act.archive].append(act)
        if act.kind in SEALED and "supersedes" in act.facts:
            audit.successors[str(act.facts["supersedes"])].append(act)
        for key, sha256 in act.subjects:
            audit.told[key].append((act, sha256))


def _tiles(store: Store, log: Log) -> Findings:
    """The stored tiles, of which others make proofs, are those of the tree; none is left of a longer log."""
    sound = True
    for level in range((log.size.bit_length() + 7) // 8):
        for index, width in tiles_of(log.size, level):
            key = tile_path(str(level), index, width)
            body, hashes = store.read(key), log.tree.levels[8 * level][index * WIDTH : index * WIDTH + width]
            if body is None:
                sound = False
                yield UNPROVED, f"{key} is missing; the entries are there, but other programs need it"
            elif body != b"".join(hashes):
                sound = False
                yield FALSE, f"{key} has other hashes than the entries"
    edge, width = divmod(log.size, WIDTH)
    nearby = {key for index in (edge, edge + 1) for key in store.keys(tile_path("0", index))}
    longer = nearby & {tile_path("0", index, more) for index in (edge, edge + 1) for more in range(1, WIDTH + 1)}
    longer -= {tile_path("0", edge, fewer) for fewer in range(1, width + 1)}
    if longer:
        yield FALSE, f"{max(longer)} is a tile of a longer log: this one was rolled back to an older head"
    elif sound:
        yield PROVED, "its tiles are those of the tree, and none is left of a longer log"


def check_signature(audit: Audit) -> Findings:
    """Who signed the head. Without a key that the auditor brings, the store only vouches for itself."""
    note = cast("Log", audit.log).note
    for act, key in _later_keys(audit):
        audit.keys += (key,)
        yield PROVED, f"a key that you trust handed over to {key}, by {act}"
    keys = audit.keys or _declared_keys(audit)
    signed = {key: note.is_signed_by(key) for key in keys if key.name == note.origin}
    signers = ", ".join(str(key) for key, good in signed.items() if good)
    if False in signed.values():
        yield FALSE, "the head has a signature in the name of the log's key that is not of that key"
    elif audit.keys and signers:
        yield PROVED, f"the head is signed by {signers}, which you trust"
    elif audit.keys:
        yield FALSE, f"the head of {note.origin} is not signed by a key that you trust"
    else:
        yield UNPROVED, f"the head is signed by {signers or 'a key'} that only the store knows; give it with --key"


def _later_keys(audit: Audit) -> Iterator[tuple[Act, Key]]:
    """The keys that replaced one that is trusted: the entry that says so lies under a head that both signed."""
    log = cast("Log", audit.log)
    for act in audit.acts("key changed"):
        with contextlib.suppress(MalformedError):
            earlier, later = (Key.parse(str(act.facts.get(name)), SIGNATURE) for name in ("from", "to"))
            note = Note.parse(audit.store.read(f"log/rotations/{act.number + 1}"))
            both = note.is_signed_by(earlier) and note.is_signed_by(later)
            if earlier in audit.keys and later not in audit.keys and both and log.fault_of(note) is None:
                yield act, later


def _declared_keys(audit: Audit) -> tuple[Key, ...]:
    """The keys that the store's own records of settings name."""
    lines: set[str] = set()
    for key in audit.present:
        if re.fullmatch(r"evidence/[^/]+/settings/[0-9a-f]{64}\.json", key):
            with contextlib.suppress(MalformedError):
                store = parse_object(audit.store.read(key), key).get("store")
                told = store.get("log_keys") if isinstance(store, dict) else None
                lines.update(line for line in told or () if isinstance(line, str))
    keys = []
    for line in sorted(lines):
        with contextlib.suppress(MalformedError):
            keys.append(Key.parse(line, SIGNATURE))
    return tuple(keys)


def check_anchor(audit: Audit) -> Findings:
    """What lies where the store's administrators cannot reach it: an older checkpoint, a witness's cosignatures."""
    log = cast("Log", audit.log)
    if audit.since is not None:
        fault = log.fault_of(audit.since)
        if fault is None:
            yield PROVED, f"the first {audit.since.size:,} entries are those of the older checkpoint that you gave"
        else:
            yield FALSE, f"{fault}, by the older checkpoint that you gave"
    for witness in audit.witnesses:
        yield from _witnessed(audit, log, witness)
    if audit.since is None and not audit.witnesses:
        yield (
            UNPROVED,
            "signed, not witnessed: who has the log's key could have rewritten all of it (--witness, --since)",
        )


def _witnessed(audit: Audit, log: Log, witness: Key) -> Findings:
    marks: list[tuple[int, datetime]] = []
    for key in sorted(audit.present):
        if not key.startswith(f"log/witness/{witness.key_id.hex()}/"):
            continue
        try:
            note = Note.parse(audit.store.read(key))
        except MalformedError as error:
            yield FALSE, f"{key} is no checkpoint: {error}"
            continue
        at = note.cosigned_at(witness)
        if at is None:
            yield FALSE, f"{key} is not cosigned by {witness}"
        elif fault := log.fault_of(note):
            yield FALSE, f"{fault}, by what {witness} saw at {minute(at)}"
        else:
            marks.append((note.size, at))
    if not marks:
        yield UNPROVED, f"{witness} has cosigned no checkpoint of this log"
        return
    size, at = max(marks)
    yield PROVED, f"{witness} saw the first {size:,} of {log.size:,} entries, the last time at {minute(at)}"
    yield from _dated_otherwise(log, witness, sorted(marks))


def _dated_otherwise(log: Log, witness: Key, marks: list[tuple[int, datetime]]) -> Findings:
    """An entry is younger than the last cosignature without it, and older than the first one with it."""
    unseen: datetime | None = None
    for act in log.acts:
        while marks and marks[0][0] <= act.number:
            unseen = marks.pop(0)[1]
        if unseen is not None and act.at < unseen - SLACK:
            yield FALSE, f"{act} is back-dated: {witness} had not seen it at {minute(unseen)}"
        if marks and act.at > marks[0][1] + SLACK:
            yield FALSE, f"{act} is dated later than {minute(marks[0][1])}, when {witness} saw it"


def check_entries(audit: Audit) -> Findings:
    """Each entry is one of ours, in the order of its date, about an archive of its own table and partition."""
    log = cast("Log", audit.log)
    wrong = len(log.strange)
    for index, why in log.strange:
        if why == NEWER:
            yield UNPROVED, f"entry {index} is of a kind that this program does not know; a newer version may"
        else:
            yield FALSE, f"entry {index} is not an entry of Strongroom: {why}"
    if not log.acts:
        return
    first = latest = log.acts[0]
    if first.kind != "log begun" or first.number:
        yield FALSE, f"the log does not begin with 'log begun', but with {first}"
    for act in log.acts:
        fault = None
        if act.at < latest.at - SLACK:
            fault = f"is back-dated: it comes after {latest}"
        elif act.at > audit.now + SLACK:
            fault = "is dated in the future"
        elif act.archive:
            archive = Archive.parse(act.archive)
            if archive is None or (act.table, act.partition) != (archive.table, archive.partition):
                fault = "names an archive and the table or partition of another"
        if fault:
            wrong += 1
            yield FALSE, f"{act} {fault}"
        elif act.at > latest.at:
            latest = act
    if not wrong:
        yield PROVED, f"{log.size:,} acts from {minute(first.at)} to {minute(latest.at)}, in the order of their dates"


PRINTED = re.compile(r"reports/(?!statistics/|verifications/|queries/).+\.json|evidence/.+/destruction\.json")
"""Records that may have the log's head in their field `checkpoint`."""


def check_proofs(audit: Audit) -> Findings:
    """The proofs beside records and the heads printed in them: this log once had each of these heads."""
    sound = printed = 0
    for key in sorted(key for key in audit.present if key.endswith(".tlog-proof")):
        try:
            fault = _fault_of_proof(audit, audit.store.read(key) or b"")
        except MalformedError as error:
            fault = f"is damaged: {error}"
        sound += fault is None
        if fault:
            yield FALSE, f"{key} {fault}"
    if sound:
        yield PROVED, f"{some(sound, 'proof')} beside records fit the log"
    for key in sorted(key for key in audit.present if PRINTED.fullmatch(key)):
        with contextlib.suppress(MalformedError):
            told = parse_object(audit.store.read(key), key).get("checkpoint")
            if isinstance(told, str):
                fault = cast("Log", audit.log).fault_of(Note.parse(told.encode()))
                printed += fault is None
                if fault:
                    yield FALSE, f"{fault}, by the head that is printed in {key}"
    if printed:
        yield PROVED, f"{some(printed, 'head')} printed in reports and certificates once were the log's"


def _fault_of_proof(audit: Audit, body: bytes) -> str | None:
    log = cast("Log", audit.log)
    head, _, tail = body.partition(b"\n\n")
    lines, note = head.decode("ascii", "replace").split("\n"), Note.parse(tail)
    if len(lines) < 3 or lines[0] != "c2sp.org/tlog-proof@v1" or not re.fullmatch("index [0-9]{1,18}", lines[2]):
        raise MalformedError("it is not a proof with its entry")
    leaf, index = hash_leaf(decode_base64(lines[1].removeprefix("extra ")) or b""), int(lines[2][6:])
    if fault := log.fault_of(note):
        signed = any(note.is_signed_by(key) for key in audit.keys)
        return f"shows that {fault}" if signed else f"is forged, or {fault}"
    if index >= note.size or log.tree.levels[0][index] != leaf:
        return "is of an entry that the log does not have there"
    if follow_proof(leaf, index, note.size, [decode_base64(line) or b"" for line in lines[3:]]) != note.root:
        return "has hashes that do not lead to its root"
    return None


def check_versions(audit: Audit) -> Findings:
    """What is written once has one version, no delete marker lies over anything, and no head was ever longer."""
    store, sound = audit.store, True
    if store.versions is None:
        why = "a copy has one of each object (--versions, --s3)" if isinstance(store, Folder) else "access denied"
        yield UNPROVED, f"versions were not looked at: {why}"
        return
    for key, versions in sorted(store.versions.items()):
        if not key.startswith(LOOKED_AT) or key.startswith(("reports/statistics/", "restores/")):
            continue
        if any(one.is_marker for one in versions):
            sound = False
            yield FALSE, f"a delete marker was put over {key}"
        if len({one.etag for one in versions if not one.is_marker}) > 1 and not SWAPPED.fullmatch(key):
            sound = False
            yield FALSE, f"{key} is written once, but has {len(versions)} versions"
    if isinstance(store, Bucket) and audit.log is not None:
        for version in store.versions.get("log/checkpoint", [])[1:20]:
            with contextlib.suppress(MalformedError):
                fault = audit.log.fault_of(Note.parse(read_all(store.open("log/checkpoint", version.version_id))))
                if fault:
                    sound = False
                    yield FALSE, f"{fault}, by an earlier version of log/checkpoint"
    if sound:
        yield PROVED, "what is written once has one version, and no delete marker lies over anything"


def check_records(audit: Audit) -> Findings:
    """Each record that an entry names is there with those bytes, and each record that is there has an entry."""
    swept = {act.facts.get("name") for act in audit.acts("sweep intended")}
    sound = strangers = 0
    for key, tellings in sorted(audit.told.items()):
        if key.startswith("metadata/") and key != "metadata/source.json":
            continue  # manifests have a check of their own
        (act, sha256), found = tellings[-1], hash_object(audit.store, key)
        if found == sha256:
            sound += 1
        elif found is None and key in swept:
            pass
        elif found is None:
            yield FALSE, f"{key} is gone; {act} is about it"
        elif act.kind == "restored" and found not in {each for _, each in tellings}:
            yield UNPROVED, f"{key} is not that of {act}: the writer of a later one died too early, or it was changed"
        elif found not in {each for _, each in tellings}:
            yield FALSE, f"{key} was changed: {act} has {short(sha256)}, found {short(found)}"
        elif act.kind == "released":
            yield UNPROVED, f"{key} is in force, though {act} is there: the release was never written, or undone"
        else:
            yield FALSE, f"{key} is as it was before {act}"
    if sound:
        yield PROVED, f"{some(sound, 'record')} as the log has them"
    for key in sorted(audit.present - set(audit.told)):
        if (fault := _fault_of_unentered(audit, key, swept)) is not None:
            strangers += 1
            yield fault[0], f"{key} {fault[1]}"
    if not strangers:
        yield PROVED, "every record has its entry"


LATE = UNPROVED, "has no entry: its writer died too early (`log adopt` names such records), or somebody planted it"
RECORDS = (
    "evidence/",
    "holds/",
    "restores/",
    *map("reports/{}/".format, ("drills", "queries", "replicas", "verifications")),
)
LIST_OF_ERASED = "evidence/suppressed/"
"""Who must not come back: looked at with the cases."""
INTENTS = {"delete": "delete intended", "detach": "detach intended", "destruction": "purge intended"}


def _fault_of_unentered(audit: Audit, key: str, swept: set[Any]) -> tuple[str, str] | None:
    """What an object means that no entry names; None if it needs none."""
    name, parents = key.rpartition("/")[2], key.split("/")[:-1]
    archive = Archive.parse(parents[-1]) if len(parents) == 4 else None
    if not key.startswith((*RECORDS, "metadata/")) or key.endswith(".tlog-proof") or key.startswith(LIST_OF_ERASED):
        return None
    if key.startswith("metadata/"):
        return FALSE, "was planted: no entry says that it was sealed"
    if settings := re.fullmatch(r"evidence/[^/]+/settings/([0-9a-f]{64})\.json", key):
        sound = hash_object(audit.store, key) == settings[1]
        return None if sound else (FALSE, "was changed: it does not have the digest that is its name")
    if archive is None or not key.startswith(archive.evidence):
        return LATE
    if name == "sealed.json" and audit.told.get(archive.manifest_key):
        return None  # the copy of a manifest that has an entry: compared with the archives
    if name == "sealed.json" and f"{archive.evidence}destruction.json" in audit.told:
        return None  # of an archive that was destroyed before the log began
    if name == "sealed.json":
        return UNPROVED, "is the copy of a manifest that was never entered: its seal broke off, or somebody planted it"
    if name == "swept.json" and archive.archive_id in swept:
        return None
    intent = INTENTS.get(re.split(r"[-.]", name)[0])
    if intent is not None and not audit.of_archive(archive.archive_id, intent):
        return FALSE, f"was planted, or entries are missing: the log has no '{intent}' of that archive"
    return LATE


def check_archives(audit: Audit) -> Findings:
    """Each archive is there whole: the manifest that was entered, its copy, SHA256SUMS, every byte of every part."""
    ids = {act.archive for act in audit.acts(*SEALED)}
    if audit.log is None:
        ids = {key.rpartition("/")[2].removesuffix(".json") for key in audit.present if key.startswith("metadata/")}
    whole, rows, size, twice, owned = 0, 0, 0, 0, set[str]()
    for archive in sorted(filter(None, map(Archive.parse, ids))):
        faults = [*_archive(audit, archive)]
        for verdict, text in faults:
            yield verdict, f"{archive.archive_id}{text}"
        manifest = audit.manifests.get(archive.archive_id)
        if manifest is not None and not audit.of_archive(archive.archive_id, "purged"):
            owned.update((f"{archive.parts}SHA256SUMS", *(part["object_key"] for part in manifest["parts"])))
            owned.update(_locator_key(part) for part in manifest["parts"] if "locator_sha256" in part)
            if archive.manifest_key in audit.present and all(verdict != FALSE for verdict, _ in faults):
                audit.whole.add(archive.archive_id)
            if not faults and archive.manifest_key in audit.present:
                if archive.archive_id in audit.successors:
                    twice += 1
                else:
                    whole, rows, size = whole + 1, rows + manifest["record_count"], size + manifest["compressed_size"]
    if whole:
        told = "as it was sealed" if audit.log else "as their manifests say, for which no log vouches"
        yield (
            PROVED,
            f"{some(whole, 'archive')} with {some(rows, 'row')} are there whole, each of their {size:,} bytes {told}",
        )
    if twice:
        yield (
            PROVED,
            f"{some(twice, 'archive')} that another one supersedes {'is' if twice == 1 else 'are'} still there whole",
        )
    for key in sorted(key for key in audit.present - owned if key.startswith("archives/")):
        folder = key.split("/")[-2]
        if audit.of_archive(folder, "purge intended"):
            continue  # what a purge removes, and what it left, is told by its own check
        if folder in audit.manifests and (annex := ANNEX.fullmatch(key.split("/")[-1])):
            if not _names_annex(audit, folder, int(annex[1]), key):
                yield (
                    UNPROVED,
                    f"{key} is named by no evidence of a delete: its writer died too early, or it was planted",
                )
        elif folder in audit.manifests:
            yield FALSE, f"{key} was planted: the manifest of its archive does not name it"
        elif folder not in ids:
            yield UNPROVED, f"{key} belongs to no archive: a broken run left it, or somebody planted it"


ANNEX = re.compile(r"kept-part-([0-9]{5})(?:\.[0-9]{1,9})?\.json")
"""The keys of the rows that a delete left in the table: it goes with its archive, the evidence that names it stays."""


def _names_annex(audit: Audit, name: str, number: int, key: str) -> bool:
    """Whether the evidence of a part's delete names an annex. Its bytes are compared with the counts."""
    archive = Archive.parse(name)
    with contextlib.suppress(MalformedError):
        evidence = f"{archive.evidence if archive else ''}delete-part-{number:05d}.json"
        annex = parse_object(audit.store.read(evidence), evidence).get("annex")
        return isinstance(annex, dict) and annex.get("key") == key
    return False


def _archive(audit: Audit, archive: Archive) -> Findings:
    """One archive: first its manifest, as its entry has it, then all that the manifest names."""
    name, log = archive.archive_id, audit.log
    entered, begun = audit.of_archive(name, *SEALED), audit.of_archive(name, "purge intended")
    sums = {sha256 for act in entered for key, sha256 in act.subjects if key == archive.manifest_key}
    body, copy = audit.store.read(archive.manifest_key), audit.store.read(f"{archive.evidence}sealed.json")
    if log is None:
        sums = {sha256_of(body or b"")}
    if len(sums) != 1:
        yield FALSE, f": its entries give its manifest {len(sums)} sums instead of one"
        return
    if copy is None or sha256_of(copy) not in sums:
        told = "is gone" if copy is None else "is not the manifest that was entered"
        yield FALSE, f": the copy of its manifest, {archive.evidence}sealed.json, {told}"
    if body is None and not begun:
        if len(audit.by_archive[name]) > len(entered):
            yield FALSE, " is gone: it has no manifest, and the log has no purge of it"
        else:
            yield UNPROVED, " was entered, but has no manifest: its seal broke off before any delete, or it is gone"
        return
    if body is not None and sha256_of(body) not in sums:
        yield FALSE, f": its manifest is not the one that was entered, by {entered[-1]}"
        return
    try:
        manifest = parse_object(body or copy, "its manifest")
        faults = [*_faults_of_manifest(manifest, archive)]
        for fault in faults:
            yield FALSE, f": its manifest contradicts itself: {fault}"
        if not faults:
            audit.manifests[name] = manifest
            if body is not None and not audit.of_archive(name, "purged"):
                yield from _objects(audit, archive, manifest)
    except MalformedError as error:
        yield FALSE, f": its manifest is damaged: {error}"


def _faults_of_manifest(manifest: dict[str, Any], archive: Archive) -> Iterator[str]:
    """How a manifest contradicts its own name or itself."""
    parts, packing = objects_of(manifest, "parts"), text_of(manifest, "compression_type")
    if text_of(manifest, "archive_id") != archive.archive_id or text_of(manifest, "table_name") != archive.table:
        yield "it is that of another archive"
    if (instant_of(manifest, "window_start"), instant_of(manifest, "window_end")) != window_of(archive.partition):
        yield "its window is not that of its partition"
    if text_of(manifest, "checksum") != sha256_of(_sums(parts)):
        yield "the sums of its parts do not give its checksum"
    for name in ("record_count", "original_size", "compressed_size"):
        if number_of(manifest, name) != sum(number_of(part, name) for part in parts):
            yield f"its {name} is not the sum of its parts"
    ending = ".parquet" if manifest.get("format") == "parquet" else ENDINGS.get(packing, "")
    if "supersedes" in manifest:
        yield from _faults_of_place(manifest, archive)
    if "unit" in manifest:
        yield from _faults_of_unit(manifest, archive)
    for number, part in enumerate(parts):
        text_of(part, "original_sha256")
        if text_of(part, "object_key") != f"{archive.parts}part-{number:05d}{ending}":
            yield f"part {number} is not in its place"
    instant_of(manifest, "retention_until")
    text_of(manifest, "legal_basis")


def _faults_of_unit(manifest: dict[str, Any], archive: Archive) -> Iterator[str]:
    """An archive that was sealed together with others names itself as it is, and one of its own partition for each table."""
    entries = objects_of(manifest, "unit")
    own = [one for one in entries if text_of(one, "archive_id") == archive.archive_id]
    told = [(number_of(one, "record_count"), text_of(one, "checksum")) for one in own]
    if told != [(number_of(manifest, "record_count"), text_of(manifest, "checksum"))]:
        yield "its unit does not name it as it is"
    named = [Archive.parse(text_of(one, "archive_id")) for one in entries]
    if len({one.folder for one in named if one is not None and one.partition == archive.partition}) != len(entries):
        yield "its unit is not of one archive of its partition for each table"


def _doubts_of_unit(audit: Audit, archive: Archive, manifest: dict[str, Any]) -> Findings:
    """Archives that were sealed together say the same of their unit, and all of them were sealed before rows were deleted."""
    for entry in manifest.get("unit", ()):
        other = text_of(entry, "archive_id")
        if other in audit.manifests and audit.manifests[other].get("unit") != manifest["unit"]:
            yield FALSE, f": {other}, which was sealed together with it, tells of another unit"
        elif (
            audit.log is not None
            and audit.of_archive(archive.archive_id, "delete intended")
            and not audit.of_archive(other, *SEALED)
        ):
            yield FALSE, f": rows were deleted because of it, and {other} of the same unit was never sealed"


def _faults_of_place(manifest: dict[str, Any], archive: Archive) -> Iterator[str]:
    """An archive supersedes an earlier one of its own partition, and takes its place there."""
    told = _supersedes(manifest)
    earlier = Archive.parse(text_of(told, "archive_id"))
    text_of(told, "manifest_sha256")
    text_of(told, "case_id")
    if earlier is None or (earlier.folder, earlier.partition) != (archive.folder, archive.partition):
        yield "it supersedes no archive of its own partition"
    elif not 1 <= number_of(told, "rank") <= earlier.sequence < archive.sequence:
        yield "it supersedes an archive that is not earlier, or takes a place that was not there"


def _supersedes(manifest: dict[str, Any]) -> dict[str, Any]:
    """What a manifest says of the archive that it supersedes."""
    told = manifest.get("supersedes")
    if not isinstance(told, dict):
        raise MalformedError("its supersedes is not an object")
    return told


def _locator_key(part: dict[str, Any]) -> str:
    """Where the filter lies that tells whose rows may be in a part."""
    folder, _, name = part["object_key"].rpartition("/")
    number = name.removeprefix("part-").partition(".")[0]
    return f"{folder}/locator-{number}.zst"


ENDINGS = {"zstd": ".jsonl.zst", "gzip": ".jsonl.gz", "none": ".jsonl"}


def _sums(parts: list[dict[str, Any]]) -> bytes:
    """SHA256SUMS, as it must be."""
    named = ((text_of(part, "sha256"), text_of(part, "object_key").rpartition("/")[2]) for part in parts)
    return "".join(f"{sha256}  {file}\n" for sha256, file in named).encode()


def _objects(audit: Audit, archive: Archive, manifest: dict[str, Any]) -> Findings:
    """SHA256SUMS, the parts and the proof of one archive. What is lost of an archive that was given up is not false."""
    name, parts = archive.archive_id, manifest["parts"]
    given_up = audit.of_archive(name, "condemned")
    verdict, known = (UNPROVED, f", which was given up by {given_up[0]}: ") if given_up else (FALSE, ": ")
    for act in audit.of_archive(name, *SEALED):
        if (act.facts.get("rows"), act.facts.get("parts")) != (manifest["record_count"], len(parts)):
            yield FALSE, f": {act} tells of other rows or parts than its manifest"
    yield from _doubts_of_unit(audit, archive, manifest)
    if audit.store.read(f"{archive.parts}SHA256SUMS") != _sums(parts):
        yield verdict, f"{known}its SHA256SUMS is gone or was changed"
    if audit.log is not None and not exists(audit.store, f"{archive.evidence}sealed.tlog-proof"):
        yield FALSE, f": its proof {archive.evidence}sealed.tlog-proof is gone; Strongroom does not believe it without"
    for part in parts:
        file = part["object_key"].rpartition("/")[2]
        try:
            uncounted = read_part(audit.store, manifest, part)
            if uncounted:
                yield UNPROVED, f": {file} has the right bytes, but its rows were not counted: {uncounted}"
        except MalformedError as error:
            yield verdict, f"{known}{file} {error}"
        except CannotReadError as error:  # such as one in a Glacier class
            yield UNPROVED, f": {file} was not compared: {error}"
        if (
            "locator_sha256" in part
            and (found := hash_object(audit.store, _locator_key(part))) != part["locator_sha256"]
        ):
            told = "is gone" if found is None else "was changed"
            yield verdict, f"{known}the locator {_locator_key(part).rpartition('/')[2]} {told}"


def read_part(store: Store, manifest: dict[str, Any], part: dict[str, Any]) -> str | None:
    """Read all of a part, by the version that was sealed. Returns why its rows could not be counted, if so.

    Raises:
        MalformedError: It is gone, has other bytes, or other rows.
    """
    stream = _open_part(store, part)
    with tempfile.TemporaryFile() as file:
        digest, size = hashlib.sha256(), 0
        for chunk in chunks_of(stream):
            digest.update(chunk)
            file.write(chunk)
            size += len(chunk)
        if (digest.hexdigest(), size) != (part["sha256"], part["compressed_size"]):
            expected, found = short(part["sha256"]), short(digest.hexdigest())
            raise MalformedError(
                f"has other bytes: expected {part['compressed_size']} of sum {expected}, found {size} of sum {found}"
            )
        file.seek(0)
        return _count_parquet(file, part) if manifest.get("format") == "parquet" else _count_lines(file, manifest, part)


def _open_part(store: Store, part: dict[str, Any]) -> IO[bytes]:
    version_id = part.get("version_id")
    stream = store.open(part["object_key"], version_id if isinstance(version_id, str) else None)
    stream = stream or store.open(part["object_key"])  # in a copy of the bucket versions have other ids; bytes decide
    if stream is None:
        raise MalformedError("is gone")
    return stream


def _unpacked(file: IO[bytes], packing: str) -> Any:
    """A stream of the lines in a part."""
    if packing == "zstd":
        return zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
    return gzip.GzipFile(fileobj=file) if packing == "gzip" else file


def _count_lines(file: IO[bytes], manifest: dict[str, Any], part: dict[str, Any]) -> str | None:
    """Unpack, hash and count. It stops where there is more than there should be, so that nothing can fill the memory."""
    if manifest["compression_type"] == "zstd" and zstandard is None:
        return "the package zstandard is not installed"
    digest, size, rows = hashlib.sha256(), 0, 0
    lines = _unpacked(file, manifest["compression_type"])
    try:
        while size <= part["original_size"] and (chunk := lines.read(CHUNK)):
            digest.update(chunk)
            size, rows = size + len(chunk), rows + chunk.count(b"\n")
    except UNPACKING_FAILED as error:
        raise MalformedError(f"cannot be unpacked: {error}") from None
    if (rows, size, digest.hexdigest()) != (part["record_count"], part["original_size"], part["original_sha256"]):
        raise MalformedError(f"has other rows than its manifest says: expected {part['record_count']}, found {rows}")
    return None


def _count_parquet(file: IO[bytes], part: dict[str, Any]) -> str | None:
    if parquet is None:
        return "it is parquet, and the package pyarrow is not installed"
    try:
        table = parquet.ParquetFile(file)
        rows = sum(batch.num_rows for batch in table.iter_batches(columns=table.schema_arrow.names[:1]))
    except (OSError, ValueError) as error:
        raise MalformedError(f"is no parquet that can be read: {error}") from None
    if rows != part["record_count"]:
        raise MalformedError(f"has other rows than its manifest says: expected {part['record_count']}, found {rows}")
    return None


def check_terms(audit: Audit) -> Findings:
    """Each archive's term is that of the settings under which it was sealed, counted from the end of its window."""
    sound = 0
    for act in audit.acts(*SEALED):
        manifest = audit.manifests.get(act.archive)
        if manifest is None:
            continue
        if not act.settings:
            yield UNPROVED, f"{act.archive}: {act} names no settings, so nothing says how long it had to be kept"
            continue
        try:
            fault = _fault_of_term(audit, act, manifest)
        except MalformedError as error:
            fault = f"its term cannot be read: {error}"
        sound += fault is None
        if fault:
            yield FALSE, f"{act.archive}: {fault}"
    if sound:
        yield PROVED, f"the settings of their time demand the terms of {some(sound, 'archive')}"


def _fault_of_term(audit: Audit, act: Act, manifest: dict[str, Any]) -> str | None:
    until = instant_of(manifest, "retention_until")
    if instant_of(act.facts, "retention_until") != until.replace(microsecond=0):
        return f"{act} has another term than its manifest"
    if "supersedes" in manifest:
        earlier = audit.manifests.get(text_of(_supersedes(manifest), "archive_id"), {})
        same = all(earlier.get(each) == manifest[each] for each in ("retention_until", "legal_basis"))
        return None if same else "it has another term or legal basis than the archive that it supersedes"
    key = f"evidence/{cast('Archive', Archive.parse(act.archive)).folder}/settings/{act.settings}.json"
    body = audit.store.read(key)
    if body is None or sha256_of(body) != act.settings:
        return f"the settings under which it was sealed, {key}, {'are gone' if body is None else 'were changed'}"
    settings = parse_object(body, key)
    term = text_of(settings, "cold_retention")
    demanded = add_term(instant_of(manifest, "window_end"), term)
    if until != demanded:
        return f"it is kept until {until:%Y-%m-%d}, but its settings demand {demanded:%Y-%m-%d} ({term})"
    if settings.get("legal_basis") != manifest["legal_basis"]:
        return "it has another legal basis than its settings"
    return None


OUTCOMES = ("deleted", "changed", "gone", "referenced", "kept_by_trigger", "detached")
"""What became of the rows of a part. Each row has one."""


def check_settings(audit: Audit) -> Findings:
    """What changed in a table's settings was entered, in one line from each to the next, and acts were done under what was in force."""
    changes = audit.acts("configuration changed")
    in_force: dict[str, str] = {}
    faults = 0
    for act in sorted([*changes, *audit.acts("archived")]):
        before, known = in_force.get(act.table), act.table in in_force
        if act.kind == "archived":
            if known and act.settings != before:
                faults += 1
                yield UNPROVED, f"{act.archive}: {act} was under settings that no entry made those in force"
            continue
        for fault in _faults_of_change(audit, act, before, known=known):
            faults += 1
            yield FALSE, f"{act} of {act.table} {fault}"
        in_force[act.table] = act.settings
    if changes and not faults:
        yield PROVED, f"{some(len(changes), 'entry', 'entries')} of settings in force, each after the one before it"


def _faults_of_change(audit: Audit, act: Act, before: str | None, *, known: bool) -> Iterator[str]:
    try:
        for key, _ in act.subjects:
            record = parse_object(audit.store.read(key), key)
            told = record.get("before"), record.get("after"), record.get("changed")
            folder = key.partition("/changes/")[0]
            if told[:2] != (act.facts.get("before"), act.settings) or record.get("table") != act.table:
                yield "is about other settings than its record"
            if known and told[0] != before:
                yield "does not begin with the settings that were in force"
            older, newer = (parse_object(audit.store.read(f"{folder}/{each}.json"), str(each)) for each in told[:2])
            if told[2] != [*_changed_names(older, newer)]:
                yield "names other settings than those that differ"
    except MalformedError as error:
        yield f"cannot be compared: {error}"


def _changed_names(before: dict[str, Any], after: dict[str, Any], within: str = "") -> Iterator[str]:
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _changed_names(old, new, f"{within}{name}.")
        elif old != new:
            yield f"{within}{name}"


def check_deletes(audit: Audit) -> Findings:
    """Rows left the database only after they were sealed and that was announced, and the counts add up."""
    deleted = parts = 0
    for name, acts in sorted(audit.by_archive.items()):
        sealed = min((act.number for act in acts if act.kind in SEALED), default=None)
        began: set[Any] = set()
        ended: dict[Any, Act] = {}
        for act in acts:
            if act.kind not in ("delete intended", "detach intended", "deleted", "detached"):
                continue
            what = act.kind[:6], act.facts.get("part")
            if sealed is None or sealed > act.number:
                yield FALSE, f"{name}: {act} comes before the archive was sealed"
            if act.kind.endswith("intended"):
                began.add(what)
            elif what not in began:
                yield FALSE, f"{name}: {act} has no intent before it"
            else:
                ended[what] = act
        for act in ended.values():
            faults = [*_faults_of_counts(audit, name, act)] if act.kind == "deleted" else []
            for fault in faults:
                yield FALSE, f"{name}: {fault}"
            if act.kind == "deleted" and not faults:
                deleted, parts = deleted + act.facts["deleted"], parts + 1
        for kind, part in sorted(began - set(ended), key=str):
            yield UNPROVED, f"{name}: a {kind}{'' if part is None else f' of part {part}'} began and has not ended"
    announced: set[Any] = set()
    for act in audit.acts("drop intended", "dropped"):
        dropped = act.archive, act.table, act.partition, str(act.facts.get("partition"))
        if act.kind == "drop intended":
            announced.add(dropped)
        elif dropped not in announced:
            yield FALSE, f"{act} of {act.facts.get('partition')} has no intent before it"
    if parts:
        yield (
            PROVED,
            f"{some(deleted, 'row')} of {some(parts, 'part')} deleted after they were sealed, and the counts add up",
        )


def _faults_of_counts(audit: Audit, name: str, act: Act) -> Iterator[str]:
    """Where entry, evidence and manifest tell other things of one part's rows."""
    try:
        told = {each: number_of(act.facts, each) for each in ("rows", *OUTCOMES)}
        number = number_of(act.facts, "part")
        if sum(told[each] for each in OUTCOMES) != told["rows"]:
            yield f"{act} tells of {told['rows']} rows and the fate of {sum(told[each] for each in OUTCOMES)}"
        for key, _ in act.subjects:
            evidence = parse_object(audit.store.read(key), key)
            if {each: evidence.get(each) for each in told} != told:
                yield f"{key} tells of other counts than {act}"
            if (evidence.get("archive_id"), evidence.get("number")) != (name, number):
                yield f"{key} is about another part or archive than {act}"
            if evidence.get("annex") is not None and not audit.of_archive(name, "purge intended"):
                yield from _faults_of_annex(audit, name, evidence)
        sizes = [part["record_count"] for part in audit.manifests.get(name, {}).get("parts", ())]
        if sizes and told["rows"] not in sizes[number : number + 1]:
            yield f"{act} tells of {told['rows']} rows, its manifest of others"
    except MalformedError as error:
        yield f"the counts of {act} cannot be read: {error}"


STAYED = {"changed": "changed", "referenced": "referenced", "kept_by_trigger": "trigger"}
MOST_KEYS = 10_000
"""How many keys an annex has at most."""


def _faults_of_annex(audit: Audit, name: str, evidence: dict[str, Any]) -> Iterator[str]:
    """What is wrong with the keys of the rows that stayed, as long as their archive is there."""
    annex, archive = evidence["annex"], Archive.parse(name)
    key = text_of(annex, "key") if isinstance(annex, dict) else ""
    if archive is None or not key.startswith(archive.parts) or not ANNEX.fullmatch(key.removeprefix(archive.parts)):
        raise MalformedError("its annex is not in its place")
    body = audit.store.read(key)
    if body is None:
        yield f"{key} is gone, and its archive is there"
        return
    if sha256_of(body) != text_of(annex, "sha256"):
        yield f"{key} was changed: the evidence has {short(text_of(annex, 'sha256'))}, found {short(sha256_of(body))}"
        return
    told = parse_object(body, key)
    rows = objects_of(told, "kept")
    counted = Counter(text_of(row, "reason") for row in rows)
    expected = {reason: number_of(evidence, each) for each, reason in STAYED.items() if evidence.get(each)}
    if (told.get("archive_id"), told.get("number")) != (name, evidence.get("number")):
        yield f"{key} is about another part or archive than the evidence that names it"
    if len(rows) != number_of(annex, "listed") or (len(rows) < MOST_KEYS and counted != expected):
        yield f"{key} lists other rows than its evidence counts"


class Hold(NamedTuple):
    """A legal hold: what it covers, and the entries that placed and released it."""

    hold_id: str
    what: str
    placed: int
    released: int | None

    def covers(self, archive_id: str) -> bool:
        return self.what == "*" or f"{archive_id}.".startswith(f"{self.what}.")

    def touches(self, table: str) -> bool:
        """Whether it covers a table or some of its partitions."""
        return self.what == "*" or decode_table(".".join(self.what.split(".")[:2])) == table

    def in_force_at(self, index: int) -> bool:
        return self.placed < index and (self.released is None or self.released > index)


CASES = re.compile(r"evidence/cases/([A-Za-z0-9][A-Za-z0-9_-]{0,63})/[^/]+\.json")
CASE_ACTS = ("case opened", "case found", "case answered", "erasure intended", "erased", "superseded", "case closed")
ERASED = re.compile(
    r"evidence/suppressed/([^/]+)/[0-9a-f]{16}/([0-9a-f]{64})/([0-9]{8}T[0-9]{6}\.[0-9]{6}Z)-([A-Za-z0-9][A-Za-z0-9_-]{0,63})\.json"
)
"""One value of an erased person: table, token, instant of the intent, case."""


def check_erasures(audit: Audit) -> Findings:
    """Persons were erased with a second person's yes, under no hold; nothing but their rows left archives; and they are not forgotten too early."""
    cases: dict[str, list[Act]] = defaultdict(list)
    for act in audit.acts(*CASE_ACTS):
        cases[str(act.facts.get("case"))].append(act)
    holds = [*_holds(audit).values()]
    sound = 0
    for case_id, acts in sorted(cases.items()):
        try:
            faults = [*_case(audit, case_id, acts, holds)]
        except MalformedError as error:
            faults = [(FALSE, f"a record of it cannot be read: {error}")]
        sound += not faults
        for verdict, text in faults:
            yield verdict, f"case {case_id}: {text}"
    if sound:
        closed = len({act.facts.get("case") for act in audit.acts("case closed")})
        yield (
            PROVED,
            f"{some(sound, 'case')} of persons ({closed:,} closed) with an intent and a second person's yes before each erasure",
        )
    yield from _successions(audit)
    yield from _list_of_erased(audit, cases)


def _case(audit: Audit, case_id: str, acts: list[Act], holds: list[Hold]) -> Findings:
    """One case, in the order of its entries."""
    opened = [act for act in acts if act.kind == "case opened"]
    if not opened or opened[0] is not acts[0]:
        yield FALSE, f"{acts[0]} comes before it was opened"
        return
    received, intent = _record(audit, opened[0]), None
    for act in acts:
        if act.kind != "superseded" and any(
            case_id != (CASES.fullmatch(key) or [""] * 2)[1] for key, _ in act.subjects
        ):
            yield FALSE, f"{act} is about {act.subjects[0][0]}, which is no record of it"
        if act.kind == "erasure intended":
            intent = act
            for fault in _faults_of_yes(audit, act, received, acts):
                yield FALSE, fault
        elif act.kind in ("erased", "superseded"):
            if intent is None:
                yield FALSE, f"{act} has no 'erasure intended' before it"
                continue
            table = text_of(_record(audit, act), "table") if act.kind == "erased" else act.table
            for hold in holds:
                held = hold.touches(table) if act.kind == "erased" else hold.covers(str(act.facts.get("supersedes")))
                if held and hold.in_force_at(act.number):
                    before = hold.in_force_at(intent.number)
                    told = "under" if before else "while somebody placed"
                    yield FALSE if before else UNPROVED, f"{act} was made {told} the hold {hold.hold_id} on {hold.what}"
        elif act.kind == "case closed":
            yield from _closing(audit, act, acts)
    yield from _person(audit, case_id, received, any(act.kind == "case closed" for act in acts))


def _record(audit: Audit, act: Act) -> dict[str, Any]:
    """The record that an entry is about. Whether its bytes are those of the entry is told by the check of records."""
    key = act.subjects[0][0] if act.subjects else ""
    return parse_object(audit.store.read(key), key or f"what {act} is about")


def _faults_of_yes(audit: Audit, intent: Act, received: dict[str, Any], acts: list[Act]) -> Iterator[str]:
    """A second person said yes to what was found, before anything was erased."""
    told = _record(audit, intent)
    found_key = text_of(told, "found_key")
    shown = [
        act
        for act in acts
        if act.kind == "case found" and act.number < intent.number and found_key in dict(act.subjects)
    ]
    answers = [act for act in acts if act.kind == "case answered" and act.number < intent.number]
    by = []
    for act in answers:
        record = _record(audit, act) if act.facts.get("answer") == "yes" else {}
        said_yes = record.get("approved") is True and record.get("found_key") == found_key
        if said_yes and (record.get("by") != act.who or not shown or act.number < shown[0].number):
            yield f"{act} tells of another answer than its record, or comes before what it answers"
        elif said_yes:
            by.append(act.who)
    if told.get("approved_by") not in by:
        yield f"{intent} has no yes of {told.get('approved_by')} before it"
        return
    run = _record(audit, shown[0]).get("run")
    starter = run.get("triggered_by") if isinstance(run, dict) else None
    if told["approved_by"] in (received.get("recorded_by"), starter):
        yield f"{intent} was approved by {told['approved_by']}, who recorded the case or started the run"


def _closing(audit: Audit, closed: Act, acts: list[Act]) -> Findings:
    """How a case ended is what its other entries tell."""
    before = [act for act in acts if act.kind in ("erased", "superseded") and act.number < closed.number]
    rows = {act.subjects: number_of(act.facts, "removed_rows") + number_of(act.facts, "blanked_rows") for act in before}
    if closed.facts.get("outcome") != "answered" and closed.facts.get("erased_rows") != sum(rows.values()):
        yield (
            FALSE,
            f"{closed} tells of {closed.facts.get('erased_rows')} rows, the entries before it of {sum(rows.values())}",
        )
    record = _record(audit, closed)
    if record.get("outcome") != closed.facts.get("outcome"):
        yield FALSE, f"{closed} tells of another outcome than its record"
    for act in before:
        earlier = str(act.facts.get("supersedes"))
        gone = any(one.number < closed.number for one in audit.of_archive(earlier, "purged"))
        if act.kind == "superseded" and not gone:
            yield FALSE, f"{closed} comes before {earlier}, which was superseded, was destroyed"


def _person(audit: Audit, case_id: str, received: dict[str, Any], closed: bool) -> Findings:
    """Who the person is lies protected in the store until the case is closed, and no longer."""
    key = f"subjects/{case_id}.bin"
    found = hash_object(audit.store, key)
    if closed and found is not None:
        yield (
            UNPROVED,
            f"it is closed, but {key} still tells who the person is: its writer died too early, or somebody put it back",
        )
    elif not closed and found is None:
        yield FALSE, f"it is open, and {key}, which tells who the person is, is gone"
    elif not closed and found != received.get("subject_sha256"):
        yield FALSE, f"{key} is not the record of the person that it was opened with"


def _list_of_erased(audit: Audit, cases: dict[str, list[Act]]) -> Findings:
    """Who must not come back into a table: one object for each identifier of a person who was erased there."""
    tokens: Counter[tuple[str, str, str]] = Counter()  # by case, table and instant
    faults = 0
    for key in sorted(key for key in audit.present if key.startswith((LIST_OF_ERASED, "subjects/"))):
        told, fault = ERASED.fullmatch(key), None
        if told is not None and told[4] in cases:
            tokens[told[4], decode_table(told[1]), told[3]] += 1
            fault = None if audit.store.read(key) == b'{"erased": true}\n' else (FALSE, "was changed")
        elif key.startswith(LIST_OF_ERASED):
            fault = FALSE, "was planted: the log has no such case"
        elif key[len("subjects/") :].removesuffix(".bin") not in cases:
            fault = UNPROVED, "belongs to no case: its writer died before the case was opened, or somebody planted it"
        if fault is not None:
            faults += 1
            yield fault[0], f"{key} {fault[1]}"
    instants = {
        name: {_written(audit, act) for act in acts if act.kind == "erasure intended"} for name, acts in cases.items()
    }
    for (case_id, table, instant), count in sorted(tokens.items()):
        identifiers = _record(audit, cases[case_id][0]).get("identifiers")
        expected = sum(identifiers.values()) if isinstance(identifiers, dict) else 0
        verdict = FALSE if instant not in instants[case_id] or count > expected else UNPROVED
        if instant not in instants[case_id] or count != expected:
            faults += 1
            why = (
                "no erasure began at that instant"
                if instant not in instants[case_id]
                else f"the person has {expected:,}"
            )
            yield (
                verdict,
                f"case {case_id}: the list of the erased has {some(count, 'value')} of {instant} for {table}, and {why}",
            )
    listed = {(case_id, table) for case_id, table, _ in tokens}
    for act in audit.acts("erased", "superseded"):
        table = act.table if act.kind == "superseded" else str(_record(audit, act).get("table"))
        if (str(act.facts.get("case")), table) not in listed:
            faults += 1
            yield FALSE, f"{act}: the list of the erased has nobody of case {act.facts.get('case')} for {table}"
    if tokens and not faults:
        yield (
            PROVED,
            f"the list of the erased has {some(tokens.total(), 'value')}, as many as the persons of its cases have identifiers",
        )


def _written(audit: Audit, intent: Act) -> str:
    """The instant of an intent, as keys have it."""
    return f"{instant_of(_record(audit, intent), 'intended_at').astimezone(timezone.utc):%Y%m%dT%H%M%S.%fZ}"


def _successions(audit: Audit) -> Findings:
    """Each successor has all rows of the archive that it supersedes, without those of the person."""
    sound = compared = 0
    for earlier, acts in sorted(audit.successors.items()):
        names = sorted({act.archive for act in acts})
        if len(names) > 1:
            yield FALSE, f"{earlier} is superseded by {' and by '.join(names)}"
        for name in names:
            manifest = audit.manifests.get(name)
            if manifest is None:
                continue  # the check of archives says why
            try:
                faults = [*_faults_of_succession(audit, name, manifest, earlier)]
                if not faults and {name, earlier} <= audit.whole:
                    uncompared = _compare(audit.store, audit.manifests[earlier], manifest)
                    compared += uncompared is None
                    faults = [] if uncompared is None else [(UNPROVED, uncompared)]
            except MalformedError as error:
                faults = [(FALSE, f"{error}")]
            except CannotReadError as error:
                faults = [(UNPROVED, f"its rows were not compared: {error}")]
            sound += not faults
            for verdict, text in faults:
                yield verdict, f"{name}, which supersedes {earlier}: {text}"
    if sound:
        told = f"; {compared:,} compared row by row" if compared else ""
        yield (
            PROVED,
            f"{some(sound, 'successor')} with as many rows as the archive before, less those of the person{told}",
        )


def _faults_of_succession(audit: Audit, name: str, manifest: dict[str, Any], earlier_name: str) -> Findings:
    """Where manifest, record and entries of a succession tell other things."""
    told, earlier = _supersedes(manifest), audit.manifests.get(earlier_name)
    acts = audit.of_archive(name, "superseded")
    if earlier is None:
        yield FALSE, "nothing in the store says what that archive had"
        return
    known = Archive.parse(earlier_name)
    sums = {sha256 for _, sha256 in audit.told.get(known.manifest_key if known else "", ())}
    if (told["archive_id"], {told["manifest_sha256"]}) != (earlier_name, sums):
        yield FALSE, "its manifest names another archive, or another manifest of it"
    rank = _supersedes(earlier)["rank"] if "supersedes" in earlier else known.sequence if known else 0
    if told["rank"] != rank:
        yield FALSE, f"it takes place {told['rank']} among the archives of its partition instead of {rank}"
    removed, blanked = number_of(told, "removed_rows"), number_of(told, "blanked_rows")
    if manifest["record_count"] + removed != earlier["record_count"]:
        yield (
            FALSE,
            f"{manifest['record_count']:,} rows and {removed:,} removed ones are not its {earlier['record_count']:,} rows",
        )
    if not acts:
        gone = audit.of_archive(earlier_name, "purged")
        yield FALSE if gone else UNPROVED, "it was not proved: the log has no 'superseded' of it"
        return
    record = _record(audit, acts[0])
    expected = {
        "archive_id": name,
        "manifest_sha256": next(
            iter({sha256 for act in audit.of_archive(name, *SEALED) for _, sha256 in act.subjects})
        ),
        "supersedes": earlier_name,
        "superseded_sha256": told["manifest_sha256"],
        "case_id": told["case_id"],
    }
    facts = {"supersedes": earlier_name, "case": told["case_id"], "removed_rows": removed, "blanked_rows": blanked}
    parts = [
        {
            "number": number,
            "earlier_rows": old["record_count"],
            "kept": new["record_count"],
            "removed": old["record_count"] - new["record_count"],
            "earlier_sha256": old["sha256"],
            "sha256": new["sha256"],
        }
        for number, (old, new) in enumerate(zip(earlier["parts"], manifest["parts"], strict=False))
    ]
    found = objects_of(record, "parts")
    if {each: record.get(each) for each in expected} != expected or acts[0].facts != facts:
        yield FALSE, "its proof is about other archives, another case or other counts than its manifest"
    if [{each: one.get(each) for each in parts[0]} for one in found] != parts or blanked != sum(
        number_of(one, "blanked") for one in found
    ):
        yield FALSE, "its proof tells of other parts than the two manifests"
    if len(earlier["parts"]) != len(manifest["parts"]):
        yield FALSE, "it has another number of parts"


def _compare(store: Store, earlier: dict[str, Any], later: dict[str, Any]) -> str | None:
    """Compare all rows of an archive and its successor. Returns why they could not be compared, if so.

    Raises:
        MalformedError: The successor has a row that is not in the archive, lost another one, or changed it otherwise than by blanking it.
    """
    if earlier.get("format") == "parquet" and parquet is None:
        return "its rows were not compared: they are parquet, and the package pyarrow is not installed"
    if zstandard is None and "zstd" in (earlier["compression_type"], later["compression_type"]):
        return "its rows were not compared: the package zstandard is not installed"
    removed = blanked = 0
    table = later.get("table")
    key = table.get("primary_key") if isinstance(table, dict) else None
    if not isinstance(key, list) or not key:
        raise MalformedError("its manifest names no primary key")
    for old, new in zip(earlier["parts"], later["parts"], strict=True):
        if old["sha256"] != new["sha256"]:
            with tempfile.TemporaryFile() as first, tempfile.TemporaryFile() as second:
                rows = _rows(store, earlier, old, first), _rows(store, later, new, second)
                less, fewer = _follow(*rows, key, f"part {new['number']}")
                removed, blanked = removed + less, blanked + fewer
    told = _supersedes(later)
    if (removed, blanked) != (told["removed_rows"], told["blanked_rows"]):
        raise MalformedError(
            f"{removed:,} rows are missing and {blanked:,} were blanked, which is not what its manifest says"
        )
    return None


def _rows(store: Store, manifest: dict[str, Any], part: dict[str, Any], file: IO[bytes]) -> Iterator[Any]:
    """The rows of a part in their order: lines of JSON, or what pyarrow reads."""
    for chunk in chunks_of(_open_part(store, part)):
        file.write(chunk)
    file.seek(0)
    if manifest.get("format") == "parquet":
        for batch in parquet.ParquetFile(file).iter_batches():
            yield from map(repr_of, batch.to_pylist())
    else:
        yield from io.BufferedReader(_unpacked(file, manifest["compression_type"]), CHUNK)


def repr_of(row: dict[str, Any]) -> dict[str, str | None]:
    """A row whose values can be compared: two NaNs are alike."""
    return {name: None if value is None else str(value) for name, value in row.items()}


def _values(row: Any) -> dict[str, Any]:
    return row if isinstance(row, dict) else json.loads(row, parse_float=str, parse_int=str)


def _follow(old: Iterator[Any], new: Iterator[Any], key: list[str], what: str) -> tuple[int, int]:
    """Follow the rows of an archive and its successor side by side. Returns how many were removed, and how many blanked."""
    removed = blanked = 0
    row = next(new, None)
    for earlier in old:
        if row == earlier:
            row = next(new, None)
            continue
        before, after = _values(earlier), _values(row) if row is not None else {}
        if row is None or any(before.get(name) != after.get(name) for name in key):
            removed += 1
            continue
        changed = {name for name in before if before[name] != after.get(name)}
        if before.keys() != after.keys() or any(
            after[name] not in (None, "erased") and not name.startswith("strongroom_exact") for name in changed
        ):
            raise MalformedError(f"{what} has a row that was changed otherwise than by blanking it")
        blanked += 1
        row = next(new, None)
    if row is not None:
        raise MalformedError(f"{what} has a row that the archive does not have, or has it in another place")
    return removed, blanked


def _erasure_of(audit: Audit, purged: Act) -> dict[str, Any] | None:
    """What a certificate says of the case for which an archive went; None if it went because its term was over."""
    with contextlib.suppress(MalformedError):
        erasure = _record(audit, purged).get("erasure")
        return erasure if isinstance(erasure, dict) else None
    return None


def _faults_of_erasure(audit: Audit, name: str, erasure: dict[str, Any], begun: int) -> Iterator[str]:
    """An archive that was superseded goes after its successor was proved, for a case that a second person approved."""
    successor, case_id = str(erasure.get("superseded_by")), erasure.get("case_id")
    proofs = [act for act in audit.of_archive(successor, "superseded") if act.number < begun]
    if not any(act.archive == successor for act in audit.successors.get(name, ())):
        yield f"it was destroyed because {successor} supersedes it, of which the log knows nothing"
    elif not any((act.facts.get("supersedes"), act.facts.get("case")) == (name, case_id) for act in proofs):
        yield f"it was destroyed before it was proved, for case {case_id}, that {successor} holds its other rows"
    if not any(act.facts.get("case") == case_id and act.number < begun for act in audit.acts("erasure intended")):
        yield f"it was destroyed for case {case_id}, of which the log has no 'erasure intended' before"


def _holds(audit: Audit) -> dict[str, Hold]:
    """All holds that the log has, by their ids."""
    released = {str(act.facts.get("hold_id")): act.number for act in audit.acts("released")}
    holds: dict[str, Hold] = {}
    for act in audit.acts("held"):
        name = str(act.facts.get("hold_id"))
        holds.setdefault(name, Hold(name, str(act.facts.get("what")), act.number, released.get(name)))
    return holds


def check_purges(audit: Audit) -> Findings:
    """What was destroyed had served its term, was under no hold, is gone, and has a certificate that says so."""
    holds = _holds(audit)
    released = {str(act.facts.get("hold_id")) for act in audit.acts("released")}
    if holds:
        force = sum(hold.released is None for hold in holds.values())
        yield PROVED, f"the log has {some(len(holds), 'hold')}, {force:,} in force"
    for name in sorted(released - holds.keys()):
        yield UNPROVED, f"the log has the release of the hold {name}, and not that it was placed"
    sound = for_persons = 0
    for name in sorted({act.archive for act in audit.acts("purge intended", "purged")}):
        purged, archive = audit.of_archive(name, "purged"), Archive.parse(name)
        if archive is None:
            continue
        if not purged:
            yield (
                UNPROVED,
                f"{name}: its purge has begun, by {audit.of_archive(name, 'purge intended')[0]}, and has not ended",
            )
            continue
        faults = [*_faults_of_purge(audit, archive, purged[0], list(holds.values()))]
        for fault in faults:
            yield FALSE, f"{name}: {fault}"
        superseded = _erasure_of(audit, purged[0]) is not None
        sound, for_persons = sound + (not faults and not superseded), for_persons + (not faults and superseded)
    unknown = sorted(key for key in audit.present if key.startswith("holds/") and key not in audit.told)
    if unknown and (sound or for_persons):
        yield UNPROVED, f"{unknown[0]} has no entry, so it is unknown whether it should have stopped a purge"
    if sound:
        yield PROVED, f"{some(sound, 'archive')} destroyed after the end of the term, under no hold, with a certificate"
    if for_persons:
        yield (
            PROVED,
            f"{some(for_persons, 'archive')} destroyed that a proved one supersedes, under no hold, with a certificate",
        )


def _faults_of_purge(audit: Audit, archive: Archive, purged: Act, holds: list[Hold]) -> Iterator[str]:
    name, erasure = archive.archive_id, _erasure_of(audit, purged)
    sealed = audit.of_archive(name, *SEALED)
    intents = [act for act in audit.of_archive(name, "purge intended") if act.number < purged.number]
    if not sealed or not intents:
        yield f"{purged} has no {'intent' if sealed else 'archive'} before it"
    for told in (*sealed, *intents):
        try:
            until = (
                instant_of(told.facts, "retention_until") if told in sealed or "retention_until" in told.facts else None
            )
        except MalformedError as error:
            yield f"{told}: {error}"
            continue
        early = [act for act in (*intents, purged) if until is not None and act.at < until - SLACK]
        if early and until is not None and erasure is None:
            yield f"{early[0]} is before the end of its term, {until:%Y-%m-%d}"
    if erasure is not None:
        yield from _faults_of_erasure(audit, name, erasure, min((act.number for act in intents), default=purged.number))
    # A hold that came after the last intent stopped what was left; one that was there before should have stopped all.
    begun = max((act.number for act in intents), default=purged.number)
    for hold in holds:
        if hold.covers(name) and hold.in_force_at(begun) and hold.in_force_at(purged.number):
            yield f"it was destroyed, by {purged}, under the hold {hold.hold_id} on {hold.what}"
    approvers = {act.facts.get("approved_by") for act in intents} - {None, "by policy"}
    answers = [act for act in audit.acts("approval answered", "case answered") if act.number < purged.number]
    yes = {act.who for act in answers if act.facts.get("answer") == "yes"}
    if approvers - yes:
        yield f"it was destroyed with the approval of {', '.join(map(str, approvers - yes))}, of whom the log has no yes"
    left = sorted(key for key in audit.present if key.startswith(archive.parts) or key == archive.manifest_key)
    left = [key for key in left if exists(audit.store, key)]  # it may have gone since the store was listed
    if left:
        yield f"it was destroyed, by {purged}, but {left[0]} is there"
    try:
        yield from _faults_of_certificate(audit, archive, purged)
    except MalformedError as error:
        yield f"its certificate cannot be read: {error}"


def _faults_of_certificate(audit: Audit, archive: Archive, purged: Act) -> Iterator[str]:
    key = f"{archive.evidence}destruction.json"
    certificate = parse_object(audit.store.read(key), key)
    manifest = audit.manifests.get(archive.archive_id)
    if [name for name, _ in purged.subjects] != [key]:
        yield f"{purged} is not about its certificate, {key}"
    if (certificate.get("archive_id"), certificate.get("table_name")) != (archive.archive_id, archive.table):
        yield "its certificate is that of another archive"
    if certificate.get("manifest_sha256") not in {sha256 for _, sha256 in audit.told.get(archive.manifest_key, ())}:
        yield "its certificate is about another manifest than the one that was sealed"
    for field_name in ("record_count", "checksum", "retention_until", "legal_basis") if manifest else ():
        if manifest and certificate.get(field_name) != manifest.get(field_name):
            yield f"the {field_name} in its certificate is not that of its manifest"
    early = instant_of(certificate, "begun_at") < instant_of(certificate, "retention_until")
    if early and certificate.get("erasure") is None:
        yield "by its certificate it was destroyed before the end of its term"
    if number_of(certificate, "record_count") != purged.facts.get("rows"):
        yield f"{purged} tells of another number of rows than its certificate"


def check_drills(audit: Audit) -> Findings:
    """Drills restored the archives that chance drew, and these came back."""
    drilled = {act.archive: act for act in audit.acts("drilled")}  # the latest of each
    drawn = 0
    for act in audit.acts("drills chosen"):
        try:
            record = parse_object(audit.store.read(act.subjects[0][0] if act.subjects else ""), "its record")
            faults = [*_faults_of_choice(audit, act, record)]
            chosen = {text_of(choice, "archive_id") for choice in objects_of(record, "choices")}
        except MalformedError as error:
            faults, chosen = [f"cannot be recomputed: {error}"], set()
        for fault in faults:
            yield FALSE, f"{act} {fault}"
        drawn += not faults
        for name in sorted(chosen):
            if name not in drilled or drilled[name].number < act.number:
                yield UNPROVED, f"{name} was chosen by {act}, and no drill of it followed"
    for name, act in sorted(drilled.items()):
        if act.facts.get("result") == "failed" and not audit.of_archive(name, "purged", "condemned"):
            yield UNPROVED, f"{name} did not come back in its last drill, {act}"
    sound = sum(act.facts.get("result") == "sound" for act in drilled.values())
    if drawn:
        yield (
            PROVED,
            f"{some(drawn, 'choice')} of drills as chance drew them; {some(sound, 'archive')} came back in the last one",
        )


def _faults_of_choice(audit: Audit, act: Act, record: dict[str, Any]) -> Iterator[str]:
    """Where a choice is not the one that its seed, the root of the log at that moment, demands."""
    log, note = cast("Log", audit.log), Note.parse(text_of(record, "checkpoint").encode())
    seed = decode_base64(text_of(record, "seed")) or b""
    if seed != note.root or note.size > act.number or log.fault_of(note):
        yield "has a seed that is not the root of the log before it"
        return
    why = {text_of(one, "archive_id"): one.get("reasons") for one in objects_of(record, "choices")}
    skipped = {text_of(one, "archive_id") for one in objects_of(record, "skips")}
    candidates = {text_of(one, "archive_id"): one for one in objects_of(record, "candidates")}
    for name in sorted(audit.manifests.keys() - candidates.keys() - skipped - why.keys()):
        sealed, *_ = audit.of_archive(name, *SEALED)
        gone = (*audit.of_archive(name, "purge intended"), *audit.successors.get(name, ()))
        if sealed.number < note.size and not any(one.number < act.number for one in gone):
            yield f"left out {name}, which was sealed then"
    lots = sorted(candidates.keys() - skipped, key=lambda name: hashlib.sha256(seed + name.encode()).digest())
    drawn: dict[str, set[str]] = defaultdict(set)  # by reason and group: the archives that were chosen for it
    for name in lots:
        for reason in why.get(name) or ():
            drawn[f"random {candidates[name].get('table')}" if reason == "random" else str(reason)].add(name)
    for kind, member in (("random", "table"), ("format", "format"), ("server", "server_version")):
        groups: dict[str, list[str]] = defaultdict(list)
        for name in lots:
            groups[f"{kind} {candidates[name].get(member)}"].append(name)
        for group, members in groups.items():
            count = len(drawn[group]) if kind == "random" else 1
            if drawn[group] != set(members[:count]):
                yield f"chose others for '{group}' than the seed draws: {', '.join(members[:count])}"
    for name in sorted(candidates.keys() & why.keys()):
        for other in candidates[name].get("unit") or ():
            if other in lots and other not in why:
                yield f"chose {name} without {other}, which was sealed together with it"
    ages: dict[str, list[tuple[datetime, str]]] = defaultdict(list)
    for name in lots:
        ages[text_of(candidates[name], "table")].append((instant_of(candidates[name], "window_end"), name))
    for table, its in ages.items():
        for reason, (_, name) in (("newest", max(its)), ("oldest", min(its))):
            if reason not in (why.get(name) or ()):
                yield f"did not choose the {reason} archive of {table}, {name}"


def check_gaps(audit: Audit) -> Findings:
    """Between its first and its last partition, each table has an archive or an entry that there was nothing to archive."""
    windows: dict[str, set[tuple[datetime, datetime]]] = defaultdict(set)
    for act in audit.acts(*SEALED, "empty"):
        if window := window_of(act.partition):
            windows[act.table].add(window)
    gaps = 0
    for table, spans in sorted(windows.items()):
        reached = min(spans)[0]
        for start, end in sorted(spans):
            if start > reached:
                gaps += 1
                yield (
                    UNPROVED,
                    f"{table} has neither an archive nor 'empty' from {reached:%Y-%m-%d} to {start:%Y-%m-%d}",
                )
            reached = max(end, reached)
    if windows and not gaps:
        yield PROVED, f"no gap between the first and the last partition of {some(len(windows), 'table')}"


def check_replica(audit: Audit) -> Findings:
    """A second store has the same objects with the same bytes."""
    replica, same, other = audit.replica, 0, 0
    if replica is None:
        return
    once = {key for key in audit.present if not SWAPPED.fullmatch(key) and not key.startswith("reports/statistics/")}
    for key in sorted(once):
        found = hash_object(replica, key)
        if found is not None and found == hash_object(audit.store, key):
            same += 1
            continue
        other += 1
        if found is None:
            yield UNPROVED, f"the replica does not have {key}"
        else:
            yield FALSE, f"{key} is not the same in the replica"
    for key in replica.keys("archives/"):
        if key not in audit.present:
            other += 1
            yield UNPROVED, f"the replica still has {key}, which the store does not"
    try:
        fault = audit.log.fault_of(Note.parse(replica.read("log/checkpoint"))) if audit.log else None
        if fault:
            yield FALSE, f"{fault}, by the head in the replica"
    except MalformedError as error:
        yield UNPROVED, f"the replica's log/checkpoint cannot be read: {error}"
    if not other:
        yield PROVED, f"{some(same, 'object')} the same in the replica"


# 8 The command ------------------------------------------------------------------------------------------------------------------


class Parser(argparse.ArgumentParser):
    """Ends with 3 for wrong arguments: 2 means that not all is proved."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(3, f"{self.prog}: error: {message}\n")


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(description="Check what a Strongroom store says about itself, without Strongroom.")
    parser.add_argument("folder", nargs="?", type=Path, help="a copy of the bucket; keys are paths")
    parser.add_argument(
        "--s3", metavar="BUCKET", help="the bucket itself; keys come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    )
    parser.add_argument("--endpoint", metavar="URL", help="address of the S3 server; by default Amazon's of the region")
    parser.add_argument("--region", default=os.environ.get("AWS_REGION", "us-east-1"))
    parser.add_argument("--prefix", default="", help="the store's prefix inside the bucket")
    parser.add_argument(
        "--versions", type=Path, metavar="FILE", help="what `aws s3api list-object-versions` printed, for a copy"
    )
    parser.add_argument(
        "--key",
        action="append",
        default=[],
        metavar="KEY",
        help="a public key of the log that you trust, or a file with such lines",
    )
    parser.add_argument(
        "--witness",
        action="append",
        default=[],
        metavar="KEY",
        help="a public key of a witness, or a file with such lines",
    )
    parser.add_argument(
        "--since",
        type=Path,
        metavar="FILE",
        help="an older checkpoint, or a report in which it is printed: the log must only have grown",
    )
    parser.add_argument(
        "--keep", type=Path, metavar="FILE", help="write the checkpoint there, for --since of the next audit"
    )
    parser.add_argument("--replica", type=Path, metavar="FOLDER", help="a copy of the second store, to compare")
    parser.add_argument("--json", action="store_true", help="print all findings as JSON")
    parser.add_argument("--now", default=None, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if (given.folder is None) == (given.s3 is None):
        parser.error("give a folder or --s3 BUCKET")
    for folder in (given.folder, given.replica):
        if folder is not None and not folder.is_dir():
            parser.error(f"{folder} is not a folder")
    given.endpoint = given.endpoint or f"https://s3.{given.region}.amazonaws.com"
    given.prefix = given.prefix.strip("/") + "/" if given.prefix.strip("/") else ""
    return given


def read_keys(texts: Iterable[str], kind: int) -> tuple[Key, ...]:
    """Keys from lines, or from files of lines."""
    lines = [
        line for text in texts for line in (Path(text).read_text().splitlines() if Path(text).is_file() else [text])
    ]
    return tuple(Key.parse(line, kind) for line in lines if line.strip() and not line.startswith("#"))


def read_checkpoint(file: Path) -> Note:
    """A checkpoint that somebody kept: the whole note, its three lines alone, or a report or certificate in which it is printed."""
    body = file.read_bytes()
    if body.lstrip().startswith(b"{"):
        body = text_of(parse_object(body, str(file)), "checkpoint").encode()
    return Note.parse(body if b"\n\n" in body else body.rstrip(b"\n") + b"\n\n")


def print_report(report: Report, name: str, now: datetime) -> None:
    """The findings for people: one paragraph each, at most ten of a kind."""
    print(f"Evidence in {name}, looked at {now:%Y-%m-%d %H:%M} UTC\n")
    shown: Counter[tuple[str, str]] = Counter()
    checks = list(dict.fromkeys(finding.check for finding in report.findings))
    for finding in sorted(report.findings, key=lambda one: (checks.index(one.check), one.verdict == PROVED)):
        shown[finding.check, finding.verdict] += 1
        if shown[finding.check, finding.verdict] <= 10:
            label = finding.verdict if finding.verdict == PROVED else finding.verdict.upper()
            print(
                textwrap.fill(
                    f"{label:<11} {finding.check:<10} {finding.text}.",
                    118,
                    subsequent_indent=" " * 23,
                    break_long_words=False,
                    break_on_hyphens=False,
                )
            )
    for (check, verdict), count in shown.items():
        if count > 10:
            print(f"{verdict.upper():<11} {check:<10} … and {count - 10} more; --json prints all.")
    false, unproved = report.count(FALSE), report.count(UNPROVED)
    words = {
        PROVED: "PROVED. Everything above is so",
        UNPROVED: f"NOT ALL PROVED. Nothing is false, and {unproved} {'thing is' if unproved == 1 else 'things are'} not proved",
        FALSE: f"FALSE. {false} {'thing is' if false == 1 else 'things are'} not as the store says, and {unproved} not proved",
    }
    print(f"\nVerdict: {words[report.verdict]}.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all checks, print what they found, and return the exit code."""
    given = parse_arguments(arguments)
    try:
        now = datetime.now(timezone.utc) if given.now is None else datetime.fromisoformat(given.now)
        store = (
            Folder(given.folder, given.prefix, given.versions)
            if given.s3 is None
            else Bucket(given.endpoint, given.s3, given.prefix, given.region)
        )
        audit = Audit(
            store=store,
            now=now,
            keys=read_keys(given.key, SIGNATURE),
            witnesses=read_keys(given.witness, COSIGNATURE),
            since=None if given.since is None else read_checkpoint(given.since),
            replica=None if given.replica is None else Folder(given.replica, given.prefix),
        )
        store.keys("log/checkpoint")
    except (MalformedError, CannotReadError, OSError, ValueError, ElementTree.ParseError) as error:
        print(f"verify_evidence: {error}", file=sys.stderr)
        return 3
    report = Report()
    gc.disable()  # a million entries stay until the end; looking for garbage among them would take half of the time
    run_checks(audit, report)
    gc.enable()
    store.close()
    if given.json:
        findings = [finding._asdict() for finding in report.findings]
        print(
            json.dumps(
                {"store": store.name, "verdict": report.verdict, "findings": findings}, indent=2, ensure_ascii=False
            )
        )
    else:
        print_report(report, store.name, now)
    if given.keep is not None and audit.log is not None and not report.count(FALSE):
        given.keep.write_bytes(audit.log.note.body)
    return report.exit_code


if __name__ == "__main__":
    sys.exit(main())
