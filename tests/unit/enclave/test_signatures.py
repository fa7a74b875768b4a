from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from enclave.signatures import has_low_s, key_of_raw, raw_key, sign_raw, verify_raw

ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
KEY = ec.generate_private_key(ec.SECP256R1())


def numbers(signature):
    return int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")


def test_a_signature_has_one_form_of_the_two_that_verify():
    public = KEY.public_key()
    for _ in range(20):
        signature = sign_raw(KEY, b"message")
        r, s = numbers(signature)
        assert s <= ORDER // 2
        assert verify_raw(public, signature, b"message")
        assert has_low_s(encode_dss_signature(r, s))
        other = r.to_bytes(32, "big") + (ORDER - s).to_bytes(32, "big")
        public.verify(encode_dss_signature(r, ORDER - s), b"message", ec.ECDSA(SHA256()))  # the control: it does verify
        assert not verify_raw(public, other, b"message")
        assert not has_low_s(encode_dss_signature(r, ORDER - s))


@pytest.mark.parametrize("numbers", [(0, 0), (0, 1), (1, 0), (ORDER, 1), (2**256 - 1, 1), (1, 1), (1, ORDER)])
def test_numbers_out_of_range_are_no_signature(numbers):
    raw = b"".join(number.to_bytes(32, "big") for number in numbers)
    assert not verify_raw(KEY.public_key(), raw, b"message")


@pytest.mark.parametrize("length", [0, 32, 63, 65])
def test_a_signature_of_another_length_is_none(length):
    assert not verify_raw(KEY.public_key(), (sign_raw(KEY, b"message") + b"x")[:length], b"message")


def test_another_message_or_key_is_refused():
    signature = sign_raw(KEY, b"message")
    assert not verify_raw(KEY.public_key(), signature, b"messagf")
    assert not verify_raw(ec.generate_private_key(ec.SECP256R1()).public_key(), signature, b"message")


def test_a_key_is_read_as_it_was_written():
    raw = raw_key(KEY.public_key())
    point = KEY.public_key().public_numbers()
    assert raw == point.x.to_bytes(32, "big") + point.y.to_bytes(32, "big")
    assert key_of_raw(raw) == KEY.public_key()
    for wrong in (bytes(64), b"\xff" * 64, raw[:63], raw[:-1] + bytes([raw[-1] ^ 1])):
        with pytest.raises(ValueError):
            key_of_raw(wrong)
