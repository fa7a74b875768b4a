"""Resource names (AIP-122) and the principals that act on them, parsed once into typed values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import NewType, Self
from uuid import UUID

from .errors import InvalidRequest, Unauthenticated, invalid

INSTALLATION_PARENT = "installation"  # the parent of what belongs to no tenant, in resource names
_PERMISSION = re.compile(r"[a-zA-Z]{1,64}\.[a-zA-Z]{1,64}")
TenantUid = NewType("TenantUid", UUID)
KekUid = NewType("KekUid", UUID)
KeyUid = NewType("KeyUid", UUID)

# Owns the records that belong to no tenant: operators and what they hold.
INSTALLATION_UID = TenantUid(UUID(int=0))

SLUG_RULE = "must match [a-z][a-z0-9-]{0,61}[a-z0-9]"
_SLUG = re.compile(r"[a-z][a-z0-9-]{0,61}[a-z0-9]")
_BLOB = re.compile(r"[a-z0-9][a-z0-9.-]{0,126}[a-z0-9]")
BLOB_RULE = "must match [a-z0-9][a-z0-9.-]{0,126}[a-z0-9]"
_VERSION = re.compile(r"[1-9][0-9]{0,9}")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SEQUENCE = re.compile(r"[1-9][0-9]{0,18}")
_TOKEN = re.compile(r"[a-z0-9]{12}")
_TRUST_DOMAIN = re.compile(r"[a-z0-9][a-z0-9._-]{0,254}")

# Longer than the longest legal name, so that a refused one is not echoed at length.
_LONGEST = 256


def parse_slug(text: str, field: str) -> str:
    """Check the last segment of a resource name; 2 to 63 characters.

    Raises:
        InvalidRequest: *field* is not a slug.
    """
    if _SLUG.fullmatch(text) is None:
        raise invalid(field, SLUG_RULE)
    return text


@lru_cache(maxsize=4096)  # callers name few resources, again and again
def _segments(text: str, field: str, pattern: str) -> tuple[str, ...]:
    """Match *text* against a pattern such as `tenants/{tenant}/keys/{key}` and return the variable segments."""
    wanted = pattern.split("/")
    given = text.split("/") if len(text) <= _LONGEST else []
    if len(given) != len(wanted):
        raise invalid(field, f"must have the form {pattern}")
    found = []
    for segment, want in zip(given, wanted, strict=True):
        if want.startswith("{"):
            if _SLUG.fullmatch(segment) is None:
                raise invalid(field, f"must have the form {pattern}; {want} {SLUG_RULE}")
            found.append(segment)
        elif segment != want:
            raise invalid(field, f"must have the form {pattern}")
    return tuple(found)


@dataclass(frozen=True, slots=True)
class TenantName:
    """`tenants/{tenant}`."""

    tenant: str

    @classmethod
    def parse(cls, text: str, field: str = "name") -> Self:
        """Read a tenant's resource name.

        Raises:
            InvalidRequest: *field* has another form.
        """
        return cls(*_segments(text, field, "tenants/{tenant}"))

    def __str__(self) -> str:
        return f"tenants/{self.tenant}"

    def kek(self, version: int) -> str:
        """Name one version of the tenant's KEK."""
        return f"tenants/{self.tenant}/keks/{version}"


@dataclass(frozen=True, slots=True)
class KeyName:
    """`tenants/{tenant}/keys/{key}`."""

    tenant: str
    key: str

    @classmethod
    def parse(cls, text: str, field: str = "name") -> Self:
        """Read a key's resource name.

        Raises:
            InvalidRequest: *field* has another form.
        """
        return cls(*_segments(text, field, "tenants/{tenant}/keys/{key}"))

    def __str__(self) -> str:
        return f"tenants/{self.tenant}/keys/{self.key}"

    @property
    def parent(self) -> TenantName:
        """The tenant that owns the key."""
        return TenantName(self.tenant)

    def version(self, number: int) -> str:
        """Name one version of the key."""
        return f"tenants/{self.tenant}/keys/{self.key}/versions/{number}"


@dataclass(frozen=True, slots=True)
class KeyVersionName:
    """`tenants/{tenant}/keys/{key}/versions/{version}`."""

    key: KeyName
    version: int

    @classmethod
    def parse(cls, text: str, field: str = "name") -> Self:
        """Read a key version's resource name.

        Raises:
            InvalidRequest: *field* has another form.
        """
        pattern = "tenants/{tenant}/keys/{key}/versions/{version}"
        head, _, number = text.rpartition("/versions/")
        if _VERSION.fullmatch(number) is None or int(number) >= 2**32:
            raise invalid(field, f"must have the form {pattern}; {{version}} is a number from 1")
        try:
            return cls(KeyName.parse(head, field), int(number))
        except InvalidRequest as error:
            raise invalid(field, f"must have the form {pattern}; names {SLUG_RULE}") from error

    @property
    def tenant(self) -> str:
        """The slug of the tenant that owns the key."""
        return self.key.tenant

    def __str__(self) -> str:
        return self.key.version(self.version)


@dataclass(frozen=True, slots=True)
class PlaceName:
    """`tenants/{tenant}/keys/{key}/places/{place}`: where ciphertexts of a key live."""

    tenant: str
    key: str
    place: str

    @classmethod
    def parse(cls, text: str, field: str = "name") -> Self:
        """Read a place's resource name.

        Raises:
            InvalidRequest: *field* has another form.
        """
        return cls(*_segments(text, field, "tenants/{tenant}/keys/{key}/places/{place}"))

    @property
    def parent(self) -> KeyName:
        """The key whose ciphertexts live there."""
        return KeyName(self.tenant, self.key)

    def __str__(self) -> str:
        return f"tenants/{self.tenant}/keys/{self.key}/places/{self.place}"


@dataclass(frozen=True, slots=True)
class PolicyName:
    """`tenants/{tenant}/policies/{policy}`."""

    tenant: str
    policy: str

    @classmethod
    def parse(cls, text: str, field: str = "name") -> Self:
        """Read a policy's resource name.

        Raises:
            InvalidRequest: *field* has another form.
        """
        return cls(*_segments(text, field, "tenants/{tenant}/policies/{policy}"))

    @property
    def parent(self) -> TenantName:
        """The tenant that owns the policy."""
        return TenantName(self.tenant)

    def __str__(self) -> str:
        return f"tenants/{self.tenant}/policies/{self.policy}"


@dataclass(frozen=True, slots=True)
class OperationName:
    """`tenants/{tenant}/operations/{operation}`; the last segment is a UUID."""

    tenant: str
    operation: UUID

    @classmethod
    def parse(cls, text: str, field: str = "name") -> Self:
        """Read an operation's resource name.

        Raises:
            InvalidRequest: *field* has another form.
        """
        pattern = "tenants/{tenant}/operations/{operation}"
        head, _, uid = text.rpartition("/operations/")
        if _UUID.fullmatch(uid) is None:
            raise invalid(field, f"must have the form {pattern}; {{operation}} is a UUID in lower case with hyphens")
        try:
            return cls(TenantName.parse(head, field).tenant, UUID(uid))
        except InvalidRequest as error:
            raise invalid(field, f"must have the form {pattern}; names {SLUG_RULE}") from error

    @property
    def parent(self) -> TenantName:
        """The tenant that it works for."""
        return TenantName(self.tenant)

    def __str__(self) -> str:
        return f"tenants/{self.tenant}/operations/{self.operation}"


@dataclass(frozen=True, slots=True)
class TokenName:
    """`tenants/{tenant}/tokens/{token}`; the last segment is the token's prefix."""

    tenant: str
    token: str

    @classmethod
    def parse(cls, text: str, field: str = "name") -> Self:
        """Read a token's resource name.

        Raises:
            InvalidRequest: *field* has another form.
        """
        pattern = "tenants/{tenant}/tokens/{token}"
        head, _, prefix = text.rpartition("/tokens/")
        if _TOKEN.fullmatch(prefix) is None:
            raise invalid(field, f"must have the form {pattern}; {{token}} is a prefix of 12 letters and digits")
        try:
            return cls(TenantName.parse(head, field).tenant, prefix)
        except InvalidRequest as error:
            raise invalid(field, f"must have the form {pattern}; names {SLUG_RULE}") from error

    @property
    def parent(self) -> TenantName:
        """The tenant that owns the token."""
        return TenantName(self.tenant)

    def __str__(self) -> str:
        return f"tenants/{self.tenant}/tokens/{self.token}"


@dataclass(frozen=True, slots=True)
class ApprovalName:
    """`tenants/{tenant}/approvals/{approval}`; the last segment is a UUID."""

    tenant: str
    approval: UUID

    @classmethod
    def parse(cls, text: str, field: str = "name") -> Self:
        """Read the resource name of a request for approval.

        Raises:
            InvalidRequest: *field* has another form.
        """
        pattern = "tenants/{tenant}/approvals/{approval}"
        head, _, uid = text.rpartition("/approvals/")
        if _UUID.fullmatch(uid) is None:
            raise invalid(field, f"must have the form {pattern}; {{approval}} is a UUID in lower case with hyphens")
        try:
            return cls(TenantName.parse(head, field).tenant, UUID(uid))
        except InvalidRequest as error:
            raise invalid(field, f"must have the form {pattern}; names {SLUG_RULE}") from error

    @property
    def parent(self) -> TenantName:
        """The tenant whose principals decide."""
        return TenantName(self.tenant)

    def __str__(self) -> str:
        return f"tenants/{self.tenant}/approvals/{self.approval}"


@dataclass(frozen=True, slots=True)
class QuorumRuleName:
    """`tenants/{tenant}/quorumRules/{permission}`."""

    tenant: str
    permission: str

    @classmethod
    def parse(cls, text: str, field: str = "name") -> Self:
        """Read the resource name of a quorum rule.

        Raises:
            InvalidRequest: *field* has another form.
        """
        pattern = "tenants/{tenant}/quorumRules/{permission}"
        head, _, permission = text.rpartition("/quorumRules/")
        if _PERMISSION.fullmatch(permission) is None:
            raise invalid(field, f"must have the form {pattern}; {{permission}} is one such as keys.destroy")
        try:
            return cls(TenantName.parse(head, field).tenant, permission)
        except InvalidRequest as error:
            raise invalid(field, f"must have the form {pattern}; names {SLUG_RULE}") from error

    @property
    def parent(self) -> TenantName:
        """The tenant for which it holds."""
        return TenantName(self.tenant)

    def __str__(self) -> str:
        return f"tenants/{self.tenant}/quorumRules/{self.permission}"


def parse_blob_id(text: str, field: str) -> str:
    """Check the last segment of a blob's name; 2 to 128 characters.

    Raises:
        InvalidRequest: *field* is none.
    """
    if _BLOB.fullmatch(text) is None:
        raise invalid(field, BLOB_RULE)
    return text


@dataclass(frozen=True, slots=True)
class BlobName:
    """`tenants/{tenant}/blobs/{blob}`."""

    tenant: str
    blob: str

    @classmethod
    def parse(cls, text: str, field: str = "name") -> Self:
        """Read the resource name of a sealed blob.

        Raises:
            InvalidRequest: *field* has another form.
        """
        pattern = "tenants/{tenant}/blobs/{blob}"
        head, _, blob = text.rpartition("/blobs/")
        if _BLOB.fullmatch(blob) is None:
            raise invalid(field, f"must have the form {pattern}; {{blob}} {BLOB_RULE}")
        try:
            return cls(TenantName.parse(head, field).tenant, blob)
        except InvalidRequest as error:
            raise invalid(field, f"must have the form {pattern}; {{tenant}} {SLUG_RULE}") from error

    @property
    def parent(self) -> TenantName:
        """The tenant that owns it."""
        return TenantName(self.tenant)

    def __str__(self) -> str:
        return f"tenants/{self.tenant}/blobs/{self.blob}"


@dataclass(frozen=True, slots=True)
class ReportName:
    """`tenants/{tenant}/reports/{report}`; the last segment is a UUID."""

    tenant: str
    report: UUID

    @classmethod
    def parse(cls, text: str, field: str = "name") -> Self:
        """Read the resource name of a compliance report.

        Raises:
            InvalidRequest: *field* has another form.
        """
        pattern = "tenants/{tenant}/reports/{report}"
        head, _, uid = text.rpartition("/reports/")
        if _UUID.fullmatch(uid) is None:
            raise invalid(field, f"must have the form {pattern}; {{report}} is a UUID in lower case with hyphens")
        try:
            return cls(TenantName.parse(head, field).tenant, UUID(uid))
        except InvalidRequest as error:
            raise invalid(field, f"must have the form {pattern}; names {SLUG_RULE}") from error

    @property
    def parent(self) -> TenantName:
        """The tenant that it is about."""
        return TenantName(self.tenant)

    def __str__(self) -> str:
        return f"tenants/{self.tenant}/reports/{self.report}"


@dataclass(frozen=True, slots=True)
class EnclaveUpgradeName:
    """`tenants/{tenant}/enclaveUpgrades/{upgrade}`; {upgrade} is a UUID."""

    tenant: str
    upgrade: UUID

    @classmethod
    def parse(cls, text: str, field: str = "name") -> Self:
        """Read the resource name of an upgrade of an enclave.

        Raises:
            InvalidRequest: *field* has another form.
        """
        pattern = "tenants/{tenant}/enclaveUpgrades/{upgrade}"
        head, _, uid = text.rpartition("/enclaveUpgrades/")
        if _UUID.fullmatch(uid) is None:
            raise invalid(field, f"must have the form {pattern}; {{upgrade}} is a UUID in lower case with hyphens")
        try:
            return cls(TenantName.parse(head, field).tenant, UUID(uid))
        except InvalidRequest as error:
            raise invalid(field, f"must have the form {pattern}; names {SLUG_RULE}") from error

    @property
    def parent(self) -> TenantName:
        """The tenant whose seals it is about."""
        return TenantName(self.tenant)

    def __str__(self) -> str:
        return f"tenants/{self.tenant}/enclaveUpgrades/{self.upgrade}"


@dataclass(frozen=True, slots=True)
class SecurityEventsParent:
    """`tenants/{tenant}`, or (tenant None) `installation`: whose security events are meant."""

    tenant: str | None

    @classmethod
    def parse(cls, text: str, field: str = "parent") -> Self:
        """Read a parent of security events.

        Raises:
            InvalidRequest: *field* has another form.
        """
        if text == INSTALLATION_PARENT:
            return cls(None)
        try:
            return cls(TenantName.parse(text, field).tenant)
        except InvalidRequest as error:
            raise invalid(field, f"must have the form tenants/{{tenant}}, or be {INSTALLATION_PARENT}") from error

    def __str__(self) -> str:
        return INSTALLATION_PARENT if self.tenant is None else f"tenants/{self.tenant}"


@dataclass(frozen=True, slots=True)
class SecurityEventName:
    """`tenants/{tenant}/securityEvents/{event}`, or `installation/securityEvents/{event}`; {event} is a UUID."""

    tenant: str | None
    event: UUID

    @classmethod
    def parse(cls, text: str, field: str = "name") -> Self:
        """Read a security event's resource name.

        Raises:
            InvalidRequest: *field* has another form.
        """
        pattern = "tenants/{tenant}/securityEvents/{event}"
        head, _, uid = text.rpartition("/securityEvents/")
        if _UUID.fullmatch(uid) is None:
            raise invalid(field, f"must have the form {pattern}; {{event}} is a UUID in lower case with hyphens")
        try:
            return cls(SecurityEventsParent.parse(head, field).tenant, UUID(uid))
        except InvalidRequest as error:
            raise invalid(field, f"must have the form {pattern}; names {SLUG_RULE}") from error

    @property
    def parent(self) -> SecurityEventsParent:
        """Whose event it is."""
        return SecurityEventsParent(self.tenant)

    def __str__(self) -> str:
        return f"{self.parent}/securityEvents/{self.event}"


@dataclass(frozen=True, slots=True)
class AuditEventName:
    """`tenants/{tenant}/auditEvents/{stream}-{sequence}`, or `installation/auditEvents/{stream}-{sequence}`.

    {stream} is a UUID, {sequence} a number from 1 of at most 19 digits.
    """

    tenant: str | None
    stream: UUID
    sequence: int

    @classmethod
    def parse(cls, text: str, field: str = "name") -> Self:
        """Read an audit event's resource name.

        Raises:
            InvalidRequest: *field* has another form.
        """
        pattern = "tenants/{tenant}/auditEvents/{stream}-{sequence}"
        head, _, event = text.rpartition("/auditEvents/")
        uid, _, number = event.rpartition("-")
        if _UUID.fullmatch(uid) is None or _SEQUENCE.fullmatch(number) is None or int(number) >= 2**63:
            raise invalid(field, f"must have the form {pattern}; {{stream}} is a UUID, {{sequence}} a number from 1")
        try:
            return cls(SecurityEventsParent.parse(head, field).tenant, UUID(uid), int(number))
        except InvalidRequest as error:
            raise invalid(field, f"must have the form {pattern}; names {SLUG_RULE}") from error

    @property
    def parent(self) -> SecurityEventsParent:
        """In whose trail it is."""
        return SecurityEventsParent(self.tenant)

    def __str__(self) -> str:
        return f"{self.parent}/auditEvents/{self.stream}-{self.sequence}"


@dataclass(frozen=True, slots=True)
class LegalHoldName:
    """`tenants/{tenant}/legalHolds/{hold}`, or `installation/legalHolds/{hold}`."""

    tenant: str | None
    hold: str

    @classmethod
    def parse(cls, text: str, field: str = "name") -> Self:
        """Read a legal hold's resource name.

        Raises:
            InvalidRequest: *field* has another form.
        """
        pattern = "tenants/{tenant}/legalHolds/{hold}"
        head, _, hold = text.rpartition("/legalHolds/")
        try:
            return cls(SecurityEventsParent.parse(head, field).tenant, parse_slug(hold, field))
        except InvalidRequest as error:
            raise invalid(field, f"must have the form {pattern}; names {SLUG_RULE}") from error

    @property
    def parent(self) -> SecurityEventsParent:
        """Whose events it keeps."""
        return SecurityEventsParent(self.tenant)

    def __str__(self) -> str:
        return f"{self.parent}/legalHolds/{self.hold}"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls: a principal of one tenant, or (tenant None) an operator of the installation."""

    tenant: str | None
    name: str

    @classmethod
    def parse(cls, text: str, field: str = "principal") -> Self:
        """Read `tenants/{tenant}/principals/{principal}` or `operators/{operator}`.

        Raises:
            InvalidRequest: *field* has another form.
        """
        if text.startswith("operators/"):
            return cls(None, *_segments(text, field, "operators/{operator}"))
        return cls.parse_of_tenant(text, field)

    @classmethod
    def parse_of_tenant(cls, text: str, field: str = "principal") -> Self:
        """Read `tenants/{tenant}/principals/{principal}`.

        Raises:
            InvalidRequest: *field* has another form.
        """
        return cls(*_segments(text, field, "tenants/{tenant}/principals/{principal}"))

    @classmethod
    def from_spiffe_id(cls, uri: str, trust_domain: str) -> Self:
        """Read the URI SAN of a client certificate: `spiffe://<trust domain>/` and a principal's name.

        Source: SPIFFE-ID, sections 2.1 and 2.2.

        Raises:
            Unauthenticated: another trust domain, or a path that names no principal.
        """
        prefix = f"spiffe://{trust_domain}/"
        if not uri.startswith(prefix):
            raise Unauthenticated("the client certificate is of another trust domain")
        try:
            return cls.parse(uri.removeprefix(prefix))
        except InvalidRequest as error:
            raise Unauthenticated("the client certificate names no principal") from error

    def spiffe_id(self, trust_domain: str) -> str:
        """The URI SAN for this principal's certificate."""
        return f"spiffe://{trust_domain}/{self}"

    def __str__(self) -> str:
        return f"operators/{self.name}" if self.tenant is None else f"tenants/{self.tenant}/principals/{self.name}"


@dataclass(frozen=True, slots=True)
class GrantName:
    """`tenants/{tenant}/principals/{principal}/grants/{grant}`; the last segment is a UUID."""

    principal: Principal
    grant: UUID

    @classmethod
    def parse(cls, text: str, field: str = "name") -> Self:
        """Read a grant's resource name.

        Raises:
            InvalidRequest: *field* has another form.
        """
        pattern = "tenants/{tenant}/principals/{principal}/grants/{grant}"
        head, _, uid = text.rpartition("/grants/")
        if _UUID.fullmatch(uid) is None:
            raise invalid(field, f"must have the form {pattern}; {{grant}} is a UUID in lower case with hyphens")
        try:
            return cls(Principal.parse_of_tenant(head, field), UUID(uid))
        except InvalidRequest as error:
            raise invalid(field, f"must have the form {pattern}; names {SLUG_RULE}") from error

    @property
    def tenant(self) -> str | None:
        """The slug of the tenant that owns it."""
        return self.principal.tenant

    def __str__(self) -> str:
        return f"{self.principal}/grants/{self.grant}"


def parse_trust_domain(text: str) -> str:
    """Check a SPIFFE trust domain; at most 255 characters.

    Raises:
        InvalidRequest: not `[a-z0-9][a-z0-9._-]*`.
    """
    if _TRUST_DOMAIN.fullmatch(text) is None:
        raise invalid("trust_domain", "must match [a-z0-9][a-z0-9._-]{0,254}")
    return text
