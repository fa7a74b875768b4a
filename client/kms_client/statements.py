"""Signing a statement of integrity with the key of a profile's client certificate: docs/operations.md."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from .profile import Profile
from .tls import ConfigurationError, read_file

LABEL: Final = b"kms/v1/integrity-statement\0"


def sign_statement(text: str, profile: Profile) -> str:
    """Return a JSON object with the profile's certificate chain (PEM) and its key's signature over a statement.

    Source: FIPS 186-5, section 6.4 (ECDSA), or RFC 8017, section 8.1 (RSASSA-PSS, salt of 32 bytes); both with SHA-256.

    Raises:
        ConfigurationError: the profile has no certificate and key, or the key is of another kind.
    """
    tls = profile.tls
    if tls is None or tls.certificate is None or tls.private_key is None:
        raise ConfigurationError(f"profile {profile.path}: has no client certificate to sign with")
    try:
        chain = x509.load_pem_x509_certificates(read_file(Path(tls.certificate), "certificate"))
        key = load_pem_private_key(read_file(Path(tls.private_key), "private key"), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigurationError(f"profile {profile.path}: its certificate or key cannot be read") from error
    message = LABEL + text.encode()
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
        signature, algorithm = key.sign(message, ec.ECDSA(SHA256())), "ECDSA-P256-SHA256"
    elif isinstance(key, rsa.RSAPrivateKey):
        pss = padding.PSS(padding.MGF1(SHA256()), SHA256.digest_size)
        signature, algorithm = key.sign(message, pss, SHA256()), "RSA-PSS-SHA256"
    else:
        raise ConfigurationError("the client key is neither of the curve P-256 nor RSA")
    pem = "".join(each.public_bytes(Encoding.PEM).decode() for each in chain)
    return json.dumps(
        {"algorithm": algorithm, "certificates": pem, "signature": base64.b64encode(signature).decode()}, indent=2
    )
