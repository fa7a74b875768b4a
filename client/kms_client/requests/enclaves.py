"""Requests to EnclaveService."""

from __future__ import annotations

from ..methods import ENCLAVES
from ..responses import enclaves
from ..responses.reading import page
from ..v1 import enclaves_pb2
from ..values import Enclave, EnclaveQuote
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
