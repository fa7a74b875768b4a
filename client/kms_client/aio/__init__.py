"""The asynchronous client: the same methods on grpc.aio."""

from __future__ import annotations

from .access import AccessCalls
from .approvals import ApprovalCalls
from .audit import AuditCalls
from .blobs import BlobCalls
from .crypto import CryptoCalls
from .enclaves import EnclaveCalls
from .events import EventCalls
from .keys import KeyCalls
from .lifecycle import LifecycleCalls
from .nodes import NodeCalls
from .operations import OperationCalls
from .places import PlaceCalls
from .policies import PolicyCalls
from .reports import ReportCalls
from .retention import RetentionCalls
from .tenants import TenantCalls
from .tokens import TokenCalls


class AsyncClient(
    TenantCalls,
    KeyCalls,
    LifecycleCalls,
    PolicyCalls,
    PlaceCalls,
    OperationCalls,
    NodeCalls,
    EnclaveCalls,
    AccessCalls,
    TokenCalls,
    ApprovalCalls,
    EventCalls,
    ReportCalls,
    RetentionCalls,
    AuditCalls,
    BlobCalls,
    CryptoCalls,
):
    """A connection to the daemon, for use on one event loop; keep one for the life of the process.

    Every method takes *deadline*: seconds for this call with its retries, instead of the client's. Calls that change
    nothing are retried while the daemon cannot be reached; the others never are. Make the client after any fork.

    Raises (all methods):
        KmsError: what the daemon, or gRPC on the way to it, answers; see kms_client.formats.errors for the tree.
        ValueError: *deadline* is not positive.
        RuntimeError: the client is closed.
    """
