from __future__ import annotations

import pytest

from kms.core.errors import InvalidRequest
from kms.core.suites import ALLOWED, CIPHERS, MAX_PLAINTEXT, RULES, ProtectionLevel, Purpose, Suite, choose_suite


def test_the_numbers_are_those_of_the_wire():
    assert {p.name: p.value for p in Purpose} == {
        "ENCRYPT": 1,
        "DETERMINISTIC": 2,
        "DATA_KEY": 4,
        "INDEX": 6,
        "PSEUDONYM": 7,
        "FORMAT_PRESERVING": 8,
    }
    assert {s.name: s.value for s in Suite} == {
        "AES_256_GCM": 1,
        "XAES_256_GCM": 2,
        "AES_SIV": 3,
        "HMAC_SHA_256": 64,
        "AES_256_FF1": 65,
    }
    assert set(CIPHERS) == set(Suite) - {Suite.HMAC_SHA_256, Suite.AES_256_FF1}
    assert {x.name: x.value for x in ProtectionLevel} == {"SOFTWARE": 1, "ENCLAVE": 2, "HSM": 3}


def test_every_suite_and_purpose_has_its_row():
    assert set(RULES) == set(Suite)
    assert set(ALLOWED) == set(Purpose)
    assert {suite for allowed in ALLOWED.values() for suite in allowed} == set(Suite)


@pytest.mark.parametrize(
    ("suite", "dek_length", "overhead", "rotate_at", "stop_at"),
    [
        (Suite.AES_256_GCM, 32, 28, 2**31, 4278190080),
        (Suite.XAES_256_GCM, 32, 40, 2**44, 2**45),
        (Suite.AES_SIV, 64, 16, None, None),
        (Suite.HMAC_SHA_256, 32, None, None, None),
        (Suite.AES_256_FF1, 32, None, None, None),
    ],
)
def test_lengths_and_limits(
    suite: Suite, dek_length: int, overhead: int | None, rotate_at: int | None, stop_at: int | None
):
    rule = RULES[suite]
    assert (rule.dek_length, rule.overhead, rule.rotate_at, rule.stop_at) == (dek_length, overhead, rotate_at, stop_at)


def test_a_field_is_at_most_a_mebibyte():
    assert MAX_PLAINTEXT == 1_048_576


@pytest.mark.parametrize(
    ("purpose", "suite"),
    [
        (Purpose.ENCRYPT, Suite.AES_256_GCM),
        (Purpose.DETERMINISTIC, Suite.AES_SIV),
        (Purpose.DATA_KEY, Suite.AES_256_GCM),
        (Purpose.INDEX, Suite.HMAC_SHA_256),
        (Purpose.PSEUDONYM, Suite.HMAC_SHA_256),
        (Purpose.FORMAT_PRESERVING, Suite.AES_256_FF1),
    ],
)
def test_unasked_the_suite_is_the_purposes_default(purpose: Purpose, suite: Suite):
    assert choose_suite(purpose, None) is suite


@pytest.mark.parametrize("purpose", Purpose)
@pytest.mark.parametrize("suite", Suite)
def test_a_suite_is_given_when_the_purpose_allows_it(purpose: Purpose, suite: Suite):
    special = {
        Suite.AES_SIV: {Purpose.DETERMINISTIC},
        Suite.HMAC_SHA_256: {Purpose.INDEX, Purpose.PSEUDONYM},
        Suite.AES_256_FF1: {Purpose.FORMAT_PRESERVING},
    }
    if purpose in special.get(suite, {Purpose.ENCRYPT, Purpose.DATA_KEY}):
        assert choose_suite(purpose, suite) is suite
    else:
        with pytest.raises(InvalidRequest, match=r"key\.suite: must be .* for purpose " + purpose.name):
            choose_suite(purpose, suite)


def test_the_tables_cannot_be_changed():
    with pytest.raises(TypeError):
        RULES[Suite.AES_SIV] = RULES[Suite.AES_256_GCM]  # type: ignore[index]
    with pytest.raises(TypeError):
        ALLOWED[Purpose.ENCRYPT] = ()  # type: ignore[index]
