"""Who may do what: grants, and the decision that follows from them.

A grant gives (or takes) permissions on resources under conditions. The decision for one principal, permission and
resource, in this order:

1. a principal that is blocked may do nothing;
2. a deny that matches, and whose conditions do not certainly fail, refuses;
3. an allow that matches, and whose conditions certainly hold, permits;
4. everything else is refused.

The order of grants means nothing. What is not known of a call (a context value that it does not give, the address of a
Unix socket) makes an allow fail and a deny hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_network
from types import MappingProxyType
from typing import Final, NewType
from uuid import UUID

from .callers import Address
from .context import check_key
from .errors import invalid
from .names import Principal, TenantUid, parse_slug
from .patterns import Pattern
from .roles import ALL_PERMISSIONS, FREE, GRANTABLE, OVER_TENANTS, PERMISSIONS, Role

GrantUid = NewType("GrantUid", UUID)

# Bounds of one principal's grants: they are in memory together, and a decision looks at each that names the permission.
MOST_GRANTS: Final = 256  # of one principal, the expired ones included
MOST_PERMISSIONS: Final = 64  # in one grant without a role
MOST_CONTEXT_KEYS: Final = 16
MOST_VALUES: Final = 64  # allowed for one context key
LONGEST_VALUE: Final = 256  # characters
MOST_CLASSES: Final = 16
MOST_NETWORKS: Final = 64

Network = IPv4Network | IPv6Network


class PrincipalKind(StrEnum):
    """What a principal stands for."""

    SERVICE = "service"
    PERSON = "person"


class Effect(StrEnum):
    """What a grant does; deny wins."""

    ALLOW = "allow"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class PrincipalRecord:
    """What is stored of a principal. One of which nothing is stored has no grants, and is not blocked."""

    tenant: TenantUid
    slug: str
    kind: PrincipalKind
    display_name: str
    created_at: datetime
    created_by: str
    blocked: bool = False
    blocked_until: datetime | None = None  # None while it is blocked: until somebody unblocks it
    blocked_reason: str = ""
    revision: int = 0

    def blocked_at(self, now: datetime) -> bool:
        """Whether it is blocked then."""
        return self.blocked and (self.blocked_until is None or now < self.blocked_until)

    @property
    def etag(self) -> str:
        """Changes with every change of the principal, and with every grant that it gets."""
        return str(self.revision)


@dataclass(frozen=True, slots=True)
class Conditions:
    """What must hold for a grant to apply; all of it must, and what is empty does not matter."""

    context: Mapping[str, frozenset[str]] = field(default_factory=dict)  # a context key's allowed values
    classes: frozenset[str] = frozenset()  # slugs of classes of keys
    networks: tuple[Network, ...] = ()  # that the call comes from

    def __post_init__(self) -> None:
        if len(self.context) > MOST_CONTEXT_KEYS:
            raise invalid("conditions.context", f"must have at most {MOST_CONTEXT_KEYS} keys")
        for key, values in self.context.items():
            check_key(key, "conditions.context.key")
            if not 1 <= len(values) <= MOST_VALUES or not all(len(value) <= LONGEST_VALUE for value in values):
                rule = f"must be 1 to {MOST_VALUES} values of at most {LONGEST_VALUE} characters"
                raise invalid("conditions.context.values", rule)
        if len(self.classes) > MOST_CLASSES:
            raise invalid("conditions.classes", f"must have at most {MOST_CLASSES} entries")
        for name in self.classes:
            parse_slug(name, "conditions.classes")
        if len(self.networks) > MOST_NETWORKS:
            raise invalid("conditions.networks", f"must have at most {MOST_NETWORKS} entries")

    def __bool__(self) -> bool:
        return bool(self.context or self.classes or self.networks)


def parse_network(text: str, field: str = "conditions.networks") -> Network:
    """Read a network in CIDR notation (RFC 4632, RFC 4291 section 2.3); an address alone is a network of one.

    Raises:
        InvalidRequest: *field* has another form, or bits beyond the prefix are set.
    """
    try:
        return ip_network(text)
    except ValueError as error:
        raise invalid(field, "must be networks such as 192.0.2.0/24 or 2001:db8::/32") from error


@dataclass(frozen=True, slots=True)
class Grant:
    """Permissions of one principal: those of a role, or single ones."""

    uid: GrantUid
    tenant: TenantUid
    principal: str  # its slug
    effect: Effect
    resource: Pattern
    created_at: datetime
    created_by: str
    role: Role | None = None
    permissions: frozenset[str] = frozenset()  # empty with a role
    conditions: Conditions = Conditions()
    expires_at: datetime | None = None
    reason: str = ""
    revision: int = 0

    def __post_init__(self) -> None:
        if (self.role is None) == (not self.permissions):
            raise invalid("grant", "must have a role or permissions, and not both")
        if self.role is not None and self.role not in GRANTABLE:
            raise invalid("grant.role", f"must be one of {', '.join(GRANTABLE)}")
        if len(self.permissions) > MOST_PERMISSIONS:
            raise invalid("grant.permissions", f"must have at most {MOST_PERMISSIONS} entries")

    def gives(self) -> frozenset[str]:
        """Return what it is about."""
        return self.permissions if self.role is None else PERMISSIONS[self.role]

    def expired(self, now: datetime) -> bool:
        """Whether it is over then."""
        return self.expires_at is not None and now >= self.expires_at


def parse_permission(text: str, field: str = "permission") -> str:
    """Check that a permission is one; a stored one may be of a later release.

    Raises:
        InvalidRequest: no role has it.
    """
    if text not in ALL_PERMISSIONS:
        raise invalid(field, f"{text[:64]!r} is no permission")
    return text


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one call; what is missing here is not known."""

    now: datetime
    address: Address | None = None
    context: Mapping[str, str] = field(default_factory=dict)
    classification: str | None = None


class Rule(StrEnum):
    """What decides."""

    GRANT = "grant"  # the decision names which
    BUILT_IN = "built-in"  # of operators; and of everybody, where tenants are open
    BLOCKED = "blocked"  # the principal is
    DEFAULT = "default"  # no grant allows it


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether it is allowed, and by which rule; *grant* where that is one."""

    allowed: bool
    rule: Rule
    grant: Grant | None = None


_BY_DEFAULT: Final = Decision(allowed=False, rule=Rule.DEFAULT)
_BLOCKED: Final = Decision(allowed=False, rule=Rule.BLOCKED)


@dataclass(frozen=True, slots=True)
class _Compiled:
    """A grant, prepared for decisions; one that is built in has none."""

    decision: Decision
    matches: Callable[[str], bool]
    conditions: Conditions | None
    expires_at: datetime | None

    def applies(self, name: str, facts: Facts) -> bool:
        """Whether it decides about this resource."""
        if not self.matches(name) or (self.expires_at is not None and facts.now >= self.expires_at):
            return False
        if self.conditions is None:
            return True
        holds = _holds(self.conditions, facts)
        # Not known is as good as no for an allow, and as good as yes for a deny.
        return holds is True if self.decision.allowed else holds is not False


@dataclass(frozen=True, slots=True)
class Ruling:
    """What decides about one permission, denies before allows.

    *plain*: no fact of the call matters; *classes*: the class of a key does.
    """

    rules: tuple[_Compiled, ...]
    plain: bool
    classes: bool


_NOTHING: Final = Ruling((), plain=True, classes=False)


@dataclass(frozen=True, slots=True)
class Access:
    """All that one principal may do, prepared for decisions."""

    tenant: TenantUid | None  # whose records it was made from; None where there are none
    record: PrincipalRecord | None
    rulings: Mapping[str, Ruling]
    grants: tuple[Grant, ...] = ()

    @property
    def blocked(self) -> bool:
        """Whether it is, or has been until some time."""
        return self.record is not None and self.record.blocked

    def ruling(self, permission: str) -> Ruling:
        """Return what decides about a permission."""
        return self.rulings.get(permission, _NOTHING)


NO_ACCESS: Final = Access(None, None, MappingProxyType({}))


def built_in(principal: Principal, *, open_tenants: bool) -> list[tuple[frozenset[str], Pattern]]:
    """Return what a principal may do without any grant."""
    if principal.tenant is None:
        role = PERMISSIONS[Role.OPERATOR]
        own = role - OVER_TENANTS
        over = OVER_TENANTS | {"keks.rotate"} if open_tenants else OVER_TENANTS
        return [(over, Pattern("**")), (own, Pattern("operators/**")), (own, Pattern("installation"))]
    if not open_tenants:
        return [(FREE, Pattern(f"tenants/{principal.tenant}"))]
    everything = frozenset[str]().union(*(PERMISSIONS[role] for role in GRANTABLE))
    return [(everything, Pattern(f"tenants/{principal.tenant}/**"))]


def compile_access(
    tenant: TenantUid | None,
    record: PrincipalRecord | None,
    grants: Iterable[Grant],
    implied: Iterable[tuple[frozenset[str], Pattern]] = (),
) -> Access:
    """Prepare a principal's grants, and what it may do without any."""
    grants = tuple(grants)
    by_permission: dict[str, list[_Compiled]] = {}
    for permissions, pattern in implied:
        compiled = _Compiled(Decision(allowed=True, rule=Rule.BUILT_IN), pattern.matcher(), None, None)
        for permission in permissions:
            by_permission.setdefault(permission, []).append(compiled)
    for grant in grants:
        compiled = _compile(grant)
        for permission in grant.gives():
            by_permission.setdefault(permission, []).append(compiled)
    return Access(
        tenant, record, MappingProxyType({name: _ruling(rules) for name, rules in by_permission.items()}), grants
    )


def _compile(grant: Grant) -> _Compiled:
    decision = Decision(grant.effect is Effect.ALLOW, Rule.GRANT, grant)
    return _Compiled(decision, grant.resource.matcher(), grant.conditions or None, grant.expires_at)


def _ruling(rules: list[_Compiled]) -> Ruling:
    ordered = sorted(rules, key=lambda rule: rule.decision.allowed)
    return Ruling(
        tuple(ordered),
        plain=all(rule.conditions is None and rule.expires_at is None for rule in ordered),
        classes=any(rule.conditions is not None and rule.conditions.classes for rule in ordered),
    )


def decide(access: Access, permission: str, resource: str, facts: Facts) -> Decision:
    """Decide whether a principal may do this to a resource, by its whole name."""
    if access.record is not None and access.record.blocked_at(facts.now):
        return _BLOCKED
    for rule in access.ruling(permission).rules:
        if rule.applies(resource, facts):
            return rule.decision
    return _BY_DEFAULT


def decide_plainly(access: Access, permission: str, resource: str) -> Decision | None:
    """Decide as decide() does where no fact of the call matters; None where one does."""
    ruling = access.rulings.get(permission, _NOTHING)
    if not ruling.plain or access.blocked:
        return None
    for rule in ruling.rules:
        if rule.matches(resource):
            return rule.decision
    return _BY_DEFAULT


def _holds(conditions: Conditions, facts: Facts) -> bool | None:
    """Whether conditions hold; None where that is not known, and nothing known speaks against it."""
    known = True
    for key, allowed in conditions.context.items():
        value = facts.context.get(key)
        if value is None:
            known = False
        elif value not in allowed:
            return False
    if conditions.classes:
        if facts.classification is None:
            known = False
        elif facts.classification not in conditions.classes:
            return False
    if conditions.networks:
        if facts.address is None:
            known = False
        else:
            address = _unmapped(facts.address)
            if not any(address in network for network in conditions.networks):
                return False
    return True if known else None


def _unmapped(address: Address) -> Address:
    """Return the IPv4 address that a socket for both kinds shows as an IPv6 one. Source: RFC 4291, section 2.5.5.2."""
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address


@dataclass(frozen=True, slots=True)
class Look:
    """A grant that was looked at, whether it applies, and why not."""

    grant: Grant
    applies: bool
    reason: str


def look(grant: Grant, permission: str, resource: str, facts: Facts) -> Look:
    """Say whether one grant applies, and why not: the first reason there is."""
    holds = _holds(grant.conditions, facts)
    if permission not in grant.gives():
        reason = "it is about other permissions"
    elif not grant.resource.matches(resource):
        reason = "it is about other resources"
    elif grant.expired(facts.now):
        reason = "it has expired"
    elif holds is False:
        reason = "its conditions do not hold"
    elif holds is None:
        allow = grant.effect is Effect.ALLOW
        known = "not all that its conditions ask for is known"
        return Look(grant, not allow, f"{known}: an allow fails then" if allow else f"{known}: a deny holds then")
    else:
        return Look(grant, applies=True, reason="all of it matches")
    return Look(grant, applies=False, reason=reason)
