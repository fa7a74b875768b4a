"""The enclave killed while it counts: no value that was given out is ever given out again."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from kms.channel import HostUnavailable
from tests.enclaves import EnclaveProcess


async def killed_again_and_again(directory, rounds):
    fuse = os.urandom(32)
    given_out = 0
    async with EnclaveProcess(directory, fuse=fuse) as enclave:
        await enclave.call("create_counter", "uses")
    for number in range(rounds):
        async with EnclaveProcess(directory, fuse=fuse) as enclave:
            value = await enclave.call("read_counter", "uses")
            # What was under way when it was killed may or may not have been counted.
            assert given_out <= value <= given_out + 8
            given_out = value
            for _ in range(number % 3):
                given_out = await enclave.call("increment_counter", "uses")
            under_way = [asyncio.create_task(enclave.call("increment_counter", "uses")) for _ in range(8)]
            await under_way[number % 7]  # the others are before or after this one
            os.kill(enclave.pid, signal.SIGKILL)
            results = await asyncio.gather(*under_way, return_exceptions=True)
            answers = [result for result in results if isinstance(result, int)]
            assert answers == list(range(given_out + 1, given_out + 1 + len(answers)))
            assert {type(result) for result in results} <= {int, HostUnavailable}
            given_out += len(answers)
    return given_out


async def test_no_value_is_given_out_twice(tmp_path):
    assert await killed_again_and_again(tmp_path, 2) >= 2


@pytest.mark.soak
async def test_no_value_is_given_out_twice_in_many_kills(tmp_path):
    assert await killed_again_and_again(tmp_path, 100) >= 100
