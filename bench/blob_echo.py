"""A bare grpc.aio server of streams: what SealBlob and UnsealBlob carry, and nothing done with it.

It has the same event loop, options, listener and messages as the daemon. `python -m bench.blob_echo SOCKET` serves until it
is ended; with `kept` behind that, it keeps freed memory as the daemon does (kms/allocation.py).
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import grpc
import uvloop

from kms.allocation import keep_freed_memory
from kms.rpc.server import RpcServer
from kms.settings import Limits, Listen, UnixListener
from kms.v1 import blobs_pb2 as pb

PIECE: Final = bytes(1 << 20)


async def _seal(requests: AsyncIterator[pb.SealBlobRequest], _: Any) -> pb.Blob:
    size = 0
    async for request in requests:
        size += len(request.chunk)
    return pb.Blob(size=size)


async def _unseal(request: pb.UnsealBlobRequest, _: Any) -> AsyncIterator[pb.UnsealBlobResponse]:
    for _number in range(request.length // len(PIECE)):
        yield pb.UnsealBlobResponse(chunk=PIECE)


async def serve(path: Path) -> None:
    """Serve until the process ends."""
    methods = {
        "SealBlob": grpc.stream_unary_rpc_method_handler(
            _seal, pb.SealBlobRequest.FromString, pb.Blob.SerializeToString
        ),
        "UnsealBlob": grpc.unary_stream_rpc_method_handler(
            _unseal, pb.UnsealBlobRequest.FromString, pb.UnsealBlobResponse.SerializeToString
        ),
    }
    listener = UnixListener(path=path, principal="operators/nobody")
    handlers = [grpc.method_handlers_generic_handler("kms.v1.BlobService", methods)]
    server = RpcServer(handlers, Listen(unix=listener), Limits())  # must be kept: collected, it stops serving
    await server.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    if sys.argv[2:] == ["kept"]:
        keep_freed_memory()
    uvloop.run(serve(Path(sys.argv[1])))
