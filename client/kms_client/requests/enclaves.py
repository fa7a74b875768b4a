"""Requests to EnclaveService."""

from __future__ import annotations

from ..methods import ENCLAVES
from ..responses import enclaves
from ..responses.reading import page
from ..v1 import enclaves_pb2
from ..values import Enclave, EnclaveQuote, EnclaveUpgrade, SealCount
from .messages import Listing, Request, build


def get_enclave() -> Request[Enclave]:
    """EnclaveService.GetEnclave."""
    return Request(f"{ENCLAVES}/GetEnclave", enclaves_pb2.GetEnclaveRequest(), enclaves.enclave)


def list_enclaves(active_only: bool, page_size: int) -> Listing:
    """EnclaveService.ListEnclaves."""
    read = page("enclaves", enclaves.node_enclave)
    return lambda token: Request(
        f"{ENCLAVES}/ListEnclaves",
        build(enclaves_pb2.ListEnclavesRequest, page_size=page_size, page_token=token, active_only=active_only),
        read,
    )


def attest_enclave(nonce: bytes, channel_key: bytes, claims: bytes) -> Request[EnclaveQuote]:
    """EnclaveService.AttestEnclave."""
    request = enclaves_pb2.AttestEnclaveRequest(nonce=nonce, channel_key=channel_key, claims=claims)
    return Request(f"{ENCLAVES}/AttestEnclave", request, enclaves.quote)


def get_seal_census(parent: str) -> Request[tuple[SealCount, ...]]:
    """EnclaveService.GetSealCensus."""
    message = build(enclaves_pb2.GetSealCensusRequest, parent=parent)
    return Request(f"{ENCLAVES}/GetSealCensus", message, enclaves.seal_census)


def create_enclave_upgrade(parent: str, mrenclave: bytes, isv_svn: int) -> Request[EnclaveUpgrade]:
    """EnclaveService.CreateEnclaveUpgrade."""
    message = build(enclaves_pb2.CreateEnclaveUpgradeRequest, parent=parent, mrenclave=mrenclave, isv_svn=isv_svn)
    return Request(f"{ENCLAVES}/CreateEnclaveUpgrade", message, enclaves.upgrade)


def get_enclave_upgrade(name: str) -> Request[EnclaveUpgrade]:
    """EnclaveService.GetEnclaveUpgrade."""
    message = build(enclaves_pb2.GetEnclaveUpgradeRequest, name=name)
    return Request(f"{ENCLAVES}/GetEnclaveUpgrade", message, enclaves.upgrade)


def list_enclave_upgrades(parent: str, page_size: int) -> Listing:
    """EnclaveService.ListEnclaveUpgrades."""
    read = page("enclave_upgrades", enclaves.upgrade)
    return lambda token: Request(
        f"{ENCLAVES}/ListEnclaveUpgrades",
        build(enclaves_pb2.ListEnclaveUpgradesRequest, parent=parent, page_size=page_size, page_token=token),
        read,
    )


def finish_enclave_upgrade(name: str, force: bool) -> Request[EnclaveUpgrade]:
    """EnclaveService.FinishEnclaveUpgrade."""
    message = build(enclaves_pb2.FinishEnclaveUpgradeRequest, name=name, force=force)
    return Request(f"{ENCLAVES}/FinishEnclaveUpgrade", message, enclaves.upgrade)


def cancel_enclave_upgrade(name: str) -> Request[EnclaveUpgrade]:
    """EnclaveService.CancelEnclaveUpgrade."""
    message = build(enclaves_pb2.CancelEnclaveUpgradeRequest, name=name)
    return Request(f"{ENCLAVES}/CancelEnclaveUpgrade", message, enclaves.upgrade)
