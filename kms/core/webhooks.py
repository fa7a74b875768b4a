"""The form of webhooks: where they may go, which headers they have, and how they are signed."""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

SHORTEST_SECRET: Final = 16  # bytes

SIGNATURE: Final = "X-Kms-Signature"
TIMESTAMP: Final = "X-Kms-Timestamp"
DELIVERY: Final = "X-Kms-Delivery"
TOPIC: Final = "X-Kms-Topic"

_PATH = re.compile(r"[!-~]*")  # visible ASCII: nothing that could end a line


@dataclass(frozen=True, slots=True)
class Target:
    """Where to send to."""

    tls: bool
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """The value of the Host header (RFC 9110, section 7.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


def parse_url(text: str) -> Target:
    """Read the URL of a webhook.

    Raises:
        ValueError: neither https, nor http to this machine; or a user name, or what is no visible ASCII.
    """
    parts = urlsplit(text)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if _PATH.fullmatch(text) is None or parts.username is not None or parts.fragment or not parts.hostname:
        raise ValueError("must be a URL in ASCII, without a user name and a fragment")
    tls = parts.scheme == "https"
    if not tls and (parts.scheme != "http" or not _is_loopback(parts.hostname)):
        raise ValueError("must be https, or http to this machine")
    return Target(tls, parts.hostname, parts.port or (443 if tls else 80), path)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def sign(secret: bytes, timestamp: int, body: bytes) -> str:
    """Return the signature of a delivery: HMAC-SHA-256 (RFC 2104) over the time in decimal digits, a dot, and the body."""
    return "v1=" + hmac.new(secret, b"%d." % timestamp + body, hashlib.sha256).hexdigest()
