"""Format-preserving encryption: FF1 turns a string of symbols into one of the same length over the same symbols.

    A || B  = X, u = floor(n / 2), v = n - u, b = ceil(ceil(v * log2(radix)) / 8), d = 4 * ceil(b / 4) + 4
    P       = 01 02 01 || u24 radix || 0a || u8 u mod 256 || u32 n || u32 t
    Q       = T || 00 * ((-t - b - 1) mod 16) || u8 round || NUM(B) in b bytes
    R       = CBC-MAC(P || Q);  S = the first d bytes of R || AES(R ^ 1) || AES(R ^ 2) || ...
    C       = NUM(A) + NUM(S) mod radix^m, m = u in even rounds and v in odd ones;  A, B = B, C        ten rounds

The result has no tag: whatever is decrypted gives something, and equal values under one key and tweak have equal results.
What lengths in bytes and powers of the radix come to is computed in integers, since a logarithm in floating point errs.

Source: SP 800-38G, algorithms 7 (FF1.Encrypt) and 8 (FF1.Decrypt); the minimum domain: its revision 1, second draft, 5.1.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB

from kms.core.alphabets import MINIMUM_DOMAIN, fewest_symbols

SMALLEST_RADIX: Final = 2
LARGEST_RADIX: Final = 62
MOST_SYMBOLS: Final = 1_024  # conversion costs the square of the length: 0.7 ms here
LONGEST_TWEAK: Final = 2_048  # bytes

_ROUNDS: Final = 10
_BLOCK: Final = 16  # bytes
_HEAD = struct.Struct(">3s3sBBII").pack
_METHOD: Final = b"\x01\x02\x01"  # version 1, method 2 (FF1), addition 1

_AesBlock = Callable[[bytes], bytes]


class Ff1:
    """FF1 under one key, over strings of numbers below one radix; may be used from several threads at once."""

    def __init__(self, key: bytes, radix: int, minimum_domain: int = MINIMUM_DOMAIN) -> None:
        """Take an AES key of 16, 24 or 32 bytes, a radix of 2 to 62, and how many strings there have to be of a length.

        Raises:
            ValueError: another length of the key, another radix, or a minimum domain below 1.
        """
        if not SMALLEST_RADIX <= radix <= LARGEST_RADIX:
            raise ValueError(f"the radix must be {SMALLEST_RADIX} to {LARGEST_RADIX}")
        if minimum_domain < 1:
            raise ValueError("the minimum domain must be at least 1")
        # Single blocks only: FF1 chains them itself.
        self._cipher = Cipher(AES(key), ECB())  # noqa: S305
        self._radix = radix
        self.fewest = fewest_symbols(radix, minimum_domain)

    def encrypt(self, tweak: bytes, symbols: Sequence[int]) -> list[int]:
        """Return as many numbers below the radix as *symbols* has.

        Raises:
            ValueError: fewer symbols than the minimum domain asks for or more than 1,024, a number that is no symbol, or a
                tweak of more than 2,048 bytes.
        """
        function, (a, b), (u, v) = self._start(tweak, symbols)
        moduli = (self._radix**u, self._radix**v)
        for number in range(_ROUNDS):
            a, b = b, (a + function(number, b)) % moduli[number % 2]
        return self._string(a, u) + self._string(b, v)

    def decrypt(self, tweak: bytes, symbols: Sequence[int]) -> list[int]:
        """Undo encrypt(); nothing shows whether key and tweak were the right ones.

        Raises:
            ValueError: as encrypt().
        """
        function, (a, b), (u, v) = self._start(tweak, symbols)
        moduli = (self._radix**u, self._radix**v)
        for number in reversed(range(_ROUNDS)):
            a, b = (b - function(number, a)) % moduli[number % 2], a
        return self._string(a, u) + self._string(b, v)

    def _start(
        self, tweak: bytes, symbols: Sequence[int]
    ) -> tuple[Callable[[int, int], int], tuple[int, int], tuple[int, int]]:
        """Return the function of a round, the numbers of both halves, and their lengths in symbols."""
        n = len(symbols)
        if not self.fewest <= n <= MOST_SYMBOLS:
            raise ValueError(f"there must be {self.fewest} to {MOST_SYMBOLS} symbols")
        if not 0 <= min(symbols) <= max(symbols) < self._radix:
            raise ValueError(f"a symbol must be a number from 0 to {self._radix - 1}")
        if len(tweak) > LONGEST_TWEAK:
            raise ValueError(f"the tweak must have at most {LONGEST_TWEAK} bytes")
        u = n // 2
        return self._function(tweak, n), (self._number(symbols[:u]), self._number(symbols[u:])), (u, n - u)

    def _function(self, tweak: bytes, n: int) -> Callable[[int, int], int]:
        """Return what takes a round's number and the number of a half, and gives NUM(S)."""
        u, t = n // 2, len(tweak)
        length = ((self._radix ** (n - u) - 1).bit_length() + 7) // 8
        wanted = 4 * ((length + 3) // 4) + 4
        aes = self._cipher.encryptor().update
        head = _HEAD(_METHOD, self._radix.to_bytes(3, "big"), _ROUNDS, u % 256, n, t)
        fixed = head + tweak + bytes((-t - length - 1) % _BLOCK)
        # What all rounds share is chained once; a round begins with the bytes of it that do not fill a block.
        whole = len(fixed) // _BLOCK * _BLOCK
        state, rest = _chain(aes, bytes(_BLOCK), fixed[:whole]), fixed[whole:]

        def function(number: int, half: int) -> int:
            block = _chain(aes, state, rest + bytes((number,)) + half.to_bytes(length, "big"))
            stream = block
            for counter in range(1, (wanted + _BLOCK - 1) // _BLOCK):
                stream += aes(_xor(block, counter.to_bytes(_BLOCK, "big")))
            return int.from_bytes(stream[:wanted], "big")

        return function

    def _number(self, symbols: Sequence[int]) -> int:
        number = 0
        for symbol in symbols:
            number = number * self._radix + symbol
        return number

    def _string(self, number: int, length: int) -> list[int]:
        symbols = [0] * length
        for place in reversed(range(length)):
            number, symbols[place] = divmod(number, self._radix)
        return symbols


def _chain(aes: _AesBlock, state: bytes, data: bytes) -> bytes:
    """Return the last block of CBC over whole blocks, or *state* where there is none."""
    for start in range(0, len(data), _BLOCK):
        state = aes(_xor(state, data[start : start + _BLOCK]))
    return state


def _xor(left: bytes, right: bytes) -> bytes:
    return (int.from_bytes(left, "big") ^ int.from_bytes(right, "big")).to_bytes(_BLOCK, "big")
