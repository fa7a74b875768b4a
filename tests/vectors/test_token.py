"""What the token is trusted with, AES-GCM and AES key wrap, against the cases of NIST and Wycheproof on SoftHSM."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.vectors import nist, token_ciphers, wycheproof
from tests.vectors.test_aes_gcm import FAILING, FORM, SECTIONS, SHAPE, ours

pytestmark = pytest.mark.softhsm

MODULE = "/usr/lib/softhsm/libsofthsm2.so"
KW_SECTIONS = frozenset({"PLAINTEXT LENGTH"})
KW_SHAPES = (frozenset({"COUNT", "K", "C", "P"}), frozenset({"COUNT", "K", "C", "FAIL"}))
KW_FORM = wycheproof.Form(
    algorithm="AES-WRAP",
    schema="keywrap_test_schema_v1.json",
    group_type="KeywrapTest",
    sources=frozenset({("google-wycheproof", "0.9")}),
    group_numbers=frozenset({"keySize"}),
    case_bytes=frozenset({"key", "msg", "ct"}),
    flags=frozenset(
        {"CounterOverflow", "EmptyKey", "InvalidWrappingSize", "ModifiedIv", "Normal", "ShortKey", "WrongDataSize"}
    ),
    results=frozenset({"valid", "invalid", "acceptable"}),
)

Call = tuple[str, *tuple[bytes, ...]]
Token = Callable[[list[Call]], list[bytes | None]]


@pytest.fixture
def token(tmp_path: Path) -> Token:
    """Make a token of its own and return what runs calls on it."""
    (tmp_path / "tokens").mkdir()
    (tmp_path / "softhsm2.conf").write_text(f"directories.tokendir = {tmp_path}/tokens\nobjectstore.backend = file\n")
    pin = secrets.token_hex(8)
    environment = {
        **os.environ,
        "SOFTHSM2_CONF": str(tmp_path / "softhsm2.conf"),
        "TOKEN_PIN": pin,
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    subprocess.run(
        ["softhsm2-util", "--init-token", "--free", "--label", "vectors", "--pin", pin, "--so-pin", pin],
        env=environment,
        check=True,
        capture_output=True,
        timeout=30,
    )

    def run(calls: list[Call]) -> list[bytes | None]:
        lines = [json.dumps([call[0], *(argument.hex() for argument in call[1:])]) for call in calls]
        child = subprocess.run(
            [sys.executable, token_ciphers.__file__, MODULE, "vectors"],
            input="\n".join(lines),
            env=environment,
            check=True,
            capture_output=True,
            text=True,
            timeout=100,
        )
        results = [json.loads(line) for line in child.stdout.splitlines()]
        assert len(results) == len(calls)
        return [None if result is None else bytes.fromhex(result) for result in results]

    return run


def test_nist_cavp_gcm_encryption(token: Token):
    cases = list(filter(ours, nist.load("ciphers/AES/GCM/gcmEncryptExtIV256.rsp", SECTIONS, SHAPE)))
    results = token([("gcm_encrypt", *(case.data(name) for name in ("Key", "IV", "AAD", "PT"))) for case in cases])
    assert results == [case.data("CT") + case.data("Tag") for case in cases]
    assert len(cases) == 375


def test_nist_cavp_gcm_decryption(token: Token):
    cases = list(filter(ours, nist.load("ciphers/AES/GCM/gcmDecrypt256.rsp", SECTIONS, SHAPE, FAILING)))
    results = token(
        [
            ("gcm_decrypt", case.data("Key"), case.data("IV"), case.data("AAD"), case.data("CT") + case.data("Tag"))
            for case in cases
        ]
    )
    assert results == [None if case.failed else case.data("PT") for case in cases]
    assert len(cases) == 375


def test_wycheproof_gcm(token: Token):
    cases = wycheproof.load("aes_gcm_test.json", FORM)
    chosen = [case for case in cases if case.numbers == {"keySize": 256, "ivSize": 96, "tagSize": 128}]
    results = token(
        [
            ("gcm_decrypt", case.data["key"], case.data["iv"], case.data["aad"], case.data["ct"] + case.data["tag"])
            for case in chosen
        ]
    )
    assert results == [case.data["msg"] if case.result == "valid" else None for case in chosen]
    assert len(chosen) == 66


def test_nist_cavp_key_wrap(token: Token):
    cases = nist.load("keywrap/kwtestvectors/KW_AE_256.txt", KW_SECTIONS, *KW_SHAPES)
    results = token([("kw_wrap", case.data("K"), case.data("P")) for case in cases])
    assert results == [case.data("C") for case in cases]
    assert len(cases) == 500


def test_nist_cavp_key_unwrap(token: Token):
    cases = nist.load("keywrap/kwtestvectors/KW_AD_256.txt", KW_SECTIONS, *KW_SHAPES)
    results = token([("kw_unwrap", case.data("K"), case.data("C")) for case in cases])
    assert results == [None if case.failed else case.data("P") for case in cases]
    assert (len(cases), sum(case.failed for case in cases)) == (500, 100)


def test_wycheproof_key_wrap(token: Token):
    cases = wycheproof.load("aes_wrap_test.json", KW_FORM)
    chosen = [case for case in cases if case.numbers["keySize"] == 256 and case.result != "acceptable"]
    unwrapped = token([("kw_unwrap", case.data["key"], case.data["ct"]) for case in chosen])
    assert unwrapped == [case.data["msg"] if case.result == "valid" else None for case in chosen]
    valid = [case for case in chosen if case.result == "valid"]
    wrapped = token([("kw_wrap", case.data["key"], case.data["msg"]) for case in valid])
    assert wrapped == [case.data["ct"] for case in valid]
    assert (len(cases), len(chosen), len(valid)) == (165, 67, 13)
