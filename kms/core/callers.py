"""Who makes a call, and by what it has shown that."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from .names import Principal

Address = IPv4Address | IPv6Address


class CredentialKind(StrEnum):
    """By what a caller shows who it is."""

    CERTIFICATE = "certificate"
    TOKEN = "token"  # noqa: S105  a kind, not a secret
    SOCKET = "socket"  # whoever may open the Unix socket is the principal that it stands for


class Scope(StrEnum):
    """What a credential may be used for, whatever its principal may do; a token has READ alone unless more is given."""

    READ = "read"  # reads metadata
    USE = "use"  # uses keys
    MANAGE = "manage"  # changes resources


ALL_SCOPES: Final = frozenset(Scope)


@dataclass(frozen=True, slots=True)
class TokenLimits:
    """How often a token may be used, in calls; None: no limit of that kind."""

    per_minute: int | None = None
    per_hour: int | None = None
    per_day: int | None = None
    rate: int | None = None  # calls per second
    burst: int | None = None  # calls at once, of a rate; as many as the rate where it is not given


@dataclass(frozen=True, slots=True)
class Credential:
    """By what one caller has shown who it is; *id* is a certificate's SHA-256 in hexadecimal digits or a token's prefix."""

    kind: CredentialKind
    id: str = ""
    scopes: frozenset[Scope] = ALL_SCOPES
    limits: TokenLimits | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a call, from where; *address* is None where the transport has none (a Unix socket)."""

    principal: Principal
    credential: Credential
    address: Address | None = None
    origin: str = ""  # the web origin that a browser's proxy passes on (RFC 6454)

    def __str__(self) -> str:
        return str(self.principal)
