"""The keys of blobs: born and used in the enclave, stored as KEK-wrap(seal(key)). FORMATS section 9."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from kms.core.blobs import BlobKey, BlobUid, sealed_for
from kms.core.enclave_ports import Enclave, SealedInput
from kms.core.enclave_upgrades import policy_for
from kms.core.errors import Conflict, CorruptRecord, FailedPrecondition
from kms.core.keyring import Tenant
from kms.core.ports import Storage
from kms.core.repositories import UnitOfWork
from kms.core.seals import Sealing
from kms.core.stream import SUITE
from kms.services.enclave_seals import running, sealed
from kms.services.wrapping import DekWrapping

MOST_TRIES: Final = 5  # to store a key while the enclave is being replaced

T = TypeVar("T")


class BlobKeys:
    """Makes and finds the keys of blobs; none of them is ever in the clear here."""

    def __init__(self, storage: Storage, enclave: Enclave | None, wrapping: DekWrapping) -> None:
        self._storage = storage
        self._enclave = enclave
        self._wrapping = wrapping

    @property
    def enclave(self) -> Enclave:
        """The enclave of this node.

        Raises:
            FailedPrecondition: it has none.
        """
        if self._enclave is None:
            raise FailedPrecondition("this daemon has no enclave, which sealed blobs need")
        return self._enclave

    async def new(
        self, tenant: Tenant, blob: BlobUid, generation: int, sealing: Sealing
    ) -> tuple[BlobKey, SealedInput]:
        """Let the enclave make a key; returns it as it is stored, and as the enclave takes it.

        Raises:
            FailedPrecondition, EnclaveUnavailable: there is no enclave, or it is away.
            HsmUnavailable, VersionExhausted, Conflict: as DekWrapping.wrap_sealed().
        """
        place = sealed_for(tenant.uid, blob, generation)
        seal, by = await sealed(self.enclave, "new_key", [], [sealing.value, place, SUITE])
        wrapped, kek = await self._wrapping.wrap_sealed(tenant, blob, generation, seal)
        return BlobKey(wrapped, kek, sealing, by), SealedInput(seal, place)

    async def sealed_anew(
        self, tenant: Tenant, blob: BlobUid, generation: int, key: BlobKey, policy: Sealing
    ) -> BlobKey:
        """Have the enclave seal a stored key anew under *policy*; nothing is stored.

        Raises:
            As new() and open(); CorruptRecord, FailedPrecondition: it does not open in this enclave.
        """
        before = await self.open(tenant, blob, generation, key)
        seal, by = await sealed(self.enclave, "reseal", [before], [policy.value])
        return key.sealed_anew(await self._wrapping.wrap_sealed(tenant, blob, generation, seal), policy, by)

    async def fit(self, work: UnitOfWork, tenant: Tenant, keys: Sequence[BlobKey]) -> bool:
        """Whether new keys are sealed as they have to be when this transaction, which writes, stores them.

        An upgrade of the enclave may have begun or ended since they were made, or the enclave been replaced.
        """
        facts = self.enclave.facts
        upgrade = await work.enclave_upgrades.find_open(tenant.uid)
        for key in keys:
            by = key.by if facts is None else facts.sealer
            if (key.policy, key.by) != (policy_for(key.sealing, upgrade, by), by):
                return False
        return True

    async def store(
        self,
        tenant: Tenant,
        blob: BlobUid,
        generation: int,
        key: BlobKey,
        put: Callable[[UnitOfWork, BlobKey], Awaitable[T]],
    ) -> T:
        """Have *put* store a new key in a transaction, sealed as it has to be when that is committed.

        Raises:
            Conflict: the enclave was replaced, or went on changing, and nothing has been stored; and what *put* raises.
        """
        for _ in range(MOST_TRIES):
            async with self._storage.transaction(tenant.uid, write=True) as work:
                if await self.fit(work, tenant, [key]):
                    return await put(work, key)
                upgrade = await work.enclave_upgrades.find_open(tenant.uid)
            try:
                key = await self.sealed_anew(
                    tenant, blob, generation, key, policy_for(key.sealing, upgrade, running(self.enclave))
                )
            except (CorruptRecord, FailedPrecondition) as error:
                raise Conflict("the enclave was replaced while this was sealed; try again") from error
        raise Conflict("the enclave is being replaced; try again")

    async def open(self, tenant: Tenant, blob: BlobUid, generation: int, key: BlobKey) -> SealedInput:
        """Unwrap a stored key; what comes out is sealed.

        Raises:
            FailedPrecondition: there is no enclave.
            HsmUnavailable, CorruptRecord: as DekWrapping.unwrap_sealed().
        """
        _ = self.enclave
        seal = await self._wrapping.unwrap_sealed(tenant, blob, generation, (key.wrapped, key.kek_version))
        return SealedInput(seal, sealed_for(tenant.uid, blob, generation))
