"""Principals, what they are granted, and why something is allowed or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum


class PrincipalKind(IntEnum):
    """What a principal stands for."""

    SERVICE = 1
    PERSON = 2


class Effect(IntEnum):
    """What a grant does."""

    ALLOW = 1
    DENY = 2  # wins over every ALLOW


class AccessRule(IntEnum):
    """What decided."""

    GRANT = 1
    BUILT_IN = 2  # of an operator; of everybody, where tenants are open
    BLOCKED = 3
    DEFAULT = 4  # no grant allows it
    OTHER_TENANT = 5  # whose resources do not exist for the principal


@dataclass(frozen=True, slots=True)
class Founder:
    """One of the first principals of a new tenant: its id, and its roles in all of the tenant."""

    principal_id: str
    roles: tuple[str, ...]
    kind: PrincipalKind = PrincipalKind.PERSON


@dataclass(frozen=True, slots=True)
class AccessPrincipal:
    """What is stored of a principal: `tenants/{tenant}/principals/{principal}` or `operators/{operator}`."""

    name: str
    kind: PrincipalKind | int
    display_name: str
    blocked: bool
    block_end_time: datetime | None  # None: the block does not end by itself, or there is none
    block_reason: str
    create_time: datetime
    creator: str
    etag: str


@dataclass(frozen=True, slots=True)
class Conditions:
    """What must hold for a grant to apply: all of it."""

    context: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # a context key's allowed values
    classes: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()  # CIDR


@dataclass(frozen=True, slots=True)
class Grant:
    """Permissions of a principal: `tenants/{tenant}/principals/{principal}/grants/{grant}`."""

    name: str
    effect: Effect | int
    role: str  # empty with permissions
    permissions: tuple[str, ...]  # empty with a role
    resource: str
    conditions: Conditions
    expire_time: datetime | None
    reason: str
    create_time: datetime
    creator: str


@dataclass(frozen=True, slots=True)
class Role:
    """A built-in role."""

    name: str
    permissions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GrantLook:
    """A grant that was looked at, whether it applies, and why or why not."""

    grant: Grant
    applies: bool
    reason: str


@dataclass(frozen=True, slots=True)
class AccessExplanation:
    """Whether something is allowed, and what decided; *grant* is empty where no grant did."""

    allowed: bool
    rule: AccessRule | int
    grant: str
    looks: tuple[GrantLook, ...]
