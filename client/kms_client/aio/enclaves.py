"""EnclaveService."""

from __future__ import annotations

from collections.abc import AsyncIterator

from ..requests import enclaves
from ..values import Enclave, EnclaveQuote, NodeEnclave
from .calls import Calls


class EnclaveCalls(Calls):
    """Methods for the enclave of the daemon that answers, and for what is known of the others'."""

    async def get_enclave(self, *, deadline: float | None = None) -> Enclave:
        """Return who the enclave is and how it is."""
        return await self._run(enclaves.get_enclave(), deadline)

    def list_enclaves(
        self, *, active_only: bool = False, page_size: int = 0, deadline: float | None = None
    ) -> AsyncIterator[NodeEnclave]:
        """Iterate over the enclaves of all daemons, as each has told of its own, or over those that run."""
        return self._pages(enclaves.list_enclaves(active_only, page_size), deadline)

    async def attest_enclave(
        self, nonce: bytes, *, channel_key: bytes = b"", claims: bytes = b"", deadline: float | None = None
    ) -> EnclaveQuote:
        """Have the enclave answer a challenge: 32 random bytes that are used once; the caller verifies the answer."""
        return await self._run(enclaves.attest_enclave(nonce, channel_key, claims), deadline)
