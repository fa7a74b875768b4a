"""What has to be done with keys and KEKs, and when: decisions and the values that follow from them, without a clock.

A rotation by time belongs to a slot: the last scheduled time plus a whole number of periods. Slots that were missed
while no node ran are one rotation, and one slot never makes two versions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, TypeAlias

from .keyring import Kek, KekState, Key, KeyVersion, Tenant
from .lifecycle import ENCRYPTING, KeyEvent, KeyState
from .policy import NEVER, Policy

# A schedule that lies further ahead than nodes' clocks may differ was made by a clock that has since gone back.
CLOCK_SLACK: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Lineage:
    """A key with its policy and those of its versions that wait for a time (`until`)."""

    key: Key
    policy: Policy
    timed: Sequence[KeyVersion] = ()


@dataclass(frozen=True, slots=True)
class Rotate:
    """A new primary version is due for this slot."""

    key: Key
    slot: datetime


@dataclass(frozen=True, slots=True)
class FinishRotation:
    """The grace of these versions is over: they are archived."""

    key: Key
    versions: tuple[KeyVersion, ...]


@dataclass(frozen=True, slots=True)
class DestroyVersion:
    """The quarantine of this version is over; its census decides."""

    key: Key
    version: KeyVersion


@dataclass(frozen=True, slots=True)
class DestroyKey:
    """The waiting period of this key is over; its census decides."""

    key: Key


@dataclass(frozen=True, slots=True)
class Reanchor:
    """The key's schedule was made by a clock that has gone back: it begins anew."""

    key: Key


Action: TypeAlias = Rotate | FinishRotation | DestroyVersion | DestroyKey | Reanchor


def due(now: datetime, lineages: Iterable[Lineage], *, may_destroy: bool = True) -> list[Action]:
    """Return what has to be done now, in the order in which to do it; destruction only where *may_destroy*."""
    actions: list[Action] = []
    for lineage in lineages:
        key = lineage.key
        if key.scheduled_from > now + CLOCK_SLACK:
            actions.append(Reanchor(key))
        elif (at := _rotation_at(lineage)) is not None and at <= now:
            actions.append(Rotate(key, slot(key.scheduled_from, lineage.policy.rotation, now)))
        if key.state is KeyState.DESTROYED:
            continue  # its versions go with it
        over = [version for version in lineage.timed if version.until is not None and version.until <= now]
        if replaced := tuple(version for version in over if version.state is KeyState.ROTATING):
            actions.append(FinishRotation(key, replaced))
        if may_destroy:
            actions += [DestroyVersion(key, v) for v in over if v.state is KeyState.DESTRUCTION_SCHEDULED]
            if key.state is KeyState.DESTRUCTION_SCHEDULED and key.destroy_at is not None and key.destroy_at <= now:
                actions.append(DestroyKey(key))
    return actions


def next_due(lineage: Lineage) -> datetime | None:
    """Return when the key has to be looked at again; None where nothing waits for a time."""
    if lineage.key.state is KeyState.DESTROYED:
        return None
    times = [version.until for version in lineage.timed]
    times += [_rotation_at(lineage), lineage.key.destroy_at]
    return min((time for time in times if time is not None), default=None)


def slot(scheduled_from: datetime, period: timedelta, now: datetime) -> datetime:
    """Return the last scheduled time that is not after *now*: all that were missed before it count as this one."""
    return scheduled_from + (now - scheduled_from) // period * period


def _rotation_at(lineage: Lineage) -> datetime | None:
    if lineage.policy.rotation == NEVER or lineage.key.state not in ENCRYPTING:
        return None
    return lineage.key.scheduled_from + lineage.policy.rotation


def rotated(
    lineage: Lineage, primary: KeyVersion, now: datetime, scheduled_from: datetime, revoked_for: str = ""
) -> tuple[Key, KeyVersion]:
    """Return the key with its next version as the primary one, and the version that it replaces.

    With *revoked_for*, the reason, that version is compromised and has no grace; one that was revoked before stays so.
    The new version itself is made by whoever has the token.

    Raises:
        WrongKeyState: the key's state does not allow that.
    """
    key = lineage.key.rotated(now, scheduled_from)
    replaced = primary
    if revoked_for:
        replaced = primary.after(KeyEvent.REVOKE, now, reason=revoked_for)
    elif primary.state is KeyState.ACTIVE:
        replaced = primary.after(KeyEvent.ROTATE, now, until=now + lineage.policy.grace)
    return planned(replace(lineage, key=key), replaced), replaced


def finished(lineage: Lineage, versions: Iterable[KeyVersion], now: datetime) -> tuple[Key, list[KeyVersion]]:
    """Return the key and the versions, archived, after the end of their grace."""
    archived = [version.after(KeyEvent.FINISH_ROTATION, now) for version in versions]
    return planned(lineage, *archived), archived


def reanchored(lineage: Lineage, now: datetime) -> Key:
    """Return the key with a schedule that begins now."""
    return planned(replace(lineage, key=replace(lineage.key, scheduled_from=now)))


def planned(lineage: Lineage, *changed: KeyVersion) -> Key:
    """Return the key with the time at which to look at it next, given versions of it that have just *changed*.

    With the last version in its grace, the rotation of the key is over too.
    """
    fresh = {version.version for version in changed}
    timed = [*(version for version in lineage.timed if version.version not in fresh), *changed]
    key = lineage.key
    if (
        changed
        and KeyState.ROTATING in (key.state, key.state_before)
        and not any(version.state is KeyState.ROTATING for version in timed)
    ):
        key = key.after(KeyEvent.FINISH_ROTATION, max(key.state_at, *(version.state_at for version in changed)))
    return replace(key, due_at=next_due(Lineage(key, lineage.policy, timed)))


def postponed(lineage: Lineage, now: datetime, until: datetime) -> Key:
    """Return the key planned so that what is due but cannot be carried out yet is looked at again at *until*.

    That is the destruction of the key or of versions. Rotations and ends of graces stay due.
    """
    key = lineage.key
    if key.destroy_at is not None and key.destroy_at <= now:
        key = replace(key, destroy_at=until)
    timed = [
        version
        if version.until is None or version.until > now or version.state is KeyState.ROTATING
        else replace(version, until=until)
        for version in lineage.timed
    ]
    return replace(lineage.key, due_at=next_due(Lineage(key, lineage.policy, timed)))


@dataclass(frozen=True, slots=True)
class KekLineage:
    """A tenant with the versions of its KEK that are in the token, and how many DEKs each wraps."""

    tenant: Tenant
    keks: Sequence[Kek]
    wrapped: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class KekPolicy:
    """What holds for all KEKs of the installation."""

    rotation: timedelta = timedelta(days=90)  # NEVER: not by time
    quarantine: timedelta = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class RotateKek:
    """A new KEK version is due; *seen* is the primary one that it replaces."""

    tenant: Tenant
    seen: int


@dataclass(frozen=True, slots=True)
class Rewrap:
    """DEKs are wrapped by older KEK versions."""

    tenant: Tenant
    remaining: int


@dataclass(frozen=True, slots=True)
class RetireKek:
    """Nothing is wrapped by this older version: its quarantine begins."""

    tenant: Tenant
    kek: Kek


@dataclass(frozen=True, slots=True)
class RestoreKek:
    """Something is wrapped by this version, which was in quarantine or on its way out of the token."""

    tenant: Tenant
    kek: Kek


@dataclass(frozen=True, slots=True)
class DestroyKek:
    """The quarantine of this version is over, or an intent to destroy it has no outcome yet."""

    tenant: Tenant
    kek: Kek


KekAction: TypeAlias = RotateKek | Rewrap | RetireKek | RestoreKek | DestroyKek


def due_keks(now: datetime, lineage: KekLineage, policy: KekPolicy, *, may_destroy: bool = True) -> list[KekAction]:
    """Return what has to be done now with a tenant's KEK versions; an intent to destroy is carried through in any case.

    Nothing is destroyed that wraps a DEK.
    """
    tenant = lineage.tenant
    actions: list[KekAction] = []
    # One that is newer is on its way to become the primary one.
    older = [kek for kek in lineage.keks if kek.version < tenant.primary_kek]
    primary = next((kek for kek in lineage.keks if kek.version == tenant.primary_kek), None)
    if primary is not None and policy.rotation != NEVER and primary.created_at + policy.rotation <= now:
        actions.append(RotateKek(tenant, primary.version))
    remaining = sum(lineage.wrapped.get(kek.version, 0) for kek in older if kek.state is KekState.ACTIVE)
    if remaining:
        actions.append(Rewrap(tenant, remaining))
    for kek in older:
        wraps = lineage.wrapped.get(kek.version, 0) > 0
        leaving = kek.state in (KekState.DESTRUCTION_SCHEDULED, KekState.DESTROYING)
        over = may_destroy and kek.destroy_at is not None and kek.destroy_at <= now
        if kek.state is KekState.ACTIVE and not wraps:
            actions.append(RetireKek(tenant, kek))
        elif leaving and wraps:
            actions.append(RestoreKek(tenant, kek))
        elif kek.state is KekState.DESTROYING or (leaving and over):
            actions.append(DestroyKek(tenant, kek))
    return actions


def next_due_kek(lineage: KekLineage, policy: KekPolicy) -> datetime | None:
    """Return when the tenant's KEK versions have to be looked at again; None where nothing waits for a time."""
    times = [kek.destroy_at for kek in lineage.keks if kek.state is KekState.DESTRUCTION_SCHEDULED]
    if policy.rotation != NEVER:
        times += [k.created_at + policy.rotation for k in lineage.keks if k.version == lineage.tenant.primary_kek]
    return min((time for time in times if time is not None), default=None)
