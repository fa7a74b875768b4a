"""API tokens as values: their text, what is kept of it, and when one may be used.

    kms_<prefix>_<secret>    prefix: 12 of [a-z0-9], public, unique in the installation, the token's id
                             secret: 32 random bytes as base64url without padding (RFC 4648, section 5), 43 characters

What is kept is the SHA-256 of the whole text. A plain hash is right here: a slow, salted one makes guesses of what people
choose expensive, and a secret of 256 random bits is beyond guessing (SP 800-63B, section 5.1.2.2 asks for a salted hash
only where a look-up secret has less than 112 bits of entropy).
"""

from __future__ import annotations

import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final, NewType
from uuid import UUID

from .callers import Address, Scope, TokenLimits
from .errors import FailedPrecondition, Unauthenticated, invalid
from .names import Principal, TenantName, TenantUid, TokenName

TokenUid = NewType("TokenUid", UUID)
Network = IPv4Network | IPv6Network

RANDOM_BYTES: Final = 48  # 16 for the prefix, 32 for the secret

LIFETIME: Final = timedelta(days=90)
LONGEST_LIFETIME: Final = timedelta(days=3653)
OVERLAP: Final = timedelta(hours=24)
LONGEST_OVERLAP: Final = timedelta(days=30)
MOST_TOKENS: Final = 1_000  # of one tenant that may be used
MOST_NETWORKS: Final = 32
MOST_ORIGINS: Final = 32
MOST_PINS: Final = 16  # of one principal
LARGEST_LIMIT: Final = 1_000_000_000  # requests

# What the documents give an API key where nobody says otherwise.
DEFAULT_LIMITS: Final = TokenLimits(per_minute=100, per_hour=1_000, per_day=10_000)

_PREFIX_LENGTH: Final = 12
_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_TEXT: Final = re.compile(r"kms_([a-z0-9]{12})_([A-Za-z0-9_-]{43})")
_LONGEST_NETWORK: Final = 64
_LONGEST_ORIGIN: Final = 255
_ORIGIN: Final = re.compile(
    r"[a-z][a-z0-9+.-]*://(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\])(?::[1-9][0-9]{0,4})?"
)
_DEFAULT_PORTS: Final = {"http": ":80", "https": ":443"}  # RFC 6454, section 6.2 leaves them out


class TokenState(StrEnum):
    """What is kept of a token's life; whether it has expired follows from the time."""

    ACTIVE = "active"
    REVOKED = "revoked"


class TokenRefusal(StrEnum):
    """Why a token is not accepted; for the operators' log, a caller is told less."""

    UNKNOWN = "unknown"
    WRONG_SECRET = "wrong secret"  # noqa: S105  a reason
    REVOKED = "revoked"
    EXPIRED = "expired"
    REPLACED = "replaced"
    NETWORK = "network"
    ORIGIN = "origin"


# Whoever holds the token may learn that it is used in the wrong place; nobody learns more about any other.
MISPLACED: Final = frozenset({TokenRefusal.NETWORK, TokenRefusal.ORIGIN})


@dataclass(frozen=True, slots=True)
class PresentedToken:
    """A token that a caller has shown: its secret goes no further than parse_token()."""

    prefix: str
    digest: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ApiToken:
    """One token of a principal, without its secret."""

    uid: TokenUid
    tenant: TenantUid
    principal: Principal
    prefix: str
    digest: bytes = field(repr=False)
    display_name: str
    scopes: frozenset[Scope]
    created_at: datetime
    created_by: str
    expires_at: datetime
    networks: tuple[Network, ...] = ()  # empty: from everywhere
    origins: tuple[str, ...] = ()  # empty: of every origin, and without one
    limits: TokenLimits = DEFAULT_LIMITS
    state: TokenState = TokenState.ACTIVE
    revoked_at: datetime | None = None
    revoked_by: str = ""
    revoked_reason: str = ""
    replaced_by: str = ""  # the prefix of its successor
    overlap_until: datetime | None = None  # until when it may be used beside its successor
    revision: int = 0

    def name(self, tenant: TenantName) -> TokenName:
        """Return its resource name."""
        return TokenName(tenant.tenant, self.prefix)

    def ended(self, now: datetime) -> TokenRefusal | None:
        """Return why it can be used no more, wherever from; None while it can."""
        if self.state is TokenState.REVOKED:
            return TokenRefusal.REVOKED
        if now >= self.expires_at:
            return TokenRefusal.EXPIRED
        if self.overlap_until is not None and now >= self.overlap_until:
            return TokenRefusal.REPLACED
        return None


@dataclass(frozen=True, slots=True)
class TokenUse:
    """How often a token has been used, and when last."""

    count: int = 0
    last_used_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class CertificatePin:
    """A certificate that a principal may use; with one pin or more, it may use no other."""

    tenant: TenantUid
    principal: Principal
    fingerprint: bytes  # SHA-256 of the DER
    created_at: datetime
    created_by: str
    revision: int = 0


def make_token(random: bytes) -> tuple[str, PresentedToken]:
    """Make a token of RANDOM_BYTES random bytes; returns its text, and what is kept of it."""
    if len(random) != RANDOM_BYTES:
        raise ValueError(f"a token is made of {RANDOM_BYTES} random bytes")
    number = int.from_bytes(random[:16], "big")
    prefix = ""
    for _ in range(_PREFIX_LENGTH):
        number, digit = divmod(number, len(_DIGITS))
        prefix += _DIGITS[digit]
    text = f"kms_{prefix}_{urlsafe_b64encode(random[16:]).decode('ascii').rstrip('=')}"
    return text, PresentedToken(prefix, _digest(text))


def parse_token(text: str) -> PresentedToken | None:
    """Read a token's text; None where it has another form, of which there is one only for each token."""
    found = _TEXT.fullmatch(text)
    # The last character of 43 holds 4 bits: whatever else it says would be another text of the same bytes.
    if found is None or urlsafe_b64encode(urlsafe_b64decode(f"{found[2]}=")) != f"{found[2]}=".encode():
        return None
    return PresentedToken(found[1], _digest(text))


def refusal(
    token: ApiToken | None, shown: PresentedToken, now: datetime, address: Address | None, origin: str
) -> TokenRefusal | None:
    """Return why what was shown is not accepted as *token*, the one of its prefix; None where it is."""
    if token is None:
        return TokenRefusal.UNKNOWN  # a prefix is no secret, so the time that this takes tells nothing
    if not hmac.compare_digest(token.digest, shown.digest):
        return TokenRefusal.WRONG_SECRET
    return usable(token, now, address, origin)


def usable(token: ApiToken, now: datetime, address: Address | None, origin: str) -> TokenRefusal | None:
    """Return why a token may not be used now, from this address (None: a Unix socket) and origin; None where it may."""
    if (ended := token.ended(now)) is not None:
        return ended
    if token.networks and not (address is not None and any(address in network for network in token.networks)):
        return TokenRefusal.NETWORK
    if token.origins and origin not in token.origins:
        return TokenRefusal.ORIGIN
    return None


def check_usable_for_change(token: ApiToken, now: datetime, tenant: TenantName) -> None:
    """Refuse to rotate a token that has ended or has a successor.

    Raises:
        FailedPrecondition: it has.
    """
    if (ended := token.ended(now)) is not None:
        raise FailedPrecondition(f"{token.name(tenant)} is {ended}")
    if token.replaced_by:
        raise FailedPrecondition(f"{token.name(tenant)} has been rotated already: its successor is {token.replaced_by}")


def replaced(token: ApiToken, successor: str, now: datetime, overlap: timedelta) -> ApiToken:
    """Return a token that gives way to its successor after *overlap*."""
    return replace(token, replaced_by=successor, overlap_until=now + overlap)


def revoked(token: ApiToken, now: datetime, by: str, reason: str) -> ApiToken:
    """Return a token that can be used no more; one that is revoked already stays as it is."""
    if token.state is TokenState.REVOKED:
        return token
    return replace(token, state=TokenState.REVOKED, revoked_at=now, revoked_by=by, revoked_reason=reason)


def parse_network(text: str, where: str) -> Network:
    """Read an address, or a network in CIDR notation (RFC 4632, section 3.1) without bits beyond its prefix.

    Raises:
        InvalidRequest: neither.
    """
    wrong = invalid(where, "each must be an address or a network such as 192.0.2.0/24 or 2001:db8::/32")
    # An address with a scope, and a netmask in place of a prefix length, are no CIDR notation.
    if len(text) > _LONGEST_NETWORK or "%" in text or "." in text.partition("/")[2]:
        raise wrong
    try:
        return ip_network(text)
    except ValueError as error:
        raise wrong from error


def parse_origin(text: str, where: str) -> str:
    """Check a web origin as user agents send it: scheme, host and a port that is not the scheme's own.

    Source: RFC 6454, section 6.2.

    Raises:
        InvalidRequest: another form.
    """
    scheme = text.partition(":")[0]
    port = _DEFAULT_PORTS.get(scheme, "")
    if len(text) > _LONGEST_ORIGIN or _ORIGIN.fullmatch(text) is None or (port and text.endswith(port)):
        raise invalid(where, "each must be a web origin such as https://app.example.com:8443, in lower case")
    return text


def read_bearer(values: list[str]) -> PresentedToken:
    """Read the values of a call's `authorization` metadata: exactly one, `Bearer` and a token (RFC 6750, section 2.1).

    Raises:
        Unauthenticated: anything else.
    """
    scheme, _, text = values[0].partition(" ") if len(values) == 1 else ("", "", "")
    shown = parse_token(text) if scheme.lower() == "bearer" else None
    if shown is None:
        raise token_refused()
    return shown


def token_refused() -> Unauthenticated:
    """Make the one answer to a token that is unknown, wrong, expired, replaced or revoked."""
    return Unauthenticated("the API token is not valid")


def _digest(text: str) -> bytes:
    return sha256(text.encode("ascii")).digest()
