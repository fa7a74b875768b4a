"""What is encrypted, and how results are checked: 64-byte values in a context of three pairs of which one varies."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from kms_client import Client
from kms_client.formats.ciphertext import HEADER_LENGTH
from kms_client.formats.suites import RULES, Suite

from bench.rounds import WrongResult
from kms.v1 import crypto_pb2 as pb

BARE: Final = "bare loop of AESGCM.encrypt"
VALUE_LENGTH: Final = 64  # bytes
SHARED: Final = {"table": "users", "column": "email"}
VARYING: Final = "row"

_NONCE_END: Final = HEADER_LENGTH + 12
_CIPHERTEXT_LENGTH: Final = HEADER_LENGTH + RULES[Suite.AES_256_GCM].overhead + VALUE_LENGTH
_ASSOCIATED_LENGTH: Final = 142  # bytes: header and canonical context of this workload, the daemon's own pair included


@dataclass(frozen=True, slots=True)
class Workload:
    """Values, and the row of each."""

    values: list[bytes] = field(repr=False)
    rows: list[str] = field(repr=False)

    @classmethod
    def of(cls, count: int) -> Workload:
        """Make *count* random values in rows of their own."""
        return cls([os.urandom(VALUE_LENGTH) for _ in range(count)], [f"{row:010}" for row in range(count)])

    @property
    def varying(self) -> tuple[str, list[str]]:
        """The pair that varies, as the SDK takes it."""
        return VARYING, self.rows

    @property
    def context(self) -> dict[str, str]:
        """The whole context of the first value."""
        return {**SHARED, VARYING: self.rows[0]}


def context_pairs(context: Mapping[str, str]) -> list[pb.ContextPair]:
    """Return a context as the generated stub takes it."""
    return [pb.ContextPair(key=key, value=value.encode()) for key, value in context.items()]


def bare_loop(values: Sequence[bytes]) -> Callable[[], list[bytes]]:
    """Make the least that encrypting *values* can cost in Python: one key, one nonce, one associated data, no bookkeeping.

    Encrypting like that would be a grave mistake (a nonce must not repeat); nothing keeps the key or the results.
    """
    encrypt = AESGCM(os.urandom(32)).encrypt
    nonce, associated = os.urandom(12), os.urandom(_ASSOCIATED_LENGTH)

    def loop() -> list[bytes]:
        results = []
        for value in values:
            results.append(encrypt(nonce, value, associated))  # noqa: PERF401  the daemon's loop is no comprehension
        return results

    return loop


def check_ciphertexts(ciphertexts: Sequence[bytes], count: int) -> None:
    """Check number, lengths and headers, and that no nonce repeats.

    Raises:
        WrongResult: something of it is wrong.
    """
    if len(ciphertexts) != count or {len(ciphertext) for ciphertext in ciphertexts} != {_CIPHERTEXT_LENGTH}:
        raise WrongResult(f"not {count} ciphertexts of {_CIPHERTEXT_LENGTH} bytes")
    if len({ciphertext[:HEADER_LENGTH] for ciphertext in ciphertexts}) != 1:
        raise WrongResult("the ciphertexts are not of one key version")
    if len({ciphertext[HEADER_LENGTH:_NONCE_END] for ciphertext in ciphertexts}) != count:
        raise WrongResult("a nonce repeats")


def check_plaintexts(plaintexts: Sequence[bytes], values: Sequence[bytes]) -> None:
    """Check that what was decrypted is what had been encrypted.

    Raises:
        WrongResult: it is not.
    """
    if list(plaintexts) != list(values):
        raise WrongResult("the decrypted values are not those that were encrypted")


def check_encrypted(client: Client, key: str, work: Workload, ciphertexts: Sequence[bytes]) -> None:
    """Check ciphertexts by their form and by decrypting them.

    Raises:
        WrongResult: something of it is wrong.
    """
    check_ciphertexts(ciphertexts, len(work.values))
    found = client.decrypt_batch(key, ciphertexts, context=SHARED, varying=work.varying)
    if found.failures:
        raise WrongResult(f"{len(found.failures)} ciphertexts do not decrypt")
    check_plaintexts(found.complete(), work.values)
