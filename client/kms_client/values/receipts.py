"""Receipts of destruction."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class DestructionReceipt:
    """What was destroyed, when and on what grounds, signed inside the token; only verify_receipt() makes it a proof."""

    subject: str  # the resource name of what was destroyed
    body: str  # a JSON object; this is what is signed
    signature: bytes  # ECDSA P-256 with SHA-256, DER
    create_time: datetime


@dataclass(frozen=True, slots=True)
class SigningKey:
    """The public key that verifies receipts: SubjectPublicKeyInfo in PEM (RFC 7468), P-256."""

    public_key_pem: str
