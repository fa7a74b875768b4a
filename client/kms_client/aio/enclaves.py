"""EnclaveService."""

from __future__ import annotations

from ..requests import enclaves
from ..values import Enclave, EnclaveQuote
from .calls import Calls


class EnclaveCalls(Calls):
    """Methods for the enclave of the daemon that answers."""

    async def get_enclave(self, *, deadline: float | None = None) -> Enclave:
        """Return who the enclave is and how it is."""
        return await self._run(enclaves.get_enclave(), deadline)

    async def attest_enclave(
        self, nonce: bytes, *, channel_key: bytes = b"", claims: bytes = b"", deadline: float | None = None
    ) -> EnclaveQuote:
        """Have the enclave answer a challenge: 32 random bytes that are used once; the caller verifies the answer."""
        return await self._run(enclaves.attest_enclave(nonce, channel_key, claims), deadline)
