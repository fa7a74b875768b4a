"""From messages to values: tokens, pinned certificates, and who one is."""

from __future__ import annotations

from ..v1 import tokens_pb2
from ..values import Caller, NewToken, PinnedCertificate, Token, TokenLimits, TokenScope, TokenState
from .reading import known, time, time_if


def token(message: tokens_pb2.Token) -> Token:
    """Read a Token."""
    limits = message.limits
    return Token(
        name=message.name,
        principal=message.principal,
        display_name=message.display_name,
        scopes=tuple(known(TokenScope, scope) for scope in message.scopes),
        allowed_networks=tuple(message.allowed_networks),
        allowed_origins=tuple(message.allowed_origins),
        limits=TokenLimits(
            requests_per_minute=limits.requests_per_minute,
            requests_per_hour=limits.requests_per_hour,
            requests_per_day=limits.requests_per_day,
            requests_per_second=limits.requests_per_second,
            burst=limits.burst,
        ),
        create_time=time(message.create_time),
        creator=message.creator,
        expire_time=time(message.expire_time),
        state=known(TokenState, message.state),
        revoke_time=time_if(message, "revoke_time"),
        revoker=message.revoker,
        revoke_reason=message.revoke_reason,
        successor=message.successor,
        overlap_end_time=time_if(message, "overlap_end_time"),
        last_use_time=time_if(message, "last_use_time"),
        use_count=message.use_count,
    )


def new_token(message: tokens_pb2.CreateTokenResponse) -> NewToken:
    """Read a CreateTokenResponse."""
    return NewToken(token(message.token), message.text)


def rotated_token(message: tokens_pb2.RotateTokenResponse) -> NewToken:
    """Read a RotateTokenResponse."""
    return NewToken(token(message.token), message.text, token(message.replaced))


def pinned_certificate(message: tokens_pb2.PinnedCertificate) -> PinnedCertificate:
    """Read a PinnedCertificate."""
    return PinnedCertificate(message.principal, message.fingerprint, time(message.create_time), message.creator)


def pinned_certificates(message: tokens_pb2.ListPinnedCertificatesResponse) -> list[PinnedCertificate]:
    """Read a ListPinnedCertificatesResponse."""
    return [pinned_certificate(pin) for pin in message.certificates]


def caller(message: tokens_pb2.WhoAmIResponse) -> Caller:
    """Read a WhoAmIResponse."""
    return Caller(
        principal=message.principal,
        credential_kind=message.credential_kind,
        credential_id=message.credential_id,
        scopes=tuple(known(TokenScope, scope) for scope in message.scopes),
        address=message.address,
        origin=message.origin,
    )
