"""EnclaveService."""

from __future__ import annotations

from collections.abc import Iterator

from ..requests import enclaves
from ..values import Enclave, EnclaveQuote, EnclaveUpgrade, NodeEnclave, SealCount
from .calls import Calls


class EnclaveCalls(Calls):
    """Methods for the enclave of the daemon that answers, for what is known of the others', and for tenants' sealed keys."""

    def get_enclave(self, *, deadline: float | None = None) -> Enclave:
        """Return who the enclave is and how it is."""
        return self._run(enclaves.get_enclave(), deadline)

    def list_enclaves(
        self, *, active_only: bool = False, page_size: int = 0, deadline: float | None = None
    ) -> Iterator[NodeEnclave]:
        """Iterate over the enclaves of all daemons, as each has told of its own, or over those that run."""
        return self._pages(enclaves.list_enclaves(active_only, page_size), deadline)

    def attest_enclave(
        self, nonce: bytes, *, channel_key: bytes = b"", claims: bytes = b"", deadline: float | None = None
    ) -> EnclaveQuote:
        """Have the enclave answer a challenge: 32 random bytes that are used once; the caller verifies the answer."""
        return self._run(enclaves.attest_enclave(nonce, channel_key, claims), deadline)

    def get_seal_census(self, parent: str, *, deadline: float | None = None) -> tuple[SealCount, ...]:
        """Count a tenant's sealed keys by kind, policies and sealer."""
        return self._run(enclaves.get_seal_census(parent), deadline)

    def create_enclave_upgrade(
        self, parent: str, mrenclave: bytes, isv_svn: int, *, deadline: float | None = None
    ) -> EnclaveUpgrade:
        """Begin an upgrade to the enclave of this measurement (32 bytes) and security version; an operation prepares it.

        Raises:
            ApprovalRequired: others have to approve it; repeat it under() the approval that the error names.
        """
        return self._run(enclaves.create_enclave_upgrade(parent, mrenclave, isv_svn), deadline)

    def get_enclave_upgrade(self, name: str, *, deadline: float | None = None) -> EnclaveUpgrade:
        """Return one upgrade."""
        return self._run(enclaves.get_enclave_upgrade(name), deadline)

    def list_enclave_upgrades(
        self, parent: str, *, page_size: int = 0, deadline: float | None = None
    ) -> Iterator[EnclaveUpgrade]:
        """Iterate over a tenant's upgrades, the newest first."""
        return self._pages(enclaves.list_enclave_upgrades(parent, page_size), deadline)

    def finish_enclave_upgrade(
        self, name: str, *, force: bool = False, deadline: float | None = None
    ) -> EnclaveUpgrade:
        """Finish an upgrade, in the new enclave; *force*: also if keys do not open in it, which stay as they are.

        Raises:
            ApprovalRequired: others have to approve a *force*; repeat it under() the approval that the error names.
        """
        return self._run(enclaves.finish_enclave_upgrade(name, force), deadline)

    def cancel_enclave_upgrade(self, name: str, *, deadline: float | None = None) -> EnclaveUpgrade:
        """Cancel an upgrade, in the old enclave; an operation brings back what was prepared."""
        return self._run(enclaves.cancel_enclave_upgrade(name), deadline)
