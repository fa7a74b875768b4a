"""Verifying what the token's signing key has signed: ECDSA on P-256 with SHA-256 (FIPS 186-5, section 6.4)."""

from __future__ import annotations

from collections.abc import Callable

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key


def verifier(public_key: bytes) -> Callable[[bytes, bytes], bool]:
    """Return what says whether a message has a signature (DER) of this key (DER SubjectPublicKeyInfo).

    Raises:
        ValueError: it is no public key on P-256.
    """
    key = load_der_public_key(public_key)
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("the signing key is not on the curve P-256")  # noqa: TRY004  the bytes say so, not the type

    def verify(message: bytes, signature: bytes) -> bool:
        try:
            key.verify(signature, message, ec.ECDSA(SHA256()))
        except InvalidSignature:
            return False
        return True

    return verify
