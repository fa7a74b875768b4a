"""Purposes, suites and their limits: FORMATS section 1 as tables."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType
from typing import Final

from .errors import invalid

# SP 800-38D, section 8.3 allows 2^32 encryptions with random nonces under one key. The margin of 2^24 covers blocks
# that are reserved on several nodes at once.
GCM_ROTATE: Final = 2**31
GCM_STOP: Final = 2**32 - 2**24
# C2SP XAES-256-GCM: 2^80 messages keep the collision risk below 2^-32; far less is ever needed.
XAES_STOP: Final = 2**45
# Wraps of DEKs under one KEK version use the same random 96-bit nonces.
WRAP_ROTATE: Final = 2**30
WRAP_STOP: Final = 2**31

MAX_PLAINTEXT: Final = 1 << 20  # bytes


class Purpose(IntEnum):
    """What a key version is for; immutable. The numbers are those of the wrap binding."""

    ENCRYPT = 1
    DETERMINISTIC = 2
    DATA_KEY = 4
    INDEX = 6
    PSEUDONYM = 7
    FORMAT_PRESERVING = 8


# Never rotated by themselves, neither by time nor by count, and among many keys passed over: equal values would look
# different from then on, and what is stored has to be brought up to date by whoever decides it.
ROTATED_BY_HAND: Final = frozenset({Purpose.DETERMINISTIC, Purpose.INDEX, Purpose.PSEUDONYM, Purpose.FORMAT_PRESERVING})


class Suite(IntEnum):
    """The algorithm of a key version; immutable. The numbers are those of the header and of the wrap binding."""

    AES_256_GCM = 0x01
    XAES_256_GCM = 0x02
    AES_SIV = 0x03
    HMAC_SHA_256 = 0x40  # of no ciphertext
    AES_256_FF1 = 0x41  # of no ciphertext with a header


class ProtectionLevel(IntEnum):
    """Where the DEK may be in the clear; immutable. The numbers are those of the wrap binding."""

    SOFTWARE = 1
    ENCLAVE = 2
    HSM = 3


@dataclass(frozen=True, slots=True)
class SuiteRule:
    """Lengths in bytes and limits in messages of one suite; a limit of None means that there is none."""

    dek_length: int
    overhead: int | None  # nonce or V, and tag: what a ciphertext has beyond header and plaintext; None: there is none
    rotate_at: int | None
    stop_at: int | None


RULES: Final = MappingProxyType(
    {
        Suite.AES_256_GCM: SuiteRule(dek_length=32, overhead=12 + 16, rotate_at=GCM_ROTATE, stop_at=GCM_STOP),
        Suite.XAES_256_GCM: SuiteRule(dek_length=32, overhead=24 + 16, rotate_at=XAES_STOP // 2, stop_at=XAES_STOP),
        Suite.AES_SIV: SuiteRule(dek_length=64, overhead=16, rotate_at=None, stop_at=None),
        Suite.HMAC_SHA_256: SuiteRule(dek_length=32, overhead=None, rotate_at=None, stop_at=None),
        Suite.AES_256_FF1: SuiteRule(dek_length=32, overhead=None, rotate_at=None, stop_at=None),
    }
)

CIPHERS: Final = tuple(suite for suite, rule in RULES.items() if rule.overhead is not None)

ALLOWED: Final = MappingProxyType(
    {
        Purpose.ENCRYPT: (Suite.AES_256_GCM, Suite.XAES_256_GCM),
        Purpose.DETERMINISTIC: (Suite.AES_SIV,),
        Purpose.DATA_KEY: (Suite.AES_256_GCM, Suite.XAES_256_GCM),
        Purpose.INDEX: (Suite.HMAC_SHA_256,),
        Purpose.PSEUDONYM: (Suite.HMAC_SHA_256,),
        Purpose.FORMAT_PRESERVING: (Suite.AES_256_FF1,),
    }
)


def choose_suite(purpose: Purpose, asked: Suite | None) -> Suite:
    """Return the suite for a new key: the one asked for, else the purpose's default.

    Raises:
        InvalidRequest: the purpose does not allow the suite.
    """
    allowed = ALLOWED[purpose]
    if asked is None:
        return allowed[0]
    if asked not in allowed:
        names = " or ".join(suite.name for suite in allowed)
        raise invalid("key.suite", f"must be {names} for purpose {purpose.name}")
    return asked
