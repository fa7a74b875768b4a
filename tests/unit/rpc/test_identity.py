"""Who calls: by certificate, by API token, or by the socket; and by a revoked or unknown certificate nobody."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kms.core.callers import ALL_SCOPES, Caller, Credential, CredentialKind, Scope, TokenLimits
from kms.core.errors import Denied, Unauthenticated
from kms.core.names import Principal
from kms.core.tokens import RANDOM_BYTES, make_token
from kms.rpc.certificates import ClientCertificate
from kms.rpc.identity import Identities, check_scope
from kms.rpc.methods import METHODS
from tests.keyrings import NOW, new_tenant
from tests.tokens import new_token

LOCAL = Principal(None, "local")
APP_ID = b"spiffe://kms.example/tenants/acme/principals/app"
APP = Principal("acme", "app")
TEXT, KEPT = make_token(bytes(range(RANDOM_BYTES)))
KEY = ec.generate_private_key(ec.SECP256R1())
DAY = timedelta(days=1)


def certificate(*names: str, uris: tuple[str, ...] = ()) -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in names])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(KEY.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + DAY)
    )
    if uris:
        san = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri) for uri in uris])
        builder = builder.add_extension(san, critical=False)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


NAMED = certificate("app", uris=(APP_ID.decode(),))
NAMELESS = certificate("batch job")


@dataclass
class Connection:
    """What gRPC tells of a connection and of a call on it."""

    address: str = "ipv4:192.0.2.7:1"
    auth: dict[str, list[bytes]] = field(default_factory=dict)
    metadata: tuple[tuple[str, str | bytes], ...] = ()

    def peer(self) -> str:
        return self.address

    def auth_context(self) -> dict[str, list[bytes]]:
        return self.auth

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        return self.metadata


def by_certificate(pem: bytes = NAMED, ids: tuple[bytes, ...] = (APP_ID,), **options) -> Connection:
    auth = {"x509_pem_cert": [pem], "transport_security_type": [b"ssl"]}
    return Connection(auth=auth | ({"peer_spiffe_id": list(ids)} if ids else {}), **options)


def bearer(*texts: str) -> tuple[tuple[str, str], ...]:
    return tuple(("authorization", f"Bearer {text}") for text in texts)


class OneToken:
    """Knows one token."""

    def __init__(self, principal: Principal = APP) -> None:
        token = new_token(new_tenant("acme"))
        self.token = token.__class__(
            **{name: getattr(token, name) for name in token.__slots__}
            | {
                "principal": principal,
                "prefix": KEPT.prefix,
                "scopes": frozenset({Scope.USE}),
                "limits": TokenLimits(per_minute=3),
            }
        )
        self.seen: list[object] = []

    async def authenticate(self, shown, address, origin):
        self.seen.append((shown, address, origin))
        if shown != KEPT:
            raise Unauthenticated("the API token is not valid")
        return self.token


class Bound:
    """One principal is bound to one certificate."""

    def __init__(self, principal: Principal, fingerprint: bytes) -> None:
        self.principal, self.fingerprint = principal, fingerprint

    async def check(self, principal, fingerprint):
        if principal == self.principal and fingerprint != self.fingerprint:
            raise Unauthenticated("pinned")


class Revoked:
    """One certificate is revoked."""

    def __init__(self, pem: bytes) -> None:
        self.serial = ClientCertificate.read(pem).serial

    def check(self, certificate):
        if certificate.serial == self.serial:
            raise Unauthenticated("revoked")


@pytest.fixture
def identities() -> Identities:
    return Identities("kms.example", LOCAL, OneToken())


async def principal(identities: Identities, connection: Connection) -> Principal:
    return (await identities.of(connection)).principal


async def test_a_certificate_names_its_principal(identities):
    caller = await identities.of(by_certificate())
    fingerprint = x509.load_pem_x509_certificate(NAMED).fingerprint(hashes.SHA256()).hex()
    assert caller == Caller(APP, Credential(CredentialKind.CERTIFICATE, fingerprint), ip_address("192.0.2.7"))
    assert caller.credential.scopes == ALL_SCOPES
    operator = b"spiffe://kms.example/operators/root"
    assert await principal(identities, by_certificate(ids=(operator,))) == Principal(None, "root")


@pytest.mark.parametrize(
    "ids",
    [
        (),
        (APP_ID, APP_ID),
        (b"spiffe://other.example/tenants/acme/principals/app",),
        (b"spiffe://kms.example.evil/tenants/acme/principals/app",),
        (b"spiffe://kms.example",),
        (b"spiffe://kms.example/",),
        (b"spiffe://kms.example/tenants/acme",),
        (b"spiffe://kms.example/tenants/acme/keys/app",),
        (b"spiffe://kms.example/tenants/acme/principals/app/x",),
        (b"spiffe://kms.example/tenants/acme/principals/app\n",),
        (b"spiffe://kms.example//tenants/acme/principals/app",),
        (b"SPIFFE://kms.example/tenants/acme/principals/app",),
        (b"spiffe://kms.example/tenants/\xff/principals/app",),
        (b"x" * 100_000,),
    ],
)
async def test_what_names_no_principal_of_the_trust_domain_is_nobody(identities, ids):
    for _ in range(2):  # also where it has been seen before
        with pytest.raises(Unauthenticated):
            await identities.of(by_certificate(ids=ids))


async def test_without_a_certificate_and_a_token_there_is_nobody(identities):
    for auth in ({}, {"peer_spiffe_id": [APP_ID]}, {"x509_pem_cert": [b"no certificate"], "peer_spiffe_id": [APP_ID]}):
        with pytest.raises(Unauthenticated):
            await identities.of(Connection(auth=auth))


@pytest.mark.parametrize("address", ["unix:", "unix:/run/kmsd.sock"])
async def test_the_unix_socket_stands_for_its_principal_whatever_the_peer_claims(identities, address):
    caller = await identities.of(Connection(address, by_certificate().auth))
    assert caller == Caller(LOCAL, Credential(CredentialKind.SOCKET))


async def test_a_unix_socket_that_stands_for_nobody_lets_nobody_in_but_by_token():
    identities = Identities("kms.example", None, OneToken())
    with pytest.raises(Unauthenticated):
        await identities.of(Connection("unix:", by_certificate().auth))
    assert await principal(identities, Connection("unix:", metadata=bearer(TEXT))) == APP


@pytest.mark.parametrize(
    "connection",
    [Connection(), Connection("unix:"), by_certificate(), by_certificate(NAMELESS, ())],
    ids=["token listener", "socket", "its own certificate", "a certificate of nobody"],
)
async def test_a_tokens_principal_is_the_callers_on_every_listener(identities, connection):
    connection.metadata = bearer(TEXT)
    caller = await identities.of(connection)
    assert caller.principal == APP
    assert caller.credential == Credential(
        CredentialKind.TOKEN, KEPT.prefix, frozenset({Scope.USE}), TokenLimits(per_minute=3)
    )


async def test_a_certificate_that_names_somebody_else_refuses_a_token():
    for other in (Principal("acme", "other"), Principal("globex", "app")):
        identities = Identities("kms.example", LOCAL, OneToken(other), common_names={"batch job": APP})
        for connection in (by_certificate(), by_certificate(NAMELESS, ())):
            connection.metadata = bearer(TEXT)
            with pytest.raises(Unauthenticated, match="names"):
                await identities.of(connection)
    # So does one whose URI is none of ours.
    foreign = by_certificate(certificate("x", uris=("https://x.example",)), (), metadata=bearer(TEXT))
    with pytest.raises(Unauthenticated):
        await Identities("kms.example", LOCAL, OneToken()).of(foreign)


@pytest.mark.parametrize(
    "metadata",
    [
        bearer(TEXT, TEXT),
        (*bearer(TEXT), ("authorization", "")),
        (("authorization", ""),),
        (("authorization", TEXT),),
        (("authorization", f"Basic {TEXT}"),),
        bearer(make_token(bytes(RANDOM_BYTES))[0]),
    ],
)
async def test_who_shows_anything_but_one_token_is_nobody_whatever_else_it_has(identities, metadata):
    for connection in (Connection(), Connection("unix:"), by_certificate()):
        connection.metadata = metadata
        with pytest.raises(Unauthenticated, match=r"^the API token is not valid$"):
            await identities.of(connection)


async def test_without_a_store_of_tokens_none_is_accepted():
    with pytest.raises(Unauthenticated, match="not valid"):
        await Identities("kms.example", LOCAL).of(Connection(metadata=bearer(TEXT)))


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:192.0.2.7:1", "192.0.2.7"),
        ("ipv6:%5B2001:db8::1%5D:50000", "2001:db8::1"),
        ("ipv6:[::ffff:192.0.2.7]:443", "192.0.2.7"),
        ("ipv6:%5B::1%5D:443", "::1"),
    ],
)
async def test_a_token_is_judged_by_the_address_and_the_only_origin(peer, address):
    tokens = OneToken()
    identities = Identities("kms.example", LOCAL, tokens)
    origins = (("origin", "https://a.example"),)
    for metadata, origin in ((origins, "https://a.example"), (origins * 2, ""), ((), "")):
        caller = await identities.of(Connection(peer, metadata=(*bearer(TEXT), *metadata)))
        assert (str(caller.address), caller.origin) == (address, origin)
        assert tokens.seen.pop() == (KEPT, ip_address(address), origin)


async def test_a_common_name_stands_for_a_principal_where_there_is_no_uri_and_it_is_exactly_that():
    identities = Identities("kms.example", LOCAL, common_names={"batch job": APP, "app": Principal(None, "root")})
    assert await principal(identities, by_certificate(NAMELESS, ())) == APP
    assert await principal(identities, by_certificate()) == APP  # by its URI, not as root
    for pem in (
        certificate("Batch job"),
        certificate("batch job "),
        certificate("batch job", "batch job"),
        certificate("other", "batch job"),
        certificate(),
        certificate("batch job", uris=("https://x.example",)),
        certificate("batch job", uris=(APP_ID.decode(), APP_ID.decode())),
    ):
        with pytest.raises(Unauthenticated):
            await identities.of(by_certificate(pem, ()))


async def test_a_bound_principal_is_accepted_with_its_certificate_only_also_with_a_token():
    fingerprint = ClientCertificate.read(NAMED).fingerprint
    identities = Identities("kms.example", APP, OneToken(), Bound(APP, fingerprint))
    assert await principal(identities, by_certificate()) == APP
    assert await principal(identities, by_certificate(metadata=bearer(TEXT))) == APP
    assert await principal(identities, Connection("unix:")) == APP
    for connection in (
        by_certificate(certificate("again", uris=(APP_ID.decode(),))),
        by_certificate(NAMELESS, (), metadata=bearer(TEXT)),
        Connection(metadata=bearer(TEXT)),
        Connection("unix:", metadata=bearer(TEXT)),
    ):
        with pytest.raises(Unauthenticated, match="pinned"):
            await identities.of(connection)


async def test_a_revoked_certificate_is_refused_with_or_without_a_token():
    identities = Identities("kms.example", LOCAL, OneToken(), revocations=Revoked(NAMED))
    for metadata in ((), bearer(TEXT)):
        with pytest.raises(Unauthenticated, match="revoked"):
            await identities.of(by_certificate(metadata=metadata))
    again = by_certificate(certificate("app", uris=(APP_ID.decode(),)))
    assert await principal(identities, again) == APP


def test_a_credential_is_for_the_methods_of_its_scopes_alone():
    allowed = dict.fromkeys(Scope, 0)
    for method in METHODS:
        for scope in Scope:
            credential = Credential(CredentialKind.TOKEN, "x", frozenset({scope}))
            if method.scope is scope:
                check_scope(method, credential)
                allowed[scope] += 1
            else:
                with pytest.raises(Denied, match="needs a credential of scope"):
                    check_scope(method, credential)
        check_scope(method, Credential(CredentialKind.CERTIFICATE))
    assert min(allowed.values()) > 5
