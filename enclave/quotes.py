"""QUOTE: what a platform says of an enclave to others, signed; SGX's structure, and never taken for SGX's."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from .attestation_errors import MalformedQuote, MalformedReport, UnknownVendor
from .report import BODY_LENGTH, REPORT_DATA_LENGTH, ReportBody, parse_body

VERSION: Final = 3
ECDSA_P256: Final = 2  # type of the attestation key
SIMULATED: Final = "SIMULATED"
VENDOR: Final = b"SIMULATED kmsd\0\0"  # where Intel's quoting enclave has 939a7233-f79c-4ca9-940a-0db3957f0607
# Intel's types are 1 to 7, and 5 is a chain in PEM, whose text can be altered without harm to its signatures.
CERTIFICATION_DER: Final = 0x8005

PLATFORM_ID_LENGTH: Final = 16
SIGNATURE_LENGTH: Final = 64  # r || s, big endian
KEY_LENGTH: Final = 64  # x || y, big endian
AUTH_DATA_LENGTH: Final = 32
CHAIN_LENGTH: Final = 3  # quoting, platform, root
MAX_CERTIFICATE: Final = 2048  # bytes of DER; those of this backend have some 500
# header and body, length, signature, key, report and its signature, auth data, type, size, chain
MAX_QUOTE: Final = 432 + 4 + 64 + 64 + 384 + 64 + (2 + 32) + 2 + 4 + CHAIN_LENGTH * (2 + MAX_CERTIFICATE)

# version @0, key type @2, 4 zeros @4, QE SVN @8, PCE SVN @10 (0), vendor id @12, platform id @28, 4 zeros @44; body @48,
# length of the rest @432, quote signature @436, attestation key @500, QE report @564, its signature @948, length of the
# auth data @1012, auth data @1014, certification type @1046, size @1048, chain @1052; little endian.
# Source: intel/SGXDataCenterAttestationPrimitives sgx_quote_3.h.
_HEADER: Final = struct.Struct("<H H I H H 16s 16s I")
_SIGNED: Final = _HEADER.size + BODY_LENGTH
_FIXED: Final = struct.Struct(
    f"<I {SIGNATURE_LENGTH}s {KEY_LENGTH}s {BODY_LENGTH}s {SIGNATURE_LENGTH}s H {AUTH_DATA_LENGTH}s H I"
)
_SIZE: Final = struct.Struct("<H")
_LENGTHS: Final = MappingProxyType(
    {
        "platform_id": PLATFORM_ID_LENGTH,
        "signature": SIGNATURE_LENGTH,
        "attestation_key": KEY_LENGTH,
        "qe_signature": SIGNATURE_LENGTH,
        "auth_data": AUTH_DATA_LENGTH,
    }
)
_REPORT_DATA_LABEL: Final = b"kms/v1/enclave-report-data\0"


@dataclass(frozen=True, slots=True)
class Quote:
    """A quote's fields, of which nothing is verified yet.

    qe_svn is the security version of the quoting enclave, platform_id (16 bytes) names the platform, and body is what it
    says of the enclave: those are signed by the attestation key. qe_body is the quoting enclave's own report, signed by
    the certified key; chain has the certificates in DER: quoting, platform, root.

    Raises:
        MalformedQuote: a field has another length.
    """

    qe_svn: int
    platform_id: bytes
    body: ReportBody
    signature: bytes
    attestation_key: bytes
    qe_body: ReportBody
    qe_signature: bytes
    auth_data: bytes
    chain: tuple[bytes, bytes, bytes]

    def __post_init__(self) -> None:
        for name, length in _LENGTHS.items():
            if len(getattr(self, name)) != length:
                raise MalformedQuote(f"{name}: must be {length} bytes")
        if any(not 0 < len(one) <= MAX_CERTIFICATE for one in self.chain):
            raise MalformedQuote(f"chain: a certificate must be 1 to {MAX_CERTIFICATE} bytes")

    @property
    def signed(self) -> bytes:
        """Return the 432 bytes under the signature: header and body."""
        return signed_part(self.qe_svn, self.platform_id, self.body)

    def encode(self) -> bytes:
        """Return the quote's bytes."""
        chain = b"".join(_SIZE.pack(len(one)) + one for one in self.chain)
        fixed = _FIXED.pack(
            _FIXED.size - 4 + len(chain),
            self.signature,
            self.attestation_key,
            self.qe_body.encode(),
            self.qe_signature,
            AUTH_DATA_LENGTH,
            self.auth_data,
            CERTIFICATION_DER,
            len(chain),
        )
        return self.signed + fixed + chain


def signed_part(qe_svn: int, platform_id: bytes, body: ReportBody) -> bytes:
    """Return the 432 bytes that an attestation key signs."""
    return _HEADER.pack(VERSION, ECDSA_P256, 0, qe_svn, 0, VENDOR, platform_id, 0) + body.encode()


def parse_quote(quote: bytes) -> Quote:
    """Undo encode(): whatever this accepts is encoded to the same bytes again.

    Raises:
        MalformedQuote: lengths, versions, types or zeros are not as they must be, or bytes trail.
        UnknownVendor: the quoting enclave is of nobody known.
    """
    if not _SIGNED + _FIXED.size <= len(quote) <= MAX_QUOTE:
        raise MalformedQuote(f"quote: must be {_SIGNED + _FIXED.size} to {MAX_QUOTE} bytes")
    version, key_type, reserved_1, qe_svn, pce_svn, vendor, platform_id, reserved_2 = _HEADER.unpack_from(quote)
    if version != VERSION:
        raise MalformedQuote(f"version: must be {VERSION}")
    if key_type != ECDSA_P256:
        raise MalformedQuote(f"attestation key type: must be {ECDSA_P256}")
    if vendor != VENDOR:
        raise UnknownVendor("vendor id: must be of the backend SIMULATED")
    if reserved_1 or pce_svn or reserved_2:
        raise MalformedQuote("header: reserved bytes and PCE SVN must be zero")
    size, signature, key, qe_body, qe_signature, auth_length, auth_data, certification, chain_size = _FIXED.unpack_from(
        quote, _SIGNED
    )
    if size != len(quote) - _SIGNED - 4:
        raise MalformedQuote("signature data length: must be that of the rest")
    if auth_length != AUTH_DATA_LENGTH:
        raise MalformedQuote(f"auth data length: must be {AUTH_DATA_LENGTH}")
    if certification != CERTIFICATION_DER:
        raise MalformedQuote(f"certification type: must be {CERTIFICATION_DER:#x}")
    chain = quote[_SIGNED + _FIXED.size :]
    if chain_size != len(chain):
        raise MalformedQuote("certification data size: must be that of the rest")
    return Quote(
        qe_svn=qe_svn,
        platform_id=platform_id,
        body=_body(quote[_HEADER.size : _SIGNED], "body"),
        signature=signature,
        attestation_key=key,
        qe_body=_body(qe_body, "QE report"),
        qe_signature=qe_signature,
        auth_data=auth_data,
        chain=_chain(chain),
    )


def _body(encoded: bytes, name: str) -> ReportBody:
    try:
        return parse_body(encoded)
    except MalformedReport as error:
        raise MalformedQuote(f"{name}: {error}") from None


def _chain(data: bytes) -> tuple[bytes, bytes, bytes]:
    certificates = []
    for _ in range(CHAIN_LENGTH):
        if len(data) < _SIZE.size:
            raise MalformedQuote(f"chain: must be {CHAIN_LENGTH} certificates")
        (length,) = _SIZE.unpack_from(data)
        if not 0 < length <= min(MAX_CERTIFICATE, len(data) - _SIZE.size):
            raise MalformedQuote("chain: the length of a certificate must be its own")
        certificates.append(data[_SIZE.size : _SIZE.size + length])
        data = data[_SIZE.size + length :]
    if data:
        raise MalformedQuote("chain: bytes trail")
    leaf, platform, root = certificates
    return leaf, platform, root


def key_binding(attestation_key: bytes, auth_data: bytes) -> bytes:
    """Return the report data (64 bytes) by which a quoting enclave names its attestation key.

    Source: intel/SGX-TDX-DCAP-QuoteVerificationLibrary, EnclaveReportVerifier; the upper half is zero.
    """
    return hashlib.sha256(attestation_key + auth_data).digest() + bytes(32)


def challenge_binding(nonce: bytes, channel_key: bytes = b"", claims: bytes = b"") -> bytes:
    """Return the report data (64 bytes) by which an enclave answers a challenge: a hash, then 32 zeros.

    channel_key is the public key to which whoever asks will speak, claims is what the enclave says besides; each with its
    length (4 bytes, big endian) before it, so that no two answers have the same input.
    """
    parts = b"".join(len(part).to_bytes(4, "big") + part for part in (nonce, channel_key, claims))
    return hashlib.sha256(_REPORT_DATA_LABEL + parts).digest() + bytes(REPORT_DATA_LENGTH - 32)
