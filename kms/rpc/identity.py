"""Who calls: the URI SAN of the client certificate, or the principal that the Unix socket stands for."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address
from typing import Any
from urllib.parse import unquote

from kms.core.callers import Address, Caller, Credential, CredentialKind
from kms.core.errors import Denied, Unauthenticated
from kms.core.names import Principal
from kms.rpc.methods import Callers, Method


class Identities:
    """Reads the identity of a call from its connection, which gRPC has authenticated."""

    def __init__(self, trust_domain: str, unix_principal: Principal | None) -> None:
        self._trust_domain = trust_domain
        self._unix_principal = unix_principal
        self._parsed = lru_cache(maxsize=1024)(self._parse)

    async def of(self, context: Any) -> Caller:
        """Return the caller of a call.

        Raises:
            Unauthenticated: the certificate has no URI SAN that names a principal of this trust domain.
        """
        if context.peer().startswith("unix:"):
            if self._unix_principal is None:
                raise Unauthenticated("this socket stands for no principal")
            return Caller(self._unix_principal, Credential(CredentialKind.SOCKET))
        # gRPC sets peer_spiffe_id only where the certificate has exactly one URI SAN, and that a SPIFFE ID.
        ids = context.auth_context().get("peer_spiffe_id", ())
        if len(ids) != 1:
            raise Unauthenticated("the client certificate must have exactly one URI SAN, a SPIFFE ID")
        return Caller(self._parsed(ids[0]), Credential(CredentialKind.CERTIFICATE), self.address_of(context))

    def address_of(self, context: Any) -> Address | None:
        """Return where a call comes from; None for a Unix socket."""
        return _address(context.peer())

    def _parse(self, uri: bytes) -> Principal:
        return Principal.from_spiffe_id(uri.decode("utf-8", "replace"), self._trust_domain)


@lru_cache(maxsize=4096)
def _address(peer: str) -> Address | None:
    # `ipv4:192.0.2.1:50000` or `ipv6:%5B2001:db8::1%5D:50000`, in gRPC's naming of peers.
    kind, _, rest = unquote(peer).partition(":")
    if kind not in {"ipv4", "ipv6"}:
        return None
    try:
        return ip_address(rest.rpartition(":")[0].strip("[]"))
    except ValueError:
        return None


def check_caller(method: Method, caller: Principal) -> None:
    """Refuse a kind of caller that the method is not for.

    Raises:
        Denied: the method is for operators only, or for a tenant's principals only.
    """
    wanted = Callers.OPERATOR if caller.tenant is None else Callers.TENANT
    if method.callers not in (wanted, Callers.ANYONE):
        raise Denied(f"{method.name} is for {method.callers.value}; {caller} is none of them")
