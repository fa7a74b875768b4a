"""Calls of the SDK, and of the generated stub without it: batches and single values, one call in flight."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from kms_client import Client

from bench.rounds import Figures, Sampler, alternate, repeated
from bench.service import KEY, Service, stub_of
from bench.workload import BARE, SHARED, VARYING, Workload, bare_loop, check_encrypted, check_plaintexts, context_pairs
from kms.v1 import crypto_pb2 as pb

TLS: Final = "mutual TLS"
UNIX: Final = "Unix socket"
BARE_VALUES: Final = 1_000  # in one pass of the bare loop beside single calls


def batches(service: Service, size: int, rounds: int, seconds: float) -> dict[str, Figures]:
    """Measure batches of one size through both listeners.

    Raises:
        WrongResult: a result is wrong.
    """
    work, stub = Workload.of(size), stub_of(service.bare)
    stored = service.tls.encrypt_batch(KEY, work.values, context=SHARED, varying=work.varying).complete()

    def encrypt(client: Client) -> Callable[[], list[bytes]]:
        return lambda: client.encrypt_batch(KEY, work.values, context=SHARED, varying=work.varying).complete()

    def decrypt(client: Client) -> Callable[[], list[bytes]]:
        return lambda: client.decrypt_batch(KEY, stored, context=SHARED, varying=work.varying).complete()

    def encrypt_bare() -> list[bytes]:
        return list(stub.EncryptBatch(encrypt_batch_request(work), timeout=60).ciphertexts)

    def encrypted(ciphertexts: list[bytes]) -> None:
        check_encrypted(service.tls, KEY, work, ciphertexts)

    def decrypted(plaintexts: list[bytes]) -> None:
        check_plaintexts(plaintexts, work.values)

    def sampler(call: Callable[[], list[bytes]], check: Callable[[list[bytes]], None]) -> Sampler:
        return repeated(call, size, seconds, check=check, server=service.cpu)

    return alternate(
        {
            BARE: repeated(bare_loop(work.values), size, seconds),
            f"EncryptBatch, {TLS}": sampler(encrypt(service.tls), encrypted),
            f"EncryptBatch, {TLS}, bare stub": sampler(encrypt_bare, encrypted),
            f"EncryptBatch, {UNIX}": sampler(encrypt(service.unix), encrypted),
            f"DecryptBatch, {TLS}": sampler(decrypt(service.tls), decrypted),
            f"DecryptBatch, {UNIX}": sampler(decrypt(service.unix), decrypted),
        },
        rounds,
    )


def single(service: Service, rounds: int, seconds: float) -> dict[str, Figures]:
    """Measure single values through both listeners.

    Raises:
        WrongResult: a result is wrong.
    """
    work, stub = Workload.of(1), stub_of(service.bare)
    (value,), context = work.values, work.context
    stored = service.tls.encrypt(KEY, value, context=context).ciphertext

    def encrypt(client: Client) -> Callable[[], bytes]:
        return lambda: client.encrypt(KEY, value, context=context).ciphertext

    def decrypt(client: Client) -> Callable[[], bytes]:
        return lambda: client.decrypt(KEY, stored, context=context).plaintext

    def encrypt_bare() -> bytes:
        request = pb.EncryptRequest(name=KEY, plaintext=value, context=context_pairs(context))
        return bytes(stub.Encrypt(request, timeout=60).ciphertext)

    def encrypted(ciphertext: bytes) -> None:
        check_encrypted(service.tls, KEY, work, [ciphertext])

    def decrypted(plaintext: bytes) -> None:
        check_plaintexts([plaintext], work.values)

    def sampler(call: Callable[[], bytes], check: Callable[[bytes], None]) -> Sampler:
        return repeated(call, 1, seconds, check=check, server=service.cpu)

    return alternate(
        {
            BARE: repeated(bare_loop(work.values * BARE_VALUES), BARE_VALUES, seconds),
            f"Encrypt, {TLS}": sampler(encrypt(service.tls), encrypted),
            f"Encrypt, {TLS}, bare stub": sampler(encrypt_bare, encrypted),
            f"Encrypt, {UNIX}": sampler(encrypt(service.unix), encrypted),
            f"Decrypt, {TLS}": sampler(decrypt(service.tls), decrypted),
            f"Decrypt, {UNIX}": sampler(decrypt(service.unix), decrypted),
        },
        rounds,
    )


def encrypt_batch_request(work: Workload) -> pb.EncryptBatchRequest:
    """Make the request for a batch."""
    varying = pb.VaryingContext(key=VARYING, values=[row.encode() for row in work.rows])
    return pb.EncryptBatchRequest(name=KEY, plaintexts=work.values, context=context_pairs(SHARED), varying=varying)
