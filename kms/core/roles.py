"""The built-in roles: which permissions each of them gives, and no other.

Duties are separated: no role both uses keys and manages anything, and no role stands above another. A permission is
`<plural noun>.<verb>`, as in the method table; none implies another.
"""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import Final


class Role(StrEnum):
    """A built-in role."""

    APPLICATION = "application"  # uses keys, manages nothing
    MASKED_READER = "masked-reader"  # sees masks of values, and never a whole one
    LEASEHOLDER = "leaseholder"  # gets DEKs, to encrypt and decrypt in its own process
    SECURITY_OFFICER = "security-officer"  # manages keys and approves; never decrypts
    AUDITOR = "auditor"  # reads and verifies
    TENANT_ADMIN = "tenant-admin"  # manages principals, grants and credentials of a tenant; no keys
    CUSTODIAN = "custodian"  # holds a share of an escrow
    OPERATOR = "operator"  # runs the installation; no keys


# Whoever has this gets DEKs in the clear, so that it is in a role of its own and not among what applications do.
LEASE: Final = "keyVersions.lease"
# What puts values under a key, brings them out again, or makes them findable.
USE: Final = frozenset(
    {
        "keys.encrypt",
        "keys.decrypt",
        "keys.decryptMasked",
        "keys.reEncrypt",
        "keys.computeIndex",
        "keys.reIndex",
        "keys.pseudonymize",
        "keys.encryptFormat",
        "keys.decryptFormat",
        "dataKeys.generate",
        "dataKeys.decrypt",
        "blobs.seal",
        "blobs.unseal",
        LEASE,
    }
)

# With any role: one's own tenant and identity, what roles and classes are, what proves receipts, who the enclave is,
# and what becomes of one's own requests.
_EVERYBODY: Final = frozenset(
    {
        "tenants.get",
        "roles.list",
        "classes.list",
        "identity.get",
        "enclaves.get",
        "enclaves.list",
        "enclaves.attest",
        "receipts.verify",
        "approvals.get",
        "approvals.withdraw",
    }
)

_PRINCIPALS: Final = frozenset(
    {
        "principals.create",
        "principals.get",
        "principals.list",
        "principals.update",
        "principals.block",
        "principals.unblock",
    }
)
_CREDENTIALS: Final = frozenset(
    {
        "tokens.create",
        "tokens.get",
        "tokens.list",
        "tokens.rotate",
        "tokens.revoke",
        "certificates.pin",
        "certificates.unpin",
        "certificates.list",
    }
)
_EVENTS: Final = frozenset(
    {"securityEvents.list", "securityEvents.get", "securityEvents.update", "securityEvents.summarize"}
)
_HOLDS: Final = frozenset({"legalHolds.create", "legalHolds.release", "legalHolds.list"})
_ARCHIVES: Final = frozenset({"auditArchives.list", "auditArchives.archive", "auditArchives.remove"})
_AUDIT: Final = frozenset({"audit.read", "audit.query", "audit.report"})
_KEY_METADATA: Final = frozenset({"keys.get", "keys.list", "keyVersions.list", "places.list"})
_BLOB_METADATA: Final = frozenset({"blobs.get", "blobs.list"})
_UPGRADE_METADATA: Final = frozenset({"enclaveUpgrades.get", "enclaveUpgrades.list", "seals.list"})
_REPORTS: Final = frozenset({"reports.get", "reports.list", "reports.download", "reports.review"})
_OPERATIONS: Final = frozenset({"operations.list", "operations.get", "operations.cancel", "operations.resume"})

PERMISSIONS: Final = MappingProxyType(
    {
        Role.APPLICATION: _EVERYBODY | (USE - {LEASE}) | _KEY_METADATA | _BLOB_METADATA | {"random.generate"},
        Role.MASKED_READER: _EVERYBODY | {"keys.decryptMasked"},
        Role.LEASEHOLDER: _EVERYBODY | {LEASE},
        Role.SECURITY_OFFICER: _EVERYBODY
        | _KEY_METADATA
        | _OPERATIONS
        | _EVENTS
        | _REPORTS
        | _HOLDS
        | _BLOB_METADATA
        | _UPGRADE_METADATA
        | {
            "enclaveUpgrades.create",
            "enclaveUpgrades.finish",
            "enclaveUpgrades.cancel",
            "blobs.update",
            "blobs.reseal",
            "blobs.move",
            "blobs.delete",
            "reports.approve",
            "reports.archive",
            "keys.create",
            "keys.update",
            "keys.rotate",
            "keys.activate",
            "keys.suspend",
            "keys.resume",
            "keys.archive",
            "keys.revoke",
            "keys.destroy",
            "keys.restore",
            "keyVersions.revoke",
            "keyVersions.retire",
            "keyVersions.restore",
            "receipts.list",
            "keks.list",
            "keks.rotate",
            "policies.create",
            "policies.get",
            "policies.list",
            "policies.update",
            "places.create",
            "places.delete",
            "places.declare",
            "places.report",
            "approvals.list",
            "approvals.approve",
            "approvals.reject",
            "quorumRules.get",
            "quorumRules.list",
            "audit.read",
            "audit.values",
        },
        Role.AUDITOR: _EVERYBODY
        | _KEY_METADATA
        | _AUDIT
        | _REPORTS
        | {"legalHolds.list"}
        | _BLOB_METADATA
        | _UPGRADE_METADATA
        | {
            "reports.generate",
            "reports.submit",
            "receipts.list",
            "keks.list",
            "policies.get",
            "policies.list",
            "operations.list",
            "operations.get",
            "principals.get",
            "principals.list",
            "grants.list",
            "access.explain",
            "tokens.get",
            "tokens.list",
            "certificates.list",
            "approvals.list",
            "quorumRules.get",
            "quorumRules.list",
            "securityEvents.list",
            "securityEvents.get",
            "securityEvents.summarize",
            "audit.values",
        },
        Role.TENANT_ADMIN: _EVERYBODY
        | _PRINCIPALS
        | _CREDENTIALS
        | {
            "grants.create",
            "grants.list",
            "grants.delete",
            "access.explain",
            "approvals.list",
            "quorumRules.get",
            "quorumRules.list",
            "quorumRules.update",
        },
        Role.CUSTODIAN: _EVERYBODY,
        Role.OPERATOR: _EVERYBODY
        | _CREDENTIALS
        | _EVENTS
        | _OPERATIONS
        | _AUDIT
        | _HOLDS
        | _ARCHIVES
        | {
            "audit.export",
            "audit.verify",
            "tenants.create",
            "tenants.list",
            "nodes.list",
            "nodes.getHealth",
            "keks.list",
            "random.generate",
            "principals.get",
            "principals.block",
            "principals.unblock",
            "access.explain",
        },
    }
)
ALL_PERMISSIONS: Final = frozenset[str]().union(*PERMISSIONS.values())

# What operators may do to tenants and what is theirs; everything else of their role is about operators alone, so that
# no operator makes a token for a tenant's principal.
OVER_TENANTS: Final = (
    _EVENTS
    | _OPERATIONS
    | _AUDIT
    | _HOLDS
    | _ARCHIVES
    | frozenset(
        {
            "audit.export",
            "audit.verify",
            "tenants.create",
            "tenants.get",
            "tenants.list",
            "nodes.list",
            "nodes.getHealth",
            "keks.list",
            "random.generate",
            "receipts.verify",
            "roles.list",
            "classes.list",
            "identity.get",
            "enclaves.get",
            "enclaves.list",
            "enclaves.attest",
        }
    )
)
# What needs no role: somebody who wonders why nothing is allowed may ask who they are.
FREE: Final = frozenset({"identity.get"})
# What a principal of a tenant may be granted.
GRANTABLE: Final = tuple(role for role in Role if role is not Role.OPERATOR)
