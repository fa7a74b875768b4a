"""KeyService: parse, call, format."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp

from kms.core.errors import invalid
from kms.core.keyring import KekState, Tenant
from kms.core.names import KeyName, Principal, TenantName, parse_slug
from kms.core.policy import Overrides
from kms.core.suites import RULES, Purpose, choose_suite
from kms.rpc.fields import (
    parse_display_name,
    parse_etag,
    parse_labels,
    parse_level,
    parse_purpose,
    parse_rotation,
    parse_suite,
)
from kms.rpc.key_lifecycle import KeyLifecycleServicer
from kms.rpc.paging import cut, parse_page
from kms.services.keks import Keks, KekStatus
from kms.services.keyrings import Ring
from kms.services.keys import Keys, NewKey, VersionStatus
from kms.v1 import keys_pb2 as pb

UPDATABLE: Final = ("display_name", "labels", "rotation_period")


class KeyServicer(KeyLifecycleServicer):
    """Serves kms.v1.KeyService."""

    def __init__(self, keys: Keys, keks: Keks) -> None:
        self._keys = keys
        self._keks = keks

    async def CreateKey(self, request: pb.CreateKeyRequest, caller: Principal) -> pb.Key:
        """Create a key."""
        parent = TenantName.parse(request.parent, "parent")
        key = request.key
        purpose = parse_purpose(key.purpose)
        parse_level(key.protection_level)
        wish = NewKey(
            slug=parse_slug(request.key_id, "key_id"),
            display_name=parse_display_name(key.display_name, "key.display_name"),
            purpose=purpose,
            suite=choose_suite(purpose, parse_suite(key.suite)),
            labels=parse_labels(key.labels, "key.labels"),
            overrides=Overrides(rotation=parse_rotation(key.HasField("rotation_period"), key.rotation_period, purpose)),
        )
        return key_message(await self._keys.create(caller, parent, wish))

    async def GetKey(self, request: pb.GetKeyRequest, caller: Principal) -> pb.Key:
        """Return a key."""
        return key_message(await self._keys.get(caller, KeyName.parse(request.name)))

    async def ListKeys(self, request: pb.ListKeysRequest, caller: Principal) -> pb.ListKeysResponse:
        """List a tenant's keys."""
        parent, page = TenantName.parse(request.parent, "parent"), parse_page(request)
        tenant, found = await self._keys.list_by_slug(caller, parent, page.after_slug, page.size + 1)
        keys, token = cut(found, page, lambda key: key.slug)
        return pb.ListKeysResponse(keys=[key_message(Ring(tenant, key)) for key in keys], next_page_token=token)

    async def UpdateKey(self, request: pb.UpdateKeyRequest, caller: Principal) -> pb.Key:
        """Change what may be changed of a key."""
        name = KeyName.parse(request.key.name, "key.name")
        paths = list(request.update_mask.paths) or [
            path
            for path in UPDATABLE
            if (request.key.HasField(path) if path == "rotation_period" else getattr(request.key, path))
        ]
        if paths == ["*"]:  # full replacement (AIP-134)
            paths = list(UPDATABLE)
        if unknown := [path for path in paths if path not in UPDATABLE]:
            raise invalid("update_mask", f"{unknown[0][:64]!r} must be one of {', '.join(UPDATABLE)}")
        if not paths:
            raise invalid("update_mask", f"must name at least one of {', '.join(UPDATABLE)}")
        etag = parse_etag(request.key.etag, "key.etag")
        purpose = (await self._keys.get(caller, name)).key.purpose
        return key_message(await self._keys.update(caller, name, etag, _changes(request.key, paths, purpose)))

    async def RotateKey(self, request: pb.RotateKeyRequest, caller: Principal) -> pb.Key:
        """Make a new primary version."""
        name, etag = KeyName.parse(request.name), parse_etag(request.etag)
        return key_message(await self._keys.rotate(caller, name, etag))

    async def ListKeyVersions(
        self, request: pb.ListKeyVersionsRequest, caller: Principal
    ) -> pb.ListKeyVersionsResponse:
        """List the versions of a key."""
        parent, page = KeyName.parse(request.parent, "parent"), parse_page(request)
        ring, found = await self._keys.list_versions(caller, parent, page.after_number, page.size + 1)
        versions, token = cut(found, page, lambda status: str(status.version.version))
        return pb.ListKeyVersionsResponse(
            key_versions=[version_message(ring, status) for status in versions], next_page_token=token
        )

    async def ListKeks(self, request: pb.ListKeksRequest, caller: Principal) -> pb.ListKeksResponse:
        """List the versions of a tenant's KEK."""
        parent, page = TenantName.parse(request.parent, "parent"), parse_page(request)
        tenant, found = await self._keks.list_statuses(caller, parent, page.after_number, page.size + 1)
        keks, token = cut(found, page, lambda status: str(status.kek.version))
        return pb.ListKeksResponse(keks=[kek_message(tenant, status) for status in keks], next_page_token=token)

    async def RotateKek(self, request: pb.RotateKekRequest, caller: Principal) -> pb.Kek:
        """Make a new KEK version."""
        parent = TenantName.parse(request.parent, "parent")
        return kek_message(*await self._keks.rotate(caller, parent, request.primary_version))


def _changes(key: pb.Key, paths: list[str], purpose: Purpose) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    if "display_name" in paths:
        changes["display_name"] = parse_display_name(key.display_name, "key.display_name")
    if "labels" in paths:
        changes["labels"] = parse_labels(key.labels, "key.labels")
    if "rotation_period" in paths:
        rotation = parse_rotation(key.HasField("rotation_period"), key.rotation_period, purpose)
        changes["overrides"] = Overrides(rotation=rotation)
    return changes


def _timestamp(moment: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp


def key_message(ring: Ring) -> pb.Key:
    """Format a key."""
    key = ring.key
    message = pb.Key(
        name=str(key.name(ring.tenant)),
        uid=str(key.uid),
        display_name=key.display_name,
        purpose=key.purpose.name,
        suite=key.suite.name,
        protection_level=key.level.name,
        labels=key.labels,
        primary_version=key.primary_version,
        create_time=_timestamp(key.created_at),
        rotate_time=_timestamp(key.rotated_at),
        creator=key.created_by,
        etag=key.etag,
    )
    if key.overrides.rotation is not None:
        message.rotation_period.FromTimedelta(key.overrides.rotation)
    return message


def version_message(ring: Ring, status: VersionStatus) -> pb.KeyVersion:
    """Format a key version."""
    return pb.KeyVersion(
        name=ring.key.name(ring.tenant).version(status.version.version),
        primary=status.primary,
        kek=ring.tenant.name.kek(status.version.kek_version),
        create_time=_timestamp(status.version.created_at),
        encryptions_reserved=status.encryptions_reserved,
        encryptions_limit=RULES[ring.key.suite].stop_at or 0,
    )


_KEK_STATES: Final = {
    KekState.ACTIVE: pb.KEK_ACTIVE,
    KekState.DESTRUCTION_SCHEDULED: pb.KEK_DESTRUCTION_SCHEDULED,
    KekState.DESTROYING: pb.KEK_DESTRUCTION_SCHEDULED,  # until the token has confirmed it
    KekState.DESTROYED: pb.KEK_DESTROYED,
}


def kek_message(tenant: Tenant, status: KekStatus) -> pb.Kek:
    """Format a KEK version."""
    kek = status.kek
    message = pb.Kek(
        name=tenant.name.kek(kek.version),
        uid=str(kek.uid),
        primary=status.primary,
        hsm_key_id=kek.hsm_key_id,
        create_time=_timestamp(kek.created_at),
        wrapped_key_versions=status.wrapped_key_versions,
        wraps_reserved=status.wraps_reserved,
        state=_KEK_STATES[kek.state],
    )
    if kek.destroy_at is not None and message.state == pb.KEK_DESTRUCTION_SCHEDULED:
        message.destroy_time.FromDatetime(kek.destroy_at)
    if status.next_rotation_at is not None:
        message.next_rotation_time.FromDatetime(status.next_rotation_at)
    return message
