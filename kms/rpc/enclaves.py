"""EnclaveService: parse, call, format."""

from __future__ import annotations

from typing import Final

from kms.core.enclave_ports import EnclaveFacts, EnclaveStatus, NodeEnclave
from kms.core.enclaves import EnclaveRecord, EnclaveUid
from kms.core.errors import FailedPrecondition, invalid
from kms.core.names import Principal
from kms.rpc.enclave_upgrades import UpgradeCalls
from kms.rpc.messages import timestamp
from kms.rpc.paging import cut, parse_page
from kms.services.enclave_upgrades import EnclaveUpgrades
from kms.services.enclaves import Enclaves
from kms.v1 import enclaves_pb2 as pb

NONCE_LENGTH: Final = 32  # bytes
NONE: Final = "none"  # the state of an enclave that a daemon does not have
MAX_SAID: Final = 1 << 16  # bytes of a channel's key, or of claims


class EnclaveServicer(UpgradeCalls):
    """Serves kms.v1.EnclaveService."""

    def __init__(self, enclave: NodeEnclave | None, enclaves: Enclaves, upgrades: EnclaveUpgrades) -> None:
        """*enclave* is that of this node."""
        super().__init__(upgrades)
        self._enclave = enclave
        self._enclaves = enclaves

    async def GetEnclave(self, request: pb.GetEnclaveRequest, caller: Principal) -> pb.Enclave:
        """Return who the enclave is and how it is."""
        del request, caller
        if self._enclave is None:
            return pb.Enclave(state=NONE, reason="the daemon that answers has no enclave")
        return enclave_message(self._enclave.overview())

    async def ListEnclaves(self, request: pb.ListEnclavesRequest, caller: Principal) -> pb.ListEnclavesResponse:
        """List the enclaves of all nodes."""
        del caller
        page = parse_page(request)
        after = None if (uid := page.after_uid) is None else EnclaveUid(uid)
        found = await self._enclaves.list_after(after, page.size + 1, active=request.active_only)
        shown, token = cut(found, page, lambda one: str(one.uid))
        return pb.ListEnclavesResponse(enclaves=[node_enclave_message(one) for one in shown], next_page_token=token)

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
        _put_facts(message, facts)
    if (shown := status.shown) is not None:
        message.platform_id = shown.platform_id
        message.attest_time.FromDatetime(shown.time)
        message.attest_expire_time.FromDatetime(shown.expires)
    return message


def node_enclave_message(one: EnclaveRecord) -> pb.NodeEnclave:
    """Format the enclave of a node."""
    verdict = one.verdict
    message = pb.NodeEnclave(
        name=one.name,
        node=one.node,
        node_uid=str(one.node_uid),
        simulated=one.facts.simulated,
        platform_id=one.platform_id,
        attestation_status=verdict.state,
        attestation_reason=verdict.reason,
        quote=verdict.quote,
        signature=one.signature,
        attest_time=timestamp(verdict.time),
        attest_expire_time=timestamp(verdict.expires),
        state=one.state,
        restarts=one.restarts,
        active=one.active,
        health=one.health,
        health_reason=one.health_reason,
        create_time=timestamp(one.started_at),
        update_time=timestamp(one.changed_at),
        revision=one.revision,
    )
    _put_facts(message, one.facts)
    return message


def _put_facts(message: pb.Enclave | pb.NodeEnclave, facts: EnclaveFacts) -> None:
    message.backend = facts.backend
    message.mrenclave, message.mrsigner = facts.mrenclave, facts.mrsigner
    message.isv_prod_id, message.isv_svn, message.cpu_svn = facts.isv_prod_id, facts.isv_svn, facts.cpu_svn
    message.debug, message.freshness = facts.debug, facts.freshness
    for name, done, detail in facts.measures:
        message.measures.add(name=name, done=done, detail=detail)
