"""MACs of records, under a key that the token derives (FORMATS, section 7)."""

from __future__ import annotations

import hmac


class RecordMacs:
    """RecordSealer; the database is opened before its key is known, and no record is looked at until then."""

    def __init__(self) -> None:
        self._key = b""

    def use(self, key: bytes) -> None:
        """Compute MACs under a key of 32 bytes from now on."""
        self._key = key

    def mac(self, message: bytes) -> bytes:
        """Return the HMAC-SHA-256, 32 bytes."""
        if not self._key:
            raise RuntimeError("there is no key for the MACs of records yet")
        return hmac.digest(self._key, message, "sha256")
