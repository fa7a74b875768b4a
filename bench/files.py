"""bench/files: encrypting and decrypting streams under data keys of one daemon, beside the bare cipher.

The bare loop is AESGCM.encrypt over the same chunks, which are in memory, with one key: the least that they can cost. What
is beside it reads memory, writes to a sink that keeps nothing, and makes its two calls to the daemon.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from kms_client import files
from kms_client.formats.stream import CHUNK_BITS, nonce, sealed_length
from kms_client.formats.suites import Purpose

from bench import report
from bench.rounds import Figures, Sampler, WrongResult, alternate, repeated
from bench.service import TENANT, Service, running

LARGE: Final = 64  # MiB
CHUNK: Final = 1 << CHUNK_BITS
ROUNDS: Final = 15
SECONDS: Final = 0.1
BARE: Final = "bare loop"
ENCRYPT: Final = "encrypt_stream"
DECRYPT: Final = "decrypt_stream"
CONTEXT: Final = {"file": "bench"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print everything; returns the exit code."""
    parser = argparse.ArgumentParser(prog="bench/files", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few seconds: shows that it works, not how fast it is")
    rounds = 2 if parser.parse_args(arguments).quick else ROUNDS
    try:
        report.show("Environment", report.environment())
        with running() as service:
            key = service.tls.create_key(TENANT, "files", purpose=Purpose.DATA_KEY).name
            large, small = figures_of(service, key, LARGE << 20, LARGE, rounds), figures_of(service, key, 1, 1, rounds)
    except WrongResult as wrong:
        print(f"wrong result: {wrong}", file=sys.stderr)
        return 1
    report.show(f"A stream of {LARGE} MiB, mutual TLS", report.lines(large, "MiB", BARE))
    report.show("A stream of one byte, mutual TLS", report.lines(small, "stream", BARE))
    return 0


class Sink:
    """Takes what is written, keeps nothing, and knows how much it was."""

    def __init__(self) -> None:
        self.length = 0

    def write(self, data: bytes | memoryview, /) -> int:
        """Take all of it."""
        self.length += len(data)
        return len(data)


def figures_of(service: Service, key: str, length: int, items: int, rounds: int) -> Mapping[str, Figures]:
    """Measure streams of *length* bytes.

    Raises:
        WrongResult: what was encrypted does not decrypt to what it was, or a sample has another length.
    """
    plain, sealed, opened = os.urandom(length), io.BytesIO(), io.BytesIO()
    files.encrypt_stream(service.tls, key, io.BytesIO(plain), sealed, context=CONTEXT)
    whole = sealed.getvalue()
    files.decrypt_stream(service.tls, key, io.BytesIO(whole), opened, context=CONTEXT)
    if opened.getvalue() != plain:
        raise WrongResult("a stream does not decrypt to what was encrypted")

    def encrypt() -> int:
        sink = Sink()
        files.encrypt_stream(service.tls, key, io.BytesIO(plain), sink, context=CONTEXT)
        return sink.length

    def decrypt() -> int:
        sink = Sink()
        files.decrypt_stream(service.tls, key, io.BytesIO(whole), sink, context=CONTEXT)
        return sink.length

    samplers: dict[str, Sampler] = {
        BARE: sampler(bare(plain), items, sealed_length(length, CHUNK_BITS)),
        ENCRYPT: sampler(encrypt, items, len(whole)),
        DECRYPT: sampler(decrypt, items, length),
    }
    return alternate(samplers, rounds)


def sampler(work: Callable[[], int], items: int, expected: int) -> Sampler:
    """Measure *work* for a short while; it returns how many bytes it has made."""

    def check(made: int) -> None:
        if made != expected:
            raise WrongResult(f"{made} bytes instead of {expected}")

    return repeated(work, items, SECONDS, check=check)


def bare(plain: bytes) -> Callable[[], int]:
    """Return the loop over the chunks."""
    chunks = [plain[at : at + CHUNK] for at in range(0, len(plain), CHUNK)]
    cipher = AESGCM(os.urandom(32))

    def loop() -> int:
        made = 0
        for counter, chunk in enumerate(chunks):
            made += len(cipher.encrypt(nonce(counter, last=False), chunk, None))
        return made

    return loop


if __name__ == "__main__":
    sys.exit(main())
