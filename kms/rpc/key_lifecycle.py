"""The lifecycle part of KeyService: parse, call, format."""

from __future__ import annotations

from datetime import timedelta
from typing import Protocol

from kms.core.errors import NotSupported
from kms.core.names import KeyName, KeyVersionName, Principal, TenantName
from kms.core.receipts import Receipt
from kms.rpc.fields import parse_etag, parse_owner, parse_reason, parse_waiting
from kms.rpc.messages import (
    key_message,
    operation_message,
    propagation_message,
    public_key_pem,
    receipt_message,
    version_message,
)
from kms.rpc.paging import cut, parse_page
from kms.services.keys import Keys
from kms.services.lifecycle import Lifecycle
from kms.services.statuses import KeyStatus, VersionStatus
from kms.v1 import keys_pb2 as pb
from kms.v1 import operations_pb2


class Destruction(Protocol):
    """Ends the lives of keys and versions, and tells of it."""

    async def schedule_key(
        self,
        caller: Principal,
        name: KeyName,
        etag: str,
        reason: str,
        waiting: timedelta | None,
        *,
        force: bool = False,
    ) -> KeyStatus:
        """Begin the waiting period, None for the shortest default, after which a key is destroyed."""
        ...

    async def cancel_key(self, caller: Principal, name: KeyName, etag: str) -> KeyStatus:
        """End the waiting period: the key is again what it was before."""
        ...

    async def retire_version(
        self, caller: Principal, name: KeyVersionName, *, force: bool = False
    ) -> tuple[KeyStatus, VersionStatus]:
        """Begin the quarantine after which a version is destroyed."""
        ...

    async def cancel_retirement(self, caller: Principal, name: KeyVersionName) -> tuple[KeyStatus, VersionStatus]:
        """End the quarantine of a version: it is again what it was before."""
        ...

    async def list_receipts(
        self, caller: Principal, parent: TenantName | KeyName, after: str, limit: int
    ) -> list[Receipt]:
        """Return at most *limit* receipts below *parent* with subjects greater than *after*, ordered."""
        ...

    async def signing_key(self) -> bytes:
        """Return the public key that verifies receipts, as DER SubjectPublicKeyInfo."""
        ...


class KeyLifecycleServicer:
    """Serves the lifecycle part of kms.v1.KeyService; without *destruction* that part of it is refused."""

    def __init__(self, keys: Keys, lifecycle: Lifecycle, destruction: Destruction | None = None) -> None:
        self._keys = keys
        self._lifecycle = lifecycle
        self._destruction_given = destruction

    async def RotateKeys(self, request: pb.RotateKeysRequest, caller: Principal) -> operations_pb2.Operation:
        """Rotate every key of a tenant."""
        return operation_message(*await self._keys.rotate_all(caller, TenantName.parse(request.parent, "parent")))

    async def ActivateKey(self, request: pb.ActivateKeyRequest, caller: Principal) -> pb.Key:
        """Let a pending key be used."""
        name, etag = KeyName.parse(request.name), parse_etag(request.etag)
        return key_message(await self._lifecycle.activate(caller, name, etag))

    async def SuspendKey(self, request: pb.SuspendKeyRequest, caller: Principal) -> pb.SuspendKeyResponse:
        """Stop a key for a while."""
        name, etag, reason = KeyName.parse(request.name), parse_etag(request.etag), parse_reason(request.reason)
        stopped = await self._lifecycle.suspend(caller, name, etag, reason, wait=request.wait)
        return pb.SuspendKeyResponse(
            key=key_message(stopped.status), propagation=propagation_message(stopped.propagation)
        )

    async def ResumeKey(self, request: pb.ResumeKeyRequest, caller: Principal) -> pb.Key:
        """End a suspension."""
        name, etag = KeyName.parse(request.name), parse_etag(request.etag)
        return key_message(await self._lifecycle.resume(caller, name, etag))

    async def ArchiveKey(self, request: pb.ArchiveKeyRequest, caller: Principal) -> pb.Key:
        """Let a key decrypt only."""
        name, etag = KeyName.parse(request.name), parse_etag(request.etag)
        return key_message(await self._lifecycle.archive(caller, name, etag))

    async def RevokeKey(self, request: pb.RevokeKeyRequest, caller: Principal) -> pb.RevokeKeyResponse:
        """Declare a key compromised."""
        name, etag, reason = KeyName.parse(request.name), parse_etag(request.etag), parse_reason(request.reason)
        stopped = await self._lifecycle.revoke(caller, name, etag, reason, wait=request.wait)
        return pb.RevokeKeyResponse(
            key=key_message(stopped.status), propagation=propagation_message(stopped.propagation)
        )

    async def RevokeKeyVersion(
        self, request: pb.RevokeKeyVersionRequest, caller: Principal
    ) -> pb.RevokeKeyVersionResponse:
        """Declare a version compromised."""
        name, etag, reason = KeyVersionName.parse(request.name), parse_etag(request.etag), parse_reason(request.reason)
        stopped = await self._lifecycle.revoke_version(caller, name, etag, reason, wait=request.wait)
        return pb.RevokeKeyVersionResponse(
            key_version=version_message(stopped.status, stopped.version),
            key=key_message(stopped.status),
            propagation=propagation_message(stopped.propagation),
        )

    async def ScheduleKeyDestruction(self, request: pb.ScheduleKeyDestructionRequest, caller: Principal) -> pb.Key:
        """Begin the waiting period before the destruction of a key."""
        name, etag, reason = KeyName.parse(request.name), parse_etag(request.etag), parse_reason(request.reason)
        waiting = parse_waiting(request.HasField("waiting_period"), request.waiting_period)
        status = await self._destruction.schedule_key(caller, name, etag, reason, waiting, force=request.force)
        return key_message(status)

    async def CancelKeyDestruction(self, request: pb.CancelKeyDestructionRequest, caller: Principal) -> pb.Key:
        """End the waiting period before the destruction of a key."""
        name, etag = KeyName.parse(request.name), parse_etag(request.etag)
        return key_message(await self._destruction.cancel_key(caller, name, etag))

    async def RetireKeyVersion(self, request: pb.RetireKeyVersionRequest, caller: Principal) -> pb.KeyVersion:
        """Begin the quarantine of a version."""
        name = KeyVersionName.parse(request.name)
        return version_message(*await self._destruction.retire_version(caller, name, force=request.force))

    async def CancelKeyVersionRetirement(
        self, request: pb.CancelKeyVersionRetirementRequest, caller: Principal
    ) -> pb.KeyVersion:
        """End the quarantine of a version."""
        name = KeyVersionName.parse(request.name)
        return version_message(*await self._destruction.cancel_retirement(caller, name))

    async def ListDestructionReceipts(
        self, request: pb.ListDestructionReceiptsRequest, caller: Principal
    ) -> pb.ListDestructionReceiptsResponse:
        """List receipts of destruction."""
        parent, page = parse_owner(request.parent, "parent"), parse_page(request)
        found = await self._destruction.list_receipts(caller, parent, page.after, page.size + 1)
        receipts, token = cut(found, page, lambda receipt: receipt.subject)
        return pb.ListDestructionReceiptsResponse(receipts=map(receipt_message, receipts), next_page_token=token)

    async def GetSigningKey(self, request: pb.GetSigningKeyRequest, caller: Principal) -> pb.SigningKey:
        """Return the public key that verifies receipts."""
        del request, caller  # it is for everybody
        return pb.SigningKey(public_key_pem=public_key_pem(await self._destruction.signing_key()))

    @property
    def _destruction(self) -> Destruction:
        if self._destruction_given is None:
            raise NotSupported("destruction is not in this release")
        return self._destruction_given
