"""Requests to TokenService."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from ..methods import TOKENS
from ..responses import tokens
from ..responses.reading import nothing, page
from ..v1 import tokens_pb2
from ..values import Caller, NewToken, PinnedCertificate, Token, TokenLimits, TokenScope
from .messages import Listing, Request, build, duration, encoded


def create_token(
    parent: str,
    principal: str,
    *,
    display_name: str,
    scopes: Iterable[TokenScope],
    lifetime: timedelta | None,
    allowed_networks: Iterable[str],
    allowed_origins: Iterable[str],
    limits: TokenLimits | None,
) -> Request[NewToken]:
    """TokenService.CreateToken."""
    fields: dict[str, Any] = {
        "scopes": [int(scope) for scope in scopes],
        "allowed_networks": _texts(allowed_networks, "allowed_networks"),
        "allowed_origins": _texts(allowed_origins, "allowed_origins"),
    }
    if limits is not None:
        fields["limits"] = build(
            tokens_pb2.TokenLimits,
            requests_per_minute=limits.requests_per_minute,
            requests_per_hour=limits.requests_per_hour,
            requests_per_day=limits.requests_per_day,
            requests_per_second=limits.requests_per_second,
            burst=limits.burst,
        )
    token = build(tokens_pb2.Token, principal=principal, display_name=display_name, **fields)
    given = {} if lifetime is None else {"lifetime": duration(lifetime)}
    message = build(tokens_pb2.CreateTokenRequest, parent=parent, token=token, **given)
    return Request(f"{TOKENS}/CreateToken", message, tokens.new_token)


def get_token(name: str) -> Request[Token]:
    """TokenService.GetToken."""
    return Request(f"{TOKENS}/GetToken", build(tokens_pb2.GetTokenRequest, name=name), tokens.token)


def list_tokens(parent: str, page_size: int) -> Listing:
    """TokenService.ListTokens."""
    read = page("tokens", tokens.token)
    return lambda token: Request(
        f"{TOKENS}/ListTokens",
        build(tokens_pb2.ListTokensRequest, parent=parent, page_size=page_size, page_token=token),
        read,
    )


def rotate_token(name: str, overlap: timedelta | None) -> Request[NewToken]:
    """TokenService.RotateToken."""
    given = {} if overlap is None else {"overlap": duration(overlap)}
    message = build(tokens_pb2.RotateTokenRequest, name=name, **given)
    return Request(f"{TOKENS}/RotateToken", message, tokens.rotated_token)


def revoke_token(name: str, reason: str) -> Request[Token]:
    """TokenService.RevokeToken."""
    message = build(tokens_pb2.RevokeTokenRequest, name=name, reason=reason)
    return Request(f"{TOKENS}/RevokeToken", message, tokens.token)


def pin_certificate(principal: str, fingerprint: str) -> Request[PinnedCertificate]:
    """TokenService.PinCertificate."""
    message = build(tokens_pb2.PinCertificateRequest, principal=principal, fingerprint=fingerprint)
    return Request(f"{TOKENS}/PinCertificate", message, tokens.pinned_certificate)


def unpin_certificate(principal: str, fingerprint: str) -> Request[None]:
    """TokenService.UnpinCertificate."""
    message = build(tokens_pb2.UnpinCertificateRequest, principal=principal, fingerprint=fingerprint)
    return Request(f"{TOKENS}/UnpinCertificate", message, nothing)


def list_pinned_certificates(principal: str) -> Request[list[PinnedCertificate]]:
    """TokenService.ListPinnedCertificates."""
    message = build(tokens_pb2.ListPinnedCertificatesRequest, principal=principal)
    return Request(f"{TOKENS}/ListPinnedCertificates", message, tokens.pinned_certificates)


def who_am_i() -> Request[Caller]:
    """TokenService.WhoAmI."""
    return Request(f"{TOKENS}/WhoAmI", tokens_pb2.WhoAmIRequest(), tokens.caller)


def _texts(values: Iterable[str], name: str) -> list[str]:
    listed = list(values)
    for text in listed:
        encoded(text, name)
    return listed
