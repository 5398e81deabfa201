#!/usr/bin/env python3
"""Watch the transparency log of a Strongroom store from a host that Airflow's administrators do not run.

    witness.py key NAME --state FOLDER                                         once: make a key, and print its public half
    witness.py --state FOLDER --s3 BUCKET --endpoint URL --log-key KEY         look every five minutes (--once: only now)

Each time it reads the head of the log, checks who signed it, and requires a proof that the log only grew since the head that it saw
last. Then it keeps the new head and cosigns it: it writes `log/witness/<its key's id>/<size>` into the bucket, which anybody can read.
If the log did not only grow, it says so, keeps the head that proves it as `refused-…`, cosigns nothing, and ends with code 1. It also
writes that head to `log/witness/refused/<its key's id>/<instant>`, so that whoever watches the bucket is told.

Somebody who rewrites the log later cannot make this program forget what it saw. So its host, its folder and its key must be out of
their reach, and so must be its rights: it needs no more than deploy/s3/witness.json. Its S3 keys come from AWS_ACCESS_KEY_ID and
AWS_SECRET_ACCESS_KEY. It needs Python 3.10 and nothing else.

The formats are C2SP's: tlog-checkpoint, tlog-tiles, signed-note, tlog-cosignature (docs/reference/transparency-log.md).
Exit codes: 0 it saw a log that only grew, 1 the log did not only grow, 2 the log or the store could not be read now.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import hashlib
import hmac
import http.client
import os
import re
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import cast
from urllib.parse import quote, urlsplit

LARGEST = 64 * 1024
"""In bytes: no head or tile of a log is nearly as long. What is longer is cut there, so it fills neither memory nor disk."""


class RefusedError(Exception):
    """The log is not one that only grew. Somebody must look."""


class LaterError(Exception):
    """The store could not be read or written. The next look may go well."""


# The bucket ---------------------------------------------------------------------------------------------------------------------


class Bucket:
    """What a witness does with a bucket: read an object, and create one where nothing is yet."""

    def __init__(self, endpoint: str, bucket: str, prefix: str, region: str) -> None:
        self._address, self._path, self._region = urlsplit(endpoint), f"/{bucket}/{prefix}", region

    def read(self, key: str) -> bytes:
        """An object.

        Raises:
            LaterError: It is not there, or the store does not answer.
        """
        status, body = self._ask("GET", key)
        if status != 200:
            raise LaterError(f"{key} cannot be read: the store answered {status}")
        return body

    def create(self, key: str, body: bytes) -> None:
        """Write an object unless there is one. What is there stays."""
        status, _ = self._ask("PUT", key, body, {"if-none-match": "*"})
        if status not in (200, 412):
            raise LaterError(f"{key} cannot be written: the store answered {status}")

    def _ask(self, method: str, key: str, body: bytes = b"", more: dict[str, str] | None = None) -> tuple[int, bytes]:
        secure, path = self._address.scheme == "https", quote(f"{self._path}{key}", safe="/-_.~")
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        connection = kind(self._address.hostname or "", self._address.port or (443 if secure else 80), timeout=60)
        try:
            headers = signed_headers(method, self._address.netloc, path, body, more or {}, self._region)
            connection.request(method, path, body or None, headers)
            answer = connection.getresponse()
            return answer.status, answer.read(LARGEST)
        except (http.client.HTTPException, OSError) as error:
            raise LaterError(f"the store does not answer: {error}") from None
        finally:
            connection.close()


def signed_headers(method: str, host: str, path: str, body: bytes, more: dict[str, str], region: str) -> dict[str, str]:
    """The headers of a request, signed with the keys in the environment (AWS Signature Version 4)."""
    now = datetime.now(timezone.utc)
    stamp, scope = f"{now:%Y%m%dT%H%M%SZ}", f"{now:%Y%m%d}/{region}/s3/aws4_request"
    digest = hashlib.sha256(body).hexdigest()
    headers = {"host": host, **more, "x-amz-content-sha256": digest, "x-amz-date": stamp}
    if token := os.environ.get("AWS_SESSION_TOKEN"):
        headers["x-amz-security-token"] = token
    names = ";".join(headers)
    canonical = "\n".join([method, path, "", *(f"{name}:{text}" for name, text in headers.items()), "", names, digest])
    to_sign = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{os.environ.get('AWS_SECRET_ACCESS_KEY', '')}".encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()
    credential = f"{os.environ.get('AWS_ACCESS_KEY_ID', '')}/{scope}"
    told = f"Credential={credential}, SignedHeaders={names}, Signature={signature}"
    return {**headers, "authorization": f"AWS4-HMAC-SHA256 {told}"}


# Ed25519, as RFC 8032 has it ------------------------------------------------------------------------------------------------------
# A point is (X, Y, Z, T) with x = X/Z, y = Y/Z, xy = T/Z. Nobody else runs on a witness's host who could measure how long a signature
# takes, so nothing here hides it.

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
Point = tuple[int, int, int, int]


def add_points(a: Point, b: Point) -> Point:
    left, right = (a[1] - a[0]) * (b[1] - b[0]) % P, (a[1] + a[0]) * (b[1] + b[0]) % P
    cross, double = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    e, f, g, h = right - left, double - cross, double + cross, right + left
    return e * f % P, g * h % P, f * g % P, e * h % P


def multiply_point(times: int, point: Point) -> Point:
    result: Point = (0, 1, 1, 0)
    while times:
        if times & 1:
            result = add_points(result, point)
        point, times = add_points(point, point), times >> 1
    return result


def decode_point(body: bytes) -> Point | None:
    y = int.from_bytes(body, "little") & ((1 << 255) - 1)
    if len(body) != 32 or y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    if (x * x - square) % P or (x == 0 and body[31] >> 7):
        return None
    if x & 1 != body[31] >> 7:
        x = P - x
    return x, y, 1, x * y % P


def encode_point(point: Point) -> bytes:
    inverse = pow(point[2], -1, P)
    x, y = point[0] * inverse % P, point[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


BASE = cast("Point", decode_point((4 * pow(5, -1, P) % P).to_bytes(32, "little")))


def hash_to_number(*parts: bytes) -> int:
    return int.from_bytes(hashlib.sha512(b"".join(parts)).digest(), "little") % ORDER


def expand_secret(secret: bytes) -> tuple[int, bytes]:
    """The number and the prefix that a private key of 32 bytes stands for."""
    digest = hashlib.sha512(secret).digest()
    number = int.from_bytes(digest[:32], "little") & ((1 << 254) - 8) | (1 << 254)
    return number, digest[32:]


def public_of(secret: bytes) -> bytes:
    return encode_point(multiply_point(expand_secret(secret)[0], BASE))


def sign(secret: bytes, message: bytes) -> bytes:
    number, prefix = expand_secret(secret)
    nonce = hash_to_number(prefix, message)
    commitment = encode_point(multiply_point(nonce, BASE))
    answer = (nonce + hash_to_number(commitment, public_of(secret), message) * number) % ORDER
    return commitment + answer.to_bytes(32, "little")


def verify(public: bytes, message: bytes, signature: bytes) -> bool:
    point, scalar = decode_point(public), int.from_bytes(signature[32:], "little")
    if point is None or len(signature) != 64 or scalar >= ORDER:
        return False
    negative: Point = (P - point[0], point[1], 1, P - point[3])
    challenge = hash_to_number(signature[:32], public, message)
    return encode_point(add_points(multiply_point(scalar, BASE), multiply_point(challenge, negative))) == signature[:32]


# Keys and heads -------------------------------------------------------------------------------------------------------------------

OF_LOG, OF_WITNESS = 1, 4


def decode_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


def key_id(name: str, kind: int, public: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + bytes([kind]) + public).digest()[:4]


def write_key(prefix: str, name: str, kind: int, public: bytes, body: bytes) -> str:
    """A key in the form of signed notes: `name+id+base64`."""
    return f"{prefix}{name}+{key_id(name, kind, public).hex()}+{base64.b64encode(bytes([kind]) + body).decode()}"


def parse_key(line: str, kind: int) -> tuple[str, bytes]:
    """Name and 32 bytes of a key, which are not looked at any further.

    Raises:
        ValueError: It is none of this kind.
    """
    name, _, rest = line.strip().removeprefix("PRIVATE+KEY+").partition("+")
    body = decode_base64(rest.partition("+")[2])
    if not name or len(body) != 33 or body[0] != kind:
        raise ValueError(f"that is not a key of a {'log' if kind == OF_LOG else 'witness'}: {name or line[:80]!r}")
    return name, body[1:]


@dataclass(frozen=True)
class Head:
    """A signed checkpoint: how many entries the log has, and the root of the tree over them."""

    body: bytes
    text: str
    signatures: tuple[tuple[str, bytes], ...]
    origin: str
    size: int
    root: bytes

    @classmethod
    def parse(cls, body: bytes) -> Head:
        """Read a checkpoint.

        Raises:
            RefusedError: It is none.
        """
        text, blank, tail = body.decode(errors="replace").rpartition("\n\n")
        lines = text.split("\n")
        root = decode_base64(lines[2]) if len(lines) == 3 else b""
        signed = [re.fullmatch("— ([^ ]+) ([A-Za-z0-9+/=]+)", line) for line in tail.splitlines()]
        if (
            not blank
            or not signed
            or None in signed
            or len(root) != 32
            or not re.fullmatch("0|[1-9][0-9]{0,17}", lines[1])
        ):
            raise RefusedError("it is not a checkpoint")
        signatures = tuple((one[1], decode_base64(one[2])) for one in signed if one)
        return cls(body, f"{text}\n", signatures, lines[0], int(lines[1]), root)

    def require_signature(self, keys: Sequence[tuple[str, bytes]]) -> None:
        """Require that one of the log's keys signed it.

        Raises:
            RefusedError: None did.
        """
        for name, public in keys:
            mine = (self.origin, key_id(name, OF_LOG, public)) if name == self.origin else None
            for signer, signature in self.signatures:
                if (signer, signature[:4]) == mine and verify(public, self.text.encode(), signature[4:]):
                    return
        raise RefusedError(f"no key that this witness knows signed the head of {self.origin} with {self.size} entries")

    def cosigned(self, name: str, secret: bytes, now: datetime) -> bytes:
        """The note with the cosignature of a witness (tlog-cosignature v1)."""
        seconds = int(now.timestamp())
        signature = sign(secret, f"cosignature/v1\ntime {seconds}\n{self.text}".encode())
        body = key_id(name, OF_WITNESS, public_of(secret)) + seconds.to_bytes(8, "big") + signature
        return self.body + f"— {name} {base64.b64encode(body).decode()}\n".encode()


# The tree, as RFC 6962 has it -----------------------------------------------------------------------------------------------------

WIDTH, HEIGHT = 256, 8
Subtree = Callable[[int, int], bytes]
"""The hash of a complete subtree, from its level and its place in it."""


def hash_node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def fold(hashes: list[bytes]) -> bytes:
    while len(hashes) > 1:
        hashes = [hash_node(*hashes[place : place + 2]) for place in range(0, len(hashes), 2)]
    return hashes[0]


def subtrees_of(bucket: Bucket, size: int) -> Subtree:
    """The complete subtrees of a log of this size, from its tiles."""
    tiles: dict[str, bytes] = {}

    def subtree(level: int, place: int) -> bytes:
        tile_level, inside = divmod(level, HEIGHT)
        first = place << inside
        index = first // WIDTH
        width = min(WIDTH, (size >> (HEIGHT * tile_level)) - index * WIDTH)
        key = f"log/tile/{tile_level}/{tile_name(index)}" + (f".p/{width}" if width < WIDTH else "")
        if key not in tiles:
            tiles[key] = bucket.read(key)
            if len(tiles[key]) != 32 * width:
                raise RefusedError(f"{key} has {len(tiles[key])} bytes instead of {32 * width}")
        start = first % WIDTH
        return fold([tiles[key][32 * at : 32 * at + 32] for at in range(start, start + (1 << inside))])

    return subtree


def tile_name(index: int) -> str:
    """`x001/x234/067`: groups of three digits."""
    digits = f"{index:d}"
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    groups = [digits[place : place + 3] for place in range(0, len(digits), 3)]
    return "/".join([*(f"x{group}" for group in groups[:-1]), groups[-1]])


def hash_range(subtree: Subtree, start: int, end: int) -> bytes:
    """The hash over leaves from `start` to before `end`, a range that a proof names."""
    hashes = []
    while start < end:
        level = (end - start).bit_length() - 1
        if start:
            level = min(level, (start & -start).bit_length() - 1)
        hashes.append(subtree(level, start >> level))
        start += 1 << level
    found = hashes.pop()
    while hashes:
        found = hash_node(hashes.pop(), found)
    return found


def consistency_proof(subtree: Subtree, earlier: int, size: int) -> list[bytes]:
    """The hashes that show that a tree of `earlier` leaves (at least one, fewer than `size`) is the beginning of one of `size`."""
    start, end, whole = 0, size, True
    path: list[tuple[int, int]] = []
    while earlier != end:
        middle = start + (1 << ((end - start - 1).bit_length() - 1))
        if earlier <= middle:
            path.append((middle, end))
            end = middle
        else:
            path.append((start, middle))
            start, whole = middle, False
    first = [] if whole else [hash_range(subtree, start, end)]
    return first + [hash_range(subtree, *each) for each in reversed(path)]


def proves_growth(earlier: Head, head: Head, proof: Sequence[bytes]) -> bool:
    """Whether a proof shows that the tree of one head is the beginning of the tree of another (RFC 9162, 2.1.4.2)."""
    hashes: Iterator[bytes] = iter(proof if earlier.size & (earlier.size - 1) else [earlier.root, *proof])
    node, last = earlier.size - 1, head.size - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    old = new = next(hashes, b"")
    for each in hashes:
        if last == 0:
            return False
        if node & 1 or node == last:
            old, new = hash_node(each, old), hash_node(each, new)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            new = hash_node(new, each)
        node, last = node >> 1, last >> 1
    return last == 0 and old == earlier.root and new == head.root


def require_growth(bucket: Bucket, earlier: Head, head: Head) -> None:
    """Require that the log only grew from one head to another.

    Raises:
        RefusedError: It did not.
    """
    if head.origin != earlier.origin:
        raise RefusedError(f"it is the head of another log, {head.origin}")
    if head.size < earlier.size:
        raise RefusedError(f"it has {head.size} entries, and {earlier.size} were seen before: the log was rolled back")
    if head.size == earlier.size:
        grew = head.root == earlier.root
    else:
        proof = consistency_proof(subtrees_of(bucket, head.size), earlier.size, head.size) if earlier.size else []
        grew = not earlier.size or proves_growth(earlier, head, proof)
    if not grew:
        raise RefusedError(
            f"its first {earlier.size} entries are not those that were seen before: the log was rewritten"
        )


# The commands ---------------------------------------------------------------------------------------------------------------------


def look(bucket: Bucket, state: Path, keys: Sequence[tuple[str, bytes]], now: datetime) -> str:
    """Look once: read the head, compare it with the last one, keep it, cosign it. Returns a sentence.

    Raises:
        RefusedError: The log did not only grow. The head that shows it is kept beside the last good one.
        LaterError: Something could not be read or written; nothing was cosigned, or the next look does it again.
    """
    body, kept = bucket.read("log/checkpoint"), state / "checkpoint"
    name, secret = parse_key((state / "key").read_text(), OF_WITNESS)
    place = key_id(name, OF_WITNESS, public_of(secret)).hex()
    try:
        head = Head.parse(body)
        head.require_signature(keys)
        earlier = Head.parse(kept.read_bytes()) if kept.exists() else None
        if earlier is not None:
            require_growth(bucket, earlier, head)
    except RefusedError:
        tell_refusal(bucket, place, keep_refused(state, body, now), body)
        raise
    write_file(kept, body)  # before the cosignature leaves this host: a crash must not let it see less than it signed
    bucket.create(f"log/witness/{place}/{head.size}", head.cosigned(name, secret, now))
    seen = (
        "this is its first look, so nothing older was compared" if earlier is None else f"it grew from {earlier.size}"
    )
    return f"{name} cosigned the head of {head.origin} with {head.size} entries; {seen}"


def keep_refused(state: Path, body: bytes, now: datetime) -> str:
    """Keep a head that was refused, and return the instant in its file's name. The same one is kept once until a good head is seen."""
    good = (state / "checkpoint").stat().st_mtime if (state / "checkpoint").exists() else 0.0
    for path in sorted(state.glob("refused-*"), reverse=True):
        if path.stat().st_mtime > good and path.read_bytes() == body:
            return path.name.removeprefix("refused-")
    write_file(state / f"refused-{now:%Y%m%dT%H%M%SZ}", body)
    return f"{now:%Y%m%dT%H%M%SZ}"


def tell_refusal(bucket: Bucket, place: str, instant: str, body: bytes) -> None:
    """Leave a head that was refused in the bucket, for whoever watches it. What stops that must not hide the refusal."""
    try:
        bucket.create(f"log/witness/refused/{place}/{instant}", body)
    except LaterError as error:
        print(f"The refusal could not be written into the bucket: {error}.", file=sys.stderr)


def write_file(path: Path, body: bytes, mode: int = 0o644) -> None:
    """Replace a file as a whole, and have it on the disk when this returns."""
    beside = path.with_name(f".{path.name}.new")
    with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:  # noqa: PTH123 - its mode
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def make_key(name: str, state: Path) -> str:
    """Make the witness's key, unless there is one. Returns its public half."""
    if not name or re.search(r"[\s+]", name):
        raise ValueError(f"{name!r} cannot be the name of a key: it has spaces or plus signs, or is empty")
    if (state / "key").exists():
        raise ValueError(f"{state / 'key'} is there already; a witness keeps its key")
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    secret = secrets.token_bytes(32)
    public = public_of(secret)
    write_file(state / "key", write_key("PRIVATE+KEY+", name, OF_WITNESS, public, secret).encode() + b"\n", 0o600)
    return write_key("", name, OF_WITNESS, public, public)


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Watch the transparency log of a Strongroom store; or, with `key NAME`, make the key."
    )
    parser.add_argument(
        "--state", type=Path, required=True, metavar="FOLDER", help="where its key and the last head are kept"
    )
    if arguments[:1] == ["key"]:
        parser.add_argument("key", choices=["key"], help=argparse.SUPPRESS)
        parser.add_argument("name", help="of the key, such as witness.example.com")
        return parser.parse_args(arguments)
    parser.add_argument("--s3", required=True, metavar="BUCKET")
    parser.add_argument("--endpoint", metavar="URL", help="address of the S3 server; by default Amazon's of the region")
    parser.add_argument("--region", default=os.environ.get("AWS_REGION", "us-east-1"))
    parser.add_argument("--prefix", default="", help="the store's prefix inside the bucket")
    parser.add_argument("--log-key", action="append", required=True, metavar="KEY", help="public key of the log")
    parser.add_argument("--every", type=int, default=300, metavar="SECONDS", help="how often it looks (300)")
    parser.add_argument("--once", action="store_true", help="look once")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what was asked, and return the exit code."""
    given = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    try:
        if "key" in given:
            print(make_key(given.name, given.state))
            return 0
        keys = [parse_key(line, OF_LOG) for line in given.log_key]
        parse_key((given.state / "key").read_text(), OF_WITNESS)
    except (ValueError, OSError) as error:
        print(f"witness: {error}", file=sys.stderr)
        return 2
    prefix = given.prefix.strip("/")
    endpoint = given.endpoint or f"https://s3.{given.region}.amazonaws.com"
    bucket = Bucket(endpoint, given.s3, f"{prefix}/" if prefix else "", given.region)
    while True:
        now = datetime.now(timezone.utc)
        try:
            print(f"{now:%Y-%m-%d %H:%M:%S} UTC: {look(bucket, given.state, keys, now)}.", flush=True)
        except RefusedError as error:
            print(f"{now:%Y-%m-%d %H:%M:%S} UTC: REFUSED. The log did not only grow: {error}.", file=sys.stderr)
            print("Nothing was cosigned. Keep this folder, and tell the auditor before anybody else.", file=sys.stderr)
            return 1
        except (LaterError, OSError) as error:
            print(f"{now:%Y-%m-%d %H:%M:%S} UTC: {error}.", file=sys.stderr, flush=True)
            if given.once:
                return 2
        if given.once:
            return 0
        time.sleep(given.every)


if __name__ == "__main__":
    sys.exit(main())
