"""Which role gives which permission, written down a second time; and that duties are separated."""

from __future__ import annotations

import pytest

from kms.core.access import built_in
from kms.core.names import Principal
from kms.core.roles import ALL_PERMISSIONS, GRANTABLE, LEASE, OVER_TENANTS, PERMISSIONS, USE, Role
from kms.rpc.methods import METHODS, AuditKind

# The roles by their letters: a(pplication), m(asked-reader), l(easeholder), s(ecurity-officer), r (auditor: reads),
# t(enant-admin), c(ustodian), o(perator).
LETTERS = {
    "a": Role.APPLICATION,
    "m": Role.MASKED_READER,
    "l": Role.LEASEHOLDER,
    "s": Role.SECURITY_OFFICER,
    "r": Role.AUDITOR,
    "t": Role.TENANT_ADMIN,
    "c": Role.CUSTODIAN,
    "o": Role.OPERATOR,
}
TABLE = """
tenants.create o       tenants.get amlsrtco     tenants.list o         nodes.list o
nodes.getHealth o
keys.encrypt a         keys.decrypt a         keys.reEncrypt a       dataKeys.generate a    dataKeys.decrypt a
keys.decryptMasked am
keyVersions.lease l
keys.computeIndex a    keys.reIndex a         keys.pseudonymize a    keys.encryptFormat a   keys.decryptFormat a
blobs.seal a           blobs.unseal a         blobs.get asr          blobs.list asr         blobs.update s
blobs.reseal s         blobs.move s           blobs.delete s
enclaveUpgrades.create s  enclaveUpgrades.get sr  enclaveUpgrades.list sr  enclaveUpgrades.finish s
enclaveUpgrades.cancel s  seals.list sr
random.generate ao     keys.get asr           keys.list asr          keyVersions.list asr   places.list asr
keys.create s          keys.update s          keys.rotate s          keys.activate s        keys.suspend s
keys.resume s          keys.archive s         keys.revoke s          keys.destroy s         keys.restore s
keyVersions.revoke s   keyVersions.retire s   keyVersions.restore s
receipts.list sr       receipts.verify amlsrtco keks.list sro          keks.rotate s
policies.create s      policies.get sr        policies.list sr       policies.update s
places.create s        places.delete s        places.declare s       places.report s
operations.list sro    operations.get sro     operations.cancel so   operations.resume so
principals.create t    principals.get rto     principals.list rt     principals.update t
principals.block to    principals.unblock to
grants.create t        grants.list rt         grants.delete t        access.explain rto     roles.list amlsrtco
classes.list amlsrtco    identity.get amlsrtco  enclaves.get amlsrtco  enclaves.attest amlsrtco
enclaves.list amlsrtco
tokens.create to       tokens.get rto         tokens.list rto        tokens.rotate to       tokens.revoke to
certificates.pin to    certificates.unpin to  certificates.list rto
approvals.get amlsrtco   approvals.withdraw amlsrtco  approvals.list srt approvals.approve s    approvals.reject s
quorumRules.get srt    quorumRules.list srt   quorumRules.update t
reports.generate r     reports.get sr         reports.list sr        reports.download sr    reports.submit r
reports.review sr      reports.approve s      reports.archive s
securityEvents.list sro  securityEvents.get sro  securityEvents.update so  securityEvents.summarize sro
legalHolds.create so    legalHolds.release so   legalHolds.list sro
auditArchives.list o    auditArchives.archive o auditArchives.remove o
audit.read sro         audit.query ro         audit.report ro        audit.values sr
audit.export o         audit.verify o
"""
WORDS = TABLE.split()
WRITTEN = {
    permission: {LETTERS[letter] for letter in letters} for permission, letters in zip(*[iter(WORDS)] * 2, strict=True)
}
# Changes nothing but one's own request, or but a report.
OWN = {"approvals.withdraw", "reports.generate", "reports.submit", "reports.review"}
MANAGEMENT = (
    {method.permission for method in METHODS if method.audit is AuditKind.ADMIN}
    | {
        permission
        for permission in WRITTEN
        if permission.partition(".")[2]
        not in {
            *(
                "get",
                "list",
                "summarize",
                "explain",
                "verify",
                "attest",
                "read",
                "query",
                "report",
                "values",
                "download",
                "export",
                "seal",
                "unseal",
            ),
        }
    }
) - (USE | OWN | {"random.generate"})


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("permission", sorted(WRITTEN))
def test_a_role_gives_what_the_table_says(role, permission):
    assert (permission in PERMISSIONS[role]) == (role in WRITTEN[permission])


def test_there_is_no_permission_beyond_the_table():
    assert set(WRITTEN) == ALL_PERMISSIONS
    assert set(PERMISSIONS) == set(Role)


def test_every_permission_of_a_method_is_in_a_role():
    assert {method.permission for method in METHODS} <= ALL_PERMISSIONS


def test_what_uses_a_key_is_what_the_method_table_counts_as_data():
    assert {method.permission for method in METHODS if method.audit is AuditKind.DATA} == USE


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.APPLICATION])
def test_only_applications_use_keys_others_see_masks_or_hold_leases(role):
    alone = {Role.MASKED_READER: {"keys.decryptMasked"}, Role.LEASEHOLDER: {LEASE}}.get(role, set())
    assert PERMISSIONS[role] & USE == alone
    assert not any(permission.startswith("dataKeys.") for permission in PERMISSIONS[role])


def test_a_dek_leaves_only_for_whoever_has_that_role():
    assert [role for role in Role if LEASE in PERMISSIONS[role]] == [Role.LEASEHOLDER]
    assert PERMISSIONS[Role.LEASEHOLDER] - PERMISSIONS[Role.CUSTODIAN] == {LEASE}


def test_no_role_both_uses_and_manages():
    assert "keys.rotate" in MANAGEMENT
    assert [role for role in Role if PERMISSIONS[role] & USE and PERMISSIONS[role] & MANAGEMENT] == []
    assert not PERMISSIONS[Role.APPLICATION] & MANAGEMENT
    assert not PERMISSIONS[Role.AUDITOR] & MANAGEMENT
    assert not PERMISSIONS[Role.CUSTODIAN] & MANAGEMENT


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.TENANT_ADMIN, Role.CUSTODIAN])
def test_operators_and_administrators_have_nothing_to_do_with_keys(role):
    assert not any(permission.startswith(("keys.", "keyVersions.")) for permission in PERMISSIONS[role])


def test_who_grants_does_not_approve():
    assert not any({"grants.create", "approvals.approve"} <= PERMISSIONS[role] for role in Role)


def test_what_operators_do_to_tenants_is_part_of_their_role_and_makes_no_credentials():
    assert PERMISSIONS[Role.OPERATOR] > OVER_TENANTS
    for noun in ("tokens.", "certificates.", "principals.", "grants.", "access."):
        assert not any(permission.startswith(noun) for permission in OVER_TENANTS)


def test_only_where_tenants_are_open_do_operators_rotate_keks():
    root = Principal(None, "root")

    def given(*, open_tenants: bool) -> set[str]:
        return {name for names, _ in built_in(root, open_tenants=open_tenants) for name in names}

    assert given(open_tenants=False) == PERMISSIONS[Role.OPERATOR]
    assert given(open_tenants=True) == PERMISSIONS[Role.OPERATOR] | {"keks.rotate"}


def test_the_role_of_operators_is_granted_to_nobody():
    assert set(GRANTABLE) == set(Role) - {Role.OPERATOR}
