"""bench/local runs, and its checks can fail; how fast anything is is never tested."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from kms_client.formats.suites import Purpose, Suite

from bench import local
from bench.rounds import WrongResult
from bench.service import TENANT, running
from bench.workload import BARE, SHARED, Workload

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.softhsm, pytest.mark.timeout(120)]


def test_local_mode_and_the_bare_loop_are_measured_side_by_side_and_missing_peers_are_said() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.local", "--quick"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for title in ("encrypt", "decrypt"):
        part = done.stdout.partition(f"Values of 64 bytes: {title}\n")[2].partition("\n\n")[0]
        for variant in (BARE, local.OURS, local.OURS_SINGLE, local.DAEMON):
            assert re.search(rf"^  {re.escape(variant)} +[\d,]+ +[\d,.]+ +[\d.]+ ", part, re.MULTILINE), done.stdout
        for peer in (local.local_peers.TINK, local.local_peers.AWS):
            assert peer in part or f"{peer}: left out" in done.stderr


def test_a_ciphertext_of_another_row_and_a_nonce_that_repeats_are_noticed() -> None:
    work = Workload.of(3)
    with running() as service:
        service.tls.create_key(TENANT, "local", Purpose.ENCRYPT, suite=Suite.XAES_256_GCM, leasable=True)
        made = service.tls.encrypt_batch(local.KEY, work.values, context=SHARED, varying=work.varying).complete()
        local.check_made(service, work, made)
        with pytest.raises(WrongResult, match="2 ciphertexts do not decrypt"):
            local.check_made(service, work, [made[1], made[0], made[2]])
        twice = Workload([work.values[0]] * 2, [work.rows[0]] * 2)
        with pytest.raises(WrongResult, match="a nonce repeats"):
            local.check_made(service, twice, [made[0], made[0]])
