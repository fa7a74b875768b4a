"""Nonces that wait for their answers: each is fresh, counts once, and is forgotten in time."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Lock
from typing import Final

from .attestation_errors import TooManyChallenges, UnknownNonce
from .attestation_policy import MAX_AGE

NONCE_LENGTH: Final = 32
MAX_NONCES: Final = 1024  # that wait at once; some 200 KiB


@dataclass(frozen=True, slots=True)
class Challenge:
    """What a quote must answer: nonce (32 bytes), the public key of the channel, claims; and when it was asked."""

    nonce: bytes
    issued: datetime
    channel_key: bytes = b""
    claims: bytes = b""


class NonceStore:
    """The nonces of one verifier, in memory: those from before a restart are unknown, and refused."""

    def __init__(self, lifetime: timedelta = MAX_AGE) -> None:
        """Forget nonces after *lifetime*."""
        self._lifetime: Final = lifetime
        self._issued: Final[dict[bytes, datetime]] = {}  # the oldest first
        self._lock: Final = Lock()

    def issue(self, now: datetime) -> bytes:
        """Return a new nonce, 32 bytes.

        Raises:
            TooManyChallenges: 1,024 wait for their answers. None is dropped for a new one: that would let whoever asks
                often keep others from being attested, and they would not know why.
        """
        nonce = secrets.token_bytes(NONCE_LENGTH)
        with self._lock:
            if len(self._issued) >= MAX_NONCES:
                for old in [one for one, issued in self._issued.items() if now - issued > self._lifetime]:
                    del self._issued[old]
            if len(self._issued) >= MAX_NONCES:
                raise TooManyChallenges(f"nonces: at most {MAX_NONCES} wait for their answers")
            self._issued[nonce] = now
        return nonce

    def redeem(self, nonce: bytes, channel_key: bytes = b"", claims: bytes = b"") -> Challenge:
        """Return the challenge that an answer with this nonce is verified against; the nonce is used from now on.

        It is used whatever the verification says: an answer that was refused cannot be tried again.

        Raises:
            UnknownNonce: it was never issued, was used before, or was forgotten.
        """
        with self._lock:
            issued = self._issued.pop(nonce, None)
        if issued is None:
            raise UnknownNonce("nonce: must be one that was issued, and was not used")
        return Challenge(nonce, issued, channel_key, claims)
