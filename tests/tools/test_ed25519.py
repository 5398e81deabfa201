"""The signatures of the two programs, which have no library for them."""

from __future__ import annotations

import secrets

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from strongroom.tlog.notes import Note, SignerKey
from tests.support.tools import load_tool, verifier

witness = load_tool("witness")

RFC_8032 = [  # section 7.1: secret key, public key, message, signature
    (
        "9d61b19deffd5a60 ba844af492ec2cc4 4449c5697b326919 703bac031cae7f60",
        "d75a980182b10ab7 d54bfed3c964073a 0ee172f3daa62325 af021a68f707511a",
        "",
        "e5564300c360ac72 9086e2cc806e828a 84877f1eb8e5d974 d873e06522490155 5fb8821590a33bac c61e39701cf9b46b d25bf5f0595bbe24 655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da 9db6c346ec114e0f 5b8a319f35aba624 da8cf6ed4fb8a6fb",
        "3d4017c3e843895a 92b70aa74d1b7ebc 9c982ccf2ec4968c c0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8 720e820b5f642540 a2b27b5416503f8f b3762223ebdb69da 085ac1e43e15996e 458f3613d0f11d8c 387b2eaeb4302aee b00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837b edb7442f31dcb7b1 66d38535076f094b 85ce3a2e0b4458f7",
        "fc51cd8e6218a1a3 8da47ed00230f058 0816ed13ba3303ac 5deb911548908025",
        "af82",
        "6291d657deec2402 4827e69c3abe01a3 0ce548a284743a44 5e3680d7db5ac3ac 18ff9b538d16f290 ae67f760984dc659 4a7c15e9716ed28d c027beceea1ec40a",
    ),
    (
        "833fe62409237b9d 62ec77587520911e 9a759cec1d19755b 7da901b96dca3d42",
        "ec172b93ad5e563b f4932c70e1245034 c35467ef2efd4d64 ebf819683467e2bf",
        "ddaf35a193617aba cc417349ae204131 12e6fa4e89a97ea2 0a9eeee64b55d39a 2192992a274fc1a8 36ba3c23a3feebbd 454d4423643ce80e 2a9ac94fa54ca49f",
        "dc2a4459e7369633 a52b1bf277839a00 201009a3efbf3ecb 69bea2186c26b589 09351fc9ac90b3ec fdfbc7c66431e030 3dca179c138ac17a d9bef1177331a704",
    ),
]
EXAMPLE_KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
EXAMPLE = (
    "This is an example message.\n",
    "Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=",  # pragma: allowlist secret
)


@pytest.mark.parametrize("vector", RFC_8032, ids=["empty", "one byte", "two bytes", "64 bytes"])
def test_the_vectors_of_the_standard(vector):
    """Both programs verify them; the witness makes the same signatures and public keys."""
    secret, public, message, signature = map(bytes.fromhex, vector)

    assert witness.public_of(secret) == public
    assert witness.sign(secret, message) == signature
    for verify in (witness.verify, verifier.verify_ed25519):
        assert verify(public, message, signature)
        assert not verify(public, message + b"x", signature)


def test_the_example_of_signed_note():
    """Which C2SP's page prints with its key."""
    key, (text, signature) = verifier.Key.parse(EXAMPLE_KEY, verifier.SIGNATURE), EXAMPLE

    body = verifier.decode_base64(signature)
    assert body[:4] == key.key_id
    assert verifier.verify_ed25519(key.public, text.encode(), body[4:])
    assert str(key) == "example.com/foo+530d903a"


def test_they_agree_with_the_library():
    for _ in range(5):
        secret, message = secrets.token_bytes(32), secrets.token_bytes(100)
        library = Ed25519PrivateKey.from_private_bytes(secret)
        public = library.public_key().public_bytes_raw()

        assert witness.public_of(secret) == public
        assert witness.sign(secret, message) == library.sign(message)
        assert verifier.verify_ed25519(public, message, library.sign(message))


@pytest.mark.parametrize("verify", [witness.verify, verifier.verify_ed25519])
def test_what_is_no_signature_is_refused(verify):
    """Each bit of one; a number that is too large; keys that are no points; wrong lengths."""
    secret = bytes(range(32))
    public, good = witness.public_of(secret), witness.sign(secret, b"text")
    scalar = int.from_bytes(good[32:], "little")

    assert verify(public, b"text", good)
    for bit in range(0, 512, 37):
        forged = bytearray(good)
        forged[bit // 8] ^= 1 << bit % 8
        assert not verify(public, b"text", bytes(forged))
    assert not verify(public, b"text", good[:32] + (scalar + witness.ORDER).to_bytes(32, "little"))
    for key in (b"\xff" * 32, b"\x02" + bytes(31), (1).to_bytes(32, "little")[:-1] + b"\x80", b"", public + b"\0"):
        assert not verify(key, b"text", good)
    for signature in (b"", good[:63], good + b"\0"):
        assert not verify(public, b"text", signature)


def test_the_notes_of_the_domain_are_read():
    """Written by the code that writes the heads of logs."""
    key = SignerKey.generate("strongroom.test/log")
    root = "A" * 43 + "="
    note = Note(f"{key.name}\n7\n{root}\n", ()).signed(key).to_bytes()

    read = verifier.Note.parse(note)
    assert (read.origin, read.size) == (key.name, 7)
    assert read.is_signed_by(verifier.Key.parse(str(key.verifier), verifier.SIGNATURE))
    other = SignerKey.generate(key.name)
    assert read.is_signed_by(verifier.Key.parse(str(other.verifier), verifier.SIGNATURE)) is None
