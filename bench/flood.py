"""A tenant that asks for as much as it can: calls that follow each other without pause, in a process of its own.

It writes a line when it has had its first answers, and the number of calls that were answered when its input is closed.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from typing import Any, Final

import grpc
import uvloop
from kms_client.profile import Profile

from bench.calls import encrypt_batch_request
from bench.load import encrypt_request
from bench.service import stub_of
from bench.workload import Workload

READY: Final = "ready"
DEADLINE: Final = 60.0  # seconds, for each call


async def flood(profile: Profile, key: str, values: int, in_flight: int) -> int:
    """Call until the input is closed; returns how many calls were answered."""
    if profile.tls is None:
        raise RuntimeError("the profile names no certificate")
    answered = 0
    first = asyncio.Event()
    async with grpc.aio.secure_channel(profile.target, profile.tls.load().credentials) as channel:
        call, request = _call(stub_of(channel), key, values)

        async def repeat() -> None:
            nonlocal answered
            while True:
                try:
                    await call(request, timeout=DEADLINE)
                except grpc.aio.AioRpcError as error:
                    # A machine that is busy with other work lets the database answer too late now and then.
                    if error.code() is not grpc.StatusCode.UNAVAILABLE:
                        raise
                else:
                    answered += 1
                    first.set()

        async with asyncio.TaskGroup() as tasks:
            callers = [tasks.create_task(repeat()) for _ in range(in_flight)]
            await first.wait()
            print(READY, flush=True)
            await asyncio.to_thread(sys.stdin.read)
            for caller in callers:
                caller.cancel()
    return answered


def _call(stub: Any, key: str, values: int) -> tuple[Any, Any]:
    work = Workload.of(values)
    request: Any = encrypt_request(work) if values == 1 else encrypt_batch_request(work)
    request.name = key
    return (stub.Encrypt if values == 1 else stub.EncryptBatch), request


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("profile", type=Path)
    parser.add_argument("key")
    parser.add_argument("--values", type=int, default=1)
    parser.add_argument("--in-flight", type=int, default=1)
    given = parser.parse_args()
    print(uvloop.run(flood(Profile.load(given.profile), given.key, given.values, given.in_flight)), flush=True)


if __name__ == "__main__":
    main()
