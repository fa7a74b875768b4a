"""Keys brought into every state, by commands where there are any, otherwise as the part that destroys would store them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta

from kms.core.keyring import Key, KeyVersion
from kms.core.lifecycle import KeyEvent, KeyState
from kms.core.names import KeyName, KeyVersionName, Principal
from kms.core.suites import Purpose
from tests.node import Node, new_key, now

Command = Callable[[Node, Principal, KeyName, str], Awaitable[object]]

# What a caller may ask for; a rotation is one of the events, too.
COMMANDS: dict[KeyEvent, Command] = {
    KeyEvent.ACTIVATE: lambda node, caller, name, etag: node.lifecycle.activate(caller, name, etag),
    KeyEvent.SUSPEND: lambda node, caller, name, etag: node.lifecycle.suspend(caller, name, etag, "why", wait=False),
    KeyEvent.RESUME: lambda node, caller, name, etag: node.lifecycle.resume(caller, name, etag),
    KeyEvent.ARCHIVE: lambda node, caller, name, etag: node.lifecycle.archive(caller, name, etag),
    KeyEvent.REVOKE: lambda node, caller, name, etag: node.lifecycle.revoke(caller, name, etag, "why", wait=False),
    KeyEvent.ROTATE: lambda node, caller, name, etag: node.keys.rotate(caller, name, etag),
}
_PATHS = {
    KeyState.PENDING: (),
    KeyState.ACTIVE: (),
    KeyState.ROTATING: (KeyEvent.ROTATE,),
    KeyState.SUSPENDED: (KeyEvent.SUSPEND,),
    KeyState.ARCHIVED: (KeyEvent.ARCHIVE,),
    KeyState.REVOKED: (KeyEvent.REVOKE,),
    KeyState.DESTRUCTION_SCHEDULED: (),
    KeyState.DESTROYED: (),
}


async def key_in(
    node: Node, caller: Principal, slug: str, state: KeyState, purpose: Purpose = Purpose.ENCRYPT
) -> KeyName:
    """Make a key that is in *state*."""
    name = KeyName(str(caller.tenant), slug)
    wish = replace(new_key(slug, purpose), pending=state is KeyState.PENDING)
    await node.keys.create(caller, name.parent, wish)
    for event in _PATHS[state]:
        await COMMANDS[event](node, caller, name, "")
    if state in {KeyState.DESTRUCTION_SCHEDULED, KeyState.DESTROYED}:
        await scheduled(node, caller, name)
    if state is KeyState.DESTROYED:
        await stored(node, caller, name, lambda key: key.after(KeyEvent.DESTROY, now()))
    assert (await node.keys.get(caller, name)).key.state is state
    return name


async def scheduled(node: Node, caller: Principal, name: KeyName) -> Key:
    """Store a key whose destruction is scheduled."""
    end = now() + timedelta(days=30)
    return await stored(
        node, caller, name, lambda key: replace(key.after(KeyEvent.SCHEDULE_DESTRUCTION, now()), destroy_at=end)
    )


async def stored(node: Node, caller: Principal, name: KeyName, change: Callable[[Key], Key]) -> Key:
    """Store a change of a key past the services."""
    status = await node.keys.get(caller, name)
    async with node.storage.transaction(status.tenant.uid, write=True) as work:
        return await work.keys.replace(change(status.key))


async def version_of(node: Node, caller: Principal, name: KeyVersionName) -> KeyVersion:
    """The version as it is stored."""
    status = await node.keys.get(caller, name.key)
    async with node.storage.transaction(status.tenant.uid) as work:
        version = await work.key_versions.get(status.tenant.uid, status.key.uid, name.version)
    assert version is not None
    return version


async def stored_version(
    node: Node, caller: Principal, name: KeyVersionName, change: Callable[[KeyVersion], KeyVersion]
) -> KeyVersion:
    """Store a change of a version past the services."""
    version = await version_of(node, caller, name)
    async with node.storage.transaction(version.tenant, write=True) as work:
        return await work.key_versions.replace(change(version))
