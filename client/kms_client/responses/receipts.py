"""From messages to values: receipts of destruction."""

from __future__ import annotations

from ..v1 import keys_pb2
from ..values import DestructionReceipt, SigningKey
from .reading import time


def receipt(message: keys_pb2.DestructionReceipt) -> DestructionReceipt:
    """Read a DestructionReceipt; nothing is verified."""
    return DestructionReceipt(message.subject, message.body, message.signature, time(message.create_time))


def signing_key(message: keys_pb2.SigningKey) -> SigningKey:
    """Read a SigningKey."""
    return SigningKey(message.public_key_pem)
