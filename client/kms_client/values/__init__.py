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
from .keys import Kek, KekState, Key, KeyState, KeyVersion
from .nodes import HealthStatus, Node, Nodes
from .operations import Operation, OperationState
from .places import Place, PlaceKind, Places, VersionCensus
from .policies import EffectivePolicy, Policy
from .propagation import NodeStop, Propagation, StoppedKey, StoppedKeyVersion, StopState
from .receipts import DestructionReceipt, SigningKey
from .tenants import Tenant
from .tokens import Caller, NewToken, PinnedCertificate, Token, TokenLimits, TokenScope, TokenState

__all__ = [
    "BatchResult",
    "Caller",
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
    "NewToken",
    "Node",
    "NodeStop",
    "Nodes",
    "Operation",
    "OperationState",
    "PinnedCertificate",
    "Place",
    "PlaceKind",
    "Places",
    "Policy",
    "Propagation",
    "ReEncrypted",
    "ReEncryptedBatch",
    "SigningKey",
    "StopState",
    "StoppedKey",
    "StoppedKeyVersion",
    "Tenant",
    "Token",
    "TokenLimits",
    "TokenScope",
    "TokenState",
    "VersionCensus",
]
