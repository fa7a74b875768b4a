"""API tokens: made, rotated, revoked, and recognised when a caller shows one."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import uuid4

import structlog

from kms.core.callers import Scope, TokenLimits
from kms.core.errors import AlreadyExists, LimitExceeded, NotFound, invalid
from kms.core.keyring import Tenant
from kms.core.names import Principal, TenantName, TenantUid, TokenName
from kms.core.ports import Storage
from kms.core.repositories import UnitOfWork
from kms.core.tokens import (
    MOST_TOKENS,
    RANDOM_BYTES,
    ApiToken,
    Network,
    PresentedToken,
    TokenUid,
    TokenUse,
    check_usable_for_change,
    make_token,
    replaced,
    revoked,
)
from kms.services.tenants import Tenants

_log = structlog.get_logger(__name__)

_TRIES: Final = 3  # for a prefix that is free: one of 36**12


@dataclass(frozen=True, slots=True)
class NewToken:
    """What a caller wants of a token."""

    principal: Principal
    display_name: str
    scopes: frozenset[Scope]
    lifetime: timedelta
    networks: tuple[Network, ...]
    origins: tuple[str, ...]
    limits: TokenLimits


@dataclass(frozen=True, slots=True)
class TokenStatus:
    """A token and what is known of its use."""

    token: ApiToken
    use: TokenUse


@dataclass(frozen=True, slots=True)
class MadeToken:
    """A token with its text, which is shown this once and kept nowhere."""

    token: ApiToken
    text: str = field(repr=False)


class Tokens:
    """The tokens of all tenants."""

    def __init__(
        self,
        storage: Storage,
        tenants: Tenants,
        drop: Callable[[TenantUid], None],
        now: Callable[[], datetime],
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """*drop* drops all that this node holds of a tenant: Membership.drop."""
        self._storage = storage
        self._tenants = tenants
        self._drop = drop
        self._now = now
        self._random = random

    async def create(self, caller: Principal, parent: TenantName, new: NewToken) -> tuple[Tenant, MadeToken]:
        """Create a token for a principal of the tenant.

        Raises:
            InvalidRequest: the principal is another tenant's, or an operator.
            LimitExceeded: the tenant has as many tokens as it may have.
        """
        tenant = await self._tenants.get(caller, parent)
        if new.principal.tenant != tenant.slug:
            raise invalid("token.principal", f"must be a principal of {parent}")
        now = self._now()
        token = ApiToken(
            uid=TokenUid(uuid4()),
            tenant=tenant.uid,
            principal=new.principal,
            prefix="",
            digest=b"",
            display_name=new.display_name,
            scopes=new.scopes,
            created_at=now,
            created_by=str(caller),
            expires_at=now + new.lifetime,
            networks=new.networks,
            origins=new.origins,
            limits=new.limits,
        )
        async with self._storage.transaction(tenant.uid, write=True) as work:
            await self._check_room(work, tenant, now)
            made = await self._add(work, token)
        _log.info("token.created", name=made.token.name(parent), owner=str(new.principal), caller=str(caller))
        return tenant, made

    async def get(self, caller: Principal, name: TokenName) -> tuple[Tenant, TokenStatus]:
        """Return one token.

        Raises:
            NotFound: no such token, or another tenant's.
        """
        tenant = await self._owner(caller, name)
        async with self._storage.transaction(tenant.uid) as work:
            return tenant, await _with_use(work, await _found(work, tenant, name))

    async def list_by_prefix(
        self, caller: Principal, parent: TenantName, after: str, limit: int
    ) -> tuple[Tenant, list[TokenStatus]]:
        """Return at most *limit* tokens with prefixes greater than *after*, ordered."""
        tenant = await self._tenants.get(caller, parent)
        async with self._storage.transaction(tenant.uid) as work:
            tokens = await work.tokens.list_by_prefix(tenant.uid, after, limit)
            return tenant, await _with_uses(work, tenant, tokens)

    async def rotate(
        self, caller: Principal, name: TokenName, overlap: timedelta
    ) -> tuple[Tenant, MadeToken, ApiToken]:
        """Make a token's successor, like it but with a new life as long as its first; returns it, and the old one.

        The old one works until *overlap* is over: zero ends it at once.

        Raises:
            FailedPrecondition: it has ended, or has a successor.
        """
        tenant = await self._owner(caller, name)
        now = self._now()
        async with self._storage.transaction(tenant.uid, write=True) as work:
            old = await _found(work, tenant, name)
            check_usable_for_change(old, now, tenant.name)
            await self._check_room(work, tenant, now)
            fresh = replace(
                old,
                uid=TokenUid(uuid4()),
                created_at=now,
                created_by=str(caller),
                expires_at=now + (old.expires_at - old.created_at),
                revision=0,
            )
            made = await self._add(work, fresh)
            old = await work.tokens.replace(replaced(old, made.token.prefix, now, overlap))
            if overlap:
                await work.epochs.changed(tenant.uid)
            else:
                await work.epochs.revoked(tenant.uid)
        self._drop(tenant.uid)
        _log.info("token.rotated", name=name, successor=made.token.prefix, caller=str(caller))
        return tenant, made, old

    async def revoke(self, caller: Principal, name: TokenName, reason: str) -> tuple[Tenant, TokenStatus]:
        """End a token everywhere within the revocation deadline, and here at once; one that is revoked stays as it is."""
        tenant = await self._owner(caller, name)
        async with self._storage.transaction(tenant.uid, write=True) as work:
            token = await _found(work, tenant, name)
            ended = revoked(token, self._now(), str(caller), reason)
            if ended is not token:
                token = await work.tokens.replace(ended)
            status = await _with_use(work, token)
            await work.epochs.revoked(tenant.uid)
        self._drop(tenant.uid)
        _log.info("token.revoked", name=name, caller=str(caller))
        return tenant, status

    async def _add(self, work: UnitOfWork, token: ApiToken) -> MadeToken:
        for _ in range(_TRIES - 1):
            text, kept = make_token(self._random(RANDOM_BYTES))
            try:
                return MadeToken(await work.tokens.add(_identified(token, kept)), text)
            except AlreadyExists:
                continue
        text, kept = make_token(self._random(RANDOM_BYTES))
        return MadeToken(await work.tokens.add(_identified(token, kept)), text)

    async def _check_room(self, work: UnitOfWork, tenant: Tenant, now: datetime) -> None:
        if await work.tokens.count_usable(tenant.uid, now) >= MOST_TOKENS:
            raise LimitExceeded(f"{tenant.name} has {MOST_TOKENS} tokens, which is the limit: revoke some")

    async def _owner(self, caller: Principal, name: TokenName) -> Tenant:
        if caller.tenant != name.tenant:
            raise NotFound(str(name))
        try:
            return await self._tenants.get(caller, name.parent)
        except NotFound as error:
            raise NotFound(str(name)) from error


def _identified(token: ApiToken, kept: PresentedToken) -> ApiToken:
    return replace(token, prefix=kept.prefix, digest=kept.digest)


async def _found(work: UnitOfWork, tenant: Tenant, name: TokenName) -> ApiToken:
    token = await work.tokens.get(tenant.uid, name.token)
    if token is None:
        raise NotFound(str(name))
    return token


async def _with_use(work: UnitOfWork, token: ApiToken) -> TokenStatus:
    uses = await work.tokens.uses(token.tenant, [token.uid])
    return TokenStatus(token, uses.get(token.uid, TokenUse()))


async def _with_uses(work: UnitOfWork, tenant: Tenant, tokens: Sequence[ApiToken]) -> list[TokenStatus]:
    uses = await work.tokens.uses(tenant.uid, [token.uid for token in tokens[:1_000]])
    return [TokenStatus(token, uses.get(token.uid, TokenUse())) for token in tokens]
