"""Who gets in: mutual TLS, and what a certificate must say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from kms_client import Client, Tls
from kms_client.formats import errors

from kms.v1 import tenants_pb2, tenants_pb2_grpc
from tests.daemon import Service

DAY = timedelta(days=1)


class Authority:
    """The installation's CA, or one of the same name and another key."""

    def __init__(self, directory: Path, *, genuine: bool) -> None:
        self.certificate = x509.load_pem_x509_certificate((directory / "certificates" / "ca.pem").read_bytes())
        self.key: ec.EllipticCurvePrivateKey = ec.generate_private_key(ec.SECP256R1())
        if genuine:
            keys = [
                serialization.load_pem_private_key(p.read_bytes(), None) for p in (directory / "secrets").glob("*.pem")
            ]
            wanted = self.certificate.public_key().public_numbers()  # type: ignore[union-attr]
            [self.key] = [k for k in keys if k.public_key().public_numbers() == wanted]  # type: ignore[union-attr, misc, assignment]

    def issue(self, out: Path, *uris: str, begin: timedelta = -DAY, end: timedelta = DAY) -> tuple[Path, Path]:
        out.mkdir(parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "client")]))
            .issuer_name(self.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + begin)
            .not_valid_after(now + end)
        )
        if uris:
            names = [x509.UniformResourceIdentifier(uri) for uri in uris]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = builder.sign(self.key, hashes.SHA256())
        paths = out / "cert.pem", out / "key.pem"
        paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        paths[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return paths


def client(service: Service, certificate: Path, key: Path) -> Client:
    directory = service.installation.directory
    tls = Tls(ca=directory / "certificates" / "ca.pem", certificate=certificate, private_key=key)
    return Client(f"127.0.0.1:{service.installation.port}", tls, deadline=5)


def trust_domain(service: Service) -> str:
    text = service.installation.config.read_text()
    return text.split('trust_domain = "')[1].split('"')[0]


def test_a_certificate_of_the_ca_with_a_spiffe_id_gets_in(service: Service, tmp_path: Path) -> None:
    authority = Authority(service.installation.directory, genuine=True)
    pair = authority.issue(tmp_path, f"spiffe://{trust_domain(service)}/tenants/acme/principals/other")
    with client(service, *pair) as other:
        assert other.get_tenant("tenants/acme").name == "tenants/acme"
        with pytest.raises(errors.NotFound):
            other.get_tenant("tenants/globex")


def test_no_certificate_gets_no_answer(service: Service) -> None:
    ca = (service.installation.directory / "certificates" / "ca.pem").read_bytes()
    with (
        grpc.secure_channel(f"127.0.0.1:{service.installation.port}", grpc.ssl_channel_credentials(ca)) as anonymous,
        pytest.raises(grpc.RpcError) as caught,
    ):
        tenants_pb2_grpc.TenantServiceStub(anonymous).ListTenants(tenants_pb2.ListTenantsRequest(), timeout=5)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("genuine", "begin", "end"),
    [(False, -DAY, DAY), (True, -2 * DAY, -DAY), (True, DAY, 2 * DAY)],
    ids=["another CA of the same name", "expired", "not yet valid"],
)
def test_a_certificate_that_does_not_verify_gets_no_answer(
    service: Service, tmp_path: Path, genuine: bool, begin: timedelta, end: timedelta
) -> None:
    authority = Authority(service.installation.directory, genuine=genuine)
    uri = f"spiffe://{trust_domain(service)}/operators/eve"
    with (
        client(service, *authority.issue(tmp_path, uri, begin=begin, end=end)) as eve,
        pytest.raises(errors.Unavailable),
    ):
        list(eve.list_tenants())


@pytest.mark.parametrize(
    "uris",
    [
        (),
        ("spiffe://elsewhere.example/operators/eve",),
        ("spiffe://{domain}/",),
        ("spiffe://{domain}/operators",),
        ("spiffe://{domain}/operators/Eve",),
        ("spiffe://{domain}/tenants/acme/principals/a/b",),
        ("https://{domain}/operators/eve",),
        ("spiffe://{domain}/operators/eve", "spiffe://{domain}/tenants/acme/principals/app"),
    ],
    ids=str,
)
def test_a_certificate_that_names_no_principal_is_unauthenticated(
    service: Service, tmp_path: Path, uris: tuple[str, ...]
) -> None:
    authority = Authority(service.installation.directory, genuine=True)
    named = [uri.format(domain=trust_domain(service)) for uri in uris]
    with client(service, *authority.issue(tmp_path, *named)) as eve, pytest.raises(errors.Unauthenticated):
        list(eve.list_tenants())


def test_the_health_of_each_part_is_told(service: Service) -> None:
    for part in ("", "storage", "token", "kms.v1.CryptoService"):
        assert service.acme.health(part).name == "SERVING"
