"""TokenService."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from datetime import timedelta

from ..requests import tokens
from ..values import Caller, NewToken, PinnedCertificate, Token, TokenLimits, TokenScope
from .calls import Calls


class TokenCalls(Calls):
    """Methods for API tokens, pinned certificates, and who one is."""

    async def create_token(
        self,
        parent: str,
        principal: str,
        *,
        display_name: str = "",
        scopes: Iterable[TokenScope] = (TokenScope.READ,),
        lifetime: timedelta | None = None,
        allowed_networks: Iterable[str] = (),
        allowed_origins: Iterable[str] = (),
        limits: TokenLimits | None = None,
        deadline: float | None = None,
    ) -> NewToken:
        """Create a token for a principal of the tenant *parent*; its text is in the answer and nowhere else.

        None leaves lifetime (90 days) and limits (100 a minute, 1,000 an hour, 10,000 a day) to the daemon. Without
        networks or origins it may be used from everywhere.
        """
        return await self._run(
            tokens.create_token(
                parent,
                principal,
                display_name=display_name,
                scopes=scopes,
                lifetime=lifetime,
                allowed_networks=allowed_networks,
                allowed_origins=allowed_origins,
                limits=limits,
            ),
            deadline,
        )

    async def get_token(self, name: str, *, deadline: float | None = None) -> Token:
        """Return one token, without its text."""
        return await self._run(tokens.get_token(name), deadline)

    def list_tokens(self, parent: str, *, page_size: int = 0, deadline: float | None = None) -> AsyncIterator[Token]:
        """Iterate over a tenant's tokens by name, also those that have ended; pages are fetched as they are needed."""
        return self._pages(tokens.list_tokens(parent, page_size), deadline)

    async def rotate_token(
        self, name: str, *, overlap: timedelta | None = None, deadline: float | None = None
    ) -> NewToken:
        """Make a token's successor; the old one works until *overlap* (None: 24 hours) is over."""
        return await self._run(tokens.rotate_token(name, overlap), deadline)

    async def revoke_token(self, name: str, reason: str, *, deadline: float | None = None) -> Token:
        """End a token on every node within the revocation deadline."""
        return await self._run(tokens.revoke_token(name, reason), deadline)

    async def pin_certificate(
        self, principal: str, fingerprint: str, *, deadline: float | None = None
    ) -> PinnedCertificate:
        """Bind a principal to a certificate, named by the SHA-256 of its DER in hexadecimal digits."""
        return await self._run(tokens.pin_certificate(principal, fingerprint), deadline)

    async def unpin_certificate(self, principal: str, fingerprint: str, *, deadline: float | None = None) -> None:
        """Take a pin away."""
        await self._run(tokens.unpin_certificate(principal, fingerprint), deadline)

    async def list_pinned_certificates(
        self, principal: str, *, deadline: float | None = None
    ) -> list[PinnedCertificate]:
        """Return all pins of a principal, ordered by fingerprint."""
        return await self._run(tokens.list_pinned_certificates(principal), deadline)

    async def who_am_i(self, *, deadline: float | None = None) -> Caller:
        """Return whom the daemon takes this client for, and by what."""
        return await self._run(tokens.who_am_i(), deadline)
