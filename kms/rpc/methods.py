"""Every RPC is one row: who may call it, about which resource, whether it needs a quorum, and what kind of event it is.

A missing or surplus row stops the start.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Any, Final

from google.protobuf.descriptor import ServiceDescriptor

from kms.core.callers import Scope
from kms.core.names import (
    ApprovalName,
    AuditEventName,
    BlobName,
    EnclaveUpgradeName,
    GrantName,
    KeyName,
    KeyVersionName,
    LegalHoldName,
    OperationName,
    PlaceName,
    PolicyName,
    Principal,
    ReportName,
    SecurityEventName,
    SecurityEventsParent,
    TenantName,
    TokenName,
    parse_blob_id,
)
from kms.rpc.fields import parse_owner, parse_quorum_rule
from kms.rpc.resources import Named, NewTenant, ResourceField
from kms.v1 import (
    access_pb2,
    approvals_pb2,
    audit_pb2,
    blobs_pb2,
    census_pb2,
    crypto_pb2,
    enclaves_pb2,
    events_pb2,
    keys_pb2,
    nodes_pb2,
    operations_pb2,
    policies_pb2,
    reports_pb2,
    retention_pb2,
    tenants_pb2,
    tokens_pb2,
)


class Callers(Enum):
    """Who may call a method; which resources they then see is decided where these are looked up."""

    OPERATOR = "operators of the installation"
    TENANT = "principals of a tenant"
    ANYONE = "operators of the installation and principals of a tenant"


class AuditKind(StrEnum):
    """What kind of event a call is."""

    ADMIN = "admin"  # changes a resource
    READ = "read"  # reads metadata
    DATA = "data"  # uses a key


class Quorum(Enum):
    """Whether a call needs the approval of others; how many approve is the installation's and the tenant's choice."""

    NEVER = "never"
    ALWAYS = "always"
    FORCED = "when the request's field force is set"


_SCOPES: Final = {AuditKind.READ: Scope.READ, AuditKind.DATA: Scope.USE, AuditKind.ADMIN: Scope.MANAGE}


@dataclass(frozen=True, slots=True)
class Method:
    """One RPC; without *resources* it is about the caller's tenant, or for an operator about the installation."""

    service: ServiceDescriptor
    name: str
    permission: str
    callers: Callers
    audit: AuditKind
    resources: tuple[ResourceField, ...] = ()
    quorum: Quorum = Quorum.NEVER
    waits: bool = False  # for what others do, so that it needs no turn
    anchored: bool = False  # answered only when no restored database can undo it (FORMATS, section 8)

    @property
    def scope(self) -> Scope:
        """The scope that a credential needs for it."""
        return _SCOPES[self.audit]

    def needs_quorum(self, request: Any) -> bool:
        """Whether this request needs the approval of others, where a policy asks for any."""
        return self.quorum is Quorum.ALWAYS or (self.quorum is Quorum.FORCED and request.force)

    @property
    def uploads(self) -> bool:
        """Whether its request is a stream."""
        found: bool = self.service.methods_by_name[self.name].client_streaming
        return found

    @property
    def downloads(self) -> bool:
        """Whether its answer is a stream."""
        found: bool = self.service.methods_by_name[self.name].server_streaming
        return found

    @property
    def streams(self) -> bool:
        """Whether it is either."""
        return self.uploads or self.downloads

    @property
    def full_name(self) -> str:
        """`/package.Service/Method`, as on the wire."""
        return f"/{self.service.full_name}/{self.name}"

    @property
    def request(self) -> Any:
        """The request's descriptor."""
        return self.service.methods_by_name[self.name].input_type

    @property
    def response(self) -> Any:
        """The response's descriptor."""
        return self.service.methods_by_name[self.name].output_type


_TENANTS = tenants_pb2.DESCRIPTOR.services_by_name["TenantService"]
_KEYS = keys_pb2.DESCRIPTOR.services_by_name["KeyService"]
_CRYPTO = crypto_pb2.DESCRIPTOR.services_by_name["CryptoService"]
_POLICIES = policies_pb2.DESCRIPTOR.services_by_name["PolicyService"]
_CENSUS = census_pb2.DESCRIPTOR.services_by_name["CensusService"]
_OPERATIONS = operations_pb2.DESCRIPTOR.services_by_name["OperationService"]
_NODES = nodes_pb2.DESCRIPTOR.services_by_name["NodeService"]
_ENCLAVES = enclaves_pb2.DESCRIPTOR.services_by_name["EnclaveService"]
_ACCESS = access_pb2.DESCRIPTOR.services_by_name["AccessService"]
_TOKENS = tokens_pb2.DESCRIPTOR.services_by_name["TokenService"]
_APPROVALS = approvals_pb2.DESCRIPTOR.services_by_name["ApprovalService"]
_EVENTS = events_pb2.DESCRIPTOR.services_by_name["SecurityEventService"]
_AUDIT = audit_pb2.DESCRIPTOR.services_by_name["AuditService"]
_REPORTS = reports_pb2.DESCRIPTOR.services_by_name["ReportService"]
_RETENTION = retention_pb2.DESCRIPTOR.services_by_name["AuditRetentionService"]
_BLOBS = blobs_pb2.DESCRIPTOR.services_by_name["BlobService"]

SERVICES: Final = (
    _TENANTS,
    _KEYS,
    _CRYPTO,
    _POLICIES,
    _CENSUS,
    _OPERATIONS,
    _NODES,
    _ENCLAVES,
    _ACCESS,
    _TOKENS,
    _APPROVALS,
    _EVENTS,
    _AUDIT,
    _REPORTS,
    _RETENTION,
    _BLOBS,
)

_PARENT: Final = Named(TenantName.parse, "parent")
_KEY: Final = Named(KeyName.parse, "name")
_DESTINATION: Final = Named(KeyName.parse, "destination", optional=True)
_SOURCE: Final = Named(KeyName.parse, "source")
_VERSION: Final = Named(KeyVersionName.parse, "name", given=lambda name: str(name.key))
_PLACE: Final = Named(PlaceName.parse, "name", given=lambda name: str(name.parent))
_PRINCIPAL: Final = Named(Principal.parse, "name")
_APPROVAL: Final = Named(ApprovalName.parse, "name")
_OPERATION: Final = Named(OperationName.parse, "name")
_TOKEN: Final = Named(TokenName.parse, "name")
_HOLDER: Final = Named(Principal.parse, "principal")
_EVENT: Final = Named(SecurityEventName.parse, "name")
_EVENTS_PARENT: Final = Named(SecurityEventsParent.parse, "parent")
_REPORT: Final = Named(ReportName.parse, "name")
_BLOB: Final = Named(BlobName.parse, "name")
_UPGRADE: Final = Named(EnclaveUpgradeName.parse, "name")
_NEW_BLOB: Final = Named(TenantName.parse, "parent", "blobs", "blob_id", parse_id=parse_blob_id)

METHODS: Final = (
    Method(_TENANTS, "CreateTenant", "tenants.create", Callers.OPERATOR, AuditKind.ADMIN, (NewTenant("tenant_id"),)),
    Method(_TENANTS, "GetTenant", "tenants.get", Callers.ANYONE, AuditKind.READ, (Named(TenantName.parse, "name"),)),
    Method(_TENANTS, "ListTenants", "tenants.list", Callers.OPERATOR, AuditKind.READ),
    Method(
        _KEYS,
        "CreateKey",
        "keys.create",
        Callers.TENANT,
        AuditKind.ADMIN,
        (Named(TenantName.parse, "parent", "keys", "key_id"),),
    ),
    Method(_KEYS, "GetKey", "keys.get", Callers.TENANT, AuditKind.READ, (_KEY,)),
    Method(_KEYS, "ListKeys", "keys.list", Callers.TENANT, AuditKind.READ, (_PARENT,)),
    Method(_KEYS, "UpdateKey", "keys.update", Callers.TENANT, AuditKind.ADMIN, (Named(KeyName.parse, "key.name"),)),
    Method(_KEYS, "RotateKey", "keys.rotate", Callers.TENANT, AuditKind.ADMIN, (_KEY,)),
    Method(_KEYS, "RotateKeys", "keys.rotate", Callers.TENANT, AuditKind.ADMIN, (_PARENT,)),
    Method(_KEYS, "ActivateKey", "keys.activate", Callers.TENANT, AuditKind.ADMIN, (_KEY,)),
    Method(_KEYS, "SuspendKey", "keys.suspend", Callers.TENANT, AuditKind.ADMIN, (_KEY,), anchored=True),
    Method(_KEYS, "ResumeKey", "keys.resume", Callers.TENANT, AuditKind.ADMIN, (_KEY,), anchored=True),
    Method(_KEYS, "ArchiveKey", "keys.archive", Callers.TENANT, AuditKind.ADMIN, (_KEY,)),
    Method(_KEYS, "RevokeKey", "keys.revoke", Callers.TENANT, AuditKind.ADMIN, (_KEY,), anchored=True),
    Method(
        _KEYS, "RevokeKeyVersion", "keyVersions.revoke", Callers.TENANT, AuditKind.ADMIN, (_VERSION,), anchored=True
    ),
    Method(
        _KEYS,
        "ScheduleKeyDestruction",
        "keys.destroy",
        Callers.TENANT,
        AuditKind.ADMIN,
        (_KEY,),
        Quorum.ALWAYS,
        anchored=True,
    ),
    Method(_KEYS, "CancelKeyDestruction", "keys.restore", Callers.TENANT, AuditKind.ADMIN, (_KEY,), anchored=True),
    Method(
        _KEYS,
        "RetireKeyVersion",
        "keyVersions.retire",
        Callers.TENANT,
        AuditKind.ADMIN,
        (_VERSION,),
        Quorum.FORCED,
        anchored=True,
    ),
    Method(
        _KEYS,
        "CancelKeyVersionRetirement",
        "keyVersions.restore",
        Callers.TENANT,
        AuditKind.ADMIN,
        (_VERSION,),
        anchored=True,
    ),
    Method(
        _KEYS,
        "ListDestructionReceipts",
        "receipts.list",
        Callers.TENANT,
        AuditKind.READ,
        (Named(parse_owner, "parent"),),
    ),
    Method(_KEYS, "GetSigningKey", "receipts.verify", Callers.ANYONE, AuditKind.READ),
    Method(
        _KEYS, "ListKeyVersions", "keyVersions.list", Callers.TENANT, AuditKind.READ, (Named(KeyName.parse, "parent"),)
    ),
    Method(_KEYS, "ListKeks", "keks.list", Callers.ANYONE, AuditKind.READ, (_PARENT,)),
    Method(_KEYS, "RotateKek", "keks.rotate", Callers.ANYONE, AuditKind.ADMIN, (_PARENT,)),
    Method(_CRYPTO, "Encrypt", "keys.encrypt", Callers.TENANT, AuditKind.DATA, (_KEY,)),
    Method(_CRYPTO, "Decrypt", "keys.decrypt", Callers.TENANT, AuditKind.DATA, (_KEY,)),
    Method(
        _CRYPTO,
        "ReEncrypt",
        "keys.reEncrypt",
        Callers.TENANT,
        AuditKind.DATA,
        (_KEY, _DESTINATION),
    ),
    Method(_CRYPTO, "EncryptBatch", "keys.encrypt", Callers.TENANT, AuditKind.DATA, (_KEY,)),
    Method(_CRYPTO, "DecryptBatch", "keys.decrypt", Callers.TENANT, AuditKind.DATA, (_KEY,)),
    Method(_CRYPTO, "DecryptMaskedBatch", "keys.decryptMasked", Callers.TENANT, AuditKind.DATA, (_KEY,)),
    Method(
        _CRYPTO,
        "ReEncryptBatch",
        "keys.reEncrypt",
        Callers.TENANT,
        AuditKind.DATA,
        (_KEY, _DESTINATION),
    ),
    Method(_CRYPTO, "ComputeIndexBatch", "keys.computeIndex", Callers.TENANT, AuditKind.DATA, (_KEY,)),
    Method(_CRYPTO, "ReIndexBatch", "keys.reIndex", Callers.TENANT, AuditKind.DATA, (_KEY, _SOURCE)),
    Method(_CRYPTO, "PseudonymizeBatch", "keys.pseudonymize", Callers.TENANT, AuditKind.DATA, (_KEY,)),
    Method(_CRYPTO, "EncryptFormatBatch", "keys.encryptFormat", Callers.TENANT, AuditKind.DATA, (_KEY,)),
    Method(_CRYPTO, "DecryptFormatBatch", "keys.decryptFormat", Callers.TENANT, AuditKind.DATA, (_KEY,)),
    Method(_CRYPTO, "GenerateDataKey", "dataKeys.generate", Callers.TENANT, AuditKind.DATA, (_KEY,)),
    Method(_CRYPTO, "DecryptDataKey", "dataKeys.decrypt", Callers.TENANT, AuditKind.DATA, (_KEY,)),
    Method(_CRYPTO, "LeaseKeyVersion", "keyVersions.lease", Callers.TENANT, AuditKind.DATA, (_KEY,)),
    Method(_CRYPTO, "GenerateRandomBytes", "random.generate", Callers.ANYONE, AuditKind.READ),
    Method(
        _POLICIES,
        "CreatePolicy",
        "policies.create",
        Callers.TENANT,
        AuditKind.ADMIN,
        (Named(TenantName.parse, "parent", "policies", "policy_id"),),
        anchored=True,
    ),
    Method(_POLICIES, "GetPolicy", "policies.get", Callers.TENANT, AuditKind.READ, (Named(PolicyName.parse, "name"),)),
    Method(_POLICIES, "ListPolicies", "policies.list", Callers.TENANT, AuditKind.READ, (_PARENT,)),
    Method(
        _POLICIES,
        "ListPolicyVersions",
        "policies.list",
        Callers.TENANT,
        AuditKind.READ,
        (Named(PolicyName.parse, "parent"),),
    ),
    Method(
        _POLICIES,
        "UpdatePolicy",
        "policies.update",
        Callers.TENANT,
        AuditKind.ADMIN,
        (Named(PolicyName.parse, "policy.name"),),
        Quorum.ALWAYS,
        anchored=True,
    ),
    Method(_POLICIES, "ListClasses", "classes.list", Callers.ANYONE, AuditKind.READ),
    Method(
        _CENSUS,
        "CreatePlace",
        "places.create",
        Callers.TENANT,
        AuditKind.ADMIN,
        (Named(KeyName.parse, "parent", "places", "place_id"),),
    ),
    Method(_CENSUS, "ListPlaces", "places.list", Callers.TENANT, AuditKind.READ, (Named(KeyName.parse, "parent"),)),
    Method(_CENSUS, "DeletePlace", "places.delete", Callers.TENANT, AuditKind.ADMIN, (_PLACE,)),
    Method(_CENSUS, "DeclarePlaces", "places.declare", Callers.TENANT, AuditKind.ADMIN, (_KEY,)),
    Method(_CENSUS, "ReportCensus", "places.report", Callers.TENANT, AuditKind.ADMIN, (_PLACE,)),
    Method(_OPERATIONS, "ListOperations", "operations.list", Callers.ANYONE, AuditKind.READ, (_PARENT,)),
    Method(_OPERATIONS, "GetOperation", "operations.get", Callers.ANYONE, AuditKind.READ, (_OPERATION,)),
    Method(_OPERATIONS, "WaitOperation", "operations.get", Callers.ANYONE, AuditKind.READ, (_OPERATION,), waits=True),
    Method(_OPERATIONS, "CancelOperation", "operations.cancel", Callers.ANYONE, AuditKind.ADMIN, (_OPERATION,)),
    Method(_OPERATIONS, "ResumeOperation", "operations.resume", Callers.ANYONE, AuditKind.ADMIN, (_OPERATION,)),
    Method(_NODES, "ListNodes", "nodes.list", Callers.OPERATOR, AuditKind.READ),
    Method(_NODES, "GetHealth", "nodes.getHealth", Callers.OPERATOR, AuditKind.READ),
    Method(_ENCLAVES, "GetEnclave", "enclaves.get", Callers.ANYONE, AuditKind.READ),
    Method(_ENCLAVES, "ListEnclaves", "enclaves.list", Callers.ANYONE, AuditKind.READ),
    Method(_ENCLAVES, "AttestEnclave", "enclaves.attest", Callers.ANYONE, AuditKind.READ),
    Method(_ENCLAVES, "GetSealCensus", "seals.list", Callers.TENANT, AuditKind.READ, (_PARENT,)),
    Method(
        _ENCLAVES,
        "CreateEnclaveUpgrade",
        "enclaveUpgrades.create",
        Callers.TENANT,
        AuditKind.ADMIN,
        (_PARENT,),
        Quorum.ALWAYS,
        anchored=True,
    ),
    Method(_ENCLAVES, "GetEnclaveUpgrade", "enclaveUpgrades.get", Callers.TENANT, AuditKind.READ, (_UPGRADE,)),
    Method(_ENCLAVES, "ListEnclaveUpgrades", "enclaveUpgrades.list", Callers.TENANT, AuditKind.READ, (_PARENT,)),
    Method(
        _ENCLAVES,
        "FinishEnclaveUpgrade",
        "enclaveUpgrades.finish",
        Callers.TENANT,
        AuditKind.ADMIN,
        (_UPGRADE,),
        Quorum.FORCED,
        anchored=True,
    ),
    Method(
        _ENCLAVES,
        "CancelEnclaveUpgrade",
        "enclaveUpgrades.cancel",
        Callers.TENANT,
        AuditKind.ADMIN,
        (_UPGRADE,),
        anchored=True,
    ),
    Method(
        _ACCESS,
        "CreatePrincipal",
        "principals.create",
        Callers.TENANT,
        AuditKind.ADMIN,
        (Named(TenantName.parse, "parent", "principals", "principal_id"),),
    ),
    Method(_ACCESS, "GetPrincipal", "principals.get", Callers.ANYONE, AuditKind.READ, (_PRINCIPAL,)),
    Method(_ACCESS, "ListPrincipals", "principals.list", Callers.TENANT, AuditKind.READ, (_PARENT,)),
    Method(
        _ACCESS,
        "UpdatePrincipal",
        "principals.update",
        Callers.TENANT,
        AuditKind.ADMIN,
        (Named(Principal.parse_of_tenant, "principal.name"),),
    ),
    Method(
        _ACCESS, "BlockPrincipal", "principals.block", Callers.ANYONE, AuditKind.ADMIN, (_PRINCIPAL,), anchored=True
    ),
    Method(
        _ACCESS, "UnblockPrincipal", "principals.unblock", Callers.ANYONE, AuditKind.ADMIN, (_PRINCIPAL,), anchored=True
    ),
    Method(
        _ACCESS,
        "CreateGrant",
        "grants.create",
        Callers.TENANT,
        AuditKind.ADMIN,
        (Named(Principal.parse_of_tenant, "parent"),),
        Quorum.ALWAYS,
        anchored=True,
    ),
    Method(
        _ACCESS,
        "ListGrants",
        "grants.list",
        Callers.TENANT,
        AuditKind.READ,
        (Named(Principal.parse_of_tenant, "parent"),),
    ),
    Method(
        _ACCESS,
        "DeleteGrant",
        "grants.delete",
        Callers.TENANT,
        AuditKind.ADMIN,
        (Named(GrantName.parse, "name"),),
        anchored=True,
    ),
    Method(_ACCESS, "ListRoles", "roles.list", Callers.ANYONE, AuditKind.READ),
    Method(
        _ACCESS,
        "ExplainAccess",
        "access.explain",
        Callers.ANYONE,
        AuditKind.READ,
        (Named(Principal.parse, "principal"),),
    ),
    Method(
        _TOKENS,
        "CreateToken",
        "tokens.create",
        Callers.TENANT,
        AuditKind.ADMIN,
        (_PARENT,),
        Quorum.ALWAYS,
        anchored=True,
    ),
    Method(_TOKENS, "GetToken", "tokens.get", Callers.TENANT, AuditKind.READ, (_TOKEN,)),
    Method(_TOKENS, "ListTokens", "tokens.list", Callers.TENANT, AuditKind.READ, (_PARENT,)),
    Method(
        _TOKENS,
        "RotateToken",
        "tokens.rotate",
        Callers.TENANT,
        AuditKind.ADMIN,
        (_TOKEN,),
        Quorum.ALWAYS,
        anchored=True,
    ),
    Method(_TOKENS, "RevokeToken", "tokens.revoke", Callers.TENANT, AuditKind.ADMIN, (_TOKEN,), anchored=True),
    Method(_TOKENS, "PinCertificate", "certificates.pin", Callers.ANYONE, AuditKind.ADMIN, (_HOLDER,), anchored=True),
    Method(
        _TOKENS, "UnpinCertificate", "certificates.unpin", Callers.ANYONE, AuditKind.ADMIN, (_HOLDER,), anchored=True
    ),
    Method(_TOKENS, "ListPinnedCertificates", "certificates.list", Callers.ANYONE, AuditKind.READ, (_HOLDER,)),
    Method(_TOKENS, "WhoAmI", "identity.get", Callers.ANYONE, AuditKind.READ),
    Method(_APPROVALS, "GetApproval", "approvals.get", Callers.ANYONE, AuditKind.READ, (_APPROVAL,)),
    Method(_APPROVALS, "ListApprovals", "approvals.list", Callers.ANYONE, AuditKind.READ, (_PARENT,)),
    Method(
        _APPROVALS, "ApproveApproval", "approvals.approve", Callers.TENANT, AuditKind.ADMIN, (_APPROVAL,), anchored=True
    ),
    Method(
        _APPROVALS, "RejectApproval", "approvals.reject", Callers.TENANT, AuditKind.ADMIN, (_APPROVAL,), anchored=True
    ),
    Method(
        _APPROVALS,
        "WithdrawApproval",
        "approvals.withdraw",
        Callers.ANYONE,
        AuditKind.ADMIN,
        (_APPROVAL,),
        anchored=True,
    ),
    Method(_APPROVALS, "ListQuorumRules", "quorumRules.list", Callers.ANYONE, AuditKind.READ, (_PARENT,)),
    Method(
        _APPROVALS,
        "UpdateQuorumRule",
        "quorumRules.update",
        Callers.TENANT,
        AuditKind.ADMIN,
        (Named(parse_quorum_rule, "quorum_rule.name"),),
        Quorum.ALWAYS,
        anchored=True,
    ),
    Method(_EVENTS, "ListSecurityEvents", "securityEvents.list", Callers.ANYONE, AuditKind.READ, (_EVENTS_PARENT,)),
    Method(_EVENTS, "GetSecurityEvent", "securityEvents.get", Callers.ANYONE, AuditKind.READ, (_EVENT,)),
    Method(
        _EVENTS,
        "UpdateSecurityEvent",
        "securityEvents.update",
        Callers.ANYONE,
        AuditKind.ADMIN,
        (Named(SecurityEventName.parse, "security_event.name"),),
    ),
    Method(
        _EVENTS,
        "SummarizeSecurityEvents",
        "securityEvents.summarize",
        Callers.ANYONE,
        AuditKind.READ,
        (_EVENTS_PARENT,),
    ),
    Method(_AUDIT, "ListAuditEvents", "audit.read", Callers.ANYONE, AuditKind.READ, (_EVENTS_PARENT,)),
    Method(
        _AUDIT,
        "GetAuditEvent",
        "audit.read",
        Callers.ANYONE,
        AuditKind.READ,
        (Named(AuditEventName.parse, "name"),),
    ),
    Method(_AUDIT, "ListAuditQueries", "audit.query", Callers.ANYONE, AuditKind.READ),
    Method(_AUDIT, "QueryAudit", "audit.query", Callers.ANYONE, AuditKind.READ, (_EVENTS_PARENT,)),
    Method(_AUDIT, "ReportDataAccess", "audit.report", Callers.ANYONE, AuditKind.READ, (_EVENTS_PARENT,)),
    Method(_AUDIT, "ExportAudit", "audit.export", Callers.OPERATOR, AuditKind.READ),
    Method(_AUDIT, "VerifyAudit", "audit.verify", Callers.OPERATOR, AuditKind.READ),
    Method(_AUDIT, "GetAuditStatus", "audit.read", Callers.OPERATOR, AuditKind.READ),
    Method(_REPORTS, "GenerateReport", "reports.generate", Callers.TENANT, AuditKind.ADMIN, (_PARENT,)),
    Method(_REPORTS, "GetReport", "reports.get", Callers.TENANT, AuditKind.READ, (_REPORT,)),
    Method(_REPORTS, "ListReports", "reports.list", Callers.TENANT, AuditKind.READ, (_PARENT,)),
    Method(_REPORTS, "DownloadReport", "reports.download", Callers.TENANT, AuditKind.READ, (_REPORT,)),
    Method(_REPORTS, "SubmitReport", "reports.submit", Callers.TENANT, AuditKind.ADMIN, (_REPORT,)),
    Method(_REPORTS, "ReviewReport", "reports.review", Callers.TENANT, AuditKind.ADMIN, (_REPORT,)),
    Method(_REPORTS, "ApproveReport", "reports.approve", Callers.TENANT, AuditKind.ADMIN, (_REPORT,)),
    Method(_REPORTS, "ArchiveReport", "reports.archive", Callers.TENANT, AuditKind.ADMIN, (_REPORT,)),
    Method(
        _RETENTION,
        "CreateLegalHold",
        "legalHolds.create",
        Callers.ANYONE,
        AuditKind.ADMIN,
        (Named(SecurityEventsParent.parse, "parent", "legalHolds", "legal_hold_id"),),
        anchored=True,
    ),
    Method(
        _RETENTION,
        "ReleaseLegalHold",
        "legalHolds.release",
        Callers.ANYONE,
        AuditKind.ADMIN,
        (Named(LegalHoldName.parse, "name"),),
        Quorum.ALWAYS,
        anchored=True,
    ),
    Method(_RETENTION, "ListLegalHolds", "legalHolds.list", Callers.ANYONE, AuditKind.READ, (_EVENTS_PARENT,)),
    Method(_RETENTION, "ListAuditArchives", "auditArchives.list", Callers.OPERATOR, AuditKind.READ),
    Method(_RETENTION, "ArchiveAudit", "auditArchives.archive", Callers.OPERATOR, AuditKind.ADMIN),
    Method(_RETENTION, "RemoveArchive", "auditArchives.remove", Callers.OPERATOR, AuditKind.ADMIN, anchored=True),
    # Streams wait for their peers most of the time, so that they hold no turn.
    Method(_BLOBS, "SealBlob", "blobs.seal", Callers.TENANT, AuditKind.DATA, (_NEW_BLOB,), waits=True),
    Method(_BLOBS, "UnsealBlob", "blobs.unseal", Callers.TENANT, AuditKind.DATA, (_BLOB,), waits=True),
    Method(_BLOBS, "GetBlob", "blobs.get", Callers.TENANT, AuditKind.READ, (_BLOB,)),
    Method(_BLOBS, "ListBlobs", "blobs.list", Callers.TENANT, AuditKind.READ, (_PARENT,)),
    Method(
        _BLOBS, "UpdateBlob", "blobs.update", Callers.TENANT, AuditKind.ADMIN, (Named(BlobName.parse, "blob.name"),)
    ),
    Method(_BLOBS, "ResealBlob", "blobs.reseal", Callers.TENANT, AuditKind.ADMIN, (_BLOB,)),
    Method(_BLOBS, "MoveBlob", "blobs.move", Callers.TENANT, AuditKind.ADMIN, (_BLOB,)),
    Method(_BLOBS, "DeleteBlob", "blobs.delete", Callers.TENANT, AuditKind.ADMIN, (_BLOB,), anchored=True),
    Method(_BLOBS, "GetUpload", "blobs.seal", Callers.TENANT, AuditKind.READ, (_BLOB,)),
)


def check_complete(methods: Iterable[Method] = METHODS) -> None:
    """Compare the rows with the services' descriptors.

    Raises:
        RuntimeError: an RPC has no row or two, or a row has no RPC.
    """
    rows = [method.full_name for method in methods]
    wanted = {f"/{service.full_name}/{method.name}" for service in SERVICES for method in service.methods}
    problems = sorted(wanted.symmetric_difference(rows)) + sorted({row for row in rows if rows.count(row) > 1})
    if problems:
        raise RuntimeError(f"the method table does not fit the services: {', '.join(problems)}")
