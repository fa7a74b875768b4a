"""From messages to values: enclaves."""

from __future__ import annotations

from ..v1 import enclaves_pb2
from ..values import Enclave, EnclaveMeasure, EnclaveQuote, EnclaveUpgrade, NodeEnclave, SealCount
from .reading import time, time_if


def enclave(message: enclaves_pb2.Enclave) -> Enclave:
    """Read an Enclave."""
    return Enclave(
        backend=message.backend,
        simulated=message.simulated,
        in_use=message.in_use,
        state=message.state,
        reason=message.reason,
        restarts=message.restarts,
        mrenclave=message.mrenclave,
        mrsigner=message.mrsigner,
        isv_prod_id=message.isv_prod_id,
        isv_svn=message.isv_svn,
        cpu_svn=message.cpu_svn,
        debug=message.debug,
        freshness=message.freshness,
        measures=_measures(message),
        platform_id=message.platform_id,
        attest_time=time_if(message, "attest_time"),
        attest_expire_time=time_if(message, "attest_expire_time"),
    )


def node_enclave(message: enclaves_pb2.NodeEnclave) -> NodeEnclave:
    """Read a NodeEnclave."""
    return NodeEnclave(
        name=message.name,
        node=message.node,
        node_uid=message.node_uid,
        backend=message.backend,
        simulated=message.simulated,
        mrenclave=message.mrenclave,
        mrsigner=message.mrsigner,
        isv_prod_id=message.isv_prod_id,
        isv_svn=message.isv_svn,
        cpu_svn=message.cpu_svn,
        debug=message.debug,
        freshness=message.freshness,
        platform_id=message.platform_id,
        measures=_measures(message),
        attestation_status=message.attestation_status,
        attestation_reason=message.attestation_reason,
        quote=message.quote,
        signature=message.signature,
        attest_time=time_if(message, "attest_time"),
        attest_expire_time=time_if(message, "attest_expire_time"),
        state=message.state,
        restarts=message.restarts,
        active=message.active,
        health=message.health,
        health_reason=message.health_reason,
        create_time=time_if(message, "create_time"),
        update_time=time_if(message, "update_time"),
        revision=message.revision,
    )


def _measures(message: enclaves_pb2.Enclave | enclaves_pb2.NodeEnclave) -> tuple[EnclaveMeasure, ...]:
    return tuple(EnclaveMeasure(one.name, one.done, one.detail) for one in message.measures)


def quote(message: enclaves_pb2.AttestEnclaveResponse) -> EnclaveQuote:
    """Read an AttestEnclaveResponse."""
    return EnclaveQuote(message.quote, message.root_list, message.platform_list)


def upgrade(message: enclaves_pb2.EnclaveUpgrade) -> EnclaveUpgrade:
    """Read an EnclaveUpgrade."""
    return EnclaveUpgrade(
        name=message.name,
        mrenclave=message.mrenclave,
        isv_svn=message.isv_svn,
        from_mrenclave=message.from_mrenclave,
        from_isv_svn=message.from_isv_svn,
        state=message.state,
        state_time=time(message.state_time),
        create_time=time(message.create_time),
        creator=message.creator,
        operation=message.operation,
        forced_by=message.forced_by,
    )


def seal_census(message: enclaves_pb2.SealCensus) -> tuple[SealCount, ...]:
    """Read a SealCensus."""
    return tuple(
        SealCount(
            kind=row.kind,
            wanted_policy=row.wanted_policy,
            policy=row.policy,
            recorded=row.recorded,
            mrenclave=row.mrenclave,
            mrsigner=row.mrsigner,
            isv_svn=row.isv_svn,
            simulated=row.simulated,
            this_enclave=row.this_enclave,
            count=row.count,
        )
        for row in message.rows
    )
