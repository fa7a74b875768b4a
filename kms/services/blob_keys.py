"""The keys of blobs: born and used in the enclave, stored as KEK-wrap(seal(key)). FORMATS section 9."""

from __future__ import annotations

from kms.core.blobs import BlobKey, BlobUid, Sealing, sealed_for
from kms.core.enclave_ports import Enclave, SealedInput
from kms.core.errors import EnclaveUnavailable, FailedPrecondition
from kms.core.keyring import Tenant
from kms.core.stream import SUITE
from kms.services.wrapping import DekWrapping


class BlobKeys:
    """Makes and finds the keys of blobs; none of them is ever in the clear here."""

    def __init__(self, enclave: Enclave | None, wrapping: DekWrapping) -> None:
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
        facts = self.enclave.facts
        if facts is None:
            raise EnclaveUnavailable("the enclave does not run now; try again")
        place = sealed_for(tenant.uid, blob, generation)
        sealed = await self.enclave.execute("new_key", [], [sealing.value, place, SUITE])
        wrapped, kek = await self._wrapping.wrap_sealed(tenant, blob, generation, sealed)
        key = BlobKey(wrapped, kek, sealing, facts.mrenclave, facts.mrsigner, facts.isv_svn, facts.simulated)
        return key, SealedInput(sealed, place)

    async def open(self, tenant: Tenant, blob: BlobUid, generation: int, key: BlobKey) -> SealedInput:
        """Unwrap a stored key; what comes out is sealed.

        Raises:
            FailedPrecondition: there is no enclave.
            HsmUnavailable, CorruptRecord: as DekWrapping.unwrap_sealed().
        """
        _ = self.enclave
        sealed = await self._wrapping.unwrap_sealed(tenant, blob, generation, (key.wrapped, key.kek_version))
        return SealedInput(sealed, sealed_for(tenant.uid, blob, generation))
