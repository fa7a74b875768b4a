r"""Encryption of values before and after a change, for the audit trail.

sealed = 0x01 || nonce (12, random) || AES-256-GCM ciphertext || tag (16)
associated data = "kms/v1/audit-changes\0" || installation id (16) || subject (UTF-8)

The subject is the request id of a call, or the place of the intent of what the daemon does by itself.
"""

from __future__ import annotations

import secrets
from typing import Final
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kms.core.errors import CannotDecrypt

LABEL: Final = b"kms/v1/audit-changes\0"
FORMAT: Final = b"\x01"
NONCE_LENGTH: Final = 12  # bytes; SP 800-38D, section 8.2.2: 2**32 of them under one key
TAG_LENGTH: Final = 16
OVERHEAD: Final = len(FORMAT) + NONCE_LENGTH + TAG_LENGTH


class AuditValues:
    """Encrypts under the key `audit-values`, which the token guards."""

    def __init__(self, key: bytes, installation: UUID) -> None:
        """*key* has 32 bytes."""
        self._cipher = AESGCM(key)
        self._bound = LABEL + installation.bytes

    def seal(self, values: bytes, subject: str) -> bytes:
        """Encrypt; the result is longer by OVERHEAD."""
        nonce = secrets.token_bytes(NONCE_LENGTH)
        return FORMAT + nonce + self._cipher.encrypt(nonce, values, self._bound + subject.encode())

    def open(self, sealed: bytes, subject: str) -> bytes:
        """Undo seal().

        Raises:
            CannotDecrypt: it is of another subject, installation or key, or altered.
        """
        start = len(FORMAT) + NONCE_LENGTH
        if len(sealed) < OVERHEAD or not sealed.startswith(FORMAT):
            raise CannotDecrypt("values in the audit trail are damaged")
        try:
            return self._cipher.decrypt(sealed[len(FORMAT) : start], sealed[start:], self._bound + subject.encode())
        except InvalidTag as error:
            raise CannotDecrypt("values in the audit trail are of another event, or damaged") from error
