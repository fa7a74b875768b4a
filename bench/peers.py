"""bench/peers: the same work by one daemon and by OpenBao's transit engine, on this machine in the same run.

Both sides are asked by a Python client, whose cost is included: the SDK over mutual TLS here, http.client with a kept
connection and JSON there, without TLS, which favours OpenBao. Values have 64 bytes and are bound to the same three
pairs of context. The exit code tells of wrong results, never of speed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from bench import h2load, load, openbao, report
from bench.calls import encrypt_batch_request
from bench.openbao import DEFAULT_BATCH, Api, OpenBao
from bench.own import FULL, QUICK, Effort
from bench.rounds import Figures, Sampler, WrongResult, alternate, repeated
from bench.service import KEY, Service, running
from bench.workload import SHARED, VARYING, Workload, check_encrypted, check_plaintexts
from kms.v1 import crypto_pb2 as pb

LARGEST: Final = 10_000  # values in a batch of the daemon
LEAST: Final = 3.0  # times OpenBao's values per second
PREPARED: Final = "body prepared, answer not read"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print everything; returns the exit code."""
    parser = argparse.ArgumentParser(prog="bench/peers", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few seconds: shows that it works, not how fast it is")
    effort = QUICK if parser.parse_args(arguments).quick else FULL
    try:
        h2load.find()
        report.show("Environment", [*report.environment(), f"OpenBao {openbao.VERSION}, no TLS: this favours it"])
        with running() as service, openbao.running(service.directory) as peer:
            measure(service, peer, effort)
    except h2load.Missing as missing:
        print(missing, file=sys.stderr)
        return 2
    except WrongResult as wrong:
        print(f"wrong result: {wrong}", file=sys.stderr)
        return 1
    return 0


def measure(service: Service, peer: OpenBao, effort: Effort) -> None:
    """Measure and print.

    Raises:
        WrongResult: something that was measured did not do its work.
    """
    aims = []
    for method, figures in (
        ("encrypt", encrypting(service, peer, effort)),
        ("decrypt", decrypting(service, peer, effort)),
    ):
        ours = f"kmsd, batches of {LARGEST:,}"
        report.show(f"Batches: {method}, one batch in flight", report.lines(figures, "value", ours))
        aims += [
            report.Aim(
                f"{method}, {ours}: values/s of {name}",
                figure.times(figures[ours]),
                figure.times_quietest(figures[ours]),
                least=LEAST,
            )
            for name, figure in figures.items()
            if name.startswith("OpenBao") and not name.endswith(PREPARED)
        ]
    figures = single(service, peer, effort)
    report.show("One value a call, one call in flight: encrypt", report.lines(figures, "call", "kmsd"))
    figures = loaded(service, peer, effort)
    report.show(
        f"One value a call, {load.IN_FLIGHT} calls in flight (h2load): encrypt", report.lines(figures, "call", "kmsd")
    )
    report.show("Aims", map(str, aims))


def contexts(work: Workload) -> list[bytes]:
    """Return the context of each value as associated data for OpenBao: the three pairs as text."""
    shared = ";".join(f"{key}={value}" for key, value in SHARED.items())
    return [f"{shared};{VARYING}={row}".encode() for row in work.rows]


def encrypting(service: Service, peer: OpenBao, effort: Effort) -> dict[str, Figures]:
    """Encrypt in each side's largest batches, and in equal ones."""

    def ours(size: int) -> Sampler:
        work = Workload.of(size)
        return repeated(
            lambda: service.tls.encrypt_batch(KEY, work.values, context=SHARED, varying=work.varying).complete(),
            size,
            effort.seconds,
            check=lambda made: check_encrypted(service.tls, KEY, work, made),
            server=service.cpu,
        )

    def theirs(api: Api, size: int) -> Sampler:
        work = Workload.of(size)
        bound = contexts(work)
        return repeated(
            lambda: api.encrypt(work.values, bound),
            size,
            effort.seconds,
            check=lambda made: check_theirs(api, work, made),
            server=peer.cpu,
        )

    def theirs_prepared(api: Api, size: int) -> Sampler:
        work = Workload.of(size)
        bound = contexts(work)
        body = json.dumps(openbao.batch("plaintext", map(openbao.encoded, work.values), bound)).encode()
        return repeated(
            lambda: api.send("POST", f"transit/encrypt/{openbao.KEY}", body),
            size,
            effort.seconds,
            check=lambda text: check_theirs(
                api, work, [item["ciphertext"] for item in json.loads(text)["data"]["batch_results"]]
            ),
            server=peer.cpu,
        )

    def ours_prepared(size: int) -> Sampler:
        work = Workload.of(size)
        send: Callable[..., bytes] = service.bare.unary_unary("/kms.v1.CryptoService/EncryptBatch")
        body = encrypt_batch_request(work).SerializeToString()
        return repeated(
            lambda: send(body, timeout=60),
            size,
            effort.seconds,
            check=lambda text: check_encrypted(
                service.tls, KEY, work, list(pb.EncryptBatchResponse.FromString(text).ciphertexts)
            ),
            server=service.cpu,
        )

    return alternate(
        {
            f"kmsd, batches of {LARGEST:,}": ours(LARGEST),
            f"kmsd, batches of {DEFAULT_BATCH:,}": ours(DEFAULT_BATCH),
            f"OpenBao, batches of {DEFAULT_BATCH:,} (its default limit)": theirs(peer.default, DEFAULT_BATCH),
            f"OpenBao, batches of {LARGEST:,} (limit raised)": theirs(peer.raised, LARGEST),
            f"kmsd, batches of {LARGEST:,}, {PREPARED}": ours_prepared(LARGEST),
            f"OpenBao, batches of {LARGEST:,}, {PREPARED}": theirs_prepared(peer.raised, LARGEST),
        },
        effort.rounds,
    )


def decrypting(service: Service, peer: OpenBao, effort: Effort) -> dict[str, Figures]:
    """Decrypt in each side's largest batches, and in equal ones."""

    def ours(size: int) -> Sampler:
        work = Workload.of(size)
        stored = service.tls.encrypt_batch(KEY, work.values, context=SHARED, varying=work.varying).complete()
        return repeated(
            lambda: service.tls.decrypt_batch(KEY, stored, context=SHARED, varying=work.varying).complete(),
            size,
            effort.seconds,
            check=lambda found: check_plaintexts(found, work.values),
            server=service.cpu,
        )

    def theirs(api: Api, size: int) -> Sampler:
        work = Workload.of(size)
        bound = contexts(work)
        stored = api.encrypt(work.values, bound)
        return repeated(
            lambda: api.decrypt(stored, bound),
            size,
            effort.seconds,
            check=lambda found: check_plaintexts(found, work.values),
            server=peer.cpu,
        )

    return alternate(
        {
            f"kmsd, batches of {LARGEST:,}": ours(LARGEST),
            f"kmsd, batches of {DEFAULT_BATCH:,}": ours(DEFAULT_BATCH),
            f"OpenBao, batches of {DEFAULT_BATCH:,} (its default limit)": theirs(peer.default, DEFAULT_BATCH),
            f"OpenBao, batches of {LARGEST:,} (limit raised)": theirs(peer.raised, LARGEST),
        },
        effort.rounds,
    )


def single(service: Service, peer: OpenBao, effort: Effort) -> dict[str, Figures]:
    """Encrypt single values, one after another."""
    work = Workload.of(1)
    bound = contexts(work)

    def theirs() -> str:
        body = {"plaintext": openbao.encoded(work.values[0]), "associated_data": openbao.encoded(bound[0])}
        return str(peer.default.ask("POST", f"transit/encrypt/{openbao.KEY}", body)["data"]["ciphertext"])

    return alternate(
        {
            "kmsd": repeated(
                lambda: service.tls.encrypt(KEY, work.values[0], context=work.context).ciphertext,
                1,
                effort.seconds,
                check=lambda made: check_encrypted(service.tls, KEY, work, [made]),
                server=service.cpu,
            ),
            "OpenBao": repeated(
                theirs,
                1,
                effort.seconds,
                check=lambda made: check_theirs(peer.default, work, [made]),
                server=peer.cpu,
            ),
        },
        effort.rounds,
    )


def loaded(service: Service, peer: OpenBao, effort: Effort) -> dict[str, Figures]:
    """Encrypt single values from a load generator: HTTP/2 on one Unix connection here, HTTP/1.1 on many there."""
    work = Workload.of(1)
    seconds = effort.seconds * 4
    ours = load.target(service.directory / "encrypt.bin", service.socket, "Encrypt", load.encrypt_request(work))
    theirs = target(peer.default, service.directory / "openbao.json", work)
    return alternate(
        {
            "kmsd": load.confirmed(service, "Encrypt", h2load.sampler(ours, seconds, service.cpu), work),
            "OpenBao": h2load.sampler(theirs, seconds, peer.cpu),
        },
        effort.rounds,
    )


def target(api: Api, file: Path, work: Workload) -> h2load.Target:
    """Prepare an encryption by OpenBao for h2load; all its answers have the same length."""
    body = {"plaintext": openbao.encoded(work.values[0]), "associated_data": openbao.encoded(contexts(work)[0])}
    file.write_text(json.dumps(body))
    path = f"transit/encrypt/{openbao.KEY}"
    answer = api.send("POST", path, file.read_bytes())
    headers = [part for name, value in api.headers.items() for part in ("-H", f"{name}: {value}")]
    arguments = ["--h1", "-c", str(load.IN_FLIGHT), "-d", str(file), *headers]
    return h2load.Target([*arguments, f"http://127.0.0.1:{api.port}/v1/{path}"], len(answer))


def check_theirs(api: Api, work: Workload, ciphertexts: Sequence[str]) -> None:
    """Check OpenBao's ciphertexts by decrypting them.

    Raises:
        WrongResult: they are not those of the values.
    """
    if len(set(ciphertexts)) != len(work.values):
        raise WrongResult("OpenBao's ciphertexts repeat, or are too few")
    check_plaintexts(api.decrypt(ciphertexts, contexts(work)), work.values)


if __name__ == "__main__":
    sys.exit(main())
