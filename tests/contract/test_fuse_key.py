"""The key of the fuse in a real token: made once, asked for by platform, and never made by asking."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest

from kms.channel import HostRefused
from kms.hosts import Host
from kms.hsm.pkcs11 import HOST_COMMAND
from tests.softhsm_token import Token

pytestmark = pytest.mark.softhsm

SECONDS = 30.0


@pytest.fixture
async def host(fresh_token: Token) -> AsyncIterator[Host]:
    token = fresh_token.token
    greeting = [str(token.module), token.label, fresh_token.pin, "probe", SECONDS]
    started = Host("token", HOST_COMMAND, token.environment, greeting=lambda: greeting, start_deadline=SECONDS)
    await started.start()
    yield started
    await started.stop()


async def refusal(host: Host, kind: str, *arguments: object) -> str:
    with pytest.raises(HostRefused) as caught:
        await host.call(kind, arguments, deadline=SECONDS)
    return f"{caught.value.code}: {caught.value}"


async def test_the_fuse_is_a_matter_of_the_key_and_the_platform_alone(host: Host, fresh_token: Token) -> None:
    one, other = os.urandom(16), os.urandom(16)
    assert "missing: the token does not show its fuse key" in await refusal(host, "fuse", one)
    assert await host.call("make_fuse_key", [], deadline=SECONDS) is None
    fuse = await host.call("fuse", [one], deadline=SECONDS)
    assert isinstance(fuse, bytes)
    assert len(fuse) == 32
    assert await host.call("fuse", [one], deadline=SECONDS) == fuse
    assert await host.call("fuse", [other], deadline=SECONDS) != fuse
    # What the token holds, and what is said to it, are those of FORMATS section 9.
    script = (
        "(key,) = session.get_objects({Attribute.LABEL: 'kms-enclave-fuse'})\n"
        f"message = b'kms/v1/enclave-fuse' + bytes(1) + bytes.fromhex('{one.hex()}')\n"
        "result = [key.sign(message, mechanism=Mechanism.SHA256_HMAC).hex(), key[Attribute.SENSITIVE],"
        " key[Attribute.EXTRACTABLE]]\n"
    )
    assert fresh_token.run(script) == [fuse.hex(), True, False]
    assert "unusable: the token holds a fuse key kms-enclave-fuse already" in await refusal(host, "make_fuse_key")
    assert await host.call("fuse", [one], deadline=SECONDS) == fuse


@pytest.mark.parametrize("platform_id", [b"", bytes(15), bytes(17)])
async def test_a_platform_has_an_id_of_16_bytes(host: Host, platform_id: bytes) -> None:
    await host.call("make_fuse_key", [], deadline=SECONDS)
    assert "unusable: a platform's id has 16 bytes" in await refusal(host, "fuse", platform_id)
