"""bench/enclave: Encrypt and Decrypt, single and in batches, under a key of level ENCLAVE beside one of level SOFTWARE.

Both keys are of one daemon, of the same suite and class, and the values are the same: 64 bytes each. What is between them is
one call of the enclave process for a value, or for up to 1,000.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from kms_client.formats.suites import ProtectionLevel, Purpose, Suite

from bench import report
from bench.rounds import Sampler, WrongResult, alternate, repeated
from bench.service import TENANT, Service, running

VALUES: Final = 1_000
LENGTH: Final = 64  # bytes of a value
ROUNDS: Final = 15
SECONDS: Final = 0.1
CONTEXT: Final = {"table": "bench", "column": "value"}
LEVELS: Final = {"SOFTWARE": ProtectionLevel.SOFTWARE, "ENCLAVE": ProtectionLevel.ENCLAVE}
BASE: Final = "SOFTWARE"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print everything; returns the exit code."""
    parser = argparse.ArgumentParser(prog="bench/enclave", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few seconds: shows that it works, not how fast it is")
    rounds = 2 if parser.parse_args(arguments).quick else ROUNDS
    try:
        report.show("Environment", report.environment())
        with running() as service:
            for title, item, samplers in measured(service):
                report.show(title, report.lines(alternate(samplers, rounds), item, BASE))
    except WrongResult as wrong:
        print(f"wrong result: {wrong}", file=sys.stderr)
        return 1
    return 0


def measured(service: Service) -> list[tuple[str, str, Mapping[str, Sampler]]]:
    """Make the two keys, and what measures each kind of call under both.

    Raises:
        WrongResult: what was encrypted does not decrypt to what it was.
    """
    client, values = service.tls, [os.urandom(LENGTH) for _ in range(VALUES)]
    work: dict[str, dict[str, Sampler]] = {"Encrypt": {}, "Decrypt": {}, "EncryptBatch": {}, "DecryptBatch": {}}
    for name, level in LEVELS.items():
        key = client.create_key(
            TENANT, name.lower(), purpose=Purpose.ENCRYPT, suite=Suite.XAES_256_GCM, protection_level=level
        ).name
        sealed = client.encrypt_batch(key, values, context=CONTEXT).complete()
        if client.decrypt_batch(key, sealed, context=CONTEXT).complete() != values:
            raise WrongResult(f"a batch of level {name} does not decrypt to what was encrypted")
        calls: dict[str, tuple[Callable[[], object], int]] = {
            "Encrypt": (lambda key=key: client.encrypt(key, values[0], context=CONTEXT).ciphertext, 1),
            "Decrypt": (lambda key=key, one=sealed[0]: client.decrypt(key, one, context=CONTEXT).plaintext, 1),
            "EncryptBatch": (lambda key=key: client.encrypt_batch(key, values, context=CONTEXT).complete(), VALUES),
            "DecryptBatch": (
                lambda key=key, all_=sealed: client.decrypt_batch(key, all_, context=CONTEXT).complete(),
                VALUES,
            ),
        }
        for kind, (call, items) in calls.items():
            work[kind][name] = repeated(call, items, SECONDS, server=service.cpu)
    return [(f"{kind}, mutual TLS", "value", samplers) for kind, samplers in work.items()]


if __name__ == "__main__":
    sys.exit(main())
