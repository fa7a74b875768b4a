"""Wrapping and unwrapping DEKs under a tenant's KEK, each bound to its place (FORMATS section 5)."""

from __future__ import annotations

from kms.core.errors import CorruptRecord, HsmUnavailable, VersionExhausted
from kms.core.keyring import Kek, KekState, Key, KeyVersion, Tenant
from kms.core.ports import Counter, KekVault, Storage
from kms.core.suites import RULES, WRAP_ROTATE, WRAP_STOP
from kms.core.wrapping import WrappedDek, binding
from kms.crypto.dek import Dek
from kms.services.counting import UsageCounters


class DekWrapping:
    """Makes new DEKs and brings stored ones back."""

    def __init__(self, storage: Storage, vault: KekVault, usage: UsageCounters) -> None:
        self._storage = storage
        self._vault = vault
        self._usage = usage

    async def generate(self, tenant: Tenant, key: Key, version: int) -> tuple[bytes, int]:
        """Make a DEK from the token's random bytes; returns it wrapped, and the version of the KEK that wraps it.

        Raises:
            HsmUnavailable: the token does not answer.
            VersionExhausted: the KEK has reached its limit of wraps.
        """
        kek = await self._kek(tenant, tenant.primary_kek)
        if kek.mechanism is None:
            raise CorruptRecord(f"{tenant.name.kek(kek.version)} has no mechanism")
        try:
            await self._usage.of(Counter(tenant.uid, kek.uid, kek.version), WRAP_STOP, WRAP_ROTATE).take(1)
        except VersionExhausted as error:
            raise VersionExhausted(
                f"{tenant.name.kek(kek.version)} has reached its limit of wraps; rotate it"
            ) from error
        length = RULES[key.suite].dek_length
        dek = await self._vault.random(length)
        if len(dek) != length:
            raise HsmUnavailable("the token returned fewer random bytes than it was asked for")
        bound = binding(key.place(version), kek.uid, kek.version, kek.mechanism, length)
        return await self._vault.wrap(kek, dek, bound), kek.version

    async def unwrap(self, tenant: Tenant, key: Key, version: KeyVersion) -> Dek:
        """Return the DEK of a stored key version.

        Raises:
            HsmUnavailable: the token does not answer.
            CorruptRecord: the stored blob does not belong to this key version.
        """
        wrapped = WrappedDek.parse(version.wrapped)
        if wrapped.kek != tenant.kek or wrapped.kek_version != version.kek_version:
            raise CorruptRecord(f"{key.name(tenant).version(version.version)} is wrapped by another KEK than it says")
        kek = await self._kek(tenant, wrapped.kek_version)
        length = RULES[key.suite].dek_length
        bound = binding(key.place(version.version), kek.uid, kek.version, wrapped.mechanism, length)
        dek = await self._vault.unwrap(kek, version.wrapped, bound)
        if len(dek) != length:
            raise CorruptRecord(f"{key.name(tenant).version(version.version)} has a DEK of another length")
        return Dek(dek)

    async def _kek(self, tenant: Tenant, version: int) -> Kek:
        async with self._storage.transaction(tenant.uid) as work:
            kek = await work.keks.get(tenant.uid, version)
        if kek is None or kek.state is not KekState.ACTIVE or kek.uid != tenant.kek:
            raise CorruptRecord(f"{tenant.name.kek(version)} is not there")
        return kek
