"""What the daemon answers, as immutable values."""

from .access import (
    AccessExplanation,
    AccessPrincipal,
    AccessRule,
    Conditions,
    Effect,
    Founder,
    Grant,
    GrantLook,
    PrincipalKind,
    Role,
)
from .approvals import Approval, ApprovalState, ApprovalVote, QuorumRule
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
from .policies import AuditContext, Classification, ClassRules, EffectivePolicy, Policy
from .propagation import NodeStop, Propagation, StoppedKey, StoppedKeyVersion, StopState
from .receipts import DestructionReceipt, SigningKey
from .reports import NewReport, Report, ReportContent, ReportForm, ReportRecipient, ReportStep
from .tenants import Tenant
from .tokens import Caller, NewToken, PinnedCertificate, Token, TokenLimits, TokenScope, TokenState

__all__ = [
    "AccessExplanation",
    "AccessPrincipal",
    "AccessRule",
    "Approval",
    "ApprovalState",
    "ApprovalVote",
    "AuditContext",
    "BatchResult",
    "Caller",
    "ClassRules",
    "Classification",
    "Conditions",
    "DataKey",
    "Decrypted",
    "DecryptedDataKey",
    "DestructionReceipt",
    "Effect",
    "EffectivePolicy",
    "Encrypted",
    "EncryptedBatch",
    "Founder",
    "Grant",
    "GrantLook",
    "HealthStatus",
    "Kek",
    "KekState",
    "Key",
    "KeyState",
    "KeyVersion",
    "NewReport",
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
    "PrincipalKind",
    "Propagation",
    "QuorumRule",
    "ReEncrypted",
    "ReEncryptedBatch",
    "Report",
    "ReportContent",
    "ReportForm",
    "ReportRecipient",
    "ReportStep",
    "Role",
    "SecurityEvent",
    "SecurityEventSum",
    "Severity",
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
