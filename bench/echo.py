"""A bare grpc.aio server: the daemon's own server without the daemon.

It has the same event loop, options and listener, parses the same message and answers with as many bytes as Encrypt,
but looks at nothing. What it costs is gRPC's part of a call. `python -m bench.echo SOCKET` serves until it is ended.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import grpc
import uvloop

from kms.core.ciphertext import HEADER_LENGTH
from kms.core.suites import RULES, Suite
from kms.rpc.server import RpcServer
from kms.settings import Limits, Listen, UnixListener
from kms.v1 import crypto_pb2 as pb

_MORE = bytes(HEADER_LENGTH + RULES[Suite.AES_256_GCM].overhead)


async def _encrypt(request: pb.EncryptRequest, _: Any) -> pb.EncryptResponse:
    return pb.EncryptResponse(ciphertext=_MORE + request.plaintext, version=1)


async def serve(path: Path) -> None:
    """Serve until the process ends."""
    handler = grpc.unary_unary_rpc_method_handler(
        _encrypt,
        request_deserializer=pb.EncryptRequest.FromString,
        response_serializer=pb.EncryptResponse.SerializeToString,
    )
    listener = UnixListener(path=path, principal="operators/nobody")
    handlers = [grpc.method_handlers_generic_handler("kms.v1.CryptoService", {"Encrypt": handler})]
    server = RpcServer(handlers, Listen(unix=listener), Limits())  # must be kept: collected, it stops serving
    await server.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1])))
