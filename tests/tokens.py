"""API tokens for tests, made at run time."""

from __future__ import annotations

import os
from datetime import timedelta
from ipaddress import ip_network
from uuid import uuid4

from hypothesis import strategies as st

from kms.core.callers import Scope, TokenLimits
from kms.core.keyring import Tenant
from kms.core.names import Principal
from kms.core.tokens import RANDOM_BYTES, ApiToken, TokenState, TokenUid, make_token
from tests.keyrings import NOW, slugs, texts, times

_numbers = st.none() | st.integers(1, 2**63 - 1)
_prefixes = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=12, max_size=12)
_networks = st.sampled_from(["192.0.2.0/24", "192.0.2.1", "0.0.0.0/0", "2001:db8::/32", "::1"]).map(ip_network)
_origins = st.sampled_from(["https://a.example", "http://localhost:8080"])


def new_token(tenant: Tenant, prefix: str | None = None) -> ApiToken:
    _, kept = make_token(os.urandom(RANDOM_BYTES))
    return ApiToken(
        uid=TokenUid(uuid4()),
        tenant=tenant.uid,
        principal=Principal(tenant.slug, "app"),
        prefix=prefix or kept.prefix,
        digest=kept.digest,
        display_name="",
        scopes=frozenset({Scope.READ}),
        created_at=NOW,
        created_by="operators/root",
        expires_at=NOW + timedelta(days=90),
    )


def api_tokens(tenant: Tenant) -> st.SearchStrategy[ApiToken]:
    """All that a stored token may hold."""
    return st.builds(
        ApiToken,
        uid=st.builds(lambda: TokenUid(uuid4())),
        tenant=st.just(tenant.uid),
        principal=st.builds(Principal, st.just(tenant.slug), slugs),
        prefix=st.builds(lambda: uuid4().hex[:12]),  # unique in a database that examples share
        digest=st.binary(min_size=32, max_size=32),
        display_name=texts,
        scopes=st.frozensets(st.sampled_from(Scope)),
        created_at=times,
        created_by=texts,
        expires_at=times,
        networks=st.lists(_networks, unique=True).map(tuple),
        origins=st.lists(_origins, unique=True).map(tuple),
        limits=st.builds(TokenLimits, _numbers, _numbers, _numbers, _numbers, _numbers),
        state=st.sampled_from(TokenState),
        revoked_at=st.none() | times,
        revoked_by=texts,
        revoked_reason=texts,
        replaced_by=st.just("") | _prefixes,
        overlap_until=st.none() | times,
    )
