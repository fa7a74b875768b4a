"""The benchmarks run, and their checks of results can fail; how fast anything is is never tested."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest
from kms_client import Client

from bench import census, files, h2load, load
from bench.rounds import WrongResult
from bench.workload import SHARED, Workload, check_ciphertexts, check_encrypted, check_plaintexts
from tests.daemon import Service

ROOT = Path(__file__).parents[2]
KEY = "tenants/acme/keys/encrypt"

needs_h2load = pytest.mark.skipif(shutil.which("h2load") is None, reason="h2load (nghttp2-client) is not installed")


def run(module: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, "--quick"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        env=environment or None,
    )


def ratio(output: str, variant: str) -> float:
    found = re.search(rf"^  {re.escape(variant)} +[\d,]+ +[\d,.]+ +([\d.]+) ", output, re.MULTILINE)
    assert found, f"no line of {variant} in {output}"
    return float(found[1])


@needs_h2load
def test_the_daemon_is_measured_beside_the_bare_cipher_and_the_echo():
    done = run("bench.own")
    assert done.returncode == 0, done.stderr
    for variant in (
        "EncryptBatch, mutual TLS",
        "DecryptBatch, Unix socket",
        "Encrypt, mutual TLS",
        "Encrypt",
        "Decrypt",
    ):
        assert ratio(done.stdout, variant) > 1
    assert ratio(done.stdout, "bare grpc.aio echo") > 1
    assert "Token operations during all of this\n  0\n" in done.stdout
    assert len(re.findall(r"^  (?:met   |missed)  .* aim at (?:most|least)", done.stdout, re.MULTILINE)) == 6


@needs_h2load
def test_the_same_work_is_measured_by_openbao():
    done = run("bench.peers")
    assert done.returncode == 0, done.stderr
    assert ratio(done.stdout, "OpenBao, batches of 249 (its default limit)") > 0
    assert ratio(done.stdout, "OpenBao, batches of 10,000 (limit raised)") > 0
    assert len(re.findall(r"^  (?:met   |missed)  .* aim at least 3$", done.stdout, re.MULTILINE)) == 4


@pytest.mark.postgresql
def test_streams_are_measured_beside_the_bare_cipher():
    done = run("bench.files")
    assert done.returncode == 0, done.stderr
    for variant in (files.BARE, files.ENCRYPT, files.DECRYPT):
        assert len(re.findall(rf"^  {variant} +[\d,]+ ", done.stdout, re.MULTILINE)) == 2


def test_a_stream_of_another_length_is_found():
    with pytest.raises(WrongResult, match="17 bytes instead of 16"):
        files.sampler(files.bare(b"x"), 1, 16)()


@pytest.mark.skipif(not census.POSTGRESQL.is_dir(), reason="PostgreSQL's server is not installed (Debian: postgresql)")
def test_counting_is_measured_beside_a_bare_scan_on_both_databases():
    done = subprocess.run(
        [sys.executable, "-m", "bench.census", "2000", "--rounds", "2"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for variant in (census.SCAN, census.QUERY, census.HEADERS, census.NUMBERS, census.TALLY):
        assert len(re.findall(rf"^  {variant} +[\d,]+ +[\d,.]+ +[\d.]+ +[\d.]+$", done.stdout, re.MULTILINE)) == 2


def test_a_count_that_is_not_what_was_stored_is_noticed():
    def rows(query: str) -> census.Rows:
        return [(3, 3 * census.LENGTH)] if query == census.BARE else [(1, 2)]

    column = census.Column("sqlite", uuid4(), {1: 3}, rows, lambda: iter(()))
    with pytest.raises(WrongResult, match="instead of"):
        column.check(dict(rows(census.BY_VERSION)))
    with pytest.raises(WrongResult, match="the scan answers"):
        column.check_scan([(3, 2 * census.LENGTH)])
    column.check({1: 3})
    column.check_scan(rows(census.BARE))


def test_without_its_load_generator_it_says_what_to_install():
    done = run("bench.own", PATH="/nonexistent")
    assert done.returncode == 2
    assert "apt-get install nghttp2-client" in done.stderr


@needs_h2load
def test_grpc_errors_are_no_answers_though_their_http_status_is_200(service: Service, tmp_path: Path):
    # The socket of this installation stands for an operator, who may not encrypt.
    socket = service.installation.directory / "run" / "kmsd.sock"
    request = load.encrypt_request(Workload.of(1))
    with pytest.raises(WrongResult, match="Encrypt is refused"):
        load.target(tmp_path / "request", socket, "Encrypt", request)
    with pytest.raises(WrongResult, match="50 answers have 0 bytes"):
        h2load.run(load.target_of(tmp_path / "request", socket, "Encrypt", 121), 50)


def test_ciphertexts_of_other_values_or_places_are_noticed(service: Service):
    work, client = Workload.of(3), service.acme
    made = encrypt(client, work)
    check_encrypted(client, KEY, work, made)
    with pytest.raises(WrongResult, match="2 ciphertexts do not decrypt"):
        check_encrypted(client, KEY, work, [made[1], made[0], made[2]])
    with pytest.raises(WrongResult, match="do not decrypt"):
        check_encrypted(client, KEY, work, [made[0], made[1], made[2][:-1] + bytes([made[2][-1] ^ 1])])
    other = Workload(Workload.of(3).values, work.rows)
    with pytest.raises(WrongResult, match="not those that were encrypted"):
        check_encrypted(client, KEY, other, made)
    with pytest.raises(WrongResult, match="not those that were encrypted"):
        check_plaintexts(work.values[:2], work.values)


def test_missing_short_repeated_and_foreign_ciphertexts_are_noticed(service: Service):
    work, client = Workload.of(3), service.acme
    made = encrypt(client, work)
    for wrong in (made[:2], [*made[:2], b""], [*made[:2], made[2][:-1]]):
        with pytest.raises(WrongResult, match="not 3 ciphertexts of 114 bytes"):
            check_ciphertexts(wrong, 3)
    with pytest.raises(WrongResult, match="a nonce repeats"):
        check_ciphertexts([*made[:2], made[1]], 3)
    with pytest.raises(WrongResult, match="not of one key version"):
        check_ciphertexts([*made[:2], b"\1" * 114], 3)


def encrypt(client: Client, work: Workload) -> list[bytes]:
    return client.encrypt_batch(KEY, work.values, context=SHARED, varying=work.varying).complete()
