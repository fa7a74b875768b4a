"""Wrapping and unwrapping DEKs under a tenant's KEK, each bound to its place (FORMATS section 5).

A DEK of level ENCLAVE is born in the enclave and comes out sealed; what is wrapped is the seal, so that to destroy the
KEK shreds it as any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

from kms.core.blobs import binding_of
from kms.core.classification import WITH_ENCLAVE, WITHOUT_ENCLAVE
from kms.core.enclave_ports import Enclave, SealedInput
from kms.core.errors import Conflict, CorruptRecord, EnclaveUnavailable, HsmUnavailable, VersionExhausted
from kms.core.keyring import Kek, KekState, Key, KeyVersion, Tenant
from kms.core.names import TenantUid
from kms.core.ports import Counter, KekVault, Storage
from kms.core.repositories import UnitOfWork
from kms.core.seals import SealedBy, Sealing
from kms.core.suites import RULES, WRAP_ROTATE, WRAP_STOP, ProtectionLevel
from kms.core.wrapping import WrappedDek, binding, seal_binding
from kms.crypto.dek import Dek
from kms.services.counting import UsageCounters
from kms.services.enclave_cipher import EnclaveCipher
from kms.services.enclave_seals import sealed
from kms.services.gathering import Gathering

# What a KEK version that unwraps may be: in quarantine it still does, until what it wraps is under another one.
_UNWRAPS: Final = frozenset({KekState.ACTIVE, KekState.DESTRUCTION_SCHEDULED})
# Who opens a sealed DEK: the same signer's enclave, so that an upgrade of it loses no keys.
_SEAL_POLICY: Final = Sealing.MRSIGNER


@dataclass(frozen=True, slots=True, repr=False)
class NewDek:
    """A DEK as it is stored."""

    wrapped: bytes
    kek_version: int
    sealed_by: SealedBy | None = None  # of level ENCLAVE: by whom, before it was wrapped


async def hold_kek(work: UnitOfWork, tenant: Tenant, version: int) -> None:
    """Let the KEK version that wraps what this transaction stores be retired only afterwards.

    Whoever retires a KEK version, or destroys it, changes its record first and then counts what it wraps. So it meets
    either what has been stored here, or this look at the record meets its change.

    Raises:
        Conflict: the version has been retired already.
    """
    kek = await work.keks.hold(tenant.uid, version)
    if kek is None or kek.state is not KekState.ACTIVE:
        raise Conflict(f"{tenant.name.kek(version)} has been replaced and retired meanwhile; try again")


def blob_binding(tenant: Tenant, blob: UUID, generation: int, kek: Kek) -> bytes:
    """Return B for the key of a generation of a blob under this KEK version."""
    if kek.mechanism is None:
        raise CorruptRecord(f"{tenant.name.kek(kek.version)} has no mechanism")
    return binding_of(tenant.uid, blob, generation, (kek.uid, kek.version, kek.mechanism))


def dek_binding(key: Key, version: int, kek: Kek) -> bytes:
    """Return B for the DEK of a key version under this KEK version."""
    if kek.mechanism is None:
        raise CorruptRecord(f"version {kek.version} of a KEK has no mechanism")
    return binding(key.place(version), kek.uid, kek.version, kek.mechanism, RULES[key.suite].dek_length)


class DekWrapping:
    """Makes new DEKs and brings stored ones back."""

    def __init__(self, storage: Storage, vault: KekVault, usage: UsageCounters, enclave: Enclave | None = None) -> None:
        self._storage = storage
        self._vault = vault
        self._usage = usage
        self._enclave = enclave
        self._keks: Gathering[tuple[TenantUid, int], None, Kek | None] = Gathering(self._read)

    @property
    def levels(self) -> frozenset[ProtectionLevel]:
        """Where DEKs may be in the clear on this node."""
        return WITHOUT_ENCLAVE if self._enclave is None else WITH_ENCLAVE

    async def generate(self, tenant: Tenant, key: Key, version: int) -> NewDek:
        """Make a DEK.

        Its bytes are the token's, or those of the enclave that it is born in.

        Raises:
            HsmUnavailable, EnclaveUnavailable: the token, or the enclave, does not answer.
            VersionExhausted: the KEK has reached its limit of wraps.
            Conflict: the tenant as given names a KEK version that has been retired meanwhile.
        """
        kek = await self._wrapping_kek(tenant)
        place = key.place(version)
        if key.level is ProtectionLevel.ENCLAVE:
            argument = [_SEAL_POLICY.value, seal_binding(place), int(place.suite)]
            dek, by = await sealed(self._required_enclave(), "new_key", [], argument)
            return NewDek(await self._vault.wrap(kek, dek, dek_binding(key, version, kek)), kek.version, by)
        dek = await self._random(RULES[key.suite].dek_length)
        return NewDek(await self._vault.wrap(kek, dek, dek_binding(key, version, kek)), kek.version)

    async def sealed_anew(self, tenant: Tenant, key: Key, version: KeyVersion) -> KeyVersion:
        """Have the enclave seal a DEK of level ENCLAVE anew; nothing is stored.

        Raises:
            As generate(), and as enclave_cipher().
        """
        before = await self._sealed_dek(tenant, key, version)
        dek, by = await sealed(self._required_enclave(), "reseal", [before], [_SEAL_POLICY.value])
        kek = await self._wrapping_kek(tenant)
        wrapped = await self._vault.wrap(kek, dek, dek_binding(key, version.version, kek))
        return replace(version, wrapped=wrapped, kek_version=kek.version, sealed_by=by)

    async def _wrapping_kek(self, tenant: Tenant) -> Kek:
        """Return the KEK version that wraps what is new; one wrap under it is counted."""
        kek = await self._kek(tenant, tenant.primary_kek)
        if kek.state is not KekState.ACTIVE:
            raise Conflict(f"{tenant.name.kek(kek.version)} has been replaced and retired meanwhile; try again")
        if kek.mechanism is None:
            raise CorruptRecord(f"{tenant.name.kek(kek.version)} has no mechanism")
        await self.count(tenant, kek, 1)
        return kek

    async def _random(self, length: int) -> bytes:
        dek = await self._vault.random(length)
        if len(dek) != length:
            raise HsmUnavailable("the token returned fewer random bytes than it was asked for")
        return dek

    def _required_enclave(self) -> Enclave:
        if self._enclave is None:
            raise EnclaveUnavailable("this node has no enclave, which keys of level ENCLAVE need")
        return self._enclave

    async def wrap_sealed(self, tenant: Tenant, blob: UUID, generation: int, seal: bytes) -> tuple[bytes, int]:
        """Wrap the key of a blob, which is sealed to an enclave; returns it wrapped, and the version of the KEK.

        Raises:
            As generate().
        """
        kek = await self._wrapping_kek(tenant)
        return await self._vault.wrap(kek, seal, blob_binding(tenant, blob, generation, kek)), kek.version

    async def unwrap_sealed(self, tenant: Tenant, blob: UUID, generation: int, wrapped: tuple[bytes, int]) -> bytes:
        """Undo wrap_sealed(); *wrapped* is what it returned.

        Raises:
            As unwrap().
        """
        blob_key, version = wrapped
        parsed = WrappedDek.parse(blob_key)
        if parsed.kek != tenant.kek or parsed.kek_version != version:
            raise CorruptRecord("the key of a blob is wrapped by another KEK than it says")
        kek = await self._kek(tenant, version)
        if kek.state not in _UNWRAPS:
            raise CorruptRecord(f"{tenant.name.kek(kek.version)} is {kek.state}: what it wraps cannot be had any more")
        bound = blob_binding(tenant, blob, generation, kek)
        return await self._vault.unwrap(kek, blob_key, bound)

    async def count(self, tenant: Tenant, kek: Kek, wraps: int) -> None:
        """Count wraps under a KEK version before they are made.

        Raises:
            VersionExhausted: it has reached its limit of wraps (SP 800-38D, section 8.3).
        """
        try:
            await self._usage.of(Counter(tenant.uid, kek.uid, kek.version), WRAP_STOP, WRAP_ROTATE).take(wraps)
        except VersionExhausted as error:
            raise VersionExhausted(
                f"{tenant.name.kek(kek.version)} has reached its limit of wraps; rotate it"
            ) from error

    async def unwrap(self, tenant: Tenant, key: Key, version: KeyVersion) -> Dek:
        """Return the DEK of a stored key version of level SOFTWARE.

        Raises:
            HsmUnavailable: the token does not answer.
            CorruptRecord: the stored blob does not belong to this key version.
        """
        dek = await self._unwrapped(tenant, key, version)
        if len(dek) != RULES[key.suite].dek_length:
            raise CorruptRecord(f"{key.name(tenant).version(version.version)} has a DEK of another length")
        return Dek(dek)

    async def enclave_cipher(self, tenant: Tenant, key: Key, version: KeyVersion) -> EnclaveCipher:
        """Return what works with the DEK of a stored key version of level ENCLAVE, which the enclave has opened once.

        Raises:
            HsmUnavailable, EnclaveUnavailable: the token, or the enclave, does not answer; or this node has none.
            CorruptRecord: the stored blob does not belong to this key version, or does not open in this enclave.
            FailedPrecondition: it was sealed by a newer version of the enclave or on a newer platform.
        """
        enclave = self._required_enclave()

        async def stored() -> SealedInput:
            async with self._storage.transaction(tenant.uid) as work:
                found = await work.key_versions.get(tenant.uid, key.uid, version.version)
            if found is None:
                raise CorruptRecord(f"{key.name(tenant).version(version.version)} is not there")
            return await self._sealed_dek(tenant, key, found)

        cipher = EnclaveCipher(enclave, key.suite, await self._sealed_dek(tenant, key, version), stored)
        await cipher.check()
        return cipher

    async def _sealed_dek(self, tenant: Tenant, key: Key, version: KeyVersion) -> SealedInput:
        return SealedInput(await self._unwrapped(tenant, key, version), seal_binding(key.place(version.version)))

    async def _unwrapped(self, tenant: Tenant, key: Key, version: KeyVersion) -> bytes:
        wrapped = WrappedDek.parse(version.wrapped)
        if wrapped.kek != tenant.kek or wrapped.kek_version != version.kek_version:
            raise CorruptRecord(f"{key.name(tenant).version(version.version)} is wrapped by another KEK than it says")
        kek = await self._kek(tenant, wrapped.kek_version)
        if kek.state not in _UNWRAPS:
            raise CorruptRecord(f"{tenant.name.kek(kek.version)} is {kek.state}: what it wraps cannot be had any more")
        length = RULES[key.suite].dek_length
        bound = binding(key.place(version.version), kek.uid, kek.version, wrapped.mechanism, length)
        return await self._vault.unwrap(kek, version.wrapped, bound)

    async def _kek(self, tenant: Tenant, version: int) -> Kek:
        kek = await self._keks.ask((tenant.uid, version), None)
        if kek is None or kek.uid != tenant.kek:
            raise CorruptRecord(f"{tenant.name.kek(version)} is not there")
        return kek

    async def _read(self, which: tuple[TenantUid, int], asked: Sequence[None]) -> Sequence[Kek | None]:
        async with self._storage.transaction(which[0]) as work:
            return [await work.keks.get(*which)] * len(asked)
