"""Formatted values under keys of purpose FORMAT_PRESERVING; docs/threat-model.md says what their ciphertexts tell."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from kms.acting import note_items
from kms.core.alphabets import Layout, Parted
from kms.core.errors import KmsError, invalid
from kms.core.lifecycle import Use
from kms.core.names import KeyName, Principal
from kms.core.suites import Purpose
from kms.crypto.formatted import ScopedCipher
from kms.services.fields import Batch, Fields
from kms.services.headerless import check_scope, note_scope, version_named
from kms.services.keyrings import Grant, Keyrings
from kms.services.ready_versions import ReadyVersion

LONGEST_TWEAK: Final = 256  # bytes of the caller's
# Other calls get their turn after so many characters: 16 of them cost 25 us, 1,024 cost 700 us.
TURN_CHARACTERS: Final = 1_024

_PURPOSES: Final = frozenset({Purpose.FORMAT_PRESERVING})


@dataclass(frozen=True, slots=True)
class FormatRule:
    """How values of one column are encrypted."""

    scope: str  # what the results are bound to
    layout: Layout
    tweak: bytes

    def check(self) -> None:
        """Refuse a rule that cannot be followed.

        Raises:
            InvalidRequest: no scope, or too long a one, or one with NUL; too long a tweak.
        """
        check_scope(self.scope, "rule.scope")
        if len(self.tweak) > LONGEST_TWEAK:
            raise invalid("rule.tweak", f"must have at most {LONGEST_TWEAK} bytes, has {len(self.tweak)}")


class Formats:
    """Values under keys of purpose FORMAT_PRESERVING."""

    def __init__(self, keyrings: Keyrings, fields: Fields) -> None:
        self._keyrings = keyrings
        self._fields = fields

    async def encrypt_batch(self, caller: Principal, name: KeyName, values: Sequence[str], rule: FormatRule) -> Batch:
        """Encrypt many values under the primary version; the results are ASCII."""
        self._fields.check_count("values", len(values), None)
        ring = await self._keyrings.find(caller, name, _PURPOSES, Use.ENCRYPT)
        rule.check()
        note_scope(ring, rule.scope)
        batch = Batch([b""] * len(values))
        note_items(batch.values, batch.failures)
        primary = await self._keyrings.primary(ring)
        await primary.usage.take(len(values))
        batch.version = primary.version
        batch.grants.append(Grant(ring, Use.ENCRYPT, [primary.version]))
        await _work_into(batch, values, rule, _cipher(primary, rule).encrypt)
        primary.marks.used = True
        await self._fields.confirm(batch)
        return batch

    async def decrypt_batch(
        self, caller: Principal, name: KeyName, values: Sequence[str], rule: FormatRule, version: int
    ) -> Batch:
        """Decrypt many values of one version; nothing shows whether it is the right one.

        Raises:
            InvalidRequest: the key has no such version.
        """
        self._fields.check_count("values", len(values), None)
        ring = await self._keyrings.find(caller, name, _PURPOSES, Use.DECRYPT, seen=version)
        rule.check()
        note_scope(ring, rule.scope)
        batch = Batch([b""] * len(values))
        note_items([value.encode() for value in values], batch.failures)
        ready = await version_named(self._keyrings, ring, version, Use.DECRYPT, len(values))
        batch.version = ready.version
        batch.grants.append(Grant(ring, Use.DECRYPT, [ready.version]))
        await _work_into(batch, values, rule, _cipher(ready, rule).decrypt)
        ready.marks.decrypted |= batch.succeeded > 0
        await self._fields.confirm(batch)
        return batch


def _cipher(version: ReadyVersion, rule: FormatRule) -> ScopedCipher:
    return version.format_cipher.under(rule.scope.encode(), rule.layout.alphabet, rule.tweak)


async def _work_into(batch: Batch, values: Sequence[str], rule: FormatRule, work: Callable[[Parted], str]) -> None:
    """Put what becomes of each value into the batch, or why nothing does."""
    spent = 0
    for index, value in enumerate(values):
        try:
            batch.values[index] = work(rule.layout.part(value, f"values[{index}]")).encode()
        except KmsError as error:
            batch.failures[index] = error
        spent += len(value)
        if spent >= TURN_CHARACTERS:
            spent = 0
            await asyncio.sleep(0)
