"""TokenService: parse, call, format."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Final

from google.protobuf.empty_pb2 import Empty

from kms.acting import present_caller
from kms.core.callers import CredentialKind, Scope, TokenLimits
from kms.core.errors import Denied, invalid
from kms.core.keyring import Tenant
from kms.core.names import Principal, TenantName, TokenName
from kms.core.tokens import (
    DEFAULT_LIMITS,
    LARGEST_LIMIT,
    LIFETIME,
    LONGEST_LIFETIME,
    LONGEST_OVERLAP,
    MOST_NETWORKS,
    MOST_ORIGINS,
    OVERLAP,
    ApiToken,
    CertificatePin,
    TokenRefusal,
    TokenUse,
    parse_network,
    parse_origin,
)
from kms.rpc.fields import parse_display_name, parse_reason, parse_seconds
from kms.rpc.messages import timestamp
from kms.rpc.paging import Page, cut, parse_page
from kms.services.pins import Pins
from kms.services.tokens import NewToken, Tokens
from kms.v1 import tokens_pb2 as pb

_FINGERPRINT: Final = re.compile(r"[0-9a-f]{64}")
_PREFIX: Final = re.compile(r"[a-z0-9]{12}")
_SCOPES: Final[Mapping[int, Scope]] = MappingProxyType(
    {
        pb.TOKEN_SCOPE_READ: Scope.READ,
        pb.TOKEN_SCOPE_USE: Scope.USE,
        pb.TOKEN_SCOPE_MANAGE: Scope.MANAGE,
    }
)
_NUMBERS: Final[Mapping[Scope, Any]] = MappingProxyType({scope: number for number, scope in _SCOPES.items()})
_ENDED: Final = MappingProxyType(
    {
        None: pb.TOKEN_ACTIVE,
        TokenRefusal.EXPIRED: pb.TOKEN_EXPIRED,
        TokenRefusal.REPLACED: pb.TOKEN_REPLACED,
        TokenRefusal.REVOKED: pb.TOKEN_REVOKED,
    }
)


class TokenServicer:
    """Serves kms.v1.TokenService; *now* is for states that follow from the time."""

    def __init__(self, tokens: Tokens, pins: Pins, now: Callable[[], datetime]) -> None:
        self._tokens = tokens
        self._pins = pins
        self._now = now

    async def CreateToken(self, request: pb.CreateTokenRequest, caller: Principal) -> pb.CreateTokenResponse:
        """Create a token."""
        _refuse_tokens("make")
        parent, new = TenantName.parse(request.parent, "parent"), _parse_new(request)
        tenant, made = await self._tokens.create(caller, parent, new)
        return pb.CreateTokenResponse(token=self._message(tenant, made.token, TokenUse()), text=made.text)

    async def GetToken(self, request: pb.GetTokenRequest, caller: Principal) -> pb.Token:
        """Return a token."""
        tenant, status = await self._tokens.get(caller, TokenName.parse(request.name))
        return self._message(tenant, status.token, status.use)

    async def ListTokens(self, request: pb.ListTokensRequest, caller: Principal) -> pb.ListTokensResponse:
        """List a tenant's tokens."""
        parent, page = TenantName.parse(request.parent, "parent"), parse_page(request)
        tenant, found = await self._tokens.list_by_prefix(caller, parent, _after(page), page.size + 1)
        shown, following = cut(found, page, lambda status: status.token.prefix)
        return pb.ListTokensResponse(
            tokens=[self._message(tenant, status.token, status.use) for status in shown], next_page_token=following
        )

    async def RotateToken(self, request: pb.RotateTokenRequest, caller: Principal) -> pb.RotateTokenResponse:
        """Make a token's successor."""
        _refuse_tokens("rotate")
        name, overlap = TokenName.parse(request.name), OVERLAP
        if request.HasField("overlap"):
            overlap = parse_seconds(request.overlap, "overlap", timedelta(0), LONGEST_OVERLAP)
        tenant, made, old = await self._tokens.rotate(caller, name, overlap)
        return pb.RotateTokenResponse(
            token=self._message(tenant, made.token, TokenUse()),
            text=made.text,
            replaced=self._message(tenant, old, TokenUse()),
        )

    async def RevokeToken(self, request: pb.RevokeTokenRequest, caller: Principal) -> pb.Token:
        """End a token."""
        name, reason = TokenName.parse(request.name), parse_reason(request.reason)
        tenant, status = await self._tokens.revoke(caller, name, reason)
        return self._message(tenant, status.token, status.use)

    async def PinCertificate(self, request: pb.PinCertificateRequest, caller: Principal) -> pb.PinnedCertificate:
        """Bind a principal to a certificate."""
        principal = Principal.parse(request.principal, "principal")
        return _pin_message(await self._pins.pin(caller, principal, _parse_fingerprint(request.fingerprint)))

    async def UnpinCertificate(self, request: pb.UnpinCertificateRequest, caller: Principal) -> Empty:
        """Take a pin away."""
        principal = Principal.parse(request.principal, "principal")
        await self._pins.unpin(caller, principal, _parse_fingerprint(request.fingerprint))
        return Empty()

    async def ListPinnedCertificates(
        self, request: pb.ListPinnedCertificatesRequest, caller: Principal
    ) -> pb.ListPinnedCertificatesResponse:
        """List a principal's pins."""
        pins = await self._pins.list_of(caller, Principal.parse(request.principal, "principal"))
        return pb.ListPinnedCertificatesResponse(certificates=[_pin_message(pin) for pin in pins])

    async def WhoAmI(self, request: pb.WhoAmIRequest, caller: Principal) -> pb.WhoAmIResponse:
        """Return who the caller is."""
        del request
        whole = present_caller()
        return pb.WhoAmIResponse(
            principal=str(caller),
            credential_kind=whole.credential.kind,
            credential_id=whole.credential.id,
            scopes=[_NUMBERS[scope] for scope in Scope if scope in whole.credential.scopes],
            address=str(whole.address or ""),
            origin=whole.origin,
        )

    def _message(self, tenant: Tenant, token: ApiToken, use: TokenUse) -> pb.Token:
        return token_message(tenant, token, use, self._now())


def token_message(tenant: Tenant, token: ApiToken, use: TokenUse, now: datetime) -> pb.Token:
    """Format a token as it is at a time."""
    limits = token.limits
    return pb.Token(
        name=str(token.name(tenant.name)),
        principal=str(token.principal),
        display_name=token.display_name,
        scopes=[_NUMBERS[scope] for scope in Scope if scope in token.scopes],
        allowed_networks=map(str, token.networks),
        allowed_origins=token.origins,
        limits=pb.TokenLimits(
            requests_per_minute=limits.per_minute or 0,
            requests_per_hour=limits.per_hour or 0,
            requests_per_day=limits.per_day or 0,
            requests_per_second=limits.rate or 0,
            burst=limits.burst or 0,
        ),
        create_time=timestamp(token.created_at),
        creator=token.created_by,
        expire_time=timestamp(token.expires_at),
        state=_ENDED[token.ended(now)],
        revoke_time=timestamp(token.revoked_at),
        revoker=token.revoked_by,
        revoke_reason=token.revoked_reason,
        successor=str(TokenName(tenant.slug, token.replaced_by)) if token.replaced_by else "",
        overlap_end_time=timestamp(token.overlap_until),
        last_use_time=timestamp(use.last_used_at),
        use_count=use.count,
    )


def _refuse_tokens(verb: str) -> None:
    # A token that is stolen must not outlive its revocation, nor its scopes and networks, in one that it has made.
    if present_caller().credential.kind is CredentialKind.TOKEN:
        raise Denied(f"an API token cannot {verb} API tokens: show a certificate")


def _parse_new(request: pb.CreateTokenRequest) -> NewToken:
    token = request.token
    if len(token.allowed_networks) > MOST_NETWORKS:
        raise invalid("token.allowed_networks", f"must have at most {MOST_NETWORKS} entries")
    if len(token.allowed_origins) > MOST_ORIGINS:
        raise invalid("token.allowed_origins", f"must have at most {MOST_ORIGINS} entries")
    lifetime = LIFETIME
    if request.HasField("lifetime"):
        lifetime = parse_seconds(request.lifetime, "lifetime", timedelta(seconds=1), LONGEST_LIFETIME)
    return NewToken(
        principal=Principal.parse(token.principal, "token.principal"),
        display_name=parse_display_name(token.display_name, "token.display_name"),
        scopes=_parse_scopes(list(token.scopes)),
        lifetime=lifetime,
        networks=tuple(parse_network(text, "token.allowed_networks") for text in token.allowed_networks),
        origins=tuple(parse_origin(text, "token.allowed_origins") for text in token.allowed_origins),
        limits=_parse_limits(token.limits) if token.HasField("limits") else DEFAULT_LIMITS,
    )


def _parse_scopes(numbers: list[int]) -> frozenset[Scope]:
    if len(set(numbers)) != len(numbers) or any(number not in _SCOPES for number in numbers):
        names = ", ".join(f"TOKEN_SCOPE_{scope.name}" for scope in Scope)
        raise invalid("token.scopes", f"must be some of {names}, each once")
    return frozenset(_SCOPES[number] for number in numbers) or frozenset({Scope.READ})


def _parse_limits(limits: pb.TokenLimits) -> TokenLimits:
    for name in pb.TokenLimits.DESCRIPTOR.fields_by_name:
        if not 0 <= getattr(limits, name) <= LARGEST_LIMIT:
            raise invalid(f"token.limits.{name}", f"must be 0 to {LARGEST_LIMIT}")
    rate = limits.requests_per_second or None
    if limits.burst and rate is None:
        raise invalid("token.limits.burst", "must be 0 without requests_per_second")
    return TokenLimits(
        per_minute=limits.requests_per_minute or None,
        per_hour=limits.requests_per_hour or None,
        per_day=limits.requests_per_day or None,
        rate=rate,
        burst=limits.burst or rate,
    )


def _parse_fingerprint(text: str) -> bytes:
    if _FINGERPRINT.fullmatch(text) is None:
        raise invalid("fingerprint", "must be 64 hexadecimal digits in lower case")
    return bytes.fromhex(text)


def _after(page: Page) -> str:
    if page.after and _PREFIX.fullmatch(page.after) is None:
        raise invalid("page_token", "must be the next_page_token of the same list")
    return page.after


def _pin_message(pin: CertificatePin) -> pb.PinnedCertificate:
    return pb.PinnedCertificate(
        principal=str(pin.principal),
        fingerprint=pin.fingerprint.hex(),
        create_time=timestamp(pin.created_at),
        creator=pin.created_by,
    )
