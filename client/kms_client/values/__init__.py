"""What the daemon answers, as immutable values."""

from .crypto import (
    BatchResult,
    DataKey,
    Decrypted,
    DecryptedDataKey,
    Encrypted,
    EncryptedBatch,
    ReEncrypted,
    ReEncryptedBatch,
)
from .events import SecurityEvent, SecurityEventSum, Severity
from .keys import Kek, KekState, Key, KeyState, KeyVersion
from .nodes import HealthStatus, Node, Nodes
from .operations import Operation, OperationState
from .places import Place, PlaceKind, Places, VersionCensus
from .policies import EffectivePolicy, Policy
from .propagation import NodeStop, Propagation, StoppedKey, StoppedKeyVersion, StopState
from .receipts import DestructionReceipt, SigningKey
from .tenants import Tenant

__all__ = [
    "BatchResult",
    "DataKey",
    "Decrypted",
    "DecryptedDataKey",
    "DestructionReceipt",
    "EffectivePolicy",
    "Encrypted",
    "EncryptedBatch",
    "HealthStatus",
    "Kek",
    "KekState",
    "Key",
    "KeyState",
    "KeyVersion",
    "Node",
    "NodeStop",
    "Nodes",
    "Operation",
    "OperationState",
    "Place",
    "PlaceKind",
    "Places",
    "Policy",
    "Propagation",
    "ReEncrypted",
    "ReEncryptedBatch",
    "SecurityEvent",
    "SecurityEventSum",
    "Severity",
    "SigningKey",
    "StopState",
    "StoppedKey",
    "StoppedKeyVersion",
    "Tenant",
    "VersionCensus",
]
