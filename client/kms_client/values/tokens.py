"""API tokens, pinned certificates, and who one is."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum


class TokenScope(IntEnum):
    """What a token may be used for, whatever its principal may do."""

    READ = 1
    USE = 2
    MANAGE = 3


class TokenState(IntEnum):
    """Whether a token works."""

    ACTIVE = 1
    EXPIRED = 2
    REPLACED = 3
    REVOKED = 4


@dataclass(frozen=True, slots=True)
class TokenLimits:
    """How many requests a token may make; 0: no limit of its own."""

    requests_per_minute: int = 0
    requests_per_hour: int = 0
    requests_per_day: int = 0
    requests_per_second: int = 0  # on average
    burst: int = 0  # at once, where there is a rate; 0: as many as the rate


@dataclass(frozen=True, slots=True)
class Token:
    """An API token, without its secret: `tenants/{tenant}/tokens/{prefix}`."""

    name: str
    principal: str
    display_name: str
    scopes: tuple[TokenScope | int, ...]
    allowed_networks: tuple[str, ...]
    allowed_origins: tuple[str, ...]
    limits: TokenLimits
    create_time: datetime
    creator: str
    expire_time: datetime
    state: TokenState | int
    revoke_time: datetime | None
    revoker: str
    revoke_reason: str
    successor: str  # the name of the token that replaces it
    overlap_end_time: datetime | None  # until when it works beside its successor
    last_use_time: datetime | None
    use_count: int


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token that has just been made, with its text, which nobody can show again."""

    token: Token
    text: str = field(repr=False)
    replaced: Token | None = None  # the one that it succeeds


@dataclass(frozen=True, slots=True)
class PinnedCertificate:
    """A certificate, by the SHA-256 of its DER in hexadecimal digits, that a principal is bound to."""

    principal: str
    fingerprint: str
    create_time: datetime
    creator: str


@dataclass(frozen=True, slots=True)
class Caller:
    """Who one is to the daemon, and by what it has been shown."""

    principal: str
    credential_kind: str  # certificate, token or socket
    credential_id: str  # a certificate's SHA-256, or a token's prefix
    scopes: tuple[TokenScope | int, ...]
    address: str  # empty on a Unix socket
    origin: str
