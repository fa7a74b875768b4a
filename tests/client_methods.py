"""Every method of the clients as one row: its RPC, an answer, the call, what comes of it, and what was sent."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from google.protobuf.duration_pb2 import Duration
from google.protobuf.empty_pb2 import Empty
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from kms_client import (
    AccessRule,
    Alphabet,
    ApprovalState,
    AuditCheckpoint,
    AuditContext,
    AuditFilter,
    AuditFinding,
    AuditParameter,
    AuditQuery,
    AuditStream,
    AuditVerification,
    AuditVerificationResult,
    BlobAccess,
    Classification,
    Compression,
    Conditions,
    Effect,
    EnclaveMeasure,
    EnclaveUpgrade,
    Founder,
    IndexNormaliser,
    KekState,
    KeyState,
    NodeEnclave,
    OperationState,
    PartHealth,
    PartStatus,
    PlaceKind,
    PrincipalKind,
    ProtectionLevel,
    Purpose,
    ReportForm,
    SealCount,
    SealingPolicy,
    Severity,
    StopState,
    Suite,
    TokenLimits,
    TokenScope,
    TokenState,
)
from kms_client.v1 import (
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

from tests.client_peer import Answer

TENANT = "tenants/acme"
KEY = "tenants/acme/keys/payroll"
FORMAT_RULE = crypto_pb2.FormatRule(scope="public.cards.number", alphabet=1, keep_first=1, keep_last=4, tweak=b"t")
VERSION = "tenants/acme/keys/payroll/versions/3"
UID = "5f0c3c3e-6c3b-4bb8-9d3b-0c1f6f3d2a11"
PLACE = "tenants/acme/keys/payroll/places/crm-iban"
POLICY = "tenants/acme/policies/gold"
OPERATION = "tenants/acme/operations/7b0f3c1e-52a0-4b39-8d35-0a3a53a9c1de"
APPROVAL = "tenants/acme/approvals/7b0f3c1e-52a0-4b39-8d35-0a3a53a9c1de"
RULE = "tenants/acme/quorumRules/keys.destroy"
DIGEST = "ab" * 32
HOLD = "tenants/acme/legalHolds/matter-7"
ARCHIVE = "auditArchives/2024-07"
REPORT = "tenants/acme/reports/7b0f3c1e-52a0-4b39-8d35-0a3a53a9c1de"
BLOB = "tenants/acme/blobs/report.pdf"
UPGRADE = "tenants/acme/enclaveUpgrades/7b0f3c1e-52a0-4b39-8d35-0a3a53a9c1de"
EVENT = "tenants/acme/securityEvents/7b0f3c1e-52a0-4b39-8d35-0a3a53a9c1de"
UUID_TEXT = "7b0f3c1e-52a0-4b39-8d35-0a3a53a9c1de"
AUDIT_EVENT = f"tenants/acme/auditEvents/{UUID_TEXT}-7"
TOKEN = "tenants/acme/tokens/0a1b2c3d4e5f"
APP = "tenants/acme/principals/app"
TEXT = f"kms_0a1b2c3d4e5f_{'A' * 43}"
FINGERPRINT = "0f" * 32
MOMENT = datetime(2026, 3, 1, 12, 30, 15, 250_000, tzinfo=UTC)
NODE_ENCLAVE = NodeEnclave(
    name="enclaves/e",
    node="host:1",
    node_uid="u",
    backend="sgx-simulated",
    simulated=True,
    mrenclave=b"m" * 32,
    mrsigner=b"s" * 32,
    isv_prod_id=1,
    isv_svn=5,
    cpu_svn=b"c" * 16,
    debug=False,
    freshness="none",
    platform_id=b"p" * 16,
    measures=(EnclaveMeasure("no_network", done=True, detail=""),),
    attestation_status="revoked",
    attestation_reason="PlatformRevoked",
    quote=b"q",
    signature=b"g",
    attest_time=MOMENT,
    attest_expire_time=None,
    state="running",
    restarts=2,
    active=True,
    health="degraded",
    health_reason="why",
    create_time=MOMENT,
    update_time=MOMENT,
    revision=7,
)


BILLING = "tenants/acme/principals/billing"


GRANT = f"{BILLING}/grants/7b0f3c1e-52a0-4b39-8d35-0a3a53a9c1de"


def principal_of(request, context):
    return access_pb2.Principal(name=request.name, kind=2, blocked=True, block_end_time=stamp(), etag="3")


def is_billing(value):
    return (value.name, value.kind, value.blocked, value.block_end_time, value.etag) == (
        BILLING,
        PrincipalKind.PERSON,
        True,
        MOMENT,
        "3",
    )


def is_grant(value):
    return (value.name, value.effect, value.permissions, value.conditions.context, value.expire_time) == (
        GRANT,
        Effect.DENY,
        ("keys.decrypt",),
        {"table": ("users", "roles")},
        MOMENT,
    )


def grant_named():
    message = access_pb2.Grant(name=GRANT)
    message.MergeFrom(GRANT_SENT)
    return message


def stamp(moment=MOMENT):
    message = Timestamp()
    message.FromDatetime(moment)
    return message


def hold_of(*_):
    return retention_pb2.LegalHold(name=HOLD, reason="a matter", start_time=stamp(), create_time=stamp(), creator=APP)


def is_hold(value):
    return (value.name, value.reason, value.start_time, value.end_time, value.release_time, value.creator) == (
        HOLD,
        "a matter",
        MOMENT,
        None,
        None,
        APP,
    )


def archive_of(*_):
    return retention_pb2.AuditArchive(
        name=ARCHIVE,
        state="detached",
        events=5,
        streams=2,
        first_time=stamp(),
        last_time=stamp(),
        file_name="f",
        file_size=2**40,
        file_sha256=DIGEST,
        body="{}",
        signature=b"<s>",
        create_time=stamp(),
        detach_time=stamp(),
        old=True,
    )


def is_archive(value):
    return (value.name, value.state, value.events, value.file_size, value.signature, value.detach_time, value.old) == (
        ARCHIVE,
        "detached",
        5,
        2**40,
        b"<s>",
        MOMENT,
        True,
    ) and value.delete_time is None


def upgrade_of(request, context):
    return enclaves_pb2.EnclaveUpgrade(
        name=UPGRADE,
        mrenclave=b"m" * 32,
        isv_svn=2,
        from_mrenclave=b"n" * 32,
        from_isv_svn=1,
        state="finishing",
        state_time=stamp(),
        create_time=stamp(),
        creator=APP,
        operation=OPERATION,
        forced_by=APP,
    )


def is_upgrade(value):
    return value == EnclaveUpgrade(
        UPGRADE, b"m" * 32, 2, b"n" * 32, 1, "finishing", MOMENT, MOMENT, APP, OPERATION, APP
    )


def report_of(request, context):
    return reports_pb2.Report(
        name=request.name,
        framework="soc2",
        state="completed",
        review_state="pending_review",
        complete_time=stamp(),
        findings=2,
        sha256=DIGEST,
        signature=b"<s>",
        submitted=reports_pb2.Report.Step(principal=APP, time=stamp()),
        recipients=[reports_pb2.Report.Recipient(principal=APP, first_time=stamp(), last_time=stamp(), count=3)],
        etag="4",
    )


def is_report(value):
    (received,) = value.recipients
    return (value.name, value.state, value.review_state, value.findings, value.complete_time, value.sha256) == (
        REPORT,
        "completed",
        "pending_review",
        2,
        MOMENT,
        DIGEST,
    ) and (value.submitted.principal, value.submitted.time, value.reviewed, received.principal, received.count) == (
        APP,
        MOMENT,
        None,
        APP,
        3,
    )


GRANT_SENT = access_pb2.Grant(
    effect=access_pb2.Grant.DENY,
    permissions=["keys.decrypt"],
    resource="tenants/acme/keys/*",
    conditions=access_pb2.Conditions(
        context=[access_pb2.ContextCondition(key="table", values=["users", "roles"])],
        classes=["secret"],
        networks=["192.0.2.0/24"],
    ),
    expire_time=stamp(),
    reason="audit",
)


def period(**parts):
    message = Duration()
    message.FromTimedelta(timedelta(**parts))
    return message


def key_of(request, context):
    return keys_pb2.Key(name=KEY, purpose=1, primary_version=2)


def encrypted(request, context):
    return crypto_pb2.EncryptResponse(ciphertext=b"<" + request.plaintext + b">", version=2)


def encrypted_batch(request, context):
    return crypto_pb2.EncryptBatchResponse(ciphertexts=[b"<" + v + b">" for v in request.plaintexts], version=2)


PROPAGATION = keys_pb2.Propagation(
    commit_time=stamp(),
    complete=True,
    last_stop=period(milliseconds=1800),
    nodes=[keys_pb2.NodeStop(node="node-b", state=2, after=period(milliseconds=1800))],
)


def stopped(kind):
    return lambda r, _: kind(key=keys_pb2.Key(name=r.name, state=6, state_reason=r.reason), propagation=PROPAGATION)


def reaches_nodes(value):
    (node,) = value.propagation.nodes
    return (value.propagation.complete, value.propagation.last_stop, node.state, node.after) == (
        True,
        timedelta(seconds=1.8),
        StopState.ACKNOWLEDGED,
        timedelta(seconds=1.8),
    )


def place_of(request, context):
    return census_pb2.Place(name=request.name, count_time=request.count_time, counts=request.counts)


def operation_of(request, context):
    return operations_pb2.Operation(name=request.name, kind="rewrap", state=1, done=5, total=10, etag="e5")


def runs(value):
    return (value.name, value.kind, value.state, value.running) == (OPERATION, "rewrap", OperationState.RUNNING, True)


def approval_of(request, context):
    return approvals_pb2.Approval(
        name=request.name,
        state=2,
        method="/kms.v1.KeyService/ScheduleKeyDestruction",
        resources=[KEY],
        requester="tenants/acme/principals/a",
        request_json="{}",
        digest=DIGEST,
        needed=2,
        votes=[approvals_pb2.ApprovalVote(principal="tenants/acme/principals/b", approved=True, vote_time=stamp())],
        create_time=stamp(),
        expire_time=stamp(),
        state_time=stamp(),
    )


def is_approved(value):
    (vote,) = value.votes
    return (value.name, value.state, value.waiting, value.digest, value.needed, vote.approved, vote.vote_time) == (
        APPROVAL,
        ApprovalState.APPROVED,
        True,
        DIGEST,
        2,
        True,
        MOMENT,
    )


RULES = {
    "rotation_period": timedelta(days=90),
    "encryption_limit": 2**40,
    "cache_lifetime": timedelta(minutes=2),
    "quarantine_period": timedelta(days=14),
    "grace_period": timedelta(hours=1),
    "automatic_retirement": True,
}
RULES_SENT = {
    "rotation_period": period(days=90),
    "encryption_limit": 2**40,
    "cache_lifetime": period(minutes=2),
    "quarantine_period": period(days=14),
    "grace_period": period(hours=1),
    "automatic_retirement": True,
}


def token_of(request, context):
    return tokens_pb2.Token(
        name=TOKEN,
        principal=APP,
        scopes=[2],
        allowed_networks=["192.0.2.0/24"],
        limits=tokens_pb2.TokenLimits(requests_per_minute=100),
        expire_time=stamp(),
        state=1,
        use_count=7,
    )


def is_token(token):
    return (token.name, token.scopes, token.allowed_networks, token.limits, token.state, token.last_use_time) == (
        TOKEN,
        (TokenScope.USE,),
        ("192.0.2.0/24",),
        TokenLimits(100),
        TokenState.ACTIVE,
        None,
    )


def pin_of(request, context):
    return tokens_pb2.PinnedCertificate(principal=request.principal, fingerprint=FINGERPRINT, create_time=stamp())


class Row(NamedTuple):
    rpc: str
    answer: Answer
    call: Callable[[Any], Any]
    holds: Callable[[Any], bool]
    sent: Message | None = None


METHODS = {
    name: Row(*row)
    for name, row in {
        "create_tenant_with_founders": (
            "CreateTenant",
            lambda r, _: tenants_pb2.Tenant(name=f"tenants/{r.tenant_id}"),
            lambda c: c.create_tenant("acme", founders=[Founder("alice", ("tenant-admin", "security-officer"))]),
            lambda v: v.name == TENANT,
            tenants_pb2.CreateTenantRequest(
                tenant_id="acme",
                tenant=tenants_pb2.Tenant(),
                founders=[
                    tenants_pb2.Founder(
                        principal_id="alice",
                        kind=access_pb2.Principal.PERSON,
                        roles=["tenant-admin", "security-officer"],
                    )
                ],
            ),
        ),
        "create_principal": (
            "CreatePrincipal",
            lambda r, _: access_pb2.Principal(name=f"{r.parent}/principals/{r.principal_id}", kind=r.principal.kind),
            lambda c: c.create_principal(TENANT, "billing", kind=PrincipalKind.PERSON, display_name="Billing"),
            lambda v: (v.name, v.kind, v.block_end_time) == (BILLING, PrincipalKind.PERSON, None),
            access_pb2.CreatePrincipalRequest(
                parent=TENANT,
                principal_id="billing",
                principal=access_pb2.Principal(kind=2, display_name="Billing"),
            ),
        ),
        "get_principal": (
            "GetPrincipal",
            principal_of,
            lambda c: c.get_principal(BILLING),
            is_billing,
            access_pb2.GetPrincipalRequest(name=BILLING),
        ),
        "list_principals": (
            "ListPrincipals",
            lambda *_: access_pb2.ListPrincipalsResponse(principals=[access_pb2.Principal(name=BILLING)]),
            lambda c: c.list_principals(TENANT, page_size=7),
            lambda v: [principal.name for principal in v] == [BILLING],
            access_pb2.ListPrincipalsRequest(parent=TENANT, page_size=7),
        ),
        "update_principal": (
            "UpdatePrincipal",
            lambda r, _: r.principal,
            lambda c: c.update_principal(BILLING, display_name="New", etag="2"),
            lambda v: (v.name, v.display_name) == (BILLING, "New"),
            access_pb2.UpdatePrincipalRequest(
                principal=access_pb2.Principal(name=BILLING, display_name="New", etag="2"),
                update_mask=FieldMask(paths=["display_name"]),
            ),
        ),
        "block_principal": (
            "BlockPrincipal",
            principal_of,
            lambda c: c.block_principal(BILLING, reason="lost", until=MOMENT),
            is_billing,
            access_pb2.BlockPrincipalRequest(name=BILLING, reason="lost", end_time=stamp()),
        ),
        "unblock_principal": (
            "UnblockPrincipal",
            principal_of,
            lambda c: c.unblock_principal(BILLING),
            is_billing,
            access_pb2.UnblockPrincipalRequest(name=BILLING),
        ),
        "create_grant": (
            "CreateGrant",
            lambda *_: grant_named(),
            lambda c: c.create_grant(
                BILLING,
                permissions=["keys.decrypt"],
                resource="tenants/acme/keys/*",
                effect=Effect.DENY,
                conditions=Conditions({"table": ("users", "roles")}, ("secret",), ("192.0.2.0/24",)),
                expire_time=MOMENT,
                reason="audit",
            ),
            is_grant,
            access_pb2.CreateGrantRequest(parent=BILLING, grant=GRANT_SENT),
        ),
        "create_grant_of_a_role": (
            "CreateGrant",
            lambda *_: access_pb2.Grant(name=GRANT, effect=1, role="application"),
            lambda c: c.create_grant(BILLING, role="application"),
            lambda v: (v.role, v.effect, v.permissions, v.expire_time) == ("application", Effect.ALLOW, (), None),
            access_pb2.CreateGrantRequest(
                parent=BILLING,
                grant=access_pb2.Grant(effect=1, role="application", conditions=access_pb2.Conditions()),
            ),
        ),
        "list_grants": (
            "ListGrants",
            lambda *_: access_pb2.ListGrantsResponse(grants=[grant_named()]),
            lambda c: c.list_grants(BILLING),
            lambda v: len(v) == 1 and is_grant(v[0]),
            access_pb2.ListGrantsRequest(parent=BILLING),
        ),
        "delete_grant": (
            "DeleteGrant",
            lambda *_: Empty(),
            lambda c: c.delete_grant(GRANT),
            lambda v: v is None,
            access_pb2.DeleteGrantRequest(name=GRANT),
        ),
        "list_roles": (
            "ListRoles",
            lambda *_: access_pb2.ListRolesResponse(
                roles=[access_pb2.Role(name="application", permissions=["keys.decrypt", "keys.encrypt"])]
            ),
            lambda c: c.list_roles(),
            lambda v: [(r.name, r.permissions) for r in v] == [("application", ("keys.decrypt", "keys.encrypt"))],
            access_pb2.ListRolesRequest(),
        ),
        "explain_access": (
            "ExplainAccess",
            lambda *_: access_pb2.AccessExplanation(
                rule=access_pb2.AccessExplanation.GRANT,
                grant=GRANT,
                looks=[access_pb2.GrantLook(grant=grant_named(), applies=True, reason="all of it matches")],
            ),
            lambda c: c.explain_access(BILLING, "keys.decrypt", KEY, context={"table": "users"}, address="192.0.2.7"),
            lambda v: (
                (v.allowed, v.rule, v.grant, [(is_grant(look.grant), look.applies) for look in v.looks])
                == (False, AccessRule.GRANT, GRANT, [(True, True)])
            ),
            access_pb2.ExplainAccessRequest(
                principal=BILLING,
                permission="keys.decrypt",
                resource=KEY,
                context=[crypto_pb2.ContextPair(key="table", value=b"users")],
                address="192.0.2.7",
            ),
        ),
        "create_tenant": (
            "CreateTenant",
            lambda r, _: tenants_pb2.Tenant(name=f"tenants/{r.tenant_id}", display_name=r.tenant.display_name),
            lambda c: c.create_tenant("acme", display_name="Acme"),
            lambda v: (v.name, v.display_name) == (TENANT, "Acme"),
        ),
        "get_tenant": (
            "GetTenant",
            lambda r, _: tenants_pb2.Tenant(name=r.name),
            lambda c: c.get_tenant(TENANT),
            lambda v: v.name == TENANT,
        ),
        "list_tenants": (
            "ListTenants",
            lambda *_: tenants_pb2.ListTenantsResponse(tenants=[tenants_pb2.Tenant(name=TENANT)]),
            lambda c: c.list_tenants(),
            lambda v: [t.name for t in v] == [TENANT],
        ),
        "create_key": (
            "CreateKey",
            lambda r, _: keys_pb2.Key(
                name=f"{r.parent}/keys/{r.key_id}",
                purpose=r.key.purpose,
                suite=r.key.suite,
                protection_level=r.key.protection_level,
                display_name=r.key.display_name,
                labels=r.key.labels,
                rotation_period=r.key.rotation_period,
            ),
            lambda c: c.create_key(
                TENANT,
                "payroll",
                Purpose.ENCRYPT,
                suite=Suite.XAES_256_GCM,
                protection_level=ProtectionLevel.SOFTWARE,
                display_name="Pay",
                labels={"team": "pay"},
                rotation_period=timedelta(days=90),
            ),
            lambda v: (
                (v.name, v.purpose, v.suite, v.display_name, v.labels, v.rotation_period)
                == (KEY, Purpose.ENCRYPT, Suite.XAES_256_GCM, "Pay", {"team": "pay"}, timedelta(days=90))
            ),
        ),
        "get_key": ("GetKey", key_of, lambda c: c.get_key(KEY), lambda v: v.primary_version == 2),
        "list_keys": (
            "ListKeys",
            lambda r, _: keys_pb2.ListKeysResponse(keys=[keys_pb2.Key(name=f"{r.parent}/keys/payroll")]),
            lambda c: c.list_keys(TENANT),
            lambda v: [k.name for k in v] == [KEY],
        ),
        "update_key": (
            "UpdateKey",
            lambda r, _: keys_pb2.Key(name=r.key.name, display_name=r.key.display_name, etag=r.key.etag),
            lambda c: c.update_key(KEY, display_name="New", etag="7"),
            lambda v: (v.name, v.display_name, v.etag) == (KEY, "New", "7"),
        ),
        "rotate_key": (
            "RotateKey",
            lambda r, _: keys_pb2.Key(name=r.name, etag=r.etag),
            lambda c: c.rotate_key(KEY, etag="7"),
            lambda v: (v.name, v.etag) == (KEY, "7"),
        ),
        "list_key_versions": (
            "ListKeyVersions",
            lambda r, _: keys_pb2.ListKeyVersionsResponse(
                key_versions=[keys_pb2.KeyVersion(name=f"{r.parent}/versions/4")]
            ),
            lambda c: c.list_key_versions(KEY),
            lambda v: [k.version for k in v] == [4],
        ),
        "list_keks": (
            "ListKeks",
            lambda r, _: keys_pb2.ListKeksResponse(
                keks=[keys_pb2.Kek(name=f"{r.parent}/keks/4", wraps_reserved=2**31, state=2)]
            ),
            lambda c: c.list_keks(TENANT),
            lambda v: (
                [(k.version, k.wraps_reserved, k.state) for k in v] == [(4, 2**31, KekState.DESTRUCTION_SCHEDULED)]
            ),
        ),
        "rotate_kek": (
            "RotateKek",
            lambda r, _: keys_pb2.Kek(name=f"{r.parent}/keks/{r.primary_version + 1}"),
            lambda c: c.rotate_kek(TENANT, primary_version=4),
            lambda v: v.version == 5,
        ),
        "encrypt": (
            "Encrypt",
            encrypted,
            lambda c: c.encrypt(KEY, b"a", context={"row": "1"}),
            lambda v: (v.ciphertext, v.version) == (b"<a>", 2),
        ),
        "decrypt": (
            "Decrypt",
            lambda r, _: crypto_pb2.DecryptResponse(plaintext=r.ciphertext[1:-1], version=1, primary=False),
            lambda c: c.decrypt(KEY, b"<a>", context={"row": "1"}),
            lambda v: (v.plaintext, v.version, v.primary) == (b"a", 1, False),
        ),
        "reencrypt": (
            "ReEncrypt",
            lambda r, _: crypto_pb2.ReEncryptResponse(ciphertext=r.ciphertext, version=2, changed=True),
            lambda c: c.reencrypt(KEY, b"<a>"),
            lambda v: (v.ciphertext, v.version, v.changed) == (b"<a>", 2, True),
        ),
        "encrypt_batch": (
            "EncryptBatch",
            encrypted_batch,
            lambda c: c.encrypt_batch(KEY, [b"a", b"b"], varying=("row", ["1", "2"])),
            lambda v: v.complete() == [b"<a>", b"<b>"],
        ),
        "decrypt_batch": (
            "DecryptBatch",
            lambda r, _: crypto_pb2.DecryptBatchResponse(
                plaintexts=[v[1:-1] for v in r.ciphertexts], primary_version=3
            ),
            lambda c: c.decrypt_batch(KEY, [b"<a>", b"<>"]),
            lambda v: (v.complete(), v.primary_version) == ([b"a", b""], 3),
        ),
        "decrypt_masked_batch": (
            "DecryptMaskedBatch",
            lambda r, _: crypto_pb2.DecryptMaskedBatchResponse(values=["*" * len(v) for v in r.ciphertexts]),
            lambda c: c.decrypt_masked_batch(
                KEY, [b"<a>", b"<>"], keep_last=3, context={"table": "users"}, varying=("row", ["1", "2"])
            ),
            lambda v: (v.complete(), v.failures) == (["***", "**"], {}),
            crypto_pb2.DecryptMaskedBatchRequest(
                name=KEY,
                ciphertexts=[b"<a>", b"<>"],
                context=[crypto_pb2.ContextPair(key="table", value=b"users")],
                varying=crypto_pb2.VaryingContext(key="row", values=[b"1", b"2"]),
                keep_last=3,
            ),
        ),
        "reencrypt_batch": (
            "ReEncryptBatch",
            lambda r, _: crypto_pb2.ReEncryptBatchResponse(ciphertexts=r.ciphertexts, version=3, changed=1),
            lambda c: c.reencrypt_batch(KEY, [b"<a>", b"<b>"]),
            lambda v: (v.complete(), v.version, v.changed) == ([b"<a>", b"<b>"], 3, 1),
        ),
        "compute_index_batch": (
            "ComputeIndexBatch",
            lambda r, _: crypto_pb2.ComputeIndexBatchResponse(
                indexes=[v + n for v in r.values for n in (b"3", b"1")], versions=[3, 1]
            ),
            lambda c: c.compute_index_batch(
                KEY, [b"a", b"b"], scope="public.users.email", normaliser="email", all_versions=True
            ),
            lambda v: (v.values, v.version) == ([[b"a3", b"a1"], [b"b3", b"b1"]], 3),
            crypto_pb2.ComputeIndexBatchRequest(
                name=KEY, values=[b"a", b"b"], scope="public.users.email", normaliser=4, length=16, all_versions=True
            ),
        ),
        "reindex_batch": (
            "ReIndexBatch",
            lambda r, _: crypto_pb2.ReIndexBatchResponse(indexes=[c[1:-1] for c in r.ciphertexts], version=3),
            lambda c: c.reindex_batch(
                KEY,
                "tenants/acme/keys/crm",
                [b"<a>", b"<b>"],
                scope="public.users.email",
                normaliser=IndexNormaliser.CASELESS,
                length=8,
                context={"table": "public.users"},
                varying=("row", ["1", "2"]),
            ),
            lambda v: (v.complete(), v.version) == ([b"a", b"b"], 3),
            crypto_pb2.ReIndexBatchRequest(
                name=KEY,
                source="tenants/acme/keys/crm",
                ciphertexts=[b"<a>", b"<b>"],
                context=[crypto_pb2.ContextPair(key="table", value=b"public.users")],
                varying=crypto_pb2.VaryingContext(key="row", values=[b"1", b"2"]),
                scope="public.users.email",
                normaliser=3,
                length=8,
            ),
        ),
        "pseudonymize_batch": (
            "PseudonymizeBatch",
            lambda r, _: crypto_pb2.PseudonymizeBatchResponse(
                pseudonyms=["p" + v.decode() for v in r.values], version=3
            ),
            lambda c: c.pseudonymize_batch(
                KEY, [b"a", b"b"], scope="public.users.email", normaliser="email", length=16, version=3
            ),
            lambda v: (v.complete(), v.version) == (["pa", "pb"], 3),
            crypto_pb2.PseudonymizeBatchRequest(
                name=KEY, values=[b"a", b"b"], scope="public.users.email", normaliser=4, length=16, version=3
            ),
        ),
        "encrypt_format_batch": (
            "EncryptFormatBatch",
            lambda r, _: crypto_pb2.EncryptFormatBatchResponse(values=[v[::-1] for v in r.values], version=3),
            lambda c: c.encrypt_format_batch(
                KEY,
                ["123 456", "7"],
                scope="public.cards.number",
                alphabet="digits",
                keep_first=1,
                keep_last=4,
                tweak=b"t",
            ),
            lambda v: (v.complete(), v.version) == (["654 321", "7"], 3),
            crypto_pb2.EncryptFormatBatchRequest(name=KEY, values=["123 456", "7"], rule=FORMAT_RULE),
        ),
        "decrypt_format_batch": (
            "DecryptFormatBatch",
            lambda r, _: crypto_pb2.DecryptFormatBatchResponse(values=[v[::-1] for v in r.values], version=r.version),
            lambda c: c.decrypt_format_batch(
                KEY,
                ["654 321"],
                version=2,
                scope="public.cards.number",
                alphabet=Alphabet.DIGITS,
                keep_first=1,
                keep_last=4,
                tweak=b"t",
            ),
            lambda v: (v.complete(), v.version) == (["123 456"], 2),
            crypto_pb2.DecryptFormatBatchRequest(name=KEY, values=["654 321"], rule=FORMAT_RULE, version=2),
        ),
        "generate_data_key": (
            "GenerateDataKey",
            lambda r, _: crypto_pb2.GenerateDataKeyResponse(plaintext=bytes(r.length), ciphertext=b"c", version=1),
            lambda c: c.generate_data_key(KEY, length=16),
            lambda v: (v.plaintext, v.ciphertext) == (bytes(16), b"c"),
        ),
        "decrypt_data_key": (
            "DecryptDataKey",
            lambda *_: crypto_pb2.DecryptDataKeyResponse(plaintext=bytes(16), version=1),
            lambda c: c.decrypt_data_key(KEY, b"c"),
            lambda v: (v.plaintext, v.version) == (bytes(16), 1),
        ),
        "lease_key_version": (
            "LeaseKeyVersion",
            lambda r, _: crypto_pb2.LeaseKeyVersionResponse(
                key=bytes(32),
                version=r.version,
                key_uid=UID,
                tenant_uid=UID,
                lease=Duration(seconds=4, nanos=500_000_000),
            ),
            lambda c: c.lease_key_version(KEY, 2),
            lambda v: (
                (v.key, v.version, v.encrypts, v.key_uid, v.tenant_uid, v.duration)
                == (bytes(32), 2, False, UID, UID, timedelta(seconds=4.5))
            ),
            crypto_pb2.LeaseKeyVersionRequest(name=KEY, version=2),
        ),
        "generate_random_bytes": (
            "GenerateRandomBytes",
            lambda r, _: crypto_pb2.GenerateRandomBytesResponse(data=bytes(r.length)),
            lambda c: c.generate_random_bytes(32),
            lambda v: v == bytes(32),
        ),
        "create_key_with_its_own_rules": (
            "CreateKey",
            lambda r, _: keys_pb2.Key(name=f"{r.parent}/keys/{r.key_id}", state=1),
            lambda c: c.create_key(TENANT, "payroll", Purpose.ENCRYPT, policy=POLICY, pending=True, **RULES),
            lambda v: v.state is KeyState.PENDING,
            keys_pb2.CreateKeyRequest(
                parent=TENANT, key_id="payroll", key=keys_pb2.Key(purpose=1, policy=POLICY, **RULES_SENT), pending=True
            ),
        ),
        "update_key_and_its_rules": (
            "UpdateKey",
            lambda r, _: r.key,
            lambda c: c.update_key(
                KEY,
                policy="",
                encryption_limit=2**40,
                automatic_retirement=False,
                clear=("grace_period", "rotation_period"),
            ),
            lambda v: (
                (v.policy, v.encryption_limit, v.automatic_retirement, v.grace_period) == ("", 2**40, False, None)
            ),
            keys_pb2.UpdateKeyRequest(
                key=keys_pb2.Key(name=KEY, encryption_limit=2**40, automatic_retirement=False),
                update_mask=FieldMask(
                    paths=["policy", "encryption_limit", "automatic_retirement", "rotation_period", "grace_period"]
                ),
            ),
        ),
        "rotate_keys": (
            "RotateKeys",
            lambda r, _: operations_pb2.Operation(name=OPERATION, kind="rotate_keys", target=r.parent, state=1),
            lambda c: c.rotate_keys(TENANT),
            lambda v: (v.name, v.target, v.end_time) == (OPERATION, TENANT, None),
            keys_pb2.RotateKeysRequest(parent=TENANT),
        ),
        "activate_key": (
            "ActivateKey",
            lambda r, _: keys_pb2.Key(name=r.name, state=2, state_time=stamp()),
            lambda c: c.activate_key(KEY, etag="7"),
            lambda v: (v.state, v.state_time) == (KeyState.ACTIVE, MOMENT),
            keys_pb2.ActivateKeyRequest(name=KEY, etag="7"),
        ),
        "suspend_key": (
            "SuspendKey",
            stopped(keys_pb2.SuspendKeyResponse),
            lambda c: c.suspend_key(KEY, reason="audit", etag="7"),
            lambda v: (v.key.name, v.key.state_reason) == (KEY, "audit") and reaches_nodes(v),
            keys_pb2.SuspendKeyRequest(name=KEY, reason="audit", etag="7"),
        ),
        "resume_key": (
            "ResumeKey",
            lambda r, _: keys_pb2.Key(name=r.name, state=2),
            lambda c: c.resume_key(KEY, etag="7"),
            lambda v: v.state is KeyState.ACTIVE,
            keys_pb2.ResumeKeyRequest(name=KEY, etag="7"),
        ),
        "archive_key": (
            "ArchiveKey",
            lambda r, _: keys_pb2.Key(name=r.name, state=5),
            lambda c: c.archive_key(KEY, etag="7"),
            lambda v: v.state is KeyState.ARCHIVED,
            keys_pb2.ArchiveKeyRequest(name=KEY, etag="7"),
        ),
        "revoke_key": (
            "RevokeKey",
            stopped(keys_pb2.RevokeKeyResponse),
            lambda c: c.revoke_key(KEY, reason="leaked", etag="7", wait=True),
            lambda v: v.key.state is KeyState.REVOKED and reaches_nodes(v),
            keys_pb2.RevokeKeyRequest(name=KEY, reason="leaked", etag="7", wait=True),
        ),
        "revoke_key_version": (
            "RevokeKeyVersion",
            lambda r, _: keys_pb2.RevokeKeyVersionResponse(
                key_version=keys_pb2.KeyVersion(name=r.name, state=6, state_reason=r.reason),
                key=keys_pb2.Key(name=KEY, primary_version=4),
                propagation=PROPAGATION,
            ),
            lambda c: c.revoke_key_version(VERSION, reason="leaked", etag="7", wait=True),
            lambda v: (v.key_version.version, v.key.primary_version) == (3, 4) and reaches_nodes(v),
            keys_pb2.RevokeKeyVersionRequest(name=VERSION, reason="leaked", etag="7", wait=True),
        ),
        "schedule_key_destruction": (
            "ScheduleKeyDestruction",
            lambda r, _: keys_pb2.Key(name=r.name, state=7, destroy_time=stamp()),
            lambda c: c.schedule_key_destruction(KEY, reason="gone", waiting_period=timedelta(days=30), etag="7"),
            lambda v: (v.state, v.destroy_time) == (KeyState.DESTRUCTION_SCHEDULED, MOMENT),
            keys_pb2.ScheduleKeyDestructionRequest(name=KEY, reason="gone", waiting_period=period(days=30), etag="7"),
        ),
        "cancel_key_destruction": (
            "CancelKeyDestruction",
            lambda r, _: keys_pb2.Key(name=r.name, state=2),
            lambda c: c.cancel_key_destruction(KEY, etag="7"),
            lambda v: (v.state, v.destroy_time) == (KeyState.ACTIVE, None),
            keys_pb2.CancelKeyDestructionRequest(name=KEY, etag="7"),
        ),
        "retire_key_version": (
            "RetireKeyVersion",
            lambda r, _: keys_pb2.KeyVersion(name=r.name, state=7, destroy_time=stamp()),
            lambda c: c.retire_key_version(VERSION),
            lambda v: (v.version, v.state, v.destroy_time) == (3, KeyState.DESTRUCTION_SCHEDULED, MOMENT),
            keys_pb2.RetireKeyVersionRequest(name=VERSION),
        ),
        "cancel_key_version_retirement": (
            "CancelKeyVersionRetirement",
            lambda r, _: keys_pb2.KeyVersion(name=r.name, state=5),
            lambda c: c.cancel_key_version_retirement(VERSION),
            lambda v: (v.version, v.state) == (3, KeyState.ARCHIVED),
            keys_pb2.CancelKeyVersionRetirementRequest(name=VERSION),
        ),
        "list_destruction_receipts": (
            "ListDestructionReceipts",
            lambda *_: keys_pb2.ListDestructionReceiptsResponse(
                receipts=[keys_pb2.DestructionReceipt(subject=VERSION, body="{}", signature=b"s", create_time=stamp())]
            ),
            lambda c: c.list_destruction_receipts(KEY, page_size=5),
            lambda v: [(r.subject, r.body, r.signature, r.create_time) for r in v] == [(VERSION, "{}", b"s", MOMENT)],
            keys_pb2.ListDestructionReceiptsRequest(parent=KEY, page_size=5),
        ),
        "get_signing_key": (
            "GetSigningKey",
            lambda *_: keys_pb2.SigningKey(public_key_pem="PEM"),
            lambda c: c.get_signing_key(),
            lambda v: v.public_key_pem == "PEM",
            keys_pb2.GetSigningKeyRequest(),
        ),
        "create_policy": (
            "CreatePolicy",
            lambda r, _: policies_pb2.Policy(name=f"{r.parent}/policies/{r.policy_id}", version=1, **RULES_SENT),
            lambda c: c.create_policy(
                TENANT,
                "gold",
                **RULES,
                classification=Classification.CONFIDENTIAL,
                required_context=["row"],
                log_data_access=True,
                approvals=2,
                audit_context=AuditContext.PLAIN,
            ),
            lambda v: (v.name, v.version) == (POLICY, 1) and {n: getattr(v, n) for n in RULES} == RULES,
            policies_pb2.CreatePolicyRequest(
                parent=TENANT,
                policy_id="gold",
                policy=policies_pb2.Policy(
                    **RULES_SENT,
                    classification=3,
                    required_context=["row"],
                    log_data_access=True,
                    approvals=2,
                    audit_context=2,
                ),
            ),
        ),
        "get_policy": (
            "GetPolicy",
            lambda r, _: policies_pb2.Policy(name=r.name, version=4, create_time=stamp(), creator="operators/root"),
            lambda c: c.get_policy(POLICY),
            lambda v: (v.name, v.version, v.create_time, v.creator) == (POLICY, 4, MOMENT, "operators/root"),
            policies_pb2.GetPolicyRequest(name=POLICY),
        ),
        "list_policies": (
            "ListPolicies",
            lambda *_: policies_pb2.ListPoliciesResponse(policies=[policies_pb2.Policy(name=POLICY)]),
            lambda c: c.list_policies(TENANT, page_size=5),
            lambda v: [p.name for p in v] == [POLICY],
            policies_pb2.ListPoliciesRequest(parent=TENANT, page_size=5),
        ),
        "list_policy_versions": (
            "ListPolicyVersions",
            lambda *_: policies_pb2.ListPolicyVersionsResponse(policies=[policies_pb2.Policy(name=POLICY, version=2)]),
            lambda c: c.list_policy_versions(POLICY, page_size=5),
            lambda v: [p.version for p in v] == [2],
            policies_pb2.ListPolicyVersionsRequest(parent=POLICY, page_size=5),
        ),
        "update_policy": (
            "UpdatePolicy",
            lambda r, _: policies_pb2.Policy(name=r.policy.name, version=r.policy.version + 1),
            lambda c: c.update_policy(
                POLICY,
                rotation_period=timedelta(0),
                automatic_retirement=False,
                required_context=(),
                approvals=2,
                version=4,
            ),
            lambda v: v.version == 5,
            policies_pb2.UpdatePolicyRequest(
                policy=policies_pb2.Policy(name=POLICY, version=4, rotation_period=period(), approvals=2),
                update_mask=FieldMask(
                    paths=["rotation_period", "automatic_retirement", "required_context", "approvals"]
                ),
            ),
        ),
        "list_classes": (
            "ListClasses",
            lambda *_: policies_pb2.ListClassesResponse(classes=[policies_pb2.ClassRules(classification=3)]),
            lambda c: c.list_classes(),
            lambda v: (
                [(rules.classification, rules.longest_rotation_period) for rules in v]
                == [(Classification.CONFIDENTIAL, None)]
            ),
            policies_pb2.ListClassesRequest(),
        ),
        "create_place": (
            "CreatePlace",
            lambda r, _: census_pb2.Place(name=f"{r.parent}/places/{r.place_id}", kind=r.place.kind),
            lambda c: c.create_place(KEY, "crm-iban", PlaceKind.COLUMN, description="crm, customers.iban"),
            lambda v: (v.name, v.kind, v.count_time) == (PLACE, PlaceKind.COLUMN, None),
            census_pb2.CreatePlaceRequest(
                parent=KEY, place_id="crm-iban", place=census_pb2.Place(kind=1, description="crm, customers.iban")
            ),
        ),
        "list_places": (
            "ListPlaces",
            lambda *_: census_pb2.ListPlacesResponse(
                places=[census_pb2.Place(name=PLACE)], complete_time=stamp(), declarer="operators/root"
            ),
            lambda c: c.list_places(KEY),
            lambda v: ([p.name for p in v.places], v.complete_time, v.declarer) == ([PLACE], MOMENT, "operators/root"),
            census_pb2.ListPlacesRequest(parent=KEY),
        ),
        "delete_place": (
            "DeletePlace",
            lambda *_: Empty(),
            lambda c: c.delete_place(PLACE),
            lambda v: v is None,
            census_pb2.DeletePlaceRequest(name=PLACE),
        ),
        "declare_places": (
            "DeclarePlaces",
            lambda *_: census_pb2.ListPlacesResponse(),
            lambda c: c.declare_places(KEY, complete=True),
            lambda v: (v.places, v.complete_time) == ((), None),
            census_pb2.DeclarePlacesRequest(name=KEY, complete=True),
        ),
        "report_census": (
            "ReportCensus",
            place_of,
            lambda c: c.report_census(PLACE, {3: 2**40, 1: 0}, count_time=MOMENT),
            lambda v: (v.counts, v.count_time) == ({1: 0, 3: 2**40}, MOMENT),
            census_pb2.ReportCensusRequest(
                name=PLACE,
                count_time=stamp(),
                counts=[census_pb2.VersionCount(version=1), census_pb2.VersionCount(version=3, count=2**40)],
            ),
        ),
        "list_operations": (
            "ListOperations",
            lambda *_: operations_pb2.ListOperationsResponse(operations=[operations_pb2.Operation(name=OPERATION)]),
            lambda c: c.list_operations(TENANT, page_size=5),
            lambda v: [o.name for o in v] == [OPERATION],
            operations_pb2.ListOperationsRequest(parent=TENANT, page_size=5),
        ),
        "get_operation": (
            "GetOperation",
            operation_of,
            lambda c: c.get_operation(OPERATION),
            runs,
            operations_pb2.GetOperationRequest(name=OPERATION),
        ),
        "wait_operation": (
            "WaitOperation",
            operation_of,
            lambda c: c.wait_operation(OPERATION, seconds=2.5, etag="e4"),
            runs,
            operations_pb2.WaitOperationRequest(name=OPERATION, timeout=period(seconds=2.5), etag="e4"),
        ),
        "cancel_operation": (
            "CancelOperation",
            operation_of,
            lambda c: c.cancel_operation(OPERATION),
            runs,
            operations_pb2.CancelOperationRequest(name=OPERATION),
        ),
        "resume_operation": (
            "ResumeOperation",
            operation_of,
            lambda c: c.resume_operation(OPERATION),
            runs,
            operations_pb2.ResumeOperationRequest(name=OPERATION),
        ),
        "list_nodes": (
            "ListNodes",
            lambda *_: nodes_pb2.ListNodesResponse(
                nodes=[nodes_pb2.Node(uid="u", name="node-a", acknowledged_epoch=7, seen_time=stamp(), self=True)],
                revocation_epoch=7,
            ),
            lambda c: c.list_nodes(),
            lambda v: (
                (v.revocation_epoch, [(n.uid, n.name, n.acknowledged_epoch, n.seen_time, n.is_self) for n in v.nodes])
                == (7, [("u", "node-a", 7, MOMENT, True)])
            ),
            nodes_pb2.ListNodesRequest(),
        ),
        "get_health": (
            "GetHealth",
            lambda *_: nodes_pb2.Health(
                parts=[
                    nodes_pb2.PartHealth(
                        name="token",
                        status="DEGRADED",
                        reason="slow",
                        response_time=Duration(seconds=2),
                        since_time=stamp(),
                        looks=4,
                        availability=0.75,
                        error_rate=0.25,
                    )
                ]
            ),
            lambda c: c.get_health(),
            lambda v: (
                v == (PartHealth("token", PartStatus.DEGRADED, "slow", timedelta(seconds=2), MOMENT, 4, 0.75, 0.25),)
            ),
            nodes_pb2.GetHealthRequest(),
        ),
        "get_enclave": (
            "GetEnclave",
            lambda *_: enclaves_pb2.Enclave(
                backend="sgx-simulated",
                simulated=True,
                in_use=True,
                state="running",
                mrenclave=b"m" * 32,
                isv_svn=5,
                measures=[enclaves_pb2.EnclaveMeasure(name="no_network", done=True)],
                attest_expire_time=stamp(),
            ),
            lambda c: c.get_enclave(),
            lambda v: (
                (v.simulated, v.in_use, v.mrenclave, v.isv_svn, v.attest_time, v.attest_expire_time)
                == (True, True, b"m" * 32, 5, None, MOMENT)
                and [(one.name, one.done) for one in v.measures] == [("no_network", True)]
            ),
            enclaves_pb2.GetEnclaveRequest(),
        ),
        "list_enclaves": (
            "ListEnclaves",
            lambda *_: enclaves_pb2.ListEnclavesResponse(
                enclaves=[
                    enclaves_pb2.NodeEnclave(
                        name="enclaves/e",
                        node="host:1",
                        node_uid="u",
                        backend="sgx-simulated",
                        simulated=True,
                        mrenclave=b"m" * 32,
                        mrsigner=b"s" * 32,
                        isv_prod_id=1,
                        isv_svn=5,
                        cpu_svn=b"c" * 16,
                        freshness="none",
                        platform_id=b"p" * 16,
                        measures=[enclaves_pb2.EnclaveMeasure(name="no_network", done=True)],
                        attestation_status="revoked",
                        attestation_reason="PlatformRevoked",
                        quote=b"q",
                        signature=b"g",
                        attest_time=stamp(),
                        state="running",
                        restarts=2,
                        active=True,
                        health="degraded",
                        health_reason="why",
                        create_time=stamp(),
                        update_time=stamp(),
                        revision=7,
                    )
                ]
            ),
            lambda c: c.list_enclaves(active_only=True, page_size=5),
            lambda v: v == [NODE_ENCLAVE],
            enclaves_pb2.ListEnclavesRequest(page_size=5, active_only=True),
        ),
        "attest_enclave": (
            "AttestEnclave",
            lambda r, _: enclaves_pb2.AttestEnclaveResponse(quote=r.nonce, root_list=b"r", platform_list=b"p"),
            lambda c: c.attest_enclave(b"n" * 32, channel_key=b"k", claims=b"c"),
            lambda v: (v.quote, v.root_list, v.platform_list) == (b"n" * 32, b"r", b"p"),
            enclaves_pb2.AttestEnclaveRequest(nonce=b"n" * 32, channel_key=b"k", claims=b"c"),
        ),
        "get_seal_census": (
            "GetSealCensus",
            lambda *_: enclaves_pb2.SealCensus(
                rows=[
                    enclaves_pb2.SealCount(kind="key_version", wanted_policy="mrsigner", policy="mrsigner", count=3),
                    enclaves_pb2.SealCount(
                        kind="blob",
                        wanted_policy="hybrid",
                        policy="mrsigner",
                        recorded=True,
                        mrenclave=b"m" * 32,
                        mrsigner=b"s" * 32,
                        isv_svn=2,
                        simulated=True,
                        this_enclave=True,
                        count=2**40,
                    ),
                ]
            ),
            lambda c: c.get_seal_census(TENANT),
            lambda v: (
                v
                == (
                    SealCount("key_version", "mrsigner", "mrsigner", False, b"", b"", 0, False, False, 3),
                    SealCount("blob", "hybrid", "mrsigner", True, b"m" * 32, b"s" * 32, 2, True, True, 2**40),
                )
            ),
            enclaves_pb2.GetSealCensusRequest(parent=TENANT),
        ),
        "create_enclave_upgrade": (
            "CreateEnclaveUpgrade",
            upgrade_of,
            lambda c: c.create_enclave_upgrade(TENANT, b"m" * 32, 2),
            is_upgrade,
            enclaves_pb2.CreateEnclaveUpgradeRequest(parent=TENANT, mrenclave=b"m" * 32, isv_svn=2),
        ),
        "get_enclave_upgrade": (
            "GetEnclaveUpgrade",
            upgrade_of,
            lambda c: c.get_enclave_upgrade(UPGRADE),
            is_upgrade,
            enclaves_pb2.GetEnclaveUpgradeRequest(name=UPGRADE),
        ),
        "list_enclave_upgrades": (
            "ListEnclaveUpgrades",
            lambda *_: enclaves_pb2.ListEnclaveUpgradesResponse(enclave_upgrades=[upgrade_of(None, None)]),
            lambda c: c.list_enclave_upgrades(TENANT, page_size=7),
            lambda v: all(map(is_upgrade, v)) and len(v) == 1,
            enclaves_pb2.ListEnclaveUpgradesRequest(parent=TENANT, page_size=7),
        ),
        "finish_enclave_upgrade": (
            "FinishEnclaveUpgrade",
            upgrade_of,
            lambda c: c.finish_enclave_upgrade(UPGRADE, force=True),
            is_upgrade,
            enclaves_pb2.FinishEnclaveUpgradeRequest(name=UPGRADE, force=True),
        ),
        "cancel_enclave_upgrade": (
            "CancelEnclaveUpgrade",
            upgrade_of,
            lambda c: c.cancel_enclave_upgrade(UPGRADE),
            is_upgrade,
            enclaves_pb2.CancelEnclaveUpgradeRequest(name=UPGRADE),
        ),
        "get_approval": (
            "GetApproval",
            approval_of,
            lambda c: c.get_approval(APPROVAL),
            is_approved,
            approvals_pb2.GetApprovalRequest(name=APPROVAL),
        ),
        "list_approvals": (
            "ListApprovals",
            lambda *_: approvals_pb2.ListApprovalsResponse(approvals=[approvals_pb2.Approval(name=APPROVAL)]),
            lambda c: c.list_approvals(TENANT, waiting_only=True, page_size=5),
            lambda v: [a.name for a in v] == [APPROVAL],
            approvals_pb2.ListApprovalsRequest(parent=TENANT, waiting_only=True, page_size=5),
        ),
        "approve": (
            "ApproveApproval",
            approval_of,
            lambda c: c.approve(APPROVAL, digest=DIGEST, comment="seen"),
            is_approved,
            approvals_pb2.ApproveApprovalRequest(name=APPROVAL, digest=DIGEST, comment="seen"),
        ),
        "reject": (
            "RejectApproval",
            approval_of,
            lambda c: c.reject(APPROVAL, comment="no"),
            is_approved,
            approvals_pb2.RejectApprovalRequest(name=APPROVAL, comment="no"),
        ),
        "withdraw": (
            "WithdrawApproval",
            approval_of,
            lambda c: c.withdraw(APPROVAL),
            is_approved,
            approvals_pb2.WithdrawApprovalRequest(name=APPROVAL),
        ),
        "list_quorum_rules": (
            "ListQuorumRules",
            lambda *_: approvals_pb2.ListQuorumRulesResponse(
                quorum_rules=[approvals_pb2.QuorumRule(name=RULE, approvals=2, is_default=True)]
            ),
            lambda c: c.list_quorum_rules(TENANT),
            lambda v: (
                [(r.permission, r.approvals, r.is_default, r.update_time) for r in v]
                == [("keys.destroy", 2, True, None)]
            ),
            approvals_pb2.ListQuorumRulesRequest(parent=TENANT),
        ),
        "update_quorum_rule": (
            "UpdateQuorumRule",
            lambda r, _: r.quorum_rule,
            lambda c: c.update_quorum_rule(RULE, approvals_needed=3, present=2),
            lambda v: (v.name, v.approvals) == (RULE, 3),
            approvals_pb2.UpdateQuorumRuleRequest(
                quorum_rule=approvals_pb2.QuorumRule(name=RULE, approvals=3), present_approvals=2
            ),
        ),
        "list_security_events": (
            "ListSecurityEvents",
            lambda *_: events_pb2.ListSecurityEventsResponse(security_events=[events_pb2.SecurityEvent(name=EVENT)]),
            lambda c: c.list_security_events(
                TENANT, since=MOMENT, severity=Severity.HIGH, type="canary_touched", unresolved=True, page_size=5
            ),
            lambda v: [e.name for e in v] == [EVENT],
            events_pb2.ListSecurityEventsRequest(
                parent=TENANT, since=stamp(), severity=4, type="canary_touched", unresolved=True, page_size=5
            ),
        ),
        "get_security_event": (
            "GetSecurityEvent",
            lambda r, _: events_pb2.SecurityEvent(name=r.name, severity=5, risk=95, indicators=["10 within 2 s"]),
            lambda c: c.get_security_event(EVENT),
            lambda v: (
                (v.name, v.severity, v.risk, v.indicators, v.false_alarm, v.resolved)
                == (EVENT, Severity.CRITICAL, 0.95, ("10 within 2 s",), None, False)
            ),
            events_pb2.GetSecurityEventRequest(name=EVENT),
        ),
        "update_security_event": (
            "UpdateSecurityEvent",
            lambda r, _: events_pb2.SecurityEvent(
                name=r.security_event.name,
                notes="seen",
                false_alarm=False,
                resolve_time=stamp(),
                resolver="operators/root",
            ),
            lambda c: c.update_security_event(EVENT, notes="seen", false_alarm=False, resolved=True, etag="3"),
            lambda v: (
                (v.notes, v.false_alarm, v.resolved, v.resolve_time, v.resolver)
                == ("seen", False, True, MOMENT, "operators/root")
            ),
            events_pb2.UpdateSecurityEventRequest(
                security_event=events_pb2.SecurityEvent(
                    name=EVENT, notes="seen", false_alarm=False, resolved=True, etag="3"
                ),
                update_mask=FieldMask(paths=["notes", "false_alarm", "resolved"]),
            ),
        ),
        "summarize_security_events": (
            "SummarizeSecurityEvents",
            lambda *_: events_pb2.SummarizeSecurityEventsResponse(
                sums=[
                    events_pb2.SummarizeSecurityEventsResponse.Sum(
                        day="2026-03-01", type="rate_exceeded", severity=2, events=3, occurrences=40, resolved=1
                    )
                ]
            ),
            lambda c: c.summarize_security_events("installation", days=7),
            lambda v: (
                [(s.day.day, s.type, s.severity, s.events, s.occurrences, s.resolved) for s in v]
                == [(1, "rate_exceeded", Severity.LOW, 3, 40, 1)]
            ),
            events_pb2.SummarizeSecurityEventsRequest(parent="installation", days=7),
        ),
        "list_audit_events": (
            "ListAuditEvents",
            lambda *_: audit_pb2.ListAuditEventsResponse(audit_events=[audit_pb2.AuditEvent(name=AUDIT_EVENT)]),
            lambda c: c.list_audit_events(
                TENANT,
                AuditFilter(
                    since=MOMENT,
                    until=MOMENT,
                    equal={"outcome": ["failure", "error"]},
                    begins={"action": ["/kms.v1."]},
                    least={"items": 10},
                    context=("customer", "42"),
                    beyond={UUID_TEXT: 7},
                ),
                oldest_first=True,
                all_tenants=True,
                page_size=5,
            ),
            lambda v: [e.name for e in v] == [AUDIT_EVENT],
            audit_pb2.ListAuditEventsRequest(
                parent=TENANT,
                filter=audit_pb2.AuditEventFilter(
                    since=stamp(),
                    until=stamp(),
                    equal=[audit_pb2.AuditEventFilter.Values(field="outcome", values=["failure", "error"])],
                    begins=[audit_pb2.AuditEventFilter.Values(field="action", values=["/kms.v1."])],
                    least=[audit_pb2.AuditEventFilter.Least(field="items", value=10)],
                    context=audit_pb2.AuditEventFilter.Pair(key="customer", value="42"),
                    beyond=[audit_pb2.AuditEventFilter.Position(stream=UUID_TEXT, sequence=7)],
                ),
                oldest_first=True,
                all_tenants=True,
                page_size=5,
            ),
        ),
        "get_audit_event": (
            "GetAuditEvent",
            lambda r, _: audit_pb2.AuditEvent(
                name=r.name, sequence=2**62, time=stamp(), risk=40, items_digest=bytes(32), changes="{}"
            ),
            lambda c: c.get_audit_event(AUDIT_EVENT),
            lambda v: (
                (v.name, v.sequence, v.time, v.risk, v.items_digest, v.changes, v.keep_time)
                == (AUDIT_EVENT, 2**62, MOMENT, 40, bytes(32), "{}", None)
            ),
            audit_pb2.GetAuditEventRequest(name=AUDIT_EVENT),
        ),
        "list_audit_queries": (
            "ListAuditQueries",
            lambda *_: audit_pb2.ListAuditQueriesResponse(
                queries=[
                    audit_pb2.AuditQuery(
                        name="by-key",
                        description="x",
                        parameters=[audit_pb2.AuditQuery.Parameter(name="key", required=True)],
                        columns=["at"],
                        groups=["day"],
                    )
                ]
            ),
            lambda c: c.list_audit_queries(),
            lambda v: (
                v
                == [
                    AuditQuery(
                        "by-key", "x", (AuditParameter("key", "", required=True, default=""),), ("at",), ("day",)
                    )
                ]
            ),
            audit_pb2.ListAuditQueriesRequest(),
        ),
        "query_audit": (
            "QueryAudit",
            lambda *_: audit_pb2.QueryAuditResponse(
                columns=[
                    audit_pb2.QueryAuditResponse.Column(name="day"),
                    audit_pb2.QueryAuditResponse.Column(name="events", number=True),
                ],
                rows=[audit_pb2.QueryAuditResponse.Row(cells=["2026-03-01", "9007199254740993"])],
                next_page_token="t",
                since=stamp(),
                until=stamp(),
            ),
            lambda c: c.query_audit(
                TENANT,
                "data-volume",
                {"principal": APP},
                since=MOMENT,
                until=MOMENT,
                all_tenants=True,
                page_size=5,
                page_token="s",
            ),
            lambda v: (
                (v.columns, list(v.rows), v.since, v.until, v.next_page_token)
                == (("day", "events"), [{"day": "2026-03-01", "events": 9007199254740993}], MOMENT, MOMENT, "t")
            ),
            audit_pb2.QueryAuditRequest(
                parent=TENANT,
                query="data-volume",
                parameters={"principal": APP},
                since=stamp(),
                until=stamp(),
                all_tenants=True,
                page_size=5,
                page_token="s",
            ),
        ),
        "report_data_access": (
            "ReportDataAccess",
            lambda *_: audit_pb2.ReportDataAccessResponse(
                accesses=[
                    audit_pb2.ReportDataAccessResponse.Access(
                        principal=APP, action="a", events=3, items=4, first_time=stamp(), last_time=stamp()
                    )
                ],
                since=stamp(),
                until=stamp(),
            ),
            lambda c: c.report_data_access(TENANT, "customer", "42", since=MOMENT, until=MOMENT),
            lambda v: (
                ([(a.principal, a.action, a.events, a.items, a.first_time) for a in v.accesses], v.since, v.until)
                == ([(APP, "a", 3, 4, MOMENT)], MOMENT, MOMENT)
            ),
            audit_pb2.ReportDataAccessRequest(
                parent=TENANT,
                context=audit_pb2.AuditEventFilter.Pair(key="customer", value="42"),
                since=stamp(),
                until=stamp(),
            ),
        ),
        "export_audit": (
            "ExportAudit",
            lambda *_: audit_pb2.ExportAuditResponse(data=b"x" * 5),
            lambda c: c.export_audit(),
            lambda v: list(v) == [b"xxxxx"],
            audit_pb2.ExportAuditRequest(),
        ),
        "verify_audit": (
            "VerifyAudit",
            lambda *_: audit_pb2.AuditVerification(
                begin_time=stamp(),
                events=3,
                known_events=9,
                last=audit_pb2.AuditVerification.Result(
                    begin_time=stamp(),
                    end_time=stamp(),
                    cover_time=stamp(),
                    requester="operators/root",
                    events=4,
                    columns=4,
                    streams=2,
                    checkpoints=7,
                    last_checkpoint=7,
                    last_hash=bytes(32),
                    findings=[
                        audit_pb2.AuditFinding(
                            fault="missing", stream=UUID_TEXT, first=3, last=4, checkpoint=5, text="t", notice=True
                        )
                    ],
                    problems=1,
                ),
                failure="f",
            ),
            lambda c: c.verify_audit(),
            lambda v: (
                v
                == AuditVerification(
                    MOMENT,
                    3,
                    9,
                    AuditVerificationResult(
                        MOMENT,
                        MOMENT,
                        MOMENT,
                        "operators/root",
                        4,
                        4,
                        2,
                        7,
                        7,
                        bytes(32),
                        (AuditFinding("missing", UUID_TEXT, 3, 4, 5, "t", True),),
                        1,
                    ),
                    "f",
                )
            ),
            audit_pb2.VerifyAuditRequest(),
        ),
        "get_audit_status": (
            "GetAuditStatus",
            lambda *_: audit_pb2.AuditStatus(
                streams=[
                    audit_pb2.AuditStatus.Stream(
                        stream=UUID_TEXT, node="n", begin_time=stamp(), sequence=9, last_time=stamp(), hash=bytes(32)
                    )
                ],
                verification=audit_pb2.AuditVerification(events=5),
                checkpoint=audit_pb2.AuditStatus.Checkpoint(serial=7, hash=bytes(32), time=stamp()),
                anchored_checkpoint=6,
                problem="p",
            ),
            lambda c: c.get_audit_status(streams=False),
            lambda v: (
                v.streams == (AuditStream(UUID_TEXT, "n", MOMENT, 9, MOMENT, bytes(32)),)
                and v.checkpoint == AuditCheckpoint(7, bytes(32), MOMENT)
                and (v.anchored_checkpoint, v.problem, v.verification.begin_time) == (6, "p", None)
                and (v.verification.events, v.verification.last) == (5, None)
            ),
            audit_pb2.GetAuditStatusRequest(without_streams=True),
        ),
        "create_token": (
            "CreateToken",
            lambda r, c: tokens_pb2.CreateTokenResponse(token=token_of(r, c), text=TEXT),
            lambda c: c.create_token(
                TENANT,
                APP,
                display_name="CI",
                scopes=[TokenScope.READ, TokenScope.USE],
                lifetime=timedelta(days=1),
                allowed_networks=["192.0.2.0/24"],
                allowed_origins=["https://a.example"],
                limits=TokenLimits(requests_per_minute=5, requests_per_second=2, burst=4),
            ),
            lambda v: is_token(v.token) and v.text == TEXT and TEXT not in repr(v) and v.replaced is None,
            tokens_pb2.CreateTokenRequest(
                parent=TENANT,
                token=tokens_pb2.Token(
                    principal=APP,
                    display_name="CI",
                    scopes=[1, 2],
                    allowed_networks=["192.0.2.0/24"],
                    allowed_origins=["https://a.example"],
                    limits=tokens_pb2.TokenLimits(requests_per_minute=5, requests_per_second=2, burst=4),
                ),
                lifetime=period(days=1),
            ),
        ),
        "create_token_with_defaults": (
            "CreateToken",
            lambda r, c: tokens_pb2.CreateTokenResponse(token=token_of(r, c), text=TEXT),
            lambda c: c.create_token(TENANT, APP),
            lambda v: is_token(v.token),
            tokens_pb2.CreateTokenRequest(parent=TENANT, token=tokens_pb2.Token(principal=APP, scopes=[1])),
        ),
        "get_token": (
            "GetToken",
            token_of,
            lambda c: c.get_token(TOKEN),
            is_token,
            tokens_pb2.GetTokenRequest(name=TOKEN),
        ),
        "list_tokens": (
            "ListTokens",
            lambda r, c: tokens_pb2.ListTokensResponse(tokens=[token_of(r, c)]),
            lambda c: c.list_tokens(TENANT, page_size=5),
            lambda v: all(map(is_token, v)) and len(v) == 1,
            tokens_pb2.ListTokensRequest(parent=TENANT, page_size=5),
        ),
        "rotate_token": (
            "RotateToken",
            lambda r, c: tokens_pb2.RotateTokenResponse(token=token_of(r, c), text=TEXT, replaced=token_of(r, c)),
            lambda c: c.rotate_token(TOKEN, overlap=timedelta(0)),
            lambda v: is_token(v.token) and is_token(v.replaced) and v.text == TEXT,
            tokens_pb2.RotateTokenRequest(name=TOKEN, overlap=period()),
        ),
        "revoke_token": (
            "RevokeToken",
            token_of,
            lambda c: c.revoke_token(TOKEN, "lost"),
            is_token,
            tokens_pb2.RevokeTokenRequest(name=TOKEN, reason="lost"),
        ),
        "pin_certificate": (
            "PinCertificate",
            pin_of,
            lambda c: c.pin_certificate(APP, FINGERPRINT),
            lambda v: (v.principal, v.fingerprint, v.create_time) == (APP, FINGERPRINT, MOMENT),
            tokens_pb2.PinCertificateRequest(principal=APP, fingerprint=FINGERPRINT),
        ),
        "unpin_certificate": (
            "UnpinCertificate",
            lambda *_: Empty(),
            lambda c: c.unpin_certificate(APP, FINGERPRINT),
            lambda v: v is None,
            tokens_pb2.UnpinCertificateRequest(principal=APP, fingerprint=FINGERPRINT),
        ),
        "list_pinned_certificates": (
            "ListPinnedCertificates",
            lambda r, c: tokens_pb2.ListPinnedCertificatesResponse(certificates=[pin_of(r, c)]),
            lambda c: c.list_pinned_certificates(APP),
            lambda v: [pin.fingerprint for pin in v] == [FINGERPRINT],
            tokens_pb2.ListPinnedCertificatesRequest(principal=APP),
        ),
        "create_legal_hold": (
            "CreateLegalHold",
            hold_of,
            lambda c: c.create_legal_hold(TENANT, "matter-7", reason="a matter", start=MOMENT),
            is_hold,
            retention_pb2.CreateLegalHoldRequest(
                parent=TENANT,
                legal_hold_id="matter-7",
                legal_hold=retention_pb2.LegalHold(reason="a matter", start_time=stamp()),
            ),
        ),
        "release_legal_hold": (
            "ReleaseLegalHold",
            hold_of,
            lambda c: c.release_legal_hold(HOLD, reason="settled"),
            is_hold,
            retention_pb2.ReleaseLegalHoldRequest(name=HOLD, reason="settled"),
        ),
        "list_legal_holds": (
            "ListLegalHolds",
            lambda *_: retention_pb2.ListLegalHoldsResponse(legal_holds=[hold_of()]),
            lambda c: c.list_legal_holds("installation", page_size=7),
            lambda v: all(map(is_hold, v)) and len(v) == 1,
            retention_pb2.ListLegalHoldsRequest(parent="installation", page_size=7),
        ),
        "list_audit_archives": (
            "ListAuditArchives",
            lambda *_: retention_pb2.ListAuditArchivesResponse(audit_archives=[archive_of()]),
            lambda c: c.list_audit_archives(page_size=7),
            lambda v: all(map(is_archive, v)) and len(v) == 1,
            retention_pb2.ListAuditArchivesRequest(page_size=7),
        ),
        "archive_audit": (
            "ArchiveAudit",
            lambda *_: retention_pb2.ArchiveAuditResponse(operation=OPERATION, months=3),
            lambda c: c.archive_audit(),
            lambda v: (v.operation, v.months) == (OPERATION, 3),
            retention_pb2.ArchiveAuditRequest(),
        ),
        "remove_archive": (
            "RemoveArchive",
            archive_of,
            lambda c: c.remove_archive("2024-07"),
            is_archive,
            retention_pb2.RemoveArchiveRequest(month="2024-07"),
        ),
        "generate_report": (
            "GenerateReport",
            lambda *_: reports_pb2.GenerateReportResponse(
                report=report_of(reports_pb2.GetReportRequest(name=REPORT), None),
                operation=operations_pb2.Operation(name=OPERATION, kind="generate_report", state=1),
            ),
            lambda c: c.generate_report(TENANT, "soc2", start=MOMENT - timedelta(days=1), end=MOMENT),
            lambda v: is_report(v.report) and v.operation.name == OPERATION,
            reports_pb2.GenerateReportRequest(
                parent=TENANT, framework="soc2", start_time=stamp(MOMENT - timedelta(days=1)), end_time=stamp()
            ),
        ),
        "get_report": (
            "GetReport",
            report_of,
            lambda c: c.get_report(REPORT),
            is_report,
            reports_pb2.GetReportRequest(name=REPORT),
        ),
        "list_reports": (
            "ListReports",
            lambda *_: reports_pb2.ListReportsResponse(
                reports=[report_of(reports_pb2.GetReportRequest(name=REPORT), None)]
            ),
            lambda c: c.list_reports(TENANT, page_size=7),
            lambda v: all(map(is_report, v)) and len(v) == 1,
            reports_pb2.ListReportsRequest(parent=TENANT, page_size=7),
        ),
        "download_report": (
            "DownloadReport",
            lambda *_: reports_pb2.DownloadReportResponse(content=b"{}", sha256=DIGEST, signature=b"<s>"),
            lambda c: c.download_report(REPORT, form=ReportForm.HTML),
            lambda v: (v.content, v.sha256, v.signature) == (b"{}", DIGEST, b"<s>"),
            reports_pb2.DownloadReportRequest(name=REPORT, form=2),
        ),
        "submit_report": (
            "SubmitReport",
            report_of,
            lambda c: c.submit_report(REPORT, etag="3"),
            is_report,
            reports_pb2.SubmitReportRequest(name=REPORT, etag="3"),
        ),
        "review_report": (
            "ReviewReport",
            report_of,
            lambda c: c.review_report(REPORT, etag="3"),
            is_report,
            reports_pb2.ReviewReportRequest(name=REPORT, etag="3"),
        ),
        "approve_report": (
            "ApproveReport",
            report_of,
            lambda c: c.approve_report(REPORT, etag="3"),
            is_report,
            reports_pb2.ApproveReportRequest(name=REPORT, etag="3"),
        ),
        "archive_report": (
            "ArchiveReport",
            report_of,
            lambda c: c.archive_report(REPORT, etag="3"),
            is_report,
            reports_pb2.ArchiveReportRequest(name=REPORT, etag="3"),
        ),
        "seal_blob": (
            "SealBlob",
            lambda r, _: blobs_pb2.Blob(name=f"{r.parent}/blobs/{r.blob_id}", size=3),
            lambda c: c.seal_blob(
                TENANT,
                "report.pdf",
                [b"a", b"bc"],
                content_type="text/plain",
                description="d",
                labels={"a": "b"},
                context={"owner": "42"},
                sealing_policy=SealingPolicy.HYBRID,
                access=BlobAccess(("p",), ("r",), ("u",)),
                compression=Compression.ZSTD,
                store="small",
                expected_sha256=DIGEST,
            ),
            lambda v: (v.name, v.size) == (BLOB, 3),
            blobs_pb2.SealBlobRequest(
                parent=TENANT,
                blob_id="report.pdf",
                content_type="text/plain",
                description="d",
                labels={"a": "b"},
                context=[crypto_pb2.ContextPair(key="owner", value=b"42")],
                sealing_policy=3,
                access_policy=blobs_pb2.AccessPolicy(principals=["p"], roles=["r"], purposes=["u"]),
                compression=2,
                store="small",
                expected_sha256=DIGEST,
            ),
        ),
        "unseal_blob": (
            "UnsealBlob",
            lambda *_: iter([blobs_pb2.UnsealBlobResponse(chunk=b"a"), blobs_pb2.UnsealBlobResponse(chunk=b"bc")]),
            lambda c: c.unseal_blob(BLOB, start=5, length=3, context={"owner": b"42"}, purpose="payroll"),
            lambda v: v == [b"a", b"bc"],
            blobs_pb2.UnsealBlobRequest(
                name=BLOB,
                start=5,
                length=3,
                context=[crypto_pb2.ContextPair(key="owner", value=b"42")],
                purpose="payroll",
            ),
        ),
        "get_blob": (
            "GetBlob",
            lambda r, _: blobs_pb2.Blob(name=r.name, sealing_policy=1, compression=9),
            lambda c: c.get_blob(BLOB),
            lambda v: (v.name, v.sealing_policy, v.compression) == (BLOB, SealingPolicy.MRENCLAVE, 9),
            blobs_pb2.GetBlobRequest(name=BLOB),
        ),
        "list_blobs": (
            "ListBlobs",
            lambda *_: blobs_pb2.ListBlobsResponse(blobs=[blobs_pb2.Blob(name=BLOB)]),
            lambda c: c.list_blobs(TENANT, page_size=7),
            lambda v: [one.name for one in v] == [BLOB],
            blobs_pb2.ListBlobsRequest(parent=TENANT, page_size=7),
        ),
        "update_blob": (
            "UpdateBlob",
            lambda r, _: r.blob,
            lambda c: c.update_blob(
                BLOB,
                description="d",
                labels={"a": "b"},
                access=BlobAccess(purposes=("payroll",), end_time=datetime(2027, 1, 1, tzinfo=UTC)),
                expire_time=datetime(2028, 1, 1, tzinfo=UTC),
                legal_hold=True,
                etag="3",
            ),
            lambda v: (
                v.access == BlobAccess(purposes=("payroll",), end_time=datetime(2027, 1, 1, tzinfo=UTC))
                and v.expire_time == datetime(2028, 1, 1, tzinfo=UTC)
            ),
            blobs_pb2.UpdateBlobRequest(
                blob=blobs_pb2.Blob(
                    name=BLOB,
                    description="d",
                    labels={"a": "b"},
                    access_policy=blobs_pb2.AccessPolicy(purposes=["payroll"], end_time=Timestamp(seconds=1798761600)),
                    expire_time=Timestamp(seconds=1830297600),
                    legal_hold=True,
                    etag="3",
                )
            ),
        ),
        "reseal_blob": (
            "ResealBlob",
            lambda r, _: blobs_pb2.Blob(name=r.name, generation=2),
            lambda c: c.reseal_blob(BLOB, context={"a": "b"}, sealing_policy=SealingPolicy.MRSIGNER, etag="3"),
            lambda v: v.generation == 2,
            blobs_pb2.ResealBlobRequest(
                name=BLOB, context=[crypto_pb2.ContextPair(key="a", value=b"b")], sealing_policy=2, etag="3"
            ),
        ),
        "move_blob": (
            "MoveBlob",
            lambda r, _: blobs_pb2.Blob(name=r.name, store=r.store),
            lambda c: c.move_blob(BLOB, "small"),
            lambda v: v.store == "small",
            blobs_pb2.MoveBlobRequest(name=BLOB, store="small"),
        ),
        "delete_blob": (
            "DeleteBlob",
            lambda *_: blobs_pb2.DeleteBlobResponse(),
            lambda c: c.delete_blob(BLOB, etag="3"),
            lambda v: v is None,
            blobs_pb2.DeleteBlobRequest(name=BLOB, etag="3"),
        ),
        "get_upload": (
            "GetUpload",
            lambda *_: blobs_pb2.Upload(committed_size=5),
            lambda c: c.get_upload(BLOB, UID),
            lambda v: v.committed_size == 5,
            blobs_pb2.GetUploadRequest(name=BLOB, upload_id=UID),
        ),
        "who_am_i": (
            "WhoAmI",
            lambda *_: tokens_pb2.WhoAmIResponse(principal=APP, credential_kind="token", scopes=[1, 9]),
            lambda c: c.who_am_i(),
            lambda v: (v.principal, v.credential_kind, v.scopes) == (APP, "token", (TokenScope.READ, 9)),
            tokens_pb2.WhoAmIRequest(),
        ),
        "reencrypt_to_another_key": (
            "ReEncrypt",
            lambda r, _: crypto_pb2.ReEncryptResponse(ciphertext=r.ciphertext, version=1, changed=True),
            lambda c: c.reencrypt(KEY, b"<a>", destination="tenants/acme/keys/fresh"),
            lambda v: v.changed,
            crypto_pb2.ReEncryptRequest(name=KEY, ciphertext=b"<a>", destination="tenants/acme/keys/fresh"),
        ),
        "reencrypt_batch_to_another_key": (
            "ReEncryptBatch",
            lambda r, _: crypto_pb2.ReEncryptBatchResponse(ciphertexts=r.ciphertexts, version=1, changed=1),
            lambda c: c.reencrypt_batch(KEY, [b"<a>"], destination="tenants/acme/keys/fresh"),
            lambda v: v.changed == 1,
            crypto_pb2.ReEncryptBatchRequest(name=KEY, ciphertexts=[b"<a>"], destination="tenants/acme/keys/fresh"),
        ),
    }.items()
}
