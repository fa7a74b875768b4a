"""The certificates behind simulated quotes: root, platform, quoting; made at run time, and never SGX's."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from .quotes import SIMULATED
from .signatures import has_low_s

ORGANIZATION: Final = f"{SIMULATED} kmsd"
_TRIES: Final = 128  # each has a low s with probability 1/2


def root_name() -> x509.Name:
    """Return the subject of a simulated root."""
    return _name("root CA")


def platform_name(platform_id: bytes) -> x509.Name:
    """Return the subject of the certificate of a platform (16 bytes)."""
    return _name("platform CA", platform_id)


def quoting_name(platform_id: bytes) -> x509.Name:
    """Return the subject of the certificate of the quoting key of a platform (16 bytes)."""
    return _name("quoting", platform_id)


def _name(role: str, platform_id: bytes | None = None) -> x509.Name:
    attributes = [
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANIZATION),
        x509.NameAttribute(NameOID.COMMON_NAME, f"{ORGANIZATION} {role}"),
    ]
    if platform_id is not None:
        attributes.append(x509.NameAttribute(NameOID.SERIAL_NUMBER, platform_id.hex()))
    return x509.Name(attributes)


def extensions(*, ca: bool, path_length: int | None) -> tuple[x509.BasicConstraints, x509.KeyUsage]:
    """Return the extensions, both critical, that a certificate of the chain has; it has no others."""
    usage = x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    return x509.BasicConstraints(ca=ca, path_length=path_length), usage


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate of a simulated root or platform."""

    certificate: x509.Certificate

    @property
    def der(self) -> bytes:
        """Return the certificate's bytes."""
        return self.certificate.public_bytes(Encoding.DER)


@dataclass(frozen=True, slots=True)
class Issuer(Authority):
    """A certificate with its key: a simulated root or platform."""

    key: ec.EllipticCurvePrivateKey = field(repr=False)

    def revocation_list(self, number: int, revoked: Iterable[int], start: datetime, end: datetime) -> bytes:
        """Return the list (DER) of the serial numbers that this issuer takes back, numbered, valid from start to end."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(start)
            .next_update(end)
            .add_extension(x509.CRLNumber(number), critical=False)
        )
        for serial in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(start).build()
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(self.key, SHA256()).public_bytes(Encoding.DER)


def new_root(start: datetime, end: datetime) -> Issuer:
    """Return a new root, to be pinned by those who verify."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = root_name()
    return Issuer(_certificate(name, key.public_key(), name, key, start, end, ca=True, path_length=1), key)


def new_platform(root: Issuer, platform_id: bytes, start: datetime, end: datetime) -> Issuer:
    """Return the certificate and key of a platform (16 bytes)."""
    key = ec.generate_private_key(ec.SECP256R1())
    issuer, name = root.certificate.subject, platform_name(platform_id)
    return Issuer(_certificate(name, key.public_key(), issuer, root.key, start, end, ca=True, path_length=0), key)


def certify_quoting(
    platform: Issuer,
    platform_id: bytes,
    public_key: ec.EllipticCurvePublicKey,
    start: datetime,
    end: datetime,
) -> x509.Certificate:
    """Return the platform's certificate of a quoting enclave's key."""
    issuer = platform.certificate.subject
    name = quoting_name(platform_id)
    return _certificate(name, public_key, issuer, platform.key, start, end, ca=False, path_length=None)


def _certificate(
    subject: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    start: datetime,
    end: datetime,
    *,
    ca: bool,
    path_length: int | None,
) -> x509.Certificate:
    constraints, usage = extensions(ca=ca, path_length=path_length)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(constraints, critical=True)
        .add_extension(usage, critical=True)
    )
    return _with_low_s(lambda: builder.sign(key, SHA256()))


def _with_low_s(sign: Callable[[], x509.Certificate]) -> x509.Certificate:
    """Sign until s is low: the builder gives no say in it."""
    for _ in range(_TRIES):
        certificate = sign()
        if has_low_s(certificate.signature):
            return certificate
    raise RuntimeError("no signature had a low s")  # never: 2 ** -128
