"""Who calls: the URI SAN of the client certificate, or the principal that the Unix socket stands for."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from kms.core.errors import Denied, Unauthenticated
from kms.core.names import Principal
from kms.rpc.methods import Callers, Method


class Identities:
    """Reads the identity of a call from its connection, which gRPC has authenticated."""

    def __init__(self, trust_domain: str, unix_principal: Principal | None) -> None:
        self._trust_domain = trust_domain
        self._unix_principal = unix_principal
        self._parsed = lru_cache(maxsize=1024)(self._parse)

    def of(self, context: Any) -> Principal:
        """Return the caller of a call.

        Raises:
            Unauthenticated: the certificate has no URI SAN that names a principal of this trust domain.
        """
        if context.peer().startswith("unix:"):
            if self._unix_principal is None:
                raise Unauthenticated("this socket stands for no principal")
            return self._unix_principal
        # gRPC sets peer_spiffe_id only where the certificate has exactly one URI SAN, and that a SPIFFE ID.
        ids = context.auth_context().get("peer_spiffe_id", ())
        if len(ids) != 1:
            raise Unauthenticated("the client certificate must have exactly one URI SAN, a SPIFFE ID")
        return self._parsed(ids[0])

    def _parse(self, uri: bytes) -> Principal:
        return Principal.from_spiffe_id(uri.decode("utf-8", "replace"), self._trust_domain)


def check_caller(method: Method, caller: Principal) -> None:
    """Refuse a kind of caller that the method is not for.

    Raises:
        Denied: the method is for operators only, or for a tenant's principals only.
    """
    wanted = Callers.OPERATOR if caller.tenant is None else Callers.TENANT
    if method.callers not in (wanted, Callers.ANYONE):
        raise Denied(f"{method.name} is for {method.callers.value}; {caller} is none of them")
