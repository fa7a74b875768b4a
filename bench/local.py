"""bench/local: what a value costs in the SDK's local mode, beside the least that it can cost and beside two libraries.

Values of 64 bytes, singly and in batches of 1,000, in one process: local mode with its leases from a daemon that runs
beside it, AESGCM.encrypt of `cryptography` in a bare loop (one nonce, nothing kept: a grave mistake, and the floor), Tink
and the AWS Encryption SDK (bench/local_peers.py). What is made is decrypted and compared.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Final

from kms_client.formats.ciphertext import HEADER_LENGTH
from kms_client.formats.suites import Purpose, Suite
from kms_client.local import Local

from bench import local_peers, report
from bench.local_peers import PeerCipher
from bench.rounds import Figures, Sampler, WrongResult, alternate, repeated
from bench.service import TENANT, Service, running
from bench.workload import BARE, SHARED, Workload, bare_loop, check_plaintexts

KEY: Final = f"{TENANT}/keys/local"
BATCH: Final = 1_000
ROUNDS: Final = 9
SECONDS: Final = 0.25  # of a sample
MOST: Final = 2.5  # times a bare loop
OURS, OURS_SINGLE, DAEMON = (
    f"local mode, batches of {BATCH:,}",
    "local mode, one by one",
    f"daemon, batches of {BATCH:,}",
)
_NONCE_END: Final = HEADER_LENGTH + 24
_CONTEXT: Final = bytes(104)  # with a row as long as our canonical context


def check_made(service: Service, work: Workload, made: Sequence[bytes]) -> None:
    """Have the daemon decrypt what local mode has made.

    Raises:
        WrongResult: it is something else, or a nonce repeats.
    """
    found = service.tls.decrypt_batch(KEY, made, context=SHARED, varying=work.varying)
    if found.failures:
        raise WrongResult(f"{len(found.failures)} ciphertexts do not decrypt")
    check_plaintexts(found.complete(), work.values)
    if len({one[HEADER_LENGTH:_NONCE_END] for one in made}) != len(made):
        raise WrongResult("a nonce repeats")


def encrypting(service: Service, local: Local, work: Workload, seconds: float) -> dict[str, Sampler]:
    """Return what encrypts, ours and the daemon's."""
    count = len(work.values)

    def check(made: Sequence[bytes]) -> None:
        check_made(service, work, made)

    def singly() -> list[bytes]:
        pairs = zip(work.values, work.rows, strict=True)
        return [local.encrypt(KEY, value, context={**SHARED, "row": row}).ciphertext for value, row in pairs]

    def batch() -> list[bytes]:
        return local.encrypt_batch(KEY, work.values, context=SHARED, varying=work.varying).complete()

    def remote() -> list[bytes]:
        return service.tls.encrypt_batch(KEY, work.values, context=SHARED, varying=work.varying).complete()

    return {
        BARE: repeated(bare_loop(work.values), count, seconds),
        OURS: repeated(batch, count, seconds, check=check),
        OURS_SINGLE: repeated(singly, count, seconds, check=check),
        DAEMON: repeated(remote, count, seconds, check=check, server=service.cpu),
    }


def decrypting(service: Service, local: Local, work: Workload, seconds: float) -> dict[str, Sampler]:
    """Return what decrypts."""
    made = local.encrypt_batch(KEY, work.values, context=SHARED, varying=work.varying).complete()
    count = len(made)

    def check(found: Sequence[bytes]) -> None:
        check_plaintexts(found, work.values)

    def singly() -> list[bytes]:
        pairs = zip(made, work.rows, strict=True)
        return [local.decrypt(KEY, one, context={**SHARED, "row": row}).plaintext for one, row in pairs]

    def batch() -> list[bytes]:
        return local.decrypt_batch(KEY, made, context=SHARED, varying=work.varying).complete()

    return {
        BARE: repeated(bare_loop(work.values), count, seconds),
        OURS: repeated(batch, count, seconds, check=check),
        OURS_SINGLE: repeated(singly, count, seconds, check=check),
        DAEMON: repeated(
            lambda: service.tls.decrypt_batch(KEY, made, context=SHARED, varying=work.varying).complete(),
            count,
            seconds,
            check=check,
            server=service.cpu,
        ),
    }


def peer_samplers(peer: PeerCipher, work: Workload, seconds: float) -> tuple[Sampler, Sampler]:
    """Return what encrypts and what decrypts with a peer."""
    made = local_peers.each(peer.encrypt, work.values, work.rows)()

    def check_encrypted(found: Sequence[bytes]) -> None:
        check_plaintexts(local_peers.each(peer.decrypt, found, work.rows)(), work.values)

    def sampler(act: Callable[[], list[bytes]], check: Callable[[Sequence[bytes]], None]) -> Sampler:
        return repeated(act, len(made), seconds, check=check)

    return (
        sampler(local_peers.each(peer.encrypt, work.values, work.rows), check_encrypted),
        sampler(local_peers.each(peer.decrypt, made, work.rows), lambda found: check_plaintexts(found, work.values)),
    )


def measured(service: Service, rounds: int, seconds: float, count: int) -> list[report.Aim]:
    """Measure and print; returns the aims.

    Raises:
        WrongResult: something that was measured did not do its work.
    """
    service.tls.create_key(TENANT, "local", Purpose.ENCRYPT, suite=Suite.XAES_256_GCM, leasable=True)
    work, aims = Workload.of(count), list[report.Aim]()
    with closing(Local(service.tls)) as local:
        both = encrypting(service, local, work, seconds), decrypting(service, local, work, seconds)
        for name, peer in local_peers.found(_CONTEXT):
            if isinstance(peer, str):
                print(f"\n{name}: {peer}", file=sys.stderr, flush=True)
                continue
            for samplers, sampler in zip(both, peer_samplers(peer, work, seconds), strict=True):
                samplers[name] = sampler
        for title, samplers in zip(("encrypt", "decrypt"), both, strict=True):
            figures = alternate(samplers, rounds)
            report.show(f"Values of 64 bytes: {title}", report.lines(figures, "value", BARE))
            aims += _aims(title, figures)
    return aims


def _aims(title: str, figures: dict[str, Figures]) -> list[report.Aim]:
    ours, bare = figures[OURS], figures[BARE]
    aims = [report.Aim(f"{title}, {OURS}: times a bare loop", ours.times(bare), ours.times_quietest(bare), most=MOST)]
    for name in (local_peers.TINK, local_peers.AWS):
        if (peer := figures.get(name)) is not None:
            aim = f"{title}, {OURS}: values/s of {name}"
            aims.append(report.Aim(aim, peer.times(ours), peer.times_quietest(ours), least=1.0))
    return aims


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print everything; returns the exit code."""
    parser = argparse.ArgumentParser(prog="bench/local", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--quick", action="store_true", help="a few seconds: shows that it works, not how fast it is")
    options = parser.parse_args(arguments)
    rounds, seconds, count = (1, 0.01, 50) if options.quick else (options.rounds, SECONDS, BATCH)
    try:
        report.show("Environment", report.environment())
        with running() as service:
            report.show("Aims", map(str, measured(service, rounds, seconds, count)))
    except WrongResult as wrong:
        print(f"wrong result: {wrong}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
