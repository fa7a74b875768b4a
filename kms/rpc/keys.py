"""KeyService: parse, call, format."""

from __future__ import annotations

from typing import Any, Final

from kms.core.names import KeyName, Principal, TenantName, parse_slug
from kms.core.policy import Overrides
from kms.core.suites import choose_suite
from kms.rpc.fields import (
    RULE_FIELDS,
    parse_display_name,
    parse_etag,
    parse_labels,
    parse_level,
    parse_mask,
    parse_overrides,
    parse_policy_of,
    parse_purpose,
    parse_suite,
)
from kms.rpc.key_lifecycle import Destruction, KeyLifecycleServicer
from kms.rpc.messages import kek_message, key_message, version_message
from kms.rpc.paging import cut, parse_page
from kms.services.keks import Keks
from kms.services.keys import Keys, NewKey
from kms.services.lifecycle import Lifecycle
from kms.v1 import keys_pb2 as pb

# What may be changed of a key beside what it has otherwise than its policy.
OWN_FIELDS: Final = ("display_name", "labels", "policy")
UPDATABLE: Final = (*OWN_FIELDS, *RULE_FIELDS)


class KeyServicer(KeyLifecycleServicer):
    """Serves kms.v1.KeyService."""

    def __init__(self, keys: Keys, keks: Keks, lifecycle: Lifecycle, destruction: Destruction | None = None) -> None:
        super().__init__(keys, lifecycle, destruction)
        self._keks = keks

    async def CreateKey(self, request: pb.CreateKeyRequest, caller: Principal) -> pb.Key:
        """Create a key."""
        parent = TenantName.parse(request.parent, "parent")
        key = request.key
        purpose = parse_purpose(key.purpose)
        suite = parse_suite(key.suite)
        wish = NewKey(
            slug=parse_slug(request.key_id, "key_id"),
            display_name=parse_display_name(key.display_name, "key.display_name"),
            purpose=purpose,
            suite=None if suite is None else choose_suite(purpose, suite),
            level=parse_level(key.protection_level),
            labels=parse_labels(key.labels, "key.labels"),
            policy=parse_policy_of(key.policy, parent),
            overrides=Overrides(**parse_overrides(key, RULE_FIELDS, purpose)),
            pending=request.pending,
            leasable=key.leasable,
        )
        return key_message(await self._keys.create(caller, parent, wish))

    async def GetKey(self, request: pb.GetKeyRequest, caller: Principal) -> pb.Key:
        """Return a key."""
        return key_message(await self._keys.get(caller, KeyName.parse(request.name)))

    async def ListKeys(self, request: pb.ListKeysRequest, caller: Principal) -> pb.ListKeysResponse:
        """List a tenant's keys."""
        parent, page = TenantName.parse(request.parent, "parent"), parse_page(request)
        found = await self._keys.list_by_slug(caller, parent, page.after_slug, page.size + 1)
        keys, token = cut(found, page, lambda status: status.key.slug)
        return pb.ListKeysResponse(keys=map(key_message, keys), next_page_token=token)

    async def UpdateKey(self, request: pb.UpdateKeyRequest, caller: Principal) -> pb.Key:
        """Change what may be changed of a key."""
        name = KeyName.parse(request.key.name, "key.name")
        paths = parse_mask(request.update_mask.paths or _held(request.key), UPDATABLE)
        etag = parse_etag(request.key.etag, "key.etag")
        purpose = (await self._keys.get(caller, name)).key.purpose
        changes = _changes(request.key, paths, name.parent)
        overrides = parse_overrides(request.key, [path for path in paths if path in RULE_FIELDS], purpose)
        return key_message(await self._keys.update(caller, name, etag, changes, overrides))

    async def RotateKey(self, request: pb.RotateKeyRequest, caller: Principal) -> pb.Key:
        """Make a new primary version."""
        name, etag = KeyName.parse(request.name), parse_etag(request.etag)
        return key_message(await self._keys.rotate(caller, name, etag))

    async def ListKeyVersions(
        self, request: pb.ListKeyVersionsRequest, caller: Principal
    ) -> pb.ListKeyVersionsResponse:
        """List the versions of a key."""
        parent, page = KeyName.parse(request.parent, "parent"), parse_page(request)
        key, found = await self._keys.list_versions(caller, parent, page.after_number, page.size + 1)
        versions, token = cut(found, page, lambda status: str(status.version.version))
        return pb.ListKeyVersionsResponse(
            key_versions=[version_message(key, status) for status in versions], next_page_token=token
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


def _held(key: pb.Key) -> list[str]:
    """Return the paths of what a request without a mask holds."""
    own = [path for path in OWN_FIELDS if getattr(key, path)]
    return own + [path for path in RULE_FIELDS if key.HasField(path)]


def _changes(key: pb.Key, paths: list[str], parent: TenantName) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    if "display_name" in paths:
        changes["display_name"] = parse_display_name(key.display_name, "key.display_name")
    if "labels" in paths:
        changes["labels"] = parse_labels(key.labels, "key.labels")
    if "policy" in paths:
        changes["policy"] = parse_policy_of(key.policy, parent)
    return changes
