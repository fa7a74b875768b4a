"""A certificate authority for development and small installations: one key in a file, ECDSA P-256.

Where there is a real one, use it; the daemon asks only for what `server` and `client` put into a certificate.
Source: RFC 5280, section 4.2; SPIFFE X.509-SVID, sections 2 and 4.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kms.core.names import Principal

CA_LIFETIME: Final = timedelta(days=3650)
LIFETIME: Final = timedelta(days=365)

# Clocks of one installation differ; a certificate is to be good as soon as it is made.
_CLOCK_SKEW: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True, repr=False)
class Issued:
    """A certificate and its private key, both PEM."""

    certificate: bytes
    private_key: bytes


class CertificateAuthority:
    """Signs certificates with a key that it holds in memory."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        if certificate.public_key() != key.public_key():
            raise ValueError("the private key is not the CA certificate's")
        self._certificate = certificate
        self._key = key

    @classmethod
    def create(cls, trust_domain: str, now: datetime) -> tuple[CertificateAuthority, Issued]:
        """Make a new authority for *trust_domain*; it signs leaf certificates only."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{trust_domain[:40]} development CA")])
        builder = _builder(name, name, key.public_key(), now, CA_LIFETIME)
        certificate = (
            builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .sign(key, SHA256())
        )
        return cls(certificate, key), Issued(certificate.public_bytes(Encoding.PEM), _pem(key))

    @classmethod
    def load(cls, certificate: bytes, private_key: bytes) -> CertificateAuthority:
        """Read both from PEM.

        Raises:
            ValueError: one cannot be read, they do not belong together, or the key is not of an elliptic curve.
        """
        key = load_pem_private_key(private_key, password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError("the CA's private key is not of an elliptic curve")  # noqa: TRY004
        return cls(x509.load_pem_x509_certificate(certificate), key)

    def server(self, names: Iterable[str], now: datetime, lifetime: timedelta = LIFETIME) -> Issued:
        """Issue a server certificate for host names and IP addresses."""
        unique = list(dict.fromkeys(names))
        return self._issue(unique[0], [_host(name) for name in unique], ExtendedKeyUsageOID.SERVER_AUTH, now, lifetime)

    def client(self, principal: Principal, trust_domain: str, now: datetime, lifetime: timedelta = LIFETIME) -> Issued:
        """Issue a client certificate whose URI SAN names *principal*."""
        uri = x509.UniformResourceIdentifier(principal.spiffe_id(trust_domain))
        return self._issue(principal.name, [uri], ExtendedKeyUsageOID.CLIENT_AUTH, now, lifetime)

    def revocation_list(self, now: datetime, revoked: Mapping[int, datetime]) -> bytes:
        """Sign a list of serial numbers and of when each was revoked; PEM. Source: RFC 5280, section 5.

        It is good as long as the authority: nobody is there to sign it again and again.
        """
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._certificate.subject)
            .last_update(now - _CLOCK_SKEW)
            .next_update(self._certificate.not_valid_after_utc)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .add_extension(x509.CRLNumber(int(now.timestamp() * 1_000)), critical=False)
        )
        for serial, at in revoked.items():
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(at)
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(self._key, SHA256()).public_bytes(Encoding.PEM)

    def revoked(self, crl: bytes) -> dict[int, datetime]:
        """Read a list that this authority has signed.

        Raises:
            ValueError: it is no PEM list, or of another authority.
        """
        read = x509.load_pem_x509_crl(crl)
        if not read.is_signature_valid(self._key.public_key()):
            raise ValueError("the revocation list is not signed by this CA")
        return {entry.serial_number: entry.revocation_date_utc for entry in read}

    def has_issued(self, certificate: x509.Certificate) -> bool:
        """Whether a certificate is of this authority."""
        try:
            certificate.verify_directly_issued_by(self._certificate)
        except (ValueError, TypeError, InvalidSignature):
            return False
        return True

    def _issue(
        self,
        common_name: str,
        names: list[x509.GeneralName],
        usage: x509.ObjectIdentifier,
        now: datetime,
        lifetime: timedelta,
    ) -> Issued:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])
        # Good no longer than the authority, or clients would report a broken chain where a date is the cause.
        ends = min(now + lifetime, self._certificate.not_valid_after_utc)
        certificate = (
            _builder(subject, self._certificate.subject, key.public_key(), now, ends - now)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
            .sign(self._key, SHA256())
        )
        return Issued(certificate.public_bytes(Encoding.PEM), _pem(key))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, lifetime: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _host(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
