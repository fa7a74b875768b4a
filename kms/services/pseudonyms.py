"""Pseudonyms of values under keys of purpose PSEUDONYM; docs/threat-model.md says what they tell."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from kms.acting import note_items
from kms.core.errors import KmsError, invalid
from kms.core.lifecycle import Use
from kms.core.names import KeyName, Principal
from kms.core.normalisation import IndexNormaliser, normalise
from kms.core.suites import Purpose
from kms.crypto.pseudonym import LONGEST, SHORTEST
from kms.services.fields import Batch, Fields, turns
from kms.services.headerless import check_scope, note_scope, version_named
from kms.services.keyrings import Grant, Keyrings

DEFAULT_LENGTH: Final = 22  # characters: 132 bits, so that 2^50 values have two equal ones with a chance of 2^-33
# Other calls get their turn after so many bytes of values: normalising costs 1 us a byte where it is dearest.
TURN_BYTES: Final = 4_096

_PURPOSES: Final = frozenset({Purpose.PSEUDONYM})


@dataclass(frozen=True, slots=True)
class PseudonymRule:
    """How values of one column are pseudonymized."""

    scope: str  # what the pseudonyms are bound to
    normaliser: IndexNormaliser
    length: int  # characters, 16 to 43; 0 for 22

    def checked(self) -> PseudonymRule:
        """Return the rule with its length filled in.

        Raises:
            InvalidRequest: no scope, or too long a one, or one with NUL; another length.
        """
        check_scope(self.scope)
        length = self.length or DEFAULT_LENGTH
        if not SHORTEST <= length <= LONGEST:
            raise invalid("length", f"must be {SHORTEST} to {LONGEST} characters, or 0 for {DEFAULT_LENGTH}")
        return PseudonymRule(self.scope, self.normaliser, length)


class Pseudonyms:
    """Pseudonyms under keys of purpose PSEUDONYM."""

    def __init__(self, keyrings: Keyrings, fields: Fields) -> None:
        self._keyrings = keyrings
        self._fields = fields

    async def compute_batch(
        self, caller: Principal, name: KeyName, values: Sequence[bytes], rule: PseudonymRule, version: int
    ) -> Batch:
        """Compute the pseudonyms of many values, in ASCII, under a version; 0 is the primary one.

        Raises:
            InvalidRequest: the key has no such version.
        """
        self._fields.check_count("values", len(values), None)
        use = Use.DECRYPT if version else Use.ENCRYPT
        ring = await self._keyrings.find(caller, name, _PURPOSES, use, seen=version)
        rule = rule.checked()
        note_scope(ring, rule.scope)
        batch = Batch([b""] * len(values))
        note_items(batch.values, batch.failures)
        if version:
            ready = await version_named(self._keyrings, ring, version, use, len(values))
        else:
            ready = await self._keyrings.primary(ring)
            await ready.usage.take(len(values))
        batch.version = ready.version
        batch.grants.append(Grant(ring, use, [ready.version]))
        tool, scope, spent = ready.pseudonymizer, rule.scope.encode(), 0
        for turn in turns(range(len(values))):
            good: dict[int, bytes] = {}
            for index in turn:
                try:
                    good[index] = normalise(rule.normaliser, values[index], f"values[{index}]")
                except KmsError as error:
                    batch.failures[index] = error
                spent += len(values[index])
                if spent >= TURN_BYTES:
                    spent = 0
                    await asyncio.sleep(0)
            made = tool.compute(scope, rule.normaliser, rule.length, good.values())
            for index, one in zip(good, made, strict=True):
                batch.values[index] = one
            await asyncio.sleep(0)
        ready.marks.used = True
        await self._fields.confirm(batch)
        return batch
