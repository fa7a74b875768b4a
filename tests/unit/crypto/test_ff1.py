"""FF1: what it refuses, and that it does as the standard's text says where the published cases do not reach."""

from __future__ import annotations

import os
import random
from math import ceil

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC, ECB

from kms.crypto.ff1 import LONGEST_TWEAK, MOST_SYMBOLS, Ff1


def by_the_text(key: bytes, radix: int, tweak: bytes, symbols: list[int]) -> list[int]:
    """Algorithm 7 of SP 800-38G step by step, with the library's CBC."""

    def number(part: list[int]) -> int:
        return sum(symbol * radix**place for place, symbol in enumerate(reversed(part)))

    n, t = len(symbols), len(tweak)
    u = n // 2
    v = n - u
    a, b = symbols[:u], symbols[u:]
    bits = next(bits for bits in range(8 * n) if 2**bits >= radix**v)
    length = ceil(bits / 8)
    d = 4 * ceil(length / 4) + 4
    p = bytes([1, 2, 1]) + radix.to_bytes(3, "big") + bytes([10, u % 256]) + n.to_bytes(4, "big") + t.to_bytes(4, "big")
    for i in range(10):
        q = tweak + bytes((-t - length - 1) % 16) + bytes([i]) + number(b).to_bytes(length, "big")
        r = Cipher(AES(key), CBC(bytes(16))).encryptor().update(p + q)[-16:]
        blocks = b"".join(
            bytes(x ^ y for x, y in zip(r, j.to_bytes(16, "big"), strict=True)) for j in range(1, ceil(d / 16))
        )
        s = (r + Cipher(AES(key), ECB()).encryptor().update(blocks))[:d]  # noqa: S305  single blocks
        m = u if i % 2 == 0 else v
        c = (number(a) + int.from_bytes(s, "big")) % radix**m
        a, b = b, [c // radix**place % radix for place in reversed(range(m))]
    return a + b


@pytest.mark.parametrize("radix", [2, 3, 10, 26, 36, 61, 62])
def test_it_is_what_the_standards_text_computes(radix: int):
    choose = random.Random(radix)
    for length in (*range(20, 24), 97, 255, 256, 257, 512, MOST_SYMBOLS):
        for t in (0, 1, 15, 16, 17, 300):
            key, tweak = os.urandom(32), os.urandom(t)
            symbols = [choose.randrange(radix) for _ in range(length)]
            made = Ff1(key, radix).encrypt(tweak, symbols)
            assert made == by_the_text(key, radix, tweak, symbols), (length, t)
            assert Ff1(key, radix).decrypt(tweak, made) == symbols, (length, t)
            if length > 257:
                break


@pytest.mark.parametrize("symbols", [[0] * 8, [9] * 8], ids=["least", "greatest"])
def test_powers_of_the_radix_at_the_edge_of_a_byte_are_exact(symbols: list[int]):
    # 2^16 - 1 fits two bytes, and so does no number of 17 bits.
    key = os.urandom(16)
    for radix, length in ((2, 32), (2, 33), (2, 34), (16, 8), (4, 16), (4, 17)):
        string = ([min(symbols[0], radix - 1)] * length)[:length]
        assert Ff1(key, radix).encrypt(b"", string) == by_the_text(key, radix, b"", string)


def test_a_whole_domain_is_permuted():
    cipher = Ff1(os.urandom(32), 10, minimum_domain=100)
    everything = [[number // 100, number // 10 % 10, number % 10] for number in range(1_000)]
    made = [cipher.encrypt(b"t", symbols) for symbols in everything]
    assert sorted(made) == everything
    assert made != everything


@pytest.mark.parametrize(("radix", "fewest"), [(2, 20), (10, 6), (26, 5), (36, 4), (62, 4)], ids=str)
def test_fewer_symbols_than_the_minimum_domain_asks_for_are_refused(radix: int, fewest: int):
    cipher = Ff1(os.urandom(32), radix)
    assert len(cipher.encrypt(b"", [1] * fewest)) == fewest
    for method in (cipher.encrypt, cipher.decrypt):
        with pytest.raises(ValueError, match=f"{fewest} to {MOST_SYMBOLS} symbols"):
            method(b"", [1] * (fewest - 1))


@pytest.mark.parametrize("symbols", [[0] * 5 + [10], [0] * 5 + [-1], [0] * (MOST_SYMBOLS + 1), [], [0]])
def test_what_is_no_string_of_the_radix_is_refused(symbols: list[int]):
    cipher = Ff1(os.urandom(32), 10, minimum_domain=1)
    for method in (cipher.encrypt, cipher.decrypt):
        with pytest.raises(ValueError, match="symbol"):
            method(b"", symbols)


def test_a_tweak_has_at_most_so_many_bytes():
    cipher = Ff1(os.urandom(32), 10)
    assert cipher.encrypt(bytes(LONGEST_TWEAK), [0] * 6) != cipher.encrypt(bytes(LONGEST_TWEAK - 1), [0] * 6)
    with pytest.raises(ValueError, match="tweak"):
        cipher.encrypt(bytes(LONGEST_TWEAK + 1), [0] * 6)


@pytest.mark.parametrize(("length", "radix", "domain"), [(32, 1, 1), (32, 63, 1), (31, 10, 1), (0, 10, 1), (32, 10, 0)])
def test_another_key_length_radix_or_domain_is_refused(length: int, radix: int, domain: int):
    with pytest.raises(ValueError, match=r"radix|key|minimum"):
        Ff1(bytes(length), radix, domain)


def test_it_does_not_show_its_key():
    key = os.urandom(32)
    assert key.hex() not in repr(vars(Ff1(key, 10)))
    assert str(key) not in repr(vars(Ff1(key, 10)))
