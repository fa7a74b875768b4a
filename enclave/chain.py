"""The judgement on a quote's certificates and revocation lists."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import SignatureAlgorithmOID

from .attestation_errors import (
    BadRevocationList,
    BrokenChain,
    CertificateNotCurrent,
    CertificateRevoked,
    RevocationListExpired,
    UntrustedRoot,
    WrongPlatform,
)
from .issuing import extensions, platform_name, quoting_name, root_name
from .signatures import has_low_s

MAX_LIST: Final = 1 << 20  # bytes of a revocation list, some 20,000 entries
# What the parsers of `cryptography` 50 raise. A serial number that is not positive is a warning there still; it is not signed.
_UNREADABLE: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    CryptographyDeprecationWarning,
)


@dataclass(frozen=True, slots=True)
class Collateral:
    """What a verifier fetches besides a quote: the revocation lists (DER) of the root and of the platform."""

    root_list: bytes
    platform_list: bytes


@dataclass(frozen=True, slots=True)
class _Place:
    """What a certificate must be in its place of the chain."""

    name: str
    subject: x509.Name
    extensions: tuple[x509.BasicConstraints, x509.KeyUsage]


def verify_chain(
    chain: tuple[bytes, bytes, bytes],
    platform_id: bytes,
    root: bytes,
    collateral: Collateral,
    least_numbers: tuple[int, int],
    now: datetime,
) -> tuple[ec.EllipticCurvePublicKey, datetime]:
    """Return the certified key at the end of a chain (quoting, platform, root; DER), and when the first of all this expires.

    least_numbers are the lowest that the lists of root and platform may have.

    Source: RFC 5280, section 6; intel/SGX-TDX-DCAP-QuoteVerificationLibrary, PckCertVerifier and PckCrlVerifier.

    Raises:
        UntrustedRoot: the chain does not end in *root*.
        BrokenChain: a certificate is none, has other names, extensions or keys than its place asks for, or another signer.
        WrongPlatform: the certificates are of another platform.
        CertificateNotCurrent: a certificate is not valid at *now*.
        BadRevocationList: a list is none, is of another issuer, or is older than the least.
        RevocationListExpired: a list is not valid at *now*.
        CertificateRevoked: a list names a certificate of the chain.
    """
    leaf_der, platform_der, root_der = chain
    if root_der != root:  # whole bytes: a root that only names itself alike, or is self-signed alike, is another
        raise UntrustedRoot("root: must be the pinned certificate")
    places = (
        _Place("root", root_name(), extensions(ca=True, path_length=1)),
        _Place("platform", platform_name(platform_id), extensions(ca=True, path_length=0)),
        _Place("quoting", quoting_name(platform_id), extensions(ca=False, path_length=None)),
    )
    issuer = trusted = _load(root_der, "root")
    certificates = []
    for der, place in zip((root_der, platform_der, leaf_der), places, strict=True):
        certificate = _load(der, place.name)
        _verify_certificate(certificate, issuer, place)
        if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
            raise CertificateNotCurrent(f"{place.name}: is not valid at this time")
        certificates.append(certificate)
        issuer = certificate
    _, platform, leaf = certificates
    ends = [certificate.not_valid_after_utc for certificate in certificates]
    for subject, authority, data, name, least in (
        (platform, trusted, collateral.root_list, "root's list", least_numbers[0]),
        (leaf, platform, collateral.platform_list, "platform's list", least_numbers[1]),
    ):
        listed, end = _verify_list(data, authority, name, least, now)
        if listed.get_revoked_certificate_by_serial_number(subject.serial_number) is not None:
            raise CertificateRevoked(f"{name}: names a certificate of the chain")
        ends.append(end)
    return _public_key(leaf, "quoting"), min(ends)


def _load(der: bytes, name: str) -> x509.Certificate:
    """Read a certificate; what is not under its signature has one encoding too."""
    try:
        certificate = x509.load_der_x509_certificate(der)
    except _UNREADABLE:
        raise BrokenChain(f"{name}: is no certificate") from None
    # The parser takes DER alone. But a signature that ends in zero bits may call them unused, and verifies all the same.
    if not der.endswith(b"\0" + certificate.signature):
        raise BrokenChain(f"{name}: must have no unused bits in its signature")
    return certificate


def _verify_certificate(certificate: x509.Certificate, issuer: x509.Certificate, place: _Place) -> None:
    """Judge the signature first: what is not signed is not read further."""
    try:
        if certificate.signature_algorithm_oid != SignatureAlgorithmOID.ECDSA_WITH_SHA256:
            raise BrokenChain(f"{place.name}: must be signed by ECDSA with SHA-256")
        certificate.verify_directly_issued_by(issuer)
        if not has_low_s(certificate.signature):  # the other s verifies too: one certificate would have two encodings
            raise BrokenChain(f"{place.name}: the lower s must be in its signature")
        if certificate.subject != place.subject:
            _wrong_subject(certificate, place)
        if [(one.critical, one.value) for one in certificate.extensions] != [(True, one) for one in place.extensions]:
            raise BrokenChain(f"{place.name}: must have the extensions of its place, and no others")
    except InvalidSignature:
        raise BrokenChain(f"{place.name}: is not signed by its issuer") from None
    except _UNREADABLE:
        raise BrokenChain(f"{place.name}: is not issued by its issuer, or cannot be read") from None
    _public_key(certificate, place.name)


def _wrong_subject(certificate: x509.Certificate, place: _Place) -> None:
    serial = x509.oid.NameOID.SERIAL_NUMBER
    if _without(certificate.subject, serial) == _without(place.subject, serial):
        raise WrongPlatform(f"{place.name}: must be of the platform that the quote names")
    raise BrokenChain(f"{place.name}: must have the name of its place")


def _without(name: x509.Name, oid: x509.ObjectIdentifier) -> list[x509.NameAttribute[str | bytes]]:
    return [attribute for attribute in name if attribute.oid != oid]


def _public_key(certificate: x509.Certificate, name: str) -> ec.EllipticCurvePublicKey:
    try:
        key = certificate.public_key()
    except _UNREADABLE:
        raise BrokenChain(f"{name}: has no key that can be read") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise BrokenChain(f"{name}: must have a key on P-256")
    return key


def _verify_list(
    data: bytes, issuer: x509.Certificate, name: str, least: int, now: datetime
) -> tuple[x509.CertificateRevocationList, datetime]:
    if len(data) > MAX_LIST:
        raise BadRevocationList(f"{name}: must be at most {MAX_LIST} bytes")
    try:
        found = x509.load_der_x509_crl(data)
        if found.issuer != issuer.subject:
            raise BadRevocationList(f"{name}: must be issued by the authority of its place")
        if found.signature_algorithm_oid != SignatureAlgorithmOID.ECDSA_WITH_SHA256:
            raise BadRevocationList(f"{name}: must be signed by ECDSA with SHA-256")
        if not found.is_signature_valid(_public_key(issuer, name)):
            raise BadRevocationList(f"{name}: is not signed by its issuer")
        # Another extension would be of a list that is not whole: a delta, or one for some certificates only.
        (extension,) = found.extensions
        number = extension.value
    except _UNREADABLE:
        raise BadRevocationList(f"{name}: must be a revocation list with its number as its one extension") from None
    if not isinstance(number, x509.CRLNumber):
        raise BadRevocationList(f"{name}: must have its number as its one extension")
    if number.crl_number < least:
        raise BadRevocationList(f"{name}: must have number {least} or a later one")
    end = found.next_update_utc
    if end is None:
        raise BadRevocationList(f"{name}: must say when the next one comes")
    if not found.last_update_utc <= now < end:
        raise RevocationListExpired(f"{name}: is not valid at this time")
    return found, end
