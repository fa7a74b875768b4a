"""bench/blobs: large blobs beside plain gRPC streams and the bare cipher, and many small ones in each store.

Large: the same bytes through SealBlob and UnsealBlob with a directory store, through a server that does nothing with them
(once as it is, once keeping freed memory as the daemon does), and through AES-256-GCM in chunks of 64 KiB, over the same Unix socket and in the same rounds. Small: blobs of 4 KiB, made
by 16 threads, one call each; S3 is moto's server, whose own speed is most of what that shows.
"""

from __future__ import annotations

import argparse
import os
import secrets
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import grpc
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from kms_client.formats.errors import KmsError
from kms_client.values import Blob

from bench import report
from bench.process import started
from bench.rounds import Sampler, WrongResult, alternate, repeated
from bench.service import TENANT, Service, running, serve
from kms.v1 import blobs_pb2 as pb
from kms.v1 import blobs_pb2_grpc

MIB: Final = 1 << 20
CHUNK: Final = 1 << 16
LARGE: Final = 64  # MiB
ROUNDS: Final = 7
SMALL: Final = 4096  # bytes
COUNT: Final = 10_000
THREADS: Final = 16
BUCKET: Final = "bench"
PATIENCE: Final = 60.0  # seconds for the enclave to be in use
_S3: Final = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print("http://%s:%s" % server.get_host_and_port(), flush=True)
sys.stdin.read()
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print everything; returns the exit code."""
    parser = argparse.ArgumentParser(prog="bench/blobs", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few seconds: shows that it works, not how fast it is")
    parser.add_argument("--count", type=int, default=COUNT, help=f"small blobs in each store; {COUNT:,} unless given")
    asked = parser.parse_args(arguments)
    rounds, large, count = (1, 2, 50) if asked.quick else (ROUNDS, LARGE, asked.count)
    try:
        report.show("Environment", report.environment())
        with _object_storage() as endpoint, running(lambda config: _with_stores(config, endpoint)) as service:
            _wait_for_the_enclave(service)
            with _bare(service.directory, "plain") as bare, _bare(service.directory, "kept") as kept:
                for title, base, samplers in _large(service, bare, kept, large):
                    report.show(title, report.lines(alternate(samplers, rounds), "MiB", base))
            for store in ("local", "small", "bucket"):
                report.show(f"{count:,} blobs of {SMALL:,} bytes, store {store}", _small(service, store, count))
    except WrongResult as wrong:
        print(f"wrong result: {wrong}", file=sys.stderr)
        return 1
    return 0


def _with_stores(config: Path, endpoint: str) -> list[str | Path]:
    """Give the daemon a store of each kind beside `local`, the directory, and return the command that serves."""
    names = ("bench-access-key-id", "bench-secret-access-key")
    for name in names:
        secret = config.parent / "secrets" / name
        secret.touch(0o600)
        secret.write_text(secrets.token_hex(16))
    keys = dict(zip(("access_key_id", "secret_access_key"), names, strict=True))
    lines = "\n".join(f'{field} = {{ file = "secrets/{name}" }}' for field, name in keys.items())
    stores = (
        '[blobs.stores.small]\nkind = "database"\n\n[blobs.stores.bucket]\nkind = "s3"\n'
        f'bucket = "{BUCKET}"\nregion = "eu-central-1"\nendpoint = "{endpoint}"\n{lines}\n'
    )
    config.write_text(f"{config.read_text()}\n{stores}")
    return serve(config)


@contextmanager
def _object_storage() -> Iterator[str]:
    """Run object storage with an empty bucket; yields its URL."""
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    with subprocess.Popen(
        [sys.executable, "-c", _S3],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None  # noqa: S101  for the types
            endpoint = process.stdout.readline().strip()
            where = "<CreateBucketConfiguration><LocationConstraint>eu-central-1</LocationConstraint></CreateBucketConfiguration>"
            request = urllib.request.Request(f"{endpoint}/{BUCKET}", where.encode(), method="PUT")  # noqa: S310
            urllib.request.urlopen(request, timeout=30).close()  # noqa: S310  our own address
            yield endpoint
        finally:
            process.kill()


def _wait_for_the_enclave(service: Service) -> None:
    end = time.monotonic() + PATIENCE
    while True:
        try:
            service.unix.seal_blob(TENANT, f"b-{uuid.uuid4()}", [b"first"])
        except KmsError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)
        else:
            return


@contextmanager
def _bare(directory: Path, memory: str) -> Iterator[blobs_pb2_grpc.BlobServiceStub]:
    path = directory / f"{memory}.sock"
    with grpc.insecure_channel(f"unix://{path}") as channel:
        stub = blobs_pb2_grpc.BlobServiceStub(channel)  # type: ignore[no-untyped-call]

        def serving() -> bool:
            try:
                stub.SealBlob(iter([pb.SealBlobRequest()]), timeout=1)
            except grpc.RpcError:
                return False
            return True

        with started([sys.executable, "-m", "bench.blob_echo", path, memory], directory / f"{memory}.log", serving):
            yield stub


def _large(
    service: Service, bare: blobs_pb2_grpc.BlobServiceStub, kept: blobs_pb2_grpc.BlobServiceStub, size: int
) -> list[tuple[str, str, Mapping[str, Sampler]]]:
    """Make what measures *size* MiB in each way, into the daemon and out of it."""
    pieces = [os.urandom(MIB) for _ in range(size)]
    client = service.unix
    there = client.seal_blob(TENANT, f"b-{uuid.uuid4()}", pieces).name
    if b"".join(client.unseal_blob(there)) != b"".join(pieces):
        raise WrongResult("a blob does not come out as it went in")

    def timed(work: Callable[[], int]) -> Sampler:
        return repeated(work, size, 0.0, check=lambda found: _check(found, size), server=service.cpu)

    def remove(blob: Blob) -> None:
        _check(blob.size, size)
        client.delete_blob(blob.name)

    alone = {"bare AES-256-GCM": timed(lambda: _encrypted(pieces))}

    def sent(server: blobs_pb2_grpc.BlobServiceStub) -> int:
        return int(server.SealBlob(pb.SealBlobRequest(chunk=piece) for piece in pieces).size)

    def received(server: blobs_pb2_grpc.BlobServiceStub) -> int:
        return sum(len(one.chunk) for one in server.UnsealBlob(pb.UnsealBlobRequest(length=size * MIB)))

    def plain(work: Callable[[blobs_pb2_grpc.BlobServiceStub], int]) -> dict[str, Sampler]:
        return {"plain gRPC": timed(lambda: work(bare)), "the same, memory kept": timed(lambda: work(kept)), **alone}

    # Removed outside of the clock: memory for the file that was never used takes a virtual machine longer than the copy.
    sealed = repeated(
        lambda: client.seal_blob(TENANT, f"b-{uuid.uuid4()}", pieces), size, 0.0, check=remove, server=service.cpu
    )
    unsealed = timed(lambda: sum(map(len, client.unseal_blob(there))))
    return [
        ("In, Unix socket", "plain gRPC", {**plain(sent), "SealBlob": sealed}),
        ("Out, Unix socket", "plain gRPC", {**plain(received), "UnsealBlob": unsealed}),
    ]


def _check(found: int, size: int) -> None:
    if found != size * MIB:
        raise WrongResult(f"{found} bytes instead of {size * MIB}")


def _encrypted(pieces: Sequence[bytes]) -> int:
    """Encrypt all pieces in chunks, by one thread; returns how many bytes."""
    cipher, done = AESGCM(os.urandom(32)), 0
    for number, piece in enumerate(pieces):
        for at in range(0, MIB, CHUNK):
            nonce = (number * MIB + at).to_bytes(12, "big")
            done += len(cipher.encrypt(nonce, piece[at : at + CHUNK], None)) - 16
    return done


def _small(service: Service, store: str, count: int) -> list[str]:
    """Seal and read back *count* blobs; returns a line for each way."""
    data = os.urandom(SMALL)
    names = [f"b-{uuid.uuid4()}" for _ in range(count)]

    def seal(name: str) -> bool:
        return service.unix.seal_blob(TENANT, name, [data], store=store).store == store

    def unseal(name: str) -> bool:
        return b"".join(service.unix.unseal_blob(f"{TENANT}/blobs/{name}")) == data

    lines = []
    for what, work in (("sealed", seal), ("unsealed", unseal)):
        began = time.perf_counter()
        with ThreadPoolExecutor(THREADS) as threads:
            if not all(threads.map(work, names)):
                raise WrongResult(f"a small blob was not {what}")
        seconds = time.perf_counter() - began
        lines.append(f"{what}: {count / seconds:,.0f} blobs/s ({seconds:.1f} s)")
    return lines


if __name__ == "__main__":
    sys.exit(main())
