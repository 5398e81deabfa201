"""Signed notes, keys and cosignatures."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.errors import ConfigurationError, IntegrityError
from strongroom.tlog.notes import COSIGNATURE, Note, SignerKey, VerifierKey

EXAMPLE_KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
EXAMPLE = (
    (
        "This is an example message.\n\n— example.com/foo "
        "Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"  # pragma: allowlist secret
    ).encode()
)
AT = datetime(2026, 12, 1, 2, tzinfo=timezone.utc)


def a_note(key: SignerKey, text: str = "strongroom.test/log\n1\nAAAA\n") -> Note:
    return Note(text, ()).signed(key)


def test_the_example_of_the_specification_verifies():
    """With the key that stands beside it; and it is written again byte for byte."""
    key, note = VerifierKey.parse(EXAMPLE_KEY), Note.parse("the example", EXAMPLE)

    assert note.require_signature("the example", [key]) == [key]
    assert note.to_bytes() == EXAMPLE
    assert str(key) == EXAMPLE_KEY


def test_what_a_key_signs_its_verifier_believes_and_another_does_not():
    """Also when both have the same name."""
    key, other = SignerKey.generate("strongroom.test/log"), SignerKey.generate("strongroom.test/log")
    note = Note.parse("a note", a_note(key).to_bytes())

    assert note.require_signature("a note", [other.verifier, key.verifier]) == [key.verifier]
    with pytest.raises(IntegrityError, match="no signature of a key that is trusted"):
        note.require_signature("a note", [other.verifier])


def test_a_signature_in_the_name_of_a_key_that_is_not_its_own_spoils_the_note():
    """A sound one beside it does not help."""
    key, trusted = SignerKey.generate("a"), SignerKey.generate("b")
    note = a_note(key).signed(trusted)
    [(name, signature), sound] = note.signatures
    # One bit is flipped. The last byte of a signature is 0 in one of 16, so writing a 0 there may change nothing.
    forged = Note(note.text, ((name, signature[:-1] + bytes([signature[-1] ^ 1])), sound))

    with pytest.raises(IntegrityError, match="not a's"):
        forged.require_signature("a note", [key.verifier, trusted.verifier])


def test_a_witness_says_when_it_saw_the_note():
    """Its cosignature counts for no other text, and not as a signature of the log."""
    log, witness = SignerKey.generate("log"), SignerKey.generate("witness", COSIGNATURE)
    note = a_note(log).cosigned(witness, AT)

    assert note.cosigned_at(witness.verifier) == AT
    assert Note("log\n2\nAAAA\n", note.signatures).cosigned_at(witness.verifier) is None
    assert a_note(log).cosigned_at(witness.verifier) is None
    assert note.cosigned_at(SignerKey.generate("witness", COSIGNATURE).verifier) is None


def test_a_witness_whose_clock_no_calendar_has_did_not_cosign():
    """Whatever it signs, it must not stop those who read what other witnesses saw."""
    log, witness = SignerKey.generate("log"), SignerKey.generate("witness", COSIGNATURE)
    seconds = 1 << 39
    text = a_note(log).text
    signature = witness.sign(f"cosignature/v1\ntime {seconds}\n{text}".encode())
    body = witness.verifier.key_id + seconds.to_bytes(8, "big") + signature

    assert Note(text, ((witness.name, body),)).cosigned_at(witness.verifier) is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"text without signature\n",
        b"text\n\n",
        b"text\n\n- a AAAAAAAA\n",
        "text\n\n— a !!!!\n".encode(),
        "text\n\n— a AAAA\n".encode(),
        "text\n\n— a b AAAAAAAA\n".encode(),
        "te\txt\n\n— a AAAAAAAA\n".encode(),
        "text\n\n— a AAAAAAAA".encode(),
        b"\xff\xfe\n\n",
        b"x" * 70_000 + "\n\n— a AAAAAAAA\n".encode(),
    ],
)
def test_what_is_no_note_is_refused(body):
    """It says where and what to do."""
    with pytest.raises(IntegrityError, match="log/checkpoint is not a sound checkpoint"):
        Note.parse("log/checkpoint", body)


@given(st.binary(max_size=200))
def test_nothing_that_is_read_raises_anything_else(body):
    """Whatever lies in the place of a checkpoint."""
    with suppress(IntegrityError):
        Note.parse("x", body)


@pytest.mark.parametrize("text", ["", "a", "a+00000000+AAAA", EXAMPLE_KEY.replace("530d", "530e"), "a b" + EXAMPLE_KEY])
def test_what_is_no_key_is_refused(text):
    """Also a key whose id is that of another."""
    with pytest.raises(ConfigurationError, match="not a verifier key"):
        VerifierKey.parse(text)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\nb"])
def test_a_key_needs_a_name_that_fits_into_a_line(name):
    """Spaces and plus signs divide what stands in one."""
    with pytest.raises(ConfigurationError, match="cannot be the name of a key"):
        SignerKey.generate(name)


def test_a_key_does_not_show_its_secret():
    """Not even in an error or a log."""
    key = SignerKey.generate("log")

    assert key.private.hex() not in repr(key)
    assert repr(key) == "SignerKey('log')"
