"""Promise 6 from end to end: a key version refuses exactly at its limit, and works again after a rotation."""

from __future__ import annotations

import asyncio

import pytest
from kms_client import VersionExhausted

from kms.core.ports import Counter
from kms.core.suites import GCM_STOP, Purpose
from kms.parts import opened_parts
from kms.settings import load
from tests.daemon import Installation

KEY = "tenants/acme/keys/busy"
LEFT = 5


def test_a_version_refuses_exactly_at_its_limit_and_works_again_after_a_rotation(installation: Installation) -> None:
    with installation.config.open("a") as config:
        config.write("\n[rotation]\nenabled = false\n")  # or the key would be rotated before
    daemon = installation.start()
    with installation.tenant("acme") as client:
        client.create_key("tenants/acme", "busy", purpose=Purpose.ENCRYPT)
        first = client.encrypt(KEY, b"first")
        daemon.stop()
        set_reserved(installation, GCM_STOP - LEFT)

        daemon = installation.start()
        made = [client.encrypt(KEY, b"x") for _ in range(LEFT)]
        for _ in range(2):
            with pytest.raises(VersionExhausted, match="rotate the key"):
                client.encrypt(KEY, b"x")
        assert [version.encryptions_reserved for version in client.list_key_versions(KEY)] == [GCM_STOP]
        daemon.stop()

        installation.start()  # a restart gives nothing back
        with pytest.raises(VersionExhausted):
            client.encrypt(KEY, b"x")
        assert client.decrypt(KEY, first.ciphertext).plaintext == b"first"
        assert {client.decrypt(KEY, each.ciphertext).plaintext for each in made} == {b"x"}
        client.rotate_key(KEY)
        assert client.encrypt(KEY, b"x").version == 2


def set_reserved(installation: Installation, reserved: int) -> None:
    """Reserve so much of the only key version that there is, as the daemon does."""
    asyncio.run(_reserve(installation, reserved))


async def _reserve(installation: Installation, reserved: int) -> None:
    async with opened_parts(load(installation.config)) as parts:
        async with parts.storage.transaction() as work:
            tenant = await work.tenants.get("acme")
        assert tenant is not None
        async with parts.storage.transaction(tenant.uid) as work:
            key = await work.keys.get(tenant.uid, "busy")
        assert key is not None
        counter = Counter(tenant.uid, key.uid, 1)
        [already] = await parts.storage.reserved([counter])
        assert await parts.storage.reserve(counter, reserved - already, None) == reserved
