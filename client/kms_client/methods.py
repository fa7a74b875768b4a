"""Every RPC as one row, and the retry policy that follows from it; a test compares the rows with the .proto files."""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import Any, Final

from google.protobuf.empty_pb2 import Empty
from google.protobuf.struct_pb2 import Struct
from google.protobuf.wrappers_pb2 import Int32Value, StringValue

from .v1 import (
    access_pb2_grpc,
    approvals_pb2_grpc,
    audit_pb2_grpc,
    blobs_pb2_grpc,
    census_pb2_grpc,
    crypto_pb2_grpc,
    enclaves_pb2_grpc,
    events_pb2_grpc,
    keys_pb2_grpc,
    nodes_pb2_grpc,
    operations_pb2_grpc,
    policies_pb2_grpc,
    reports_pb2_grpc,
    retention_pb2_grpc,
    tenants_pb2_grpc,
    tokens_pb2_grpc,
)

TENANTS: Final = "kms.v1.TenantService"
KEYS: Final = "kms.v1.KeyService"
CRYPTO: Final = "kms.v1.CryptoService"
POLICIES: Final = "kms.v1.PolicyService"
CENSUS: Final = "kms.v1.CensusService"
OPERATIONS: Final = "kms.v1.OperationService"
NODES: Final = "kms.v1.NodeService"
ENCLAVES: Final = "kms.v1.EnclaveService"
ACCESS: Final = "kms.v1.AccessService"
TOKENS: Final = "kms.v1.TokenService"
APPROVALS: Final = "kms.v1.ApprovalService"
EVENTS: Final = "kms.v1.SecurityEventService"
REPORTS: Final = "kms.v1.ReportService"
AUDIT: Final = "kms.v1.AuditService"
RETENTION: Final = "kms.v1.AuditRetentionService"
BLOBS: Final = "kms.v1.BlobService"
HEALTH: Final = "grpc.health.v1.Health"

# These change nothing, so that doing one twice is as good as doing it once.
SAFE: Final = MappingProxyType(
    {
        TENANTS: ("GetTenant", "ListTenants"),
        KEYS: ("GetKey", "ListKeys", "ListKeyVersions", "ListKeks", "ListDestructionReceipts", "GetSigningKey"),
        CRYPTO: (
            "Encrypt",
            "Decrypt",
            "ReEncrypt",
            "EncryptBatch",
            "DecryptBatch",
            "DecryptMaskedBatch",
            "ReEncryptBatch",
            "ComputeIndexBatch",
            "ReIndexBatch",
            "PseudonymizeBatch",
            "EncryptFormatBatch",
            "DecryptFormatBatch",
            "GenerateDataKey",
            "DecryptDataKey",
            "LeaseKeyVersion",
            "GenerateRandomBytes",
        ),
        POLICIES: ("GetPolicy", "ListPolicies", "ListPolicyVersions", "ListClasses"),
        CENSUS: ("ListPlaces",),
        OPERATIONS: ("ListOperations", "GetOperation", "WaitOperation"),
        NODES: ("ListNodes", "GetHealth"),
        ENCLAVES: (
            "GetEnclave",
            "ListEnclaves",
            "AttestEnclave",
            "GetSealCensus",
            "GetEnclaveUpgrade",
            "ListEnclaveUpgrades",
        ),
        ACCESS: ("GetPrincipal", "ListPrincipals", "ListGrants", "ListRoles", "ExplainAccess"),
        TOKENS: ("GetToken", "ListTokens", "ListPinnedCertificates", "WhoAmI"),
        APPROVALS: ("GetApproval", "ListApprovals", "ListQuorumRules"),
        RETENTION: ("ListLegalHolds", "ListAuditArchives"),
        EVENTS: ("ListSecurityEvents", "GetSecurityEvent", "SummarizeSecurityEvents"),
        REPORTS: ("GetReport", "ListReports"),
        BLOBS: ("GetBlob", "ListBlobs", "GetUpload"),
        AUDIT: (
            "ListAuditEvents",
            "GetAuditEvent",
            "ListAuditQueries",
            "QueryAudit",
            "ReportDataAccess",
            "ExportAudit",
            "VerifyAudit",
            "GetAuditStatus",
        ),
    }
)
# A lost answer leaves open whether one of these was done: only the caller can tell whether to ask again. Health is
# here because whoever asks for it wants to know the state of this moment.
NEVER_RETRIED: Final = MappingProxyType(
    {
        TENANTS: ("CreateTenant",),
        KEYS: (
            "CreateKey",
            "UpdateKey",
            "RotateKey",
            "RotateKeys",
            "ActivateKey",
            "SuspendKey",
            "ResumeKey",
            "ArchiveKey",
            "RevokeKey",
            "RevokeKeyVersion",
            "ScheduleKeyDestruction",
            "CancelKeyDestruction",
            "RetireKeyVersion",
            "CancelKeyVersionRetirement",
            "RotateKek",
        ),
        POLICIES: ("CreatePolicy", "UpdatePolicy"),
        CENSUS: ("CreatePlace", "DeletePlace", "DeclarePlaces", "ReportCensus"),
        OPERATIONS: ("CancelOperation", "ResumeOperation"),
        ENCLAVES: ("CreateEnclaveUpgrade", "FinishEnclaveUpgrade", "CancelEnclaveUpgrade"),
        ACCESS: (
            "CreatePrincipal",
            "UpdatePrincipal",
            "BlockPrincipal",
            "UnblockPrincipal",
            "CreateGrant",
            "DeleteGrant",
        ),
        TOKENS: ("CreateToken", "RotateToken", "RevokeToken", "PinCertificate", "UnpinCertificate"),
        APPROVALS: ("ApproveApproval", "RejectApproval", "WithdrawApproval", "UpdateQuorumRule"),
        RETENTION: ("CreateLegalHold", "ReleaseLegalHold", "ArchiveAudit", "RemoveArchive"),
        EVENTS: ("UpdateSecurityEvent",),
        REPORTS: (
            "GenerateReport",
            "DownloadReport",
            "SubmitReport",
            "ReviewReport",
            "ApproveReport",
            "ArchiveReport",
        ),
        # UnsealBlob counts an access, and gives out bytes before it is known how it ends.
        BLOBS: ("SealBlob", "UnsealBlob", "UpdateBlob", "ResealBlob", "MoveBlob", "DeleteBlob"),
        HEALTH: ("Check", "List"),
    }
)

# gRPC waits for the backoff with a jitter of 20 % either way and gives up at the deadline of the call.
RETRY_POLICY: Final = MappingProxyType(
    {
        "maxAttempts": 5,  # gRPC allows no more
        "initialBackoff": "0.1s",
        "maxBackoff": "2s",
        "backoffMultiplier": 2.5,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
)


def service_config() -> str:
    """Return gRPC's service config (gRFC A6) as JSON."""
    names = [{"service": service, "method": method} for service, methods in SAFE.items() for method in methods]
    return json.dumps({"methodConfig": [{"name": names, "retryPolicy": dict(RETRY_POLICY)}]})


def bind(channel: Any) -> dict[str, Any]:
    """Return the callable of every RPC on a channel of grpc or grpc.aio, by `service/method`."""
    stubs: dict[str, Any] = {
        TENANTS: tenants_pb2_grpc.TenantServiceStub(channel),  # type: ignore[no-untyped-call]
        KEYS: keys_pb2_grpc.KeyServiceStub(channel),  # type: ignore[no-untyped-call]
        CRYPTO: crypto_pb2_grpc.CryptoServiceStub(channel),  # type: ignore[no-untyped-call]
        POLICIES: policies_pb2_grpc.PolicyServiceStub(channel),  # type: ignore[no-untyped-call]
        CENSUS: census_pb2_grpc.CensusServiceStub(channel),  # type: ignore[no-untyped-call]
        OPERATIONS: operations_pb2_grpc.OperationServiceStub(channel),  # type: ignore[no-untyped-call]
        ACCESS: access_pb2_grpc.AccessServiceStub(channel),  # type: ignore[no-untyped-call]
        BLOBS: blobs_pb2_grpc.BlobServiceStub(channel),  # type: ignore[no-untyped-call]
        NODES: nodes_pb2_grpc.NodeServiceStub(channel),  # type: ignore[no-untyped-call]
        ENCLAVES: enclaves_pb2_grpc.EnclaveServiceStub(channel),  # type: ignore[no-untyped-call]
        TOKENS: tokens_pb2_grpc.TokenServiceStub(channel),  # type: ignore[no-untyped-call]
        APPROVALS: approvals_pb2_grpc.ApprovalServiceStub(channel),  # type: ignore[no-untyped-call]
        AUDIT: audit_pb2_grpc.AuditServiceStub(channel),  # type: ignore[no-untyped-call]
        RETENTION: retention_pb2_grpc.AuditRetentionServiceStub(channel),  # type: ignore[no-untyped-call]
        EVENTS: events_pb2_grpc.SecurityEventServiceStub(channel),  # type: ignore[no-untyped-call]
        REPORTS: reports_pb2_grpc.ReportServiceStub(channel),  # type: ignore[no-untyped-call]
    }
    rows = ((s, m) for table in (SAFE, NEVER_RETRIED) for s, methods in table.items() if s in stubs for m in methods)
    bound = {f"{service}/{method}": getattr(stubs[service], method) for service, method in rows}
    # The messages of grpc.health.v1 are spared a dependency: these well-known types have the same bytes, a text and a
    # number in field 1.
    bound[f"{HEALTH}/Check"] = channel.unary_unary(
        f"/{HEALTH}/Check",
        request_serializer=StringValue.SerializeToString,
        response_deserializer=Int32Value.FromString,
    )
    # A map from texts to such messages.
    bound[f"{HEALTH}/List"] = channel.unary_unary(
        f"/{HEALTH}/List", request_serializer=Empty.SerializeToString, response_deserializer=Struct.FromString
    )
    return bound
