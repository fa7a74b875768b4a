"""The context of values: what the caller says, checked for the key, and what the key's class requires of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from kms.acting import note_context
from kms.core.classification import rule
from kms.core.context import DETERMINISTIC_KEYS, Context, Frame, Pair
from kms.core.errors import InvalidRequest, KmsError, Violation, invalid
from kms.core.suites import Purpose
from kms.services.rings import Ring


@dataclass(frozen=True, slots=True, repr=False)
class Varying:
    """The context pair that differs within a batch: one value for each item."""

    key: str
    values: Sequence[bytes]


def context_of(ring: Ring, pairs: Iterable[Pair], varying: str = "") -> Context:
    """Check the caller's context for this key and add the tenant; the pair with the key *varying* comes later.

    Raises:
        InvalidRequest: a rule of the context is broken, the key is deterministic and the pair not table or column, or a
            pair is missing that the key's class requires.
    """
    pairs = tuple(pairs)
    context = Context.of(ring.tenant.uid, pairs)
    note_context(context)
    if ring.key.purpose is Purpose.DETERMINISTIC and not context.keys() <= DETERMINISTIC_KEYS:
        raise InvalidRequest(
            *(
                Violation(f"context[{index}].key", "must be table or column for a DETERMINISTIC key")
                for index, (key, _) in enumerate(pairs)
                if key not in DETERMINISTIC_KEYS
            )
        )
    if ring.required:
        require_context(ring, context, varying)
    return context


def require_context(ring: Ring, context: Context, varying: str = "") -> None:
    """Refuse a context without what the key's class and policy require.

    Raises:
        InvalidRequest: a pair is missing, or its value is empty.
    """
    missing = ring.required.difference([key for key, value in context.pairs if value], (varying,))
    if missing:
        named = rule(ring.classification, "required_context")
        raise InvalidRequest(
            *(Violation("context", f"must have {key}, with a value ({named})") for key in sorted(missing))
        )


class Places:
    """The context of each item of a batch: canonical bytes shared by all, or a frame and a value for each."""

    __slots__ = ("failures", "frame", "shared", "values")

    def __init__(self, ring: Ring, pairs: Iterable[Pair], varying: Varying | None, source: Ring | None = None) -> None:
        """*source* is the key that values come from, where that may be another one."""
        key = "" if varying is None else varying.key
        key = "" if varying is None else varying.key
        context = context_of(ring, pairs, key)
        required = ring.required
        if source is not None:
            require_context(source, context, key)
            required |= source.required
        if varying is not None:
            note_context(context, key, varying.values)
        self.shared = context.encode()
        self.frame: Frame | None = None
        self.values: Sequence[bytes] = ()
        self.failures: Mapping[int, KmsError] = {}
        if varying is not None:
            if ring.key.purpose is Purpose.DETERMINISTIC:
                raise invalid("varying", "must be absent for a DETERMINISTIC key")
            self.frame = context.around(key)
            self.values = varying.values
            self.failures = self.frame.failures(varying.values)
            if key in required and not all(varying.values):
                self.failures = {**_empty(varying.values, ring), **self.failures}

    def contexts(self, indexes: Sequence[int]) -> list[bytes]:
        """Return the canonical context of each of these items."""
        if self.frame is None:
            return [self.shared] * len(indexes)
        encode, values = self.frame.encode, self.values
        return [encode(values[index]) for index in indexes]


def _empty(values: Sequence[bytes], ring: Ring) -> dict[int, KmsError]:
    named = rule(ring.classification, "required_context")
    return {
        index: invalid(f"varying.values[{index}]", f"must not be empty ({named})")
        for index, value in enumerate(values)
        if not value
    }
