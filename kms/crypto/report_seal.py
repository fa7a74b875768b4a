"""The encryption of stored reports: AES-256-GCM under a key that comes from the token.

    0x01 | nonce (12) | ciphertext | tag (16)        AAD = kms.core.reports.binding(); SP 800-38D

Each seal has a random nonce. A report is sealed once for each of its batches, at most some thousand times; 2^32 seals
under one key (SP 800-38D, section 8.3) are out of reach.
"""

from __future__ import annotations

import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kms.core.errors import CorruptRecord
from kms.core.names import TenantUid
from kms.core.reports import Report, ReportUid, binding, digest_of

KEY_LENGTH: Final = 32  # bytes

_FORMAT: Final = b"\x01"
_NONCE: Final = 12  # bytes


class ReportSeal:
    """Encrypts the contents of reports; the key shows nowhere."""

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_LENGTH:
            raise ValueError(f"the key of reports has {KEY_LENGTH} bytes")
        self._cipher = AESGCM(key)

    def seal(self, tenant: TenantUid, uid: ReportUid, content: bytes) -> tuple[bytes, bytes]:
        """Return what is stored, and the SHA-256 of the content."""
        digest, nonce = digest_of(content), os.urandom(_NONCE)
        return _FORMAT + nonce + self._cipher.encrypt(nonce, content, binding(tenant, uid, digest)), digest

    def open(self, report: Report) -> bytes:
        """Return the content of a report.

        Raises:
            CorruptRecord: what is stored is not this report's content.
        """
        sealed = report.sealed
        unreadable = CorruptRecord(f"the content of report {report.uid} does not decrypt")
        if sealed[:1] != _FORMAT:
            raise unreadable
        try:
            bound = binding(report.tenant, report.uid, report.digest)
            content = self._cipher.decrypt(sealed[1 : 1 + _NONCE], sealed[1 + _NONCE :], bound)
        except (InvalidTag, ValueError) as error:
            raise unreadable from error
        if digest_of(content) != report.digest:
            raise CorruptRecord(f"the content of report {report.uid} has another digest")
        return content
