"""Verifying what the daemon has signed, receipts of destruction and compliance reports, offline: docs/wire-format.md."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from .tls import ConfigurationError
from .values import DestructionReceipt

LABEL: Final = b"kms/v1/destruction-receipt\0"
REPORT_LABEL: Final = b"kms/v1/report\0"


class NotGenuine(Exception):
    """A receipt or a report does not prove what it says."""


def _public_key(pem: str | bytes) -> ec.EllipticCurvePublicKey:
    try:
        key = load_pem_public_key(pem.encode() if isinstance(pem, str) else pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigurationError("the public key is no SubjectPublicKeyInfo in PEM form") from error
    if not (isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)):
        raise ConfigurationError("the public key is not of the curve P-256")
    return key


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a name is repeated")
    return fields


def verify_receipt(receipt: DestructionReceipt, public_key_pem: str | bytes) -> Mapping[str, Any]:
    """Check the signature of a receipt and return the fields of its body, which alone are proven.

    The public key is that of get_signing_key(), better from a copy that was taken before the destruction.

    Source: FIPS 186-5, section 6.4 (ECDSA), with P-256 and SHA-256 over a label and the body in UTF-8.

    Raises:
        NotGenuine: the signature is not of this key over this body, or the body is about something else.
        ConfigurationError: the public key cannot be used.
    """
    key = _public_key(public_key_pem)
    try:
        key.verify(receipt.signature, LABEL + receipt.body.encode(), ec.ECDSA(SHA256()))
    except (InvalidSignature, UnicodeEncodeError) as error:
        raise NotGenuine("the signature is not of this key over this body") from error
    try:
        fields = json.loads(receipt.body, object_pairs_hook=_once)
    except ValueError as error:
        raise NotGenuine("the body is no JSON object") from error
    if not isinstance(fields, dict):
        raise NotGenuine("the body is no JSON object")
    if fields.get("subject") != receipt.subject:
        raise NotGenuine("the body is about another subject")
    return fields


def verify_report(content: bytes, signature: bytes, public_key_pem: str | bytes) -> Mapping[str, Any]:
    """Check the signature of a report's JSON, byte for byte as it was downloaded, and return the report.

    Source: FIPS 186-5, section 6.4 (ECDSA), with P-256 and SHA-256 over a label and the SHA-256 of the JSON.

    Raises:
        NotGenuine: the signature is not of this key over this report, or the report names another key.
        ConfigurationError: the public key cannot be used.
    """
    key = _public_key(public_key_pem)
    try:
        key.verify(signature, REPORT_LABEL + hashlib.sha256(content).digest(), ec.ECDSA(SHA256()))
    except InvalidSignature as error:
        raise NotGenuine("the signature is not of this key over this report") from error
    try:
        report = json.loads(content, object_pairs_hook=_once)
    except ValueError as error:
        raise NotGenuine("the report is no JSON object") from error
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if not isinstance(report, dict) or report.get("signing_key_sha256") != hashlib.sha256(spki).hexdigest():
        raise NotGenuine("the report names another signing key")
    return report
