"""Signed notes with Ed25519, as C2SP's signed-note has them, and the cosignatures of witnesses."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from strongroom.errors import ConfigurationError, IntegrityError

SIGNATURE, COSIGNATURE = 0x01, 0x04
"""Kinds of Ed25519 keys: of a log, and of a witness."""

LARGEST_NOTE = 64 * 1024
"""In bytes; no checkpoint is nearly as long."""
_BREAK = "\n\n"
_DASH = "\u2014 "
_PRIVATE = "PRIVATE+KEY+"


@dataclass(frozen=True)
class VerifierKey:
    """The public half of a key, as everybody may know it."""

    name: str
    public: bytes
    kind: int = SIGNATURE

    @property
    def key_id(self) -> bytes:
        """The four bytes that a signature begins with."""
        return hashlib.sha256(self.name.encode() + b"\n" + bytes([self.kind]) + self.public).digest()[:4]

    def __str__(self) -> str:
        """The key as people hand it over: `name+id+base64`."""
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(bytes([self.kind]) + self.public).decode()}"

    @classmethod
    def parse(cls, text: str) -> VerifierKey:
        """Read a key as :meth:`__str__` writes it.

        Raises:
            ConfigurationError: It is none, or its id is that of another.
        """
        name, plus, rest = text.strip().partition("+")
        key_id, _, encoded = rest.partition("+")
        try:
            body = base64.b64decode(encoded, validate=True)
            found = bytes.fromhex(key_id)
        except (binascii.Error, ValueError):
            raise _no_key(text) from None
        if not plus or not is_key_name(name) or len(body) != 33 or body[0] not in (SIGNATURE, COSIGNATURE):
            raise _no_key(text)
        key = cls(name, body[1:], body[0])
        if key.key_id != found:
            raise _no_key(text)
        return key

    def verify(self, message: bytes, signature: bytes) -> bool:
        """Whether a signature of the bare Ed25519 kind is this key's."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True)
class SignerKey:
    """A key that signs. Its text is a secret."""

    name: str
    private: bytes
    kind: int = SIGNATURE

    def __repr__(self) -> str:
        return f"SignerKey({self.name!r})"

    @property
    def secret(self) -> str:
        """The key as it is kept: `PRIVATE+KEY+name+id+base64`, the form that Go's `note` package writes too."""
        body = base64.b64encode(bytes([self.kind]) + self.private).decode()
        return f"{_PRIVATE}{self.name}+{self.verifier.key_id.hex()}+{body}"

    @classmethod
    def parse(cls, text: str) -> SignerKey:
        """Read a key as :attr:`secret` writes it. No error quotes it.

        Raises:
            ConfigurationError: It is none, or its id is that of another.
        """
        name, _, rest = text.strip().removeprefix(_PRIVATE).partition("+")
        key_id, _, encoded = rest.partition("+")
        try:
            body, found = base64.b64decode(encoded, validate=True), bytes.fromhex(key_id)
        except (binascii.Error, ValueError):
            raise _no_signer() from None
        is_one = text.strip().startswith(_PRIVATE) and is_key_name(name)
        if not is_one or len(body) != 33 or body[0] not in (SIGNATURE, COSIGNATURE):
            raise _no_signer()
        key = cls(name, body[1:], body[0])
        if key.verifier.key_id != found:
            raise _no_signer()
        return key

    @classmethod
    def generate(cls, name: str, kind: int = SIGNATURE) -> SignerKey:
        """Make a new key.

        Raises:
            ConfigurationError: The name has spaces or a plus, or is empty.
        """
        if not is_key_name(name):
            raise ConfigurationError(
                f"{name!r} cannot be the name of a key",
                expected="a name without spaces and plus signs, such as strongroom.example.com/archive",
                hint="Nothing was made. Choose another name.",
            )
        private = Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.Raw, serialization.PrivateFormat.Raw, serialization.NoEncryption()
        )
        return cls(name, private, kind)

    @property
    def verifier(self) -> VerifierKey:
        """Its public half."""
        public = Ed25519PrivateKey.from_private_bytes(self.private).public_key()
        raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        return VerifierKey(self.name, raw, self.kind)

    def sign(self, message: bytes) -> bytes:
        """The 64 bytes of a signature."""
        return Ed25519PrivateKey.from_private_bytes(self.private).sign(message)


def is_key_name(name: str) -> bool:
    """Whether a text can be the name of a key."""
    return bool(name) and "+" not in name and not any(each.isspace() or ord(each) < 32 for each in name)


@dataclass(frozen=True)
class Note:
    """A text and the signatures under it.

    Attributes:
        text: With its final newline.
        signatures: Name and bytes of each, the four of the key's id first.
    """

    text: str
    signatures: tuple[tuple[str, bytes], ...]

    def to_bytes(self) -> bytes:
        """The note as it is stored."""
        lines = (f"{_DASH}{name} {base64.b64encode(body).decode()}\n" for name, body in self.signatures)
        return f"{self.text}\n{''.join(lines)}".encode()

    @classmethod
    def parse(cls, where: str, body: bytes) -> Note:
        """Read a note.

        Raises:
            IntegrityError: It is none.
        """
        try:
            text = body.decode()
        except UnicodeDecodeError:
            raise _no_note(where, "bytes that are not UTF-8") from None
        if len(body) > LARGEST_NOTE or any(ord(each) < 32 and each != "\n" for each in text):
            raise _no_note(where, "a note that is too long, or has control characters")
        head, middle, tail = text.rpartition(_BREAK)
        if not middle or not tail.endswith("\n"):
            raise _no_note(where, "no signature")
        signatures = []
        for line in tail.splitlines():
            name, _, encoded = line.removeprefix(_DASH).partition(" ")
            try:
                signature = base64.b64decode(encoded, validate=True)
            except (binascii.Error, ValueError):
                raise _no_note(where, "a signature that is not base64") from None
            if not line.startswith(_DASH) or not is_key_name(name) or len(signature) < 5:
                raise _no_note(where, "a line that is not a signature")
            signatures.append((name, signature))
        return cls(f"{head}\n", tuple(signatures))

    def signed(self, key: SignerKey) -> Note:
        """The note with the signature of a log."""
        return self._with(key, key.sign(self.text.encode()))

    def cosigned(self, key: SignerKey, at: datetime) -> Note:
        """The note with the cosignature of a witness, at an aware instant."""
        seconds = int(at.timestamp())
        return self._with(key, seconds.to_bytes(8, "big") + key.sign(_cosigned_message(self.text, seconds)))

    def _with(self, key: SignerKey, signature: bytes) -> Note:
        return Note(self.text, (*self.signatures, (key.name, key.verifier.key_id + signature)))

    def require_signature(self, where: str, keys: Iterable[VerifierKey]) -> list[VerifierKey]:
        """Those of some keys that signed the note; at least one must have.

        Raises:
            IntegrityError: None of them did, or a signature in the name of one is not its own.
        """
        signers = []
        for key in keys:
            for name, body in self.signatures:
                if (name, body[:4]) == (key.name, key.key_id):
                    if not key.verify(self.text.encode(), body[4:]):
                        raise _no_note(where, f"a signature that is not {key.name}'s")
                    signers.append(key)
        if not signers:
            raise _no_note(where, "no signature of a key that is trusted")
        return signers

    def cosigned_at(self, key: VerifierKey) -> datetime | None:
        """When a witness cosigned the note; None if it did not, or if the cosignature is not its own."""
        for name, body in self.signatures:
            if (name, body[:4]) == (key.name, key.key_id) and len(body) == 76:
                seconds = int.from_bytes(body[4:12], "big")
                if seconds < 1 << 36 and key.verify(_cosigned_message(self.text, seconds), body[12:]):
                    return datetime.fromtimestamp(seconds, timezone.utc)
        return None


def _cosigned_message(text: str, seconds: int) -> bytes:
    return f"cosignature/v1\ntime {seconds}\n{text}".encode()


def _no_key(text: str) -> ConfigurationError:
    return ConfigurationError(
        f"{text[:120]!r} is not a verifier key",
        expected="name+id+base64, as `airflow strongroom log key` prints it",
        hint="Nothing was read. Copy the whole line.",
    )


def _no_signer() -> ConfigurationError:
    return ConfigurationError(
        "this is not the signing key of a log or witness",
        expected="PRIVATE+KEY+name+id+base64, as `airflow strongroom log key` printed it",
        hint="Nothing was signed. Copy the whole line into the password of the connection.",
    )


def _no_note(where: str, found: str) -> IntegrityError:
    return IntegrityError(
        f"{where} is not a sound checkpoint",
        expected="a note that the log's key signed",
        found=found,
        hint="Nothing was changed. List the versions of that object; an earlier one may be sound.",
    )
