"""API tokens in the database, their uses, and pinned certificates."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from ipaddress import ip_network
from typing import Any, Final

from sqlalchemy import Row, func, select

from kms.core.callers import Scope, TokenLimits
from kms.core.canonical import Value
from kms.core.errors import AlreadyExists, Conflict, InvalidRequest, KmsError
from kms.core.names import Principal, TenantUid
from kms.core.tokens import ApiToken, CertificatePin, TokenState, TokenUid, TokenUse

from .epochs import later
from .integrity import Identity
from .records import IN_ONE_STEP, find, find_one, remove, require_own, store
from .session import Session, insertion
from .token_tables import api_tokens as t
from .token_tables import certificate_pins as p
from .token_tables import token_uses as u

MOST_USES: Final = 1_000  # tokens in one query


def _principal(text: str) -> Principal:
    try:
        return Principal.parse(text)
    except InvalidRequest as error:
        raise ValueError("a stored principal is none") from error


def _token(row: Row[Any]) -> ApiToken:
    return ApiToken(
        uid=row.id,
        tenant=row.tenant_id,
        principal=_principal(row.principal),
        prefix=row.key_prefix,
        digest=row.key_hash,
        display_name=row.display_name,
        scopes=frozenset(map(Scope, json.loads(row.scopes))),
        created_at=row.created_at,
        created_by=row.created_by,
        expires_at=row.expires_at,
        networks=tuple(map(ip_network, json.loads(row.allowed_networks))),
        origins=tuple(json.loads(row.allowed_origins)),
        limits=TokenLimits(
            row.limit_per_minute, row.limit_per_hour, row.limit_per_day, row.limit_rate, row.limit_burst
        ),
        state=TokenState(row.status),
        revoked_at=row.revoked_at,
        revoked_by=row.revoked_by,
        revoked_reason=row.revoked_reason,
        replaced_by=row.replaced_by,
        overlap_until=row.overlap_until,
        revision=row.revision,
    )


def _pin(row: Row[Any]) -> CertificatePin:
    return CertificatePin(
        row.tenant_id, _principal(row.principal), row.fingerprint, row.created_at, row.created_by, row.revision
    )


class Tokens:
    """TokenRepository on one transaction. Prefixes are unique over all tenants, so by_prefix() alone names no tenant."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def by_prefix(self, prefix: str) -> ApiToken | None:
        """Return the token of a caller of whom nothing else is known yet."""
        return await find_one(self._session, t, select(t).where(t.c.key_prefix == prefix), _token)

    async def get(self, tenant: TenantUid, prefix: str) -> ApiToken | None:
        """Return one token of the tenant."""
        query = select(t).where(t.c.tenant_id == tenant, t.c.key_prefix == prefix)
        return await find_one(self._session, t, query, _token, groups=[(prefix,)])

    async def list_by_prefix(self, tenant: TenantUid, after: str, limit: int) -> list[ApiToken]:
        """Return at most *limit* tokens with prefixes greater than *after*, ordered."""
        query = select(t).where(t.c.tenant_id == tenant, t.c.key_prefix > after)
        return await find(self._session, t, query.order_by(t.c.key_prefix).limit(limit), _token)

    async def count_usable(self, tenant: TenantUid, now: datetime) -> int:
        """Return how many tokens of the tenant are neither revoked nor expired."""
        query = select(func.count()).where(
            t.c.tenant_id == tenant, t.c.status == TokenState.ACTIVE.value, t.c.expires_at > now
        )
        [[count]] = await self._session.rows(query)
        return int(count)

    async def add(self, token: ApiToken) -> ApiToken:
        """Store a new token with revision 1 and return it so.

        Raises:
            AlreadyExists: its prefix is taken.
        """
        return await self._store(token, 0, AlreadyExists(f"a token of prefix {token.prefix} exists"))

    async def replace(self, token: ApiToken) -> ApiToken:
        """Store a changed token over the revision that it came from; returns it with the next revision.

        Raises:
            Conflict: the stored revision is another.
        """
        return await self._store(token, token.revision, Conflict(f"token {token.prefix} was changed in between"))

    async def uses(self, tenant: TenantUid, tokens: Collection[TokenUid]) -> Mapping[TokenUid, TokenUse]:
        """Return what is known of the use of at most 1,000 tokens; without those never used."""
        if len(tokens) > MOST_USES:
            raise ValueError(f"at most {MOST_USES} tokens at once")
        query = select(u.c.token_uid, u.c.use_count, u.c.last_used_at)
        rows = await self._session.rows(query.where(u.c.tenant_id == tenant, u.c.token_uid.in_(tokens)))
        return {row.token_uid: TokenUse(row.use_count, row.last_used_at) for row in rows}

    async def _store(self, token: ApiToken, came_from: int, otherwise: KmsError) -> ApiToken:
        row: dict[str, Value] = {
            "tenant_id": token.tenant,
            "id": token.uid,
            "principal": str(token.principal),
            "key_prefix": token.prefix,
            "key_hash": token.digest,
            "display_name": token.display_name,
            "scopes": _json(sorted(token.scopes)),
            "allowed_networks": _json(map(str, token.networks)),
            "allowed_origins": _json(token.origins),
            "limit_per_minute": token.limits.per_minute,
            "limit_per_hour": token.limits.per_hour,
            "limit_per_day": token.limits.per_day,
            "limit_rate": token.limits.rate,
            "limit_burst": token.limits.burst,
            "status": token.state.value,
            "created_at": token.created_at,
            "created_by": token.created_by,
            "expires_at": token.expires_at,
            "revoked_at": token.revoked_at,
            "revoked_by": token.revoked_by,
            "revoked_reason": token.revoked_reason,
            "replaced_by": token.replaced_by,
            "overlap_until": token.overlap_until,
        }
        return replace(token, revision=await store(self._session, t, row, came_from, otherwise=otherwise))


class CertificatePins:
    """CertificatePinRepository on one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def list_of(self, tenant: TenantUid, principal: Principal) -> list[CertificatePin]:
        """Return all pins of one principal, ordered by fingerprint."""
        query = select(p).where(p.c.tenant_id == tenant, p.c.principal == str(principal))
        query = query.order_by(p.c.fingerprint)
        return await find(self._session, p, query, _pin, groups=[(str(principal),)])

    async def add(self, pin: CertificatePin) -> CertificatePin:
        """Store a new pin with revision 1 and return it so.

        Raises:
            AlreadyExists: the certificate is pinned.
        """
        row: dict[str, Value] = {
            "tenant_id": pin.tenant,
            "principal": str(pin.principal),
            "fingerprint": pin.fingerprint,
            "created_at": pin.created_at,
            "created_by": pin.created_by,
        }
        otherwise = AlreadyExists(f"certificate {pin.fingerprint.hex()} is pinned for {pin.principal}")
        return replace(pin, revision=await store(self._session, p, row, 0, otherwise=otherwise))

    async def remove(self, tenant: TenantUid, principal: Principal, fingerprint: bytes) -> bool:
        """Delete a pin; False where there is none."""
        require_own(self._session, tenant)
        query = select(p).where(
            p.c.tenant_id == tenant, p.c.principal == str(principal), p.c.fingerprint == fingerprint
        )
        identity: Identity = (str(principal), fingerprint)
        pin = await find_one(
            self._session,
            p,
            query,
            _pin,
            groups=[(str(principal),)],
            wanted=lambda there: [each for each in there if each == identity],
        )
        if pin is None:
            return False
        itself: dict[str, Value] = {
            "tenant_id": tenant,
            "principal": str(principal),
            "fingerprint": fingerprint,
            "revision": pin.revision,
        }
        return await remove(self._session, p, [itself]) == 1


async def add_uses(session: Session, uses: Mapping[tuple[TenantUid, TokenUid], TokenUse]) -> None:
    """Merge what a node has seen: the sum of the counts, the later of two times."""
    if len(uses) > MOST_USES:
        raise ValueError(f"at most {MOST_USES} tokens at once")
    # In one order for all nodes, so that no two wait for each other.
    ordered = sorted(uses.items(), key=lambda entry: entry[0])
    for start in range(0, len(ordered), IN_ONE_STEP):
        await _add_uses(session, ordered[start : start + IN_ONE_STEP])


async def _add_uses(session: Session, uses: Sequence[tuple[tuple[TenantUid, TokenUid], TokenUse]]) -> None:
    first = insertion(session, u).values(
        [
            {"tenant_id": tenant, "token_uid": token, "use_count": use.count, "last_used_at": use.last_used_at}
            for (tenant, token), use in uses
        ]
    )
    await session.change(
        first.on_conflict_do_update(
            index_elements=[u.c.tenant_id, u.c.token_uid],
            set_={
                "use_count": u.c.use_count + first.excluded.use_count,
                "last_used_at": later(u, "last_used_at", first.excluded.last_used_at),
            },
        )
    )


def _json(values: Any) -> str:
    return json.dumps(list(values), separators=(",", ":"))
