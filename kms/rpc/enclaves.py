"""EnclaveService: parse, call, format."""

from __future__ import annotations

from typing import Final

from kms.core.enclave_ports import EnclaveStatus, NodeEnclave
from kms.core.errors import FailedPrecondition, invalid
from kms.core.names import Principal
from kms.rpc.enclave_upgrades import UpgradeCalls
from kms.services.enclave_upgrades import EnclaveUpgrades
from kms.v1 import enclaves_pb2 as pb

NONCE_LENGTH: Final = 32  # bytes
NONE: Final = "none"  # the state of an enclave that a daemon does not have
MAX_SAID: Final = 1 << 16  # bytes of a channel's key, or of claims


class EnclaveServicer(UpgradeCalls):
    """Serves kms.v1.EnclaveService."""

    def __init__(self, enclave: NodeEnclave | None, upgrades: EnclaveUpgrades) -> None:
        super().__init__(upgrades)
        self._enclave = enclave

    async def GetEnclave(self, request: pb.GetEnclaveRequest, caller: Principal) -> pb.Enclave:
        """Return who the enclave is and how it is."""
        del request, caller
        if self._enclave is None:
            return pb.Enclave(state=NONE, reason="the daemon that answers has no enclave")
        return enclave_message(self._enclave.overview())

    async def AttestEnclave(self, request: pb.AttestEnclaveRequest, caller: Principal) -> pb.AttestEnclaveResponse:
        """Have the enclave answer a challenge."""
        del caller
        if len(request.nonce) != NONCE_LENGTH:
            raise invalid("nonce", f"must be {NONCE_LENGTH} bytes")
        for name in ("channel_key", "claims"):
            if len(getattr(request, name)) > MAX_SAID:
                raise invalid(name, f"must be at most {MAX_SAID} bytes")
        if self._enclave is None:
            raise FailedPrecondition("the daemon that answers has no enclave")
        answer = await self._enclave.answer(request.nonce, request.channel_key, request.claims)
        return pb.AttestEnclaveResponse(
            quote=answer.quote, root_list=answer.root_list, platform_list=answer.platform_list
        )


def enclave_message(status: EnclaveStatus) -> pb.Enclave:
    """Format an enclave's status."""
    message = pb.Enclave(
        simulated=status.simulated,
        in_use=status.facts is not None,
        state=status.state,
        reason=status.reason,
        restarts=status.restarts,
    )
    if (facts := status.facts) is not None:
        message.backend = facts.backend
        message.mrenclave, message.mrsigner = facts.mrenclave, facts.mrsigner
        message.isv_prod_id, message.isv_svn, message.cpu_svn = facts.isv_prod_id, facts.isv_svn, facts.cpu_svn
        message.debug, message.freshness = facts.debug, facts.freshness
        for name, done, detail in facts.measures:
            message.measures.add(name=name, done=done, detail=detail)
    if (shown := status.shown) is not None:
        message.platform_id = shown.platform_id
        message.attest_time.FromDatetime(shown.time)
        message.attest_expire_time.FromDatetime(shown.expires)
    return message
