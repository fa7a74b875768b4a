"""Single values from a load generator, beside a server that does nothing with them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import grpc

from bench import h2load
from bench.calls import BARE_VALUES
from bench.process import cpu_clock, started
from bench.rounds import Figures, Sample, Sampler, WrongResult, alternate, repeated
from bench.service import KEY, Service, stub_of
from bench.workload import BARE, Workload, bare_loop, check_encrypted, check_plaintexts, context_pairs
from kms.v1 import crypto_pb2 as pb

ECHO: Final = "bare grpc.aio echo"
METHODS: Final = ("Encrypt", "Decrypt")
IN_FLIGHT: Final = 64  # calls, on one connection
LOOKED_AT: Final = 20  # answers to each kind of call, after each run of the load generator
FRAME: Final = 5  # bytes before a message in a gRPC body

Message = pb.EncryptRequest | pb.DecryptRequest | pb.EncryptBatchRequest


def unary(service: Service, rounds: int, seconds: float) -> dict[str, Figures]:
    """Measure Encrypt and Decrypt under load, and the echo server in alternation with them.

    Raises:
        WrongResult: a call was refused, or an answer is wrong.
    """
    work = Workload.of(1)
    request = encrypt_request(work)
    made = service.tls.encrypt(KEY, work.values[0], context=work.context).ciphertext
    with echo(service.directory) as (socket, cpu):
        bare = target(service.directory / "echo.bin", socket, "Encrypt", request)
        encrypt = target(service.directory / "encrypt.bin", service.socket, "Encrypt", request)
        decrypt = target(service.directory / "decrypt.bin", service.socket, "Decrypt", decrypt_request(work, made))
        return alternate(
            {
                BARE: repeated(bare_loop(work.values * BARE_VALUES), BARE_VALUES, seconds / 4),
                ECHO: h2load.sampler(bare, seconds, cpu),
                "Encrypt": confirmed(service, "Encrypt", h2load.sampler(encrypt, seconds, service.cpu), work),
                "Decrypt": confirmed(service, "Decrypt", h2load.sampler(decrypt, seconds, service.cpu), work),
            },
            rounds,
        )


@contextmanager
def echo(directory: Path) -> Iterator[tuple[Path, Callable[[], float]]]:
    """Run the echo server; yields its socket and its CPU clock."""
    socket = directory / "echo.sock"

    def serving() -> bool:
        with grpc.insecure_channel(f"unix://{socket}") as channel:
            try:
                grpc.channel_ready_future(channel).result(timeout=1)
            except grpc.FutureTimeoutError:
                return False
            return True

    with started([sys.executable, "-m", "bench.echo", socket], directory / "echo.log", serving) as process:
        yield socket, cpu_clock(process.pid)


def target(file: Path, socket: Path, method: str, request: Message, in_flight: int = IN_FLIGHT) -> h2load.Target:
    """Prepare a call of CryptoService for h2load: its body in *file*, and the length of a right answer.

    Raises:
        WrongResult: the call is refused.
    """
    message = request.SerializeToString()
    file.write_bytes(b"\0" + len(message).to_bytes(4, "big") + message)
    with grpc.insecure_channel(f"unix://{socket}") as channel:
        try:
            answer = getattr(stub_of(channel), method)(request, timeout=60)
        except grpc.RpcError as refused:
            raise WrongResult(f"{method} is refused: {refused}") from refused
    return target_of(file, socket, method, FRAME + answer.ByteSize(), in_flight)


def target_of(file: Path, socket: Path, method: str, body_length: int, in_flight: int = IN_FLIGHT) -> h2load.Target:
    """Return what h2load needs to send *file* to a method of CryptoService, so many calls at once."""
    arguments = ["-c", "1", "-m", str(in_flight), "-d", str(file), f"--base-uri=unix:{socket}"]
    # With a deadline, as every call of the SDK has one.
    headers = ["-H", "content-type: application/grpc", "-H", "te: trailers", "-H", "grpc-timeout: 10S"]
    return h2load.Target([*arguments, *headers, f"http://localhost/kms.v1.CryptoService/{method}"], body_length)


def confirmed(service: Service, method: str, sampler: Sampler, work: Workload) -> Sampler:
    """Let each sample be confirmed by the daemon's own count of good answers, and by looking at some of them."""

    def sample() -> Sample:
        before = service.calls(method, "OK"), service.calls(method)
        taken = sampler()
        good, all_ = service.calls(method, "OK") - before[0], service.calls(method) - before[1]
        if (good, all_) != (taken.items, taken.items):
            raise WrongResult(f"of {taken.items} calls of {method} the daemon counts {good} as good, of {all_}")
        look(service, work)
        return taken

    return sample


def look(service: Service, work: Workload) -> None:
    """Look at some answers to what the load generator sends, through the same socket.

    Raises:
        WrongResult: one of them is wrong.
    """
    with grpc.insecure_channel(f"unix://{service.socket}") as channel:
        stub, request = stub_of(channel), encrypt_request(work)
        made = [stub.Encrypt(request, timeout=60).ciphertext for _ in range(LOOKED_AT)]
        check_encrypted(service.tls, KEY, Workload(work.values * LOOKED_AT, work.rows * LOOKED_AT), made)
        found = [stub.Decrypt(decrypt_request(work, ciphertext), timeout=60).plaintext for ciphertext in made]
        check_plaintexts(found, work.values * LOOKED_AT)


def encrypt_request(work: Workload) -> pb.EncryptRequest:
    """Make the request for a single value."""
    return pb.EncryptRequest(name=KEY, plaintext=work.values[0], context=context_pairs(work.context))


def decrypt_request(work: Workload, ciphertext: bytes) -> pb.DecryptRequest:
    """Make the request for what encrypt_request() gave."""
    return pb.DecryptRequest(name=KEY, ciphertext=ciphertext, context=context_pairs(work.context))
