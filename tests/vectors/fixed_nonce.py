"""Runs a cipher with a nonce and associated data of a test vector instead of those it would make."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from kms.core.ciphertext import HEADER_LENGTH
from kms.core.suites import Suite
from kms.crypto.aead import FieldCipher, cipher_for
from kms.crypto.dek import Dek

# Stands where the header does; a vector's associated data replaces the one that a header would be part of.
NO_HEADER = bytes(HEADER_LENGTH)


@contextmanager
def urandom_gives(data: bytes) -> Iterator[None]:
    """Let os.urandom return *data* piece by piece, all of it and nothing more."""
    rest = bytearray(data)

    def urandom(length: int) -> bytes:
        piece = bytes(rest[:length])
        del rest[:length]
        assert len(piece) == length
        return piece

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "urandom", urandom)
        yield
    assert not rest


def encrypt(suite: Suite, key: bytes, nonce: bytes, associated: bytes, plaintext: bytes) -> bytes:
    """Return what the suite's cipher puts after nonce or, for AES-SIV, after the header."""
    with urandom_gives(nonce):
        cipher = cipher_for(suite, Dek(key))
        (ciphertext,) = cipher._encrypt_each(NO_HEADER, [associated], [plaintext])
    assert ciphertext.startswith(NO_HEADER + nonce)
    return ciphertext[len(NO_HEADER + nonce) :]


def decrypt(suite: Suite, key: bytes, nonce: bytes, associated: bytes, body: bytes) -> bytes | None:
    """Undo encrypt(); None where it does not decrypt."""
    cipher: FieldCipher = cipher_for(suite, Dek(key))
    (plaintext,) = cipher._decrypt_each([associated], [NO_HEADER + nonce + body])
    return plaintext
