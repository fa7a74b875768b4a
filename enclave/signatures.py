"""ECDSA on P-256 in the one form that quotes have: raw numbers, and the lower of both s."""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

# Half the order of P-256: of s and n - s, which both verify, only the lower one is taken, so that a signature has one form.
# Source: NIST SP 800-186, section 3.2.1.3 (n); RFC 6979, section A.2.5 has the same value.
_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_LOW_S: Final = _ORDER // 2


def has_low_s(signature: bytes) -> bool:
    """Return whether a signature (DER) on P-256 is in the one form that is taken."""
    return decode_dss_signature(signature)[1] <= _LOW_S


def sign_raw(key: ec.EllipticCurvePrivateKey, message: bytes) -> bytes:
    """Return ECDSA with SHA-256 as r || s, 64 bytes, with the lower of both s.

    Source: FIPS 186-5, section 6.4; IEEE P1363.
    """
    r, s = decode_dss_signature(key.sign(message, ec.ECDSA(SHA256())))
    return r.to_bytes(32, "big") + low_s(s).to_bytes(32, "big")


def low_s(s: int) -> int:
    """Return the lower of s and n - s, which both verify."""
    return min(s, _ORDER - s)


def verify_raw(key: ec.EllipticCurvePublicKey, signature: bytes, message: bytes) -> bool:
    """Return whether sign_raw() of this key made a signature (64 bytes): the one with the higher s counts as none."""
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    if len(signature) != 64 or s > _LOW_S:
        return False
    try:
        key.verify(encode_dss_signature(r, s), message, ec.ECDSA(SHA256()))
    except InvalidSignature:
        return False
    return True


def raw_key(key: ec.EllipticCurvePublicKey) -> bytes:
    """Return a public key on P-256 as x || y, 64 bytes."""
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]


def key_of_raw(raw: bytes) -> ec.EllipticCurvePublicKey:
    """Undo raw_key().

    Raises:
        ValueError: it is no point on the curve.
    """
    return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + raw)
