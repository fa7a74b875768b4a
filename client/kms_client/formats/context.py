"""The canonical context, which binds a ciphertext to its place: FORMATS section 3.

count u32 | for each pair, sorted by key bytes: len(key) u32 | key | len(value) u32 | value
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from .errors import InvalidRequest, Violation, invalid
from .names import TenantUid

MAX_PAIRS: Final = 64
MAX_LENGTH: Final = 8192  # bytes of canonical form
TENANT_KEY: Final = "kms.tenant"
# What the daemon adds: to every context, and to that of a segment of a blob.
_OWN_KEYS: Final = frozenset({TENANT_KEY, "kms.blob", "kms.generation", "kms.segment"})
DETERMINISTIC_KEYS: Final = frozenset({"table", "column"})

KEY_RULE: Final = "must match [a-z][a-z0-9_.-]{0,63} and not begin with kms."
_KEY = re.compile(r"[a-z][a-z0-9_.-]{0,63}")
_U32 = struct.Struct(">I").pack

Pair = tuple[str, bytes]


def check_key(key: str, field: str) -> str:
    """Check a key that a caller gave.

    Raises:
        InvalidRequest: another character set, too long, or reserved for the daemon.
    """
    if _KEY.fullmatch(key) is None or key.startswith("kms."):
        raise invalid(field, KEY_RULE)
    return key


def check_value(value: bytes, field: str) -> bytes:
    """Check a value that a caller gave.

    Raises:
        InvalidRequest: not UTF-8, or it holds a NUL.
    """
    try:
        value.decode()
    except UnicodeDecodeError as error:
        raise invalid(field, "must be UTF-8") from error
    if b"\0" in value:
        raise invalid(field, "must not contain NUL")
    return value


def _all_text(values: Sequence[bytes]) -> bool:
    """Whether check_value() takes each of them."""
    # One look at all: pieces that are no UTF-8 alone cannot become it across a separator of ASCII.
    joined = b"\n".join(values)
    try:
        joined.decode()
    except UnicodeDecodeError:
        return False
    return b"\0" not in joined


@lru_cache(maxsize=1024)
def _tenant_pair(tenant: TenantUid) -> Pair:
    return TENANT_KEY, str(tenant).encode()


@lru_cache(maxsize=4096)  # only good keys, 64 bytes at most
def _head(key: str) -> bytes:
    """Return `len(key) u32 | key`."""
    if key not in _OWN_KEYS:
        check_key(key, "key")
    raw = key.encode()
    return _U32(len(raw)) + raw


def _violations(pairs: Iterable[Pair], field: str) -> list[Violation]:
    violations: list[Violation] = []
    seen = set()
    for index, (key, value) in enumerate(pairs):
        try:
            check_key(key, f"{field}[{index}].key")
            check_value(value, f"{field}[{index}].value")
        except InvalidRequest as error:
            violations.extend(error.violations)
            continue
        if key in seen:
            violations.append(Violation(f"{field}[{index}].key", "must not be repeated"))
        seen.add(key)
    return violations


def _encode(pairs: Iterable[Pair]) -> bytes:
    return b"".join([part for key, value in pairs for part in (_head(key), _U32(len(value)), value)])


@dataclass(frozen=True, slots=True)
class Context:
    """Checked pairs in canonical order, the daemon's own among them."""

    pairs: tuple[Pair, ...]
    _canonical: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_canonical", _U32(len(self.pairs)) + _encode(self.pairs))

    @classmethod
    def of(cls, tenant: TenantUid, pairs: Iterable[Pair], field: str = "context") -> Context:
        """Check the caller's pairs and add the tenant's.

        Raises:
            InvalidRequest: a key or value breaks its rule, a key is repeated, or there are too many; all are named.
        """
        given = list(pairs)
        if len(given) >= MAX_PAIRS:  # before the pairs are looked at, so that there are not more violations than that
            raise invalid(field, f"must have at most {MAX_PAIRS - 1} pairs")
        wanted = dict((*given, _tenant_pair(tenant)))
        # Most contexts are good; only a bad one is looked at pair by pair, to name all that is wrong with it.
        try:
            context = cls(tuple(sorted(wanted.items())))
            good = len(wanted) == len(given) + 1 and _all_text(list(wanted.values()))
        except InvalidRequest:
            good = False
        if not good:
            raise InvalidRequest(*_violations(given, field))
        if context.length() > MAX_LENGTH:
            raise invalid(field, f"must have at most {MAX_LENGTH} bytes in canonical form")
        return context

    def keys(self) -> frozenset[str]:
        """The keys, without the daemon's own."""
        return frozenset(key for key, _ in self.pairs if key not in _OWN_KEYS)

    def with_own(self, *pairs: Pair) -> Context:
        """Return it with more pairs of the daemon's own."""
        return Context(tuple(sorted((*self.pairs, *pairs))))

    def length(self) -> int:
        """The length in bytes of the canonical form."""
        return len(self._canonical)

    def encode(self) -> bytes:
        """Return the canonical bytes."""
        return self._canonical

    def digest(self) -> bytes:
        """Return the SHA-256 of the canonical bytes."""
        return hashlib.sha256(self._canonical).digest()

    def around(self, key: str) -> Frame:
        """Return the frame for a batch in which the value of one more pair varies.

        Raises:
            InvalidRequest: the key breaks its rule or is one of the shared pairs, or there are too many pairs.
        """
        check_key(key, "varying.key")
        if any(shared == key for shared, _ in self.pairs):
            raise invalid("varying.key", "must not be among the shared pairs")
        if len(self.pairs) == MAX_PAIRS:
            raise invalid("varying", f"there must be at most {MAX_PAIRS - 1} pairs with the varying one")
        raw = key.encode()
        before = _encode((k, v) for k, v in self.pairs if k < key)
        after = _encode((k, v) for k, v in self.pairs if k > key)
        return Frame(_U32(len(self.pairs) + 1) + before + _U32(len(raw)) + raw, after)


@dataclass(frozen=True, slots=True)
class Frame:
    """The canonical bytes on both sides of a varying value: `before | len(value) u32 | value | after`."""

    before: bytes
    after: bytes

    @property
    def longest(self) -> int:
        """The most bytes that the varying value may have."""
        return MAX_LENGTH - len(self.before) - 4 - len(self.after)

    def encode(self, value: bytes) -> bytes:
        """Return the canonical context with this value."""
        return b"".join((self.before, _U32(len(value)), value, self.after))

    def failures(self, values: Sequence[bytes]) -> dict[int, InvalidRequest]:
        """Check the varying values; returns the error of each bad one by its index."""
        if _all_text(values) and max(map(len, values), default=0) <= self.longest:
            return {}
        failures: dict[int, InvalidRequest] = {}
        for index, value in enumerate(values):
            field = f"varying.values[{index}]"
            try:
                check_value(value, field)
                if len(value) > self.longest:
                    raise invalid(field, f"the context must have at most {MAX_LENGTH} bytes in canonical form")
            except InvalidRequest as error:
                failures[index] = error
        return failures
