"""Pinned certificates: a principal with pins is accepted with one of these certificates only."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime

import structlog

from kms.core.errors import FailedPrecondition, NotFound, Unauthenticated
from kms.core.names import INSTALLATION_UID, Principal, TenantName, TenantUid
from kms.core.ports import Storage
from kms.core.tokens import MOST_PINS, CertificatePin
from kms.crypto.cache import DekCache
from kms.services.tenants import Tenants

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Pinned:
    """The pins of one principal; *tenant* is None where its tenant does not exist."""

    tenant: TenantUid | None
    fingerprints: frozenset[bytes]


class Pins:
    """The pins of all principals."""

    def __init__(
        self, storage: Storage, tenants: Tenants, drop: Callable[[TenantUid], None], now: Callable[[], datetime]
    ) -> None:
        """*drop* drops all that this node holds of a tenant: Membership.drop."""
        self._storage = storage
        self._tenants = tenants
        self._drop = drop
        self._now = now

    async def pin(self, caller: Principal, principal: Principal, fingerprint: bytes) -> CertificatePin:
        """Accept *principal* with this certificate (SHA-256 of its DER), and with no other that is not pinned, too.

        Raises:
            AlreadyExists: it is pinned.
            FailedPrecondition: the principal has as many pins as it may have.
        """
        tenant = await self._owner(caller, principal)
        pin = CertificatePin(tenant, principal, fingerprint, self._now(), str(caller))
        async with self._storage.transaction(tenant, write=True) as work:
            if len(await work.certificate_pins.list_of(tenant, principal)) >= MOST_PINS:
                raise FailedPrecondition(f"{principal} has {MOST_PINS} pinned certificates, which is the limit")
            pin = await work.certificate_pins.add(pin)
            await work.epochs.revoked(tenant)
        self._drop(tenant)
        _log.info("certificate.pinned", principal=str(principal), fingerprint=fingerprint.hex(), caller=str(caller))
        return pin

    async def unpin(self, caller: Principal, principal: Principal, fingerprint: bytes) -> None:
        """Take a pin away; without its last one, a principal is accepted with any certificate that names it.

        Raises:
            NotFound: the certificate is not pinned.
        """
        tenant = await self._owner(caller, principal)
        async with self._storage.transaction(tenant, write=True) as work:
            if not await work.certificate_pins.remove(tenant, principal, fingerprint):
                raise NotFound(f"certificate {fingerprint.hex()} is not pinned for {principal}")
            await work.epochs.revoked(tenant)
        self._drop(tenant)
        _log.info("certificate.unpinned", principal=str(principal), fingerprint=fingerprint.hex(), caller=str(caller))

    async def list_of(self, caller: Principal, principal: Principal) -> list[CertificatePin]:
        """Return all pins of a principal, ordered by fingerprint."""
        tenant = await self._owner(caller, principal)
        async with self._storage.transaction(tenant) as work:
            return await work.certificate_pins.list_of(tenant, principal)

    async def _owner(self, caller: Principal, principal: Principal) -> TenantUid:
        if caller.tenant != principal.tenant:
            raise NotFound(str(principal))
        if principal.tenant is None:
            return INSTALLATION_UID
        return (await self._tenants.get(caller, TenantName(principal.tenant))).uid


class PinGate:
    """Knows which certificates principals are bound to, from a bounded memory."""

    def __init__(self, storage: Storage, clock: Callable[[], float], *, entries: int, lifetime: float) -> None:
        """*entries* principals are remembered for *lifetime* seconds at most."""
        self._storage = storage
        self._held: DekCache[Principal, _Pinned] = DekCache(entries, lifetime, clock)

    async def check(self, principal: Principal, fingerprint: bytes | None) -> None:
        """Let a principal pass with a certificate, or (None) without one.

        Raises:
            Unauthenticated: the principal has pins, and this is none of them.
            StorageUnavailable: the database does not answer in time.
        """
        pinned = await self._held.get(principal, lambda: self._look_up(principal))
        if pinned.fingerprints and fingerprint not in pinned.fingerprints:
            raise Unauthenticated("the client certificate is none of those that are pinned for its principal")

    def forget(self, tenants: AbstractSet[TenantUid]) -> None:
        """Drop what is held of these tenants, and look-ups that are running: a listener of Membership."""

        def concerned(principal: Principal) -> bool:
            pinned = self._held.peek(principal)
            return pinned is None or pinned.tenant is None or pinned.tenant in tenants

        self._held.drop_where(concerned)

    def sweep(self) -> None:
        """Forget what has outlived its time."""
        self._held.sweep()

    async def _look_up(self, principal: Principal) -> _Pinned:
        uid = INSTALLATION_UID
        if principal.tenant is not None:
            async with self._storage.transaction() as work:
                tenant = await work.tenants.get(principal.tenant)
            if tenant is None:
                return _Pinned(None, frozenset())
            uid = tenant.uid
        async with self._storage.transaction(uid) as work:
            pins = await work.certificate_pins.list_of(uid, principal)
        return _Pinned(uid, frozenset(pin.fingerprint for pin in pins))
