"""Who calls: an API token's principal, a client certificate's, or the one that the Unix socket stands for.

A certificate names its principal by its URI SAN; where it has none, the configuration may map its subject's common name.
A token's principal is the caller's wherever the token is shown, unless a certificate names another one.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from types import MappingProxyType
from typing import Any, Final, Protocol
from urllib.parse import unquote

from kms.core.callers import Address, Caller, Credential, CredentialKind
from kms.core.errors import Denied, Unauthenticated
from kms.core.names import Principal
from kms.core.tokens import ApiToken, PresentedToken, read_bearer, token_refused
from kms.rpc.certificates import ClientCertificate
from kms.rpc.methods import Callers, Method

AUTHORIZATION: Final = "authorization"  # metadata: `Bearer kms_...`
ORIGIN: Final = "origin"  # metadata: the web origin that a browser's proxy passes on (RFC 6454, section 7)


class TokenReader(Protocol):
    """Knows the API tokens."""

    async def authenticate(self, shown: PresentedToken, address: Address | None, origin: str) -> ApiToken:
        """Return the token that was shown, and count its use.

        Raises:
            Unauthenticated, Denied: it is none that may be used now, or here.
        """
        ...


class PinReader(Protocol):
    """Knows which certificates principals are bound to."""

    async def check(self, principal: Principal, fingerprint: bytes | None) -> None:
        """Let a principal pass with a certificate, or (None) without one.

        Raises:
            Unauthenticated: the principal is bound to other certificates.
        """
        ...


class RevocationReader(Protocol):
    """Knows which certificates are revoked."""

    def check(self, certificate: ClientCertificate) -> None:
        """Refuse a certificate that is revoked, or of which that is not known.

        Raises:
            Unauthenticated: it is revoked.
            RevocationUnknown: that is not known.
        """
        ...


class Identities:
    """Reads the identity of a call from its connection, which gRPC has authenticated, and from its metadata."""

    def __init__(
        self,
        trust_domain: str,
        unix_principal: Principal | None,
        tokens: TokenReader | None = None,
        pins: PinReader | None = None,
        revocations: RevocationReader | None = None,
        common_names: Mapping[str, Principal] = MappingProxyType({}),
    ) -> None:
        """Without *tokens* none is accepted; *common_names* are for certificates without a URI SAN."""
        self._trust_domain = trust_domain
        self._unix_principal = unix_principal
        self._tokens = tokens
        self._pins = pins
        self._revocations = revocations
        self._common_names = common_names
        self._parsed = lru_cache(maxsize=1024)(self._parse)
        self._read = lru_cache(maxsize=1024)(ClientCertificate.read)

    async def of(self, context: Any) -> Caller:
        """Return the caller of a call.

        Raises:
            Unauthenticated: the certificate names no principal of this trust domain, is revoked or is not the pinned one;
                the token is none that can be used; both name different principals; or there is neither.
            Denied: the token may not be used from this address or origin.
            RevocationUnknown: whether the certificate is revoked is not known.
        """
        shown = _values(context, AUTHORIZATION)
        if context.peer().startswith("unix:"):
            if shown:
                return await self._of_token(context, shown, None)
            if self._unix_principal is None:
                raise Unauthenticated("this socket stands for no principal")
            return Caller(self._unix_principal, Credential(CredentialKind.SOCKET))
        auth = context.auth_context()
        # gRPC asks for a certificate, and verifies it, on the listener for mutual TLS alone.
        pem = auth.get("x509_pem_cert", ())
        certificate = self._read(pem[0]) if pem else None
        if certificate is not None and self._revocations is not None:
            self._revocations.check(certificate)
        # gRPC sets peer_spiffe_id only where the certificate has exactly one URI SAN, and that a SPIFFE ID.
        ids = auth.get("peer_spiffe_id", ()) if certificate is not None else ()
        if shown:
            caller = await self._of_token(context, shown, certificate)
            if certificate is not None and (ids or certificate.has_uri or self._mapped(certificate)):
                named = self._named(certificate, ids)
                if named != caller.principal:
                    raise Unauthenticated("the API token is not of the principal that the client certificate names")
            return caller
        if certificate is None:
            raise Unauthenticated("there is neither a client certificate nor an API token")
        principal = self._named(certificate, ids)
        if self._pins is not None:
            await self._pins.check(principal, certificate.fingerprint)
        credential = Credential(CredentialKind.CERTIFICATE, certificate.fingerprint.hex())
        return Caller(principal, credential, self.address_of(context), _origin(context))

    def address_of(self, context: Any) -> Address | None:
        """Return where a call comes from; None for a Unix socket."""
        return _address(context.peer())

    async def _of_token(self, context: Any, values: list[str], certificate: ClientCertificate | None) -> Caller:
        shown = read_bearer(values)
        if self._tokens is None:
            raise token_refused()
        address, origin = self.address_of(context), _origin(context)
        token = await self._tokens.authenticate(shown, address, origin)
        if self._pins is not None:
            await self._pins.check(token.principal, None if certificate is None else certificate.fingerprint)
        credential = Credential(CredentialKind.TOKEN, token.prefix, token.scopes, token.limits)
        return Caller(token.principal, credential, address, origin)

    def _named(self, certificate: ClientCertificate, ids: Any) -> Principal:
        if len(ids) == 1:
            return self._parsed(ids[0])
        if certificate.has_uri or ids:
            raise Unauthenticated("the client certificate must have exactly one URI SAN, a SPIFFE ID")
        mapped = self._mapped(certificate)
        if mapped is None:
            raise Unauthenticated(
                "the client certificate has no URI SAN, a SPIFFE ID, and its common name stands for no principal"
            )
        return mapped

    def _mapped(self, certificate: ClientCertificate) -> Principal | None:
        if len(certificate.common_names) != 1:
            return None
        return self._common_names.get(certificate.common_names[0])

    def _parse(self, uri: bytes) -> Principal:
        return Principal.from_spiffe_id(uri.decode("utf-8", "replace"), self._trust_domain)


def _values(context: Any, name: str) -> list[str]:
    return [value for key, value in context.invocation_metadata() or () if key == name and isinstance(value, str)]


def _origin(context: Any) -> str:
    values = _values(context, ORIGIN)
    return values[0] if len(values) == 1 else ""


@lru_cache(maxsize=4096)
def _address(peer: str) -> Address | None:
    # `ipv4:192.0.2.1:50000` or `ipv6:%5B2001:db8::1%5D:50000`, in gRPC's naming of peers.
    kind, _, rest = unquote(peer).partition(":")
    if kind not in {"ipv4", "ipv6"}:
        return None
    try:
        address = ip_address(rest.rpartition(":")[0].strip("[]"))
    except ValueError:
        return None
    # An IPv4 peer of a listener for both looks like ::ffff:192.0.2.1 (RFC 4291, section 2.5.5.2).
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address


def check_caller(method: Method, caller: Principal) -> None:
    """Refuse a kind of caller that the method is not for.

    Raises:
        Denied: the method is for operators only, or for a tenant's principals only.
    """
    wanted = Callers.OPERATOR if caller.tenant is None else Callers.TENANT
    if method.callers not in (wanted, Callers.ANYONE):
        raise Denied(f"{method.name} is for {method.callers.value}; {caller} is none of them")


def check_scope(method: Method, credential: Credential) -> None:
    """Refuse what a credential is not for, whatever its principal may do.

    Raises:
        Denied: the method needs a scope that the credential lacks.
    """
    if method.scope not in credential.scopes:
        raise Denied(f"{method.name} needs a credential of scope {method.scope}")
