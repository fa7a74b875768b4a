"""The enclaves of the installation in the database."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, func, select

from kms.core.canonical import Value
from kms.core.enclave_ports import AttestationState, EnclaveFacts, Verdict
from kms.core.enclaves import EnclaveRecord, EnclaveUid
from kms.core.errors import Conflict
from kms.core.names import TenantUid
from kms.core.ports import HealthStatus
from kms.core.receipts import json_text

from .enclave_tables import enclaves as e
from .integrity import columns_of
from .records import find, find_one, remove, store
from .session import Session


def _enclave(row: Row[Any]) -> EnclaveRecord:
    measures = json.loads(row.platform_info)
    return EnclaveRecord(
        uid=EnclaveUid(row.id),
        node=row.node,
        node_uid=row.node_id,
        platform_id=row.platform_id,
        facts=EnclaveFacts(
            backend=row.backend,
            simulated=bool(row.simulated),
            freshness=row.freshness,
            mrenclave=row.mrenclave,
            mrsigner=row.mrsigner,
            isv_prod_id=row.isv_prod_id,
            isv_svn=row.isv_svn,
            cpu_svn=row.cpu_svn,
            debug=bool(row.debug),
            measures=tuple((str(name), bool(done), str(detail)) for name, done, detail in measures),
        ),
        verdict=Verdict(
            AttestationState(row.attestation_status),
            row.attestation_reason,
            row.quote,
            row.last_attestation,
            row.attestation_expires_at,
        ),
        state=row.process_state,
        restarts=row.restarts,
        active=bool(row.is_active),
        health=HealthStatus(row.health_status),
        health_reason=row.health_reason,
        started_at=row.created_at,
        changed_at=row.changed_at,
        revision=row.revision,
    )


class Enclaves:
    """EnclaveRepository on one transaction of the installation."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def find(self, tenant: TenantUid, node: str, platform_id: bytes) -> EnclaveRecord | None:
        """Return the enclave of a node on a platform."""
        query = select(e).where(e.c.tenant_id == tenant, e.c.node == node, e.c.platform_id == platform_id)
        return await find_one(self._session, e, query, _enclave)

    async def list_after(
        self, tenant: TenantUid, after: EnclaveUid | None, limit: int, living: Collection[UUID] | None
    ) -> list[EnclaveRecord]:
        """Return at most *limit* enclaves beyond one, by uid: all, or those that run on one of *living*, daemons' uids."""
        query = select(e).where(e.c.tenant_id == tenant)
        if after is not None:
            query = query.where(e.c.id > after)
        if living is not None:
            query = query.where(e.c.is_active == 1, e.c.node_id.in_(living))
        return await find(self._session, e, query.order_by(e.c.id).limit(limit), _enclave)

    async def of_nodes(self, tenant: TenantUid, nodes: Collection[UUID]) -> list[EnclaveRecord]:
        """Return what these daemons (1,000) have told, running or not, by uid."""
        query = select(e).where(e.c.tenant_id == tenant, e.c.node_id.in_(nodes)).order_by(e.c.id)
        return await find(self._session, e, query, _enclave)

    async def put(self, tenant: TenantUid, record: EnclaveRecord) -> EnclaveRecord:
        """Store a new enclave, or a changed one over the revision that it came from; returns it with the next revision.

        Raises:
            Conflict: the stored revision is another, or the node has one on this platform.
        """
        facts, verdict = record.facts, record.verdict
        row: dict[str, Value] = {
            "tenant_id": tenant,
            "id": record.uid,
            "node": record.node,
            "node_id": record.node_uid,
            "platform_id": record.platform_id,
            "backend": facts.backend,
            "simulated": int(facts.simulated),
            "mrenclave": facts.mrenclave,
            "mrsigner": facts.mrsigner,
            "isv_prod_id": facts.isv_prod_id,
            "isv_svn": facts.isv_svn,
            "cpu_svn": facts.cpu_svn,
            "debug": int(facts.debug),
            "freshness": facts.freshness,
            "platform_info": json_text([list(one) for one in facts.measures]),
            "attestation_status": verdict.state.value,
            "attestation_reason": verdict.reason,
            "quote": verdict.quote,
            "last_attestation": verdict.time,
            "attestation_expires_at": verdict.expires,
            "process_state": record.state,
            "restarts": record.restarts,
            "is_active": int(record.active),
            "health_status": record.health.value,
            "health_reason": record.health_reason,
            "created_at": record.started_at,
            "changed_at": record.changed_at,
        }
        otherwise = Conflict(f"the enclave of {record.node} was changed in between")
        return replace(record, revision=await store(self._session, e, row, record.revision, otherwise=otherwise))

    async def remove_ended(
        self, tenant: TenantUid, living: Collection[UUID], before: datetime, keep: int, limit: int
    ) -> int:
        """Remove enclaves that none of *living* tells of: told last before a time, or beyond the *keep* newest of them.

        At most *limit* (1,000) at once, the oldest first; returns how many.
        """
        ended = (e.c.tenant_id == tenant, e.c.node_id.not_in(living))
        [counted] = await self._session.rows(select(func.count().label("ended")).select_from(e).where(*ended))
        query = (
            select(e.c.tenant_id, e.c.id, e.c.revision, e.c.changed_at)
            .where(*ended)
            .order_by(e.c.changed_at, e.c.id.desc())
            .limit(limit)
        )
        rows = await self._session.rows(query)
        too_many = counted.ended - keep
        old = [columns_of(row) for index, row in enumerate(rows) if index < too_many or row.changed_at < before]
        return await remove(self._session, e, old)
